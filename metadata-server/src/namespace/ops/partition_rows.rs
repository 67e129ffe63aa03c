//! Rows of the partition table change by compare-and-set on the table's epoch.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cairn_common::ids::{DiskId, PartitionId, PoolId, TableEpoch};
use cairn_common::partition_table::PartitionRow;

use crate::namespace::command::Outcome;
use crate::namespace::fault::corrupt;
use crate::namespace::keys::{self, Counter, ROWS_PER_CHUNK};
use crate::namespace::read;
use crate::namespace::records::{Cluster, Disk, OwnedRow, PartitionRows};
use crate::namespace::state::State;
use crate::storage::{ReadView, StorageError};

/// Most disks in one list of a row.
const ROW_DISKS_MAX: usize = 64;

/// Installs the rows if the base is in force and every row is sound: its partition exists, it has
/// owners, and its disks are known.
pub(crate) fn install_rows(
    state: &mut State<'_, '_>,
    base: TableEpoch,
    rows: &[(PartitionId, PartitionRow)],
) -> Result<Outcome, StorageError> {
    let epoch = read::counter(state.view(), Counter::TableEpoch, 0)?;
    let cluster = read::plain::<Cluster>(state.view(), &keys::cluster())?;
    let Some(cluster) = cluster.filter(|_| epoch == base.0) else {
        return Ok(Outcome::TableInstalled { epoch: TableEpoch(epoch), installed: false });
    };
    if !are_sound(state.view(), cluster.partitions, rows)? {
        return Ok(Outcome::TableInstalled { epoch: TableEpoch(epoch), installed: false });
    }
    let mut chunks: BTreeMap<u32, PartitionRows> = BTreeMap::new();
    for (partition, row) in rows {
        let number = partition.0 / ROWS_PER_CHUNK;
        let chunk = match chunks.entry(number) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => unread.insert(chunk(state.view(), number, cluster.partitions)?),
        };
        chunk.0[(partition.0 % ROWS_PER_CHUNK) as usize].install(row, TableEpoch(epoch + 1));
    }
    for (number, chunk) in &chunks {
        state.put(keys::partition_rows(PoolId::DEFAULT, *number), chunk);
    }
    let epoch = state.next(Counter::TableEpoch, 0)?;
    Ok(Outcome::TableInstalled { epoch: TableEpoch(epoch), installed: true })
}

fn are_sound(view: &dyn ReadView, partitions: u32, rows: &[(PartitionId, PartitionRow)]) -> Result<bool, StorageError> {
    let mut known: BTreeMap<DiskId, bool> = BTreeMap::new();
    for (partition, row) in rows {
        if partition.0 >= partitions
            || row.current.is_empty()
            || row.current.len() > ROW_DISKS_MAX
            || row.next.len() > ROW_DISKS_MAX
        {
            return Ok(false);
        }
        for disk in row.current.iter().chain(&row.next) {
            if let Entry::Vacant(unread) = known.entry(*disk) {
                unread.insert(read::plain::<Disk>(view, &keys::disk(*disk))?.is_some());
            }
        }
    }
    Ok(known.values().all(|known| *known))
}

/// A chunk of rows, whole; rows that were never installed are empty.
pub(crate) fn chunk(view: &dyn ReadView, number: u32, partitions: u32) -> Result<PartitionRows, StorageError> {
    let rows = ROWS_PER_CHUNK.min(partitions.saturating_sub(number * ROWS_PER_CHUNK)) as usize;
    let key = keys::partition_rows(PoolId::DEFAULT, number);
    match read::plain::<PartitionRows>(view, &key)? {
        None => Ok(PartitionRows(vec![OwnedRow::default(); rows])),
        Some(chunk) if chunk.0.len() == rows => Ok(chunk),
        Some(chunk) => Err(corrupt(format!("partition chunk {number} has {} rows", chunk.0.len()))),
    }
}

/// One row; empty if it was never installed. Cheaper than its whole chunk.
pub(super) fn row(view: &dyn ReadView, partition: PartitionId) -> Result<OwnedRow, StorageError> {
    let key = keys::partition_rows(PoolId::DEFAULT, partition.0 / ROWS_PER_CHUNK);
    match view.get(&key)? {
        None => Ok(OwnedRow::default()),
        Some(value) => PartitionRows::row(&value, (partition.0 % ROWS_PER_CHUNK) as usize),
    }
}
