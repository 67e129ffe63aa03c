//! Reads that change access times and that the cluster does not know of yet. Attributes that come from it
//! are shown with them. No recall is about access times, and no lease is needed to change one.

use std::collections::BTreeMap;

use cairn_common::clock::Timestamp;
use cairn_common::ids::InodeId;
use cairn_common::protocol::metadata::Attributes;

use super::lease_cache::LeaseCache;

/// When programs have read what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UntoldAccesses {
    times: BTreeMap<InodeId, Timestamp>,
}

impl UntoldAccesses {
    /// Attributes from the cluster, as they are with these.
    pub fn shown(&self, attributes: Attributes) -> Attributes {
        attributes.accessed(self.times.get(&attributes.inode).copied())
    }

    /// How many inodes have been read.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// What to tell the cluster next, at most `limit` inodes.
    pub fn first(&self, limit: usize) -> Vec<(InodeId, Timestamp)> {
        self.times.iter().take(limit).map(|(inode, at)| (*inode, *at)).collect()
    }

    /// The cluster has been told. What was read again since then stays.
    pub fn told(&mut self, told: &[(InodeId, Timestamp)]) {
        for (inode, at) in told {
            if self.times.get(inode) == Some(at) {
                self.times.remove(inode);
            }
        }
    }

    /// A program has set the access time: reads of before do not count any more.
    pub fn forget(&mut self, inode: InodeId) {
        self.times.remove(&inode);
    }
}

impl LeaseCache {
    /// A program reads something. Answers whether that changes the access time, as far as is known here.
    pub fn accessed(&mut self, inode: InodeId, at: Timestamp) -> bool {
        let known = self.inodes.get(&inode).and_then(|cached| cached.attributes);
        let is_due = known.is_some_and(|attributes| attributes.access_is_due(at));
        if is_due {
            self.note_access(inode, at);
        }
        is_due
    }

    /// A read changes the access time.
    pub fn note_access(&mut self, inode: InodeId, at: Timestamp) {
        self.accesses.times.insert(inode, at);
        if let Some(attributes) = self.inodes.get_mut(&inode).and_then(|cached| cached.attributes.as_mut()) {
            *attributes = attributes.accessed(Some(at));
        }
    }

    /// What the cluster is to be told.
    pub fn accesses(&mut self) -> &mut UntoldAccesses {
        &mut self.accesses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_is_told_once() {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        let mut accesses = UntoldAccesses::default();
        accesses.times.extend([(InodeId(1), at(1)), (InodeId(2), at(2)), (InodeId(3), at(3))]);
        accesses.forget(InodeId(3));
        assert_eq!(accesses.first(1), [(InodeId(1), at(1))]);
        let telling = accesses.first(9);
        accesses.times.insert(InodeId(2), at(7));
        accesses.told(&telling);
        assert_eq!(accesses.first(9), [(InodeId(2), at(7))], "it was read again meanwhile");
        accesses.told(&[(InodeId(2), at(7))]);
        assert!(accesses.is_empty());
    }
}
