//! Whether a commit may refer to a block that was put some time ago.

use cairn_common::ids::Generation;

use super::Horizon;

/// What `apply` answers to a commit, block by block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The replicas that the sender counted are there and stay.
    Accept,
    /// They may be gone or about to go. Nothing was changed; the sender puts the block again, with
    /// this generation or a newer one, and commits again.
    PutAgain {
        /// The newest generation.
        generation: Generation,
    },
}

/// Judges a reference to a block.
///
/// `put`: the lowest generation among the replicas that the sender counts. `condemned`: the block's
/// record, if it has one; it stays after a commit revived the block, until it is closed.
/// `is_referenced`: whether any file refers to the block now.
pub fn may_refer(horizon: &Horizon, condemned: Option<Generation>, is_referenced: bool, put: Generation) -> Verdict {
    let stays = match condemned {
        // Deletes that name this generation are under way; they do not touch what was put since.
        Some(condemned) => put >= condemned,
        // What a file refers to was judged before, and cannot have been condemned since. All else
        // may have been condemned, deleted and forgotten if it was put below the floor.
        None => is_referenced || put >= horizon.floor,
    };
    if stays { Verdict::Accept } else { Verdict::PutAgain { generation: horizon.generation } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_puts_count_only_while_nothing_can_have_deleted_them() {
        let horizon = Horizon { generation: Generation(7), floor: Generation(5) };
        let again = Verdict::PutAgain { generation: Generation(7) };
        for (condemned, is_referenced, put, expected) in [
            (None, false, 5, Verdict::Accept),
            (None, false, 4, again),
            (None, true, 4, Verdict::Accept),
            (Some(Generation(6)), false, 5, again),
            (Some(Generation(6)), true, 5, again),
            (Some(Generation(6)), false, 6, Verdict::Accept),
        ] {
            assert_eq!(may_refer(&horizon, condemned, is_referenced, Generation(put)), expected, "put {put}");
        }
    }
}
