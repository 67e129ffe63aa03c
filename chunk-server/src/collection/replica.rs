//! One replica of a block, and what each request makes of it.

use cairn_common::ids::Generation;

/// What a disk has of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// The highest generation of its puts; deletes that name an older one do not touch it.
    pub generation: Generation,
    /// Its bytes are wrong: it counts as missing and gives nothing, but keeps its generation.
    pub is_quarantined: bool,
}

/// What the disk has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing; the request is fulfilled.
    Nothing,
    /// Store the bytes with this generation.
    Write(Generation),
    /// Keep the bytes, store the new generation.
    Raise(Generation),
    /// Remove the replica.
    Delete,
}

impl Replica {
    /// A mount puts the block. Whatever is here is as good as new from now on, so it gets the put's
    /// generation, if that is newer.
    pub fn put(here: Option<Self>, put: Generation) -> Step {
        match here {
            None => Step::Write(put),
            Some(here) if here.is_quarantined => Step::Write(here.generation.max(put)),
            Some(here) if here.generation < put => Step::Raise(put),
            Some(_) => Step::Nothing,
        }
    }

    /// A repair copy of a replica of the generation `source`. It is as old as its source: otherwise
    /// repair would bring condemned blocks back. But it takes over the source's generation even when
    /// good bytes are here, or a delete that is late would find the old one.
    pub fn copy(here: Option<Self>, source: Generation) -> Step {
        Self::put(here, source)
    }

    /// The leader deletes replicas that are older than `condemned`.
    pub fn delete(here: Option<Self>, condemned: Generation) -> Step {
        match here {
            Some(here) if here.generation < condemned => Step::Delete,
            _ => Step::Nothing,
        }
    }

    /// Whether a mount may count the replica without sending bytes, and as how old. The commit names
    /// that generation, so a replica that is about to be deleted helps nobody.
    pub fn has(here: Option<Self>) -> Option<Generation> {
        here.filter(|here| !here.is_quarantined).map(|here| here.generation)
    }

    /// Whether a repair is done: the bytes are good, and no delete that was sent before the commit
    /// that asked for the repair touches them. `wanted` is the generation of that commit's puts.
    pub fn is_repaired(here: Option<Self>, wanted: Generation) -> bool {
        Self::has(here).is_some_and(|generation| generation >= wanted)
    }

    /// What is here when the step is done.
    pub fn after(here: Option<Self>, step: Step) -> Option<Self> {
        match step {
            Step::Nothing => here,
            Step::Write(generation) => Some(Self { generation, is_quarantined: false }),
            Step::Raise(generation) => here.map(|here| Self { generation, ..here }),
            Step::Delete => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(generation: u64, is_quarantined: bool) -> Option<Replica> {
        Some(Replica { generation: Generation(generation), is_quarantined })
    }

    #[test]
    fn puts_raise_and_deletes_name_a_generation() {
        let (two, three) = (Generation(2), Generation(3));
        assert_eq!(Replica::put(None, two), Step::Write(two));
        assert_eq!(Replica::put(replica(2, false), three), Step::Raise(three));
        assert_eq!(Replica::put(replica(3, false), two), Step::Nothing);
        assert_eq!(Replica::put(replica(3, true), two), Step::Write(three), "bad bytes keep their generation");
        assert_eq!(Replica::copy(replica(2, false), three), Step::Raise(three));
        assert_eq!(Replica::delete(replica(2, true), three), Step::Delete);
        assert_eq!(Replica::delete(replica(3, false), three), Step::Nothing);
        assert_eq!(Replica::delete(None, three), Step::Nothing);
    }

    #[test]
    fn a_quarantined_replica_is_nobodys() {
        assert_eq!(Replica::has(replica(2, true)), None);
        assert_eq!(Replica::has(replica(2, false)), Some(Generation(2)));
        assert!(Replica::is_repaired(replica(2, false), Generation(2)));
        assert!(!Replica::is_repaired(replica(2, false), Generation(3)), "a late delete would find it");
        assert_eq!(Replica::after(replica(2, true), Step::Write(Generation(2))), replica(2, false));
    }
}
