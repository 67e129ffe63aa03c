//! The queue of replicas that repair must make, and the count of the blocks in it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cairn_common::block::BlockId;
use cairn_common::ids::{DiskId, PoolId, TableEpoch};

use super::partition_rows;
use crate::namespace::keys::{self, Counter};
use crate::namespace::read;
use crate::namespace::records::{Cluster, Marker, OwnedRow};
use crate::namespace::state::State;
use crate::storage::StorageError;

/// Looks owners up, reading each row once.
#[derive(Default)]
pub(super) struct Owners {
    partitions: Option<u32>,
    rows: BTreeMap<u32, OwnedRow>,
}

impl Owners {
    /// Queues a replica, if the disk owns the block: nobody else is to have one.
    pub(super) fn note_missing(
        &mut self,
        state: &mut State<'_, '_>,
        block: &BlockId,
        disk: DiskId,
    ) -> Result<(), StorageError> {
        match self.row(state, block)? {
            Some(OwnedRow { row, .. }) if row.owns(disk) => queue(state, block, disk),
            _ => Ok(()),
        }
    }

    /// Queues a replica for every disk that the block's partition is moving to: the sender may have
    /// placed it by a table that does not know of the move. A disk that has it says so.
    pub(super) fn note_moving(&mut self, state: &mut State<'_, '_>, block: &BlockId) -> Result<(), StorageError> {
        let Some(OwnedRow { row, .. }) = self.row(state, block)? else { return Ok(()) };
        let new: Vec<DiskId> = row.next.iter().filter(|disk| !row.current.contains(disk)).copied().collect();
        new.into_iter().try_for_each(|disk| queue(state, block, disk))
    }

    /// Whether a block that was put by that table is on a write quorum of its owners: not if its
    /// partition has got owners since, who may never be given it (`docs/models.md`, the move).
    pub(super) fn have_it(
        &mut self,
        state: &State<'_, '_>,
        block: &BlockId,
        table: TableEpoch,
    ) -> Result<bool, StorageError> {
        Ok(self.row(state, block)?.is_none_or(|row| row.since <= table))
    }

    fn row(&mut self, state: &State<'_, '_>, block: &BlockId) -> Result<Option<&OwnedRow>, StorageError> {
        if block.pool != PoolId::DEFAULT {
            return Ok(None);
        }
        let partitions = match self.partitions {
            Some(partitions) => partitions,
            None => {
                let cluster = read::plain::<Cluster>(state.view(), &keys::cluster())?;
                *self.partitions.insert(cluster.map_or(0, |cluster| cluster.partitions))
            }
        };
        if partitions == 0 {
            return Ok(None);
        }
        let partition = block.partition(partitions);
        Ok(Some(match self.rows.entry(partition.0) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => unread.insert(partition_rows::row(state.view(), partition)?),
        }))
    }
}

fn queue(state: &mut State<'_, '_>, block: &BlockId, disk: DiskId) -> Result<(), StorageError> {
    let key = keys::repair(block, disk);
    if read::plain::<Marker>(state.view(), &key)?.is_some() {
        return Ok(());
    }
    if !read::any(state.view(), keys::repairs_of(block))? {
        state.next(Counter::UnderReplicatedBlocks, 0)?;
    }
    state.put(key, &Marker);
    Ok(())
}

pub(crate) fn record_damage(state: &mut State<'_, '_>, damaged: &[(BlockId, DiskId)]) -> Result<(), StorageError> {
    let mut owners = Owners::default();
    damaged.iter().try_for_each(|(block, disk)| owners.note_missing(state, block, *disk))
}

pub(crate) fn record_repair(state: &mut State<'_, '_>, repaired: &[(BlockId, DiskId)]) -> Result<(), StorageError> {
    for (block, disk) in repaired {
        let key = keys::repair(block, *disk);
        if read::plain::<Marker>(state.view(), &key)?.is_none() {
            continue;
        }
        state.delete(key);
        if !read::any(state.view(), keys::repairs_of(block))? {
            state.count_down(Counter::UnderReplicatedBlocks)?;
        }
    }
    Ok(())
}
