//! Which blocks of a partition files refer to: a range of the back-references. Reads only.

use std::ops::ControlFlow;

use cairn_common::block::{BlockHash, BlockId};
use cairn_common::ids::{InodeId, PartitionId, PoolId};

use super::keys::{self, KeyFields};
use super::read::{self, Direction};
use crate::storage::{ReadView, StorageError};

/// References of one block that are passed over one by one; behind so many the scan jumps.
const PASSED_OVER: usize = 16;

/// Blocks of the default pool that files refer to and that fall into the partition, in order, behind
/// `after`; at most `limit`. `partitions` is the number that the cluster has.
pub fn blocks_of_partition(
    view: &dyn ReadView,
    partition: PartitionId,
    partitions: u32,
    after: Option<BlockId>,
    limit: usize,
) -> Result<Vec<BlockId>, StorageError> {
    let to = match partition.0.checked_add(1).filter(|next| *next < partitions) {
        Some(next) => before(&first_block(PartitionId(next), partitions)),
        None => behind(&BlockId { pool: PoolId::DEFAULT, hash: BlockHash([u8::MAX; 32]) }),
    };
    let mut from = match after {
        Some(block) => behind(&block),
        None => before(&first_block(partition, partitions)),
    };
    let mut blocks: Vec<BlockId> = Vec::new();
    loop {
        let (mut passed_over, mut jump) = (0, None);
        read::scan(view, (from, to.clone()), Direction::Forward, &mut |key, _| {
            let block = KeyFields::of(key).block()?;
            if blocks.last() != Some(&block) {
                if blocks.len() == limit {
                    return Ok(ControlFlow::Break(()));
                }
                blocks.push(block);
                passed_over = 0;
                return Ok(ControlFlow::Continue(()));
            }
            passed_over += 1;
            if passed_over > PASSED_OVER {
                jump = Some(behind(&block));
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        match jump {
            Some(next) => from = next,
            None => return Ok(blocks),
        }
    }
}

/// The smallest name that falls into a partition of the default pool.
pub fn first_block(partition: PartitionId, partitions: u32) -> BlockId {
    let mut hash = [0; 32];
    let bits = partitions.trailing_zeros();
    if bits > 0 {
        hash[..4].copy_from_slice(&(partition.0 << (32 - bits)).to_be_bytes());
    }
    BlockId { pool: PoolId::DEFAULT, hash: BlockHash(hash) }
}

/// A key not behind any reference of the block, and behind all of smaller blocks.
fn before(block: &BlockId) -> Vec<u8> {
    keys::backref(block, InodeId(0), 0)
}

/// A key behind all references of the block.
fn behind(block: &BlockId) -> Vec<u8> {
    keys::end_of(&keys::backref(block, InodeId(u64::MAX), u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;

    /// Keys without values.
    struct Keys(BTreeMap<Vec<u8>, ()>);

    impl ReadView for Keys {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
            Ok(self.0.get(key).map(|()| Bytes::new()))
        }
        fn scan(
            &self,
            from: &[u8],
            to: &[u8],
            visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
        ) -> Result<(), StorageError> {
            let mut range = self.0.range(from.to_vec()..to.to_vec());
            while let Some((key, ())) = range.next()
                && visit(key, &[]).is_continue()
            {}
            Ok(())
        }
        fn scan_reverse(
            &self,
            _: &[u8],
            _: &[u8],
            _: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
        ) -> Result<(), StorageError> {
            unreachable!("not used here")
        }
    }

    #[test]
    fn every_block_is_found_once_in_its_partition_page_by_page() {
        let block = |lead: u8| BlockId { pool: PoolId::DEFAULT, hash: BlockHash([lead; 32]) };
        let mut references = BTreeMap::new();
        for lead in [0, 1, 63, 64, 65, 127, 128, 254, 255] {
            // Some are referred to once, some often enough for the scan to jump.
            for inode in 1..=1 + u64::from(lead) {
                references.insert(keys::backref(&block(lead), InodeId(inode), inode * 4096), ());
            }
        }
        let view = Keys(references);
        let all = |partition: u32, limit: usize| {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = blocks_of_partition(&view, PartitionId(partition), 4, after, limit).unwrap();
                after = page.last().copied();
                found.extend(page.iter().map(|block| block.hash.0[0]));
                if page.len() < limit {
                    return found;
                }
            }
        };
        for limit in [1, 2, 100] {
            assert_eq!(all(0, limit), [0, 1, 63]);
            assert_eq!(all(1, limit), [64, 65, 127]);
            assert_eq!(all(2, limit), [128]);
            assert_eq!(all(3, limit), [254, 255]);
        }
        assert_eq!(blocks_of_partition(&view, PartitionId(0), 1, None, 100).unwrap().len(), 9);
    }

    #[test]
    fn the_first_block_of_a_partition_falls_into_it() {
        for (partition, partitions) in [(0, 1), (0, 65_536), (65_535, 65_536), (5, 8)] {
            assert_eq!(first_block(PartitionId(partition), partitions).partition(partitions), PartitionId(partition));
        }
    }
}
