//! Verified groups of blocks, least recently used leave first. A block never changes, so nothing here
//! is ever stale. In memory only.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use cairn_common::block::BlockId;
use cairn_common::limits::VERIFY_GROUP_BYTES;
use parking_lot::Mutex;

const GROUP: u32 = VERIFY_GROUP_BYTES as u32;

type Key = (BlockId, u32);

/// The cache.
#[derive(Debug)]
pub struct BlockCache {
    inner: Mutex<Inner>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Inner {
    groups: HashMap<Key, (Bytes, u64)>,
    by_age: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

impl BlockCache {
    /// An empty cache of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { inner: Mutex::default(), limit }
    }

    /// Takes in verified bytes that begin at `offset`, a multiple of the group's size.
    pub fn insert(&self, block: BlockId, offset: u32, bytes: &Bytes) {
        let mut inner = self.inner.lock();
        let first = offset / GROUP;
        for (index, start) in (0..bytes.len()).step_by(VERIFY_GROUP_BYTES).enumerate() {
            let group = bytes.slice(start..(start + VERIFY_GROUP_BYTES).min(bytes.len()));
            inner.put((block, first + index as u32), group);
        }
        while inner.bytes > self.limit {
            inner.drop_oldest();
        }
    }

    /// Copies `[offset, offset + target.len())` of a block out; false if a part is not here.
    pub fn copy(&self, block: BlockId, offset: u32, target: &mut [u8]) -> bool {
        let mut inner = self.inner.lock();
        let mut done = 0;
        while done < target.len() {
            let at = offset + done as u32;
            let within = (at % GROUP) as usize;
            let Some(group) = inner.touch((block, at / GROUP)) else { return false };
            if group.len() <= within {
                return false;
            }
            let length = (group.len() - within).min(target.len() - done);
            target[done..done + length].copy_from_slice(&group[within..within + length]);
            done += length;
        }
        true
    }

    /// Whether the group at `offset` of a block is here.
    pub fn has(&self, block: BlockId, offset: u32) -> bool {
        self.inner.lock().groups.contains_key(&(block, offset / GROUP))
    }
}

impl Inner {
    fn put(&mut self, key: Key, group: Bytes) {
        self.clock += 1;
        self.bytes += group.len();
        if let Some((old, stamp)) = self.groups.insert(key, (group, self.clock)) {
            self.bytes -= old.len();
            self.by_age.remove(&stamp);
        }
        self.by_age.insert(self.clock, key);
    }

    fn touch(&mut self, key: Key) -> Option<Bytes> {
        self.clock += 1;
        let (group, stamp) = self.groups.get_mut(&key)?;
        self.by_age.remove(stamp);
        *stamp = self.clock;
        self.by_age.insert(self.clock, key);
        Some(group.clone())
    }

    fn drop_oldest(&mut self) {
        let Some((_, key)) = self.by_age.pop_first() else {
            self.bytes = 0;
            return;
        };
        if let Some((group, _)) = self.groups.remove(&key) {
            self.bytes -= group.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_common::block::BlockHash;
    use cairn_common::ids::PoolId;

    use super::*;

    #[test]
    fn keeps_what_was_used_last_within_its_limit() {
        let id = |n: u8| BlockId { pool: PoolId(1), hash: BlockHash([n; 32]) };
        let cache = BlockCache::new(2 * VERIFY_GROUP_BYTES);
        let bytes = Bytes::from(vec![7; VERIFY_GROUP_BYTES]);
        cache.insert(id(1), 0, &bytes);
        cache.insert(id(2), 0, &bytes);
        let mut out = [0; 10];
        assert!(cache.copy(id(1), 5, &mut out));
        assert_eq!(out, [7; 10]);
        cache.insert(id(3), 0, &bytes);
        assert!(cache.has(id(1), 0) && !cache.has(id(2), 0) && cache.has(id(3), 0));
        assert!(!cache.copy(id(1), (VERIFY_GROUP_BYTES - 5) as u32, &mut out), "ends in a group that is not here");
    }
}
