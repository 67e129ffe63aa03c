//! How many bytes all mounts together may have acknowledged and not committed.

use std::collections::BTreeMap;

/// A disk's reserve as its server reported it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskReserve {
    /// What it keeps.
    pub reserve: u64,
    /// What is free of all.
    pub room: u64,
    /// The file system that it is on; 0: its own.
    pub file_system: u64,
}

/// The budget for blocks of `replicas` copies, when `live` disks report and `silent` ones do not: so much
/// that every partition keeps a write quorum although all of it is put.
///
/// Each byte is put on each owner of a block once, so a disk must have room for all of the budget, or be one
/// of those that a quorum does without: the (replicas − quorum) smallest do not count, less those that are
/// silent. A disk that is into its reserve already has none. Half of what is left, because records, the
/// index and the file system need room, too.
pub fn budget(replicas: u8, live: &[DiskReserve], silent: usize) -> u64 {
    let mut sharing: BTreeMap<u64, u64> = BTreeMap::new();
    for disk in live.iter().filter(|disk| disk.file_system != 0) {
        *sharing.entry(disk.file_system).or_default() += 1;
    }
    let usable = |disk: &DiskReserve| match disk.room < disk.reserve {
        true => 0,
        false => disk.reserve / sharing.get(&disk.file_system).copied().unwrap_or(1),
    };
    let mut usable: Vec<u64> = live.iter().map(usable).collect();
    usable.sort_unstable();
    let quorum = usize::from(replicas) / 2 + 1;
    let spare = usize::from(replicas).saturating_sub(quorum).saturating_sub(silent);
    usable.get(spare.min(usable.len().saturating_sub(1))).copied().unwrap_or(0) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(reserve: u64, room: u64, file_system: u64) -> DiskReserve {
        DiskReserve { reserve, room, file_system }
    }

    #[test]
    fn the_smallest_reserve_that_a_quorum_needs_counts_half() {
        let disks = [disk(100, 1000, 1), disk(400, 1000, 2), disk(600, 1000, 3), disk(800, 1000, 0)];
        assert_eq!(budget(3, &disks, 0), 200, "one of three owners may be short");
        assert_eq!(budget(3, &disks, 1), 50, "but not if another may be silent");
        assert_eq!(budget(1, &disks, 0), 50);
        assert_eq!(budget(5, &disks, 0), 300);
        assert_eq!(budget(3, &disks[..1], 0), 50);
        assert_eq!(budget(3, &[], 3), 0);
    }

    #[test]
    fn disks_of_one_file_system_share_its_reserve() {
        let disks = [disk(900, 1000, 7); 3];
        assert_eq!(budget(3, &disks, 0), 150);
        assert_eq!(budget(3, &[disk(900, 1000, 0); 3], 0), 450);
    }

    #[test]
    fn nothing_when_as_many_are_full_as_a_quorum_cannot_do_without() {
        let (full, well) = (disk(100, 99, 0), disk(100, 100, 0));
        assert_eq!(budget(3, &[full, well, well], 0), 50);
        assert_eq!(budget(3, &[full, full, well], 0), 0);
        assert_eq!(budget(3, &[full, well], 1), 0);
    }
}
