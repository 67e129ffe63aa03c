//! Keeps the partition table in step with the disks: the first table, and moves when disks come or
//! go. A move sets `next`; [`super::filling`] brings the blocks there and then makes it `current`.

use std::collections::BTreeSet;

use cairn_common::ids::{DiskId, PartitionId, TableEpoch};
use cairn_common::partition_table::{PartitionRow, PartitionTable};
use cairn_common::protocol::ServiceError;

use super::context::{Context, broken, unexpected};
use super::leader::Leader;
use crate::namespace::command::{Action, Outcome};
use crate::placement::{PlacementDisk, assign};

/// Rows in one proposal: well below `MAX_ENTRY_BYTES`.
const ROWS_PER_PROPOSAL: usize = 8192;

/// Memory of the placement task.
#[derive(Default)]
pub(super) struct Movement {
    /// Disks that the table in force was computed for.
    placed: Option<Vec<PlacementDisk>>,
}

impl Movement {
    /// Computes and installs rows if the disks are not those of the last time.
    pub(super) async fn step(&mut self, context: &Context, leader: &Leader) -> Result<(), ServiceError> {
        let (now, timings) = (context.clock.monotonic(), &context.options.timings);
        let replicas = leader.cluster.replicas;
        let disks = leader.roster.placement_disks(replicas, timings.chunk_lost, now);
        if disks.is_empty() || self.placed.as_ref() == Some(&disks) {
            return Ok(());
        }
        let table = {
            let view = context.group.view();
            context.table.table(&*view).map_err(broken)?
        };
        let waits_briefly = leader.roster.settled_for(now) < timings.first_table_grace;
        if table.rows.is_empty() && !suffice_for_first_table(&disks, replicas, waits_briefly) {
            return Ok(());
        }
        let (input, partitions, old) = (disks.clone(), leader.cluster.partitions, owners_to_be(&table));
        let owners = cairn_common::blocking::run(move || assign(&input, partitions, replicas, &old))
            .await
            .map_err(|e| ServiceError::Internal { reason: format!("placement: {e}") })?;
        let changes = changes(&table, owners);
        if !changes.is_empty() {
            tracing::info!(
                disks = disks.len(),
                partitions = changes.len(),
                first = table.rows.is_empty(),
                "the set of disks has changed: partitions get other owners"
            );
        }
        if install(context, table.epoch, changes).await?.is_some() {
            self.placed = Some(disks);
        }
        Ok(())
    }
}

/// Whether the first table may be made of these disks. Servers of a new cluster register one after
/// another: all that the replicas need are waited for briefly, a write quorum of them for as long as it
/// takes, because rows with fewer owners would take in data that one failure can lose (P2).
fn suffice_for_first_table(disks: &[PlacementDisk], replicas: u8, waits_briefly: bool) -> bool {
    let nodes = disks.iter().map(|disk| disk.node).collect::<BTreeSet<_>>().len();
    let quorum = usize::from(replicas) / 2 + 1;
    disks.len() >= quorum && (nodes >= usize::from(replicas) || !waits_briefly)
}

/// Where every row is going.
fn owners_to_be(table: &PartitionTable) -> Vec<Vec<DiskId>> {
    let goal = |row: &PartitionRow| if row.next.is_empty() { row.current.clone() } else { row.next.clone() };
    table.rows.iter().map(goal).collect()
}

/// Rows that lead from the table to the owners.
fn changes(table: &PartitionTable, owners: Vec<Vec<DiskId>>) -> Vec<(PartitionId, PartitionRow)> {
    let mut changes = Vec::new();
    for (partition, owners) in (0u32..).map(PartitionId).zip(owners) {
        let wanted = match table.rows.get(partition.0 as usize) {
            None => PartitionRow { current: owners, next: Vec::new() },
            // Nobody holds anything of a row without owners: there is nothing to move.
            Some(row) if row.current.is_empty() => PartitionRow { current: owners, next: Vec::new() },
            Some(row) if row.current == owners => PartitionRow { current: owners, next: Vec::new() },
            Some(row) => PartitionRow { current: row.current.clone(), next: owners },
        };
        if table.rows.get(partition.0 as usize) != Some(&wanted) {
            changes.push((partition, wanted));
        }
    }
    changes
}

/// Installs rows, a batch at a time. Returns the new epoch, or None if the table had changed
/// meanwhile; batches that went in stay.
pub(super) async fn install(
    context: &Context,
    mut base: TableEpoch,
    rows: Vec<(PartitionId, PartitionRow)>,
) -> Result<Option<TableEpoch>, ServiceError> {
    for batch in rows.chunks(ROWS_PER_PROPOSAL) {
        match context.propose(Action::InstallRows { base, rows: batch.to_vec() }).await? {
            Outcome::TableInstalled { epoch, installed: true } => base = epoch,
            Outcome::TableInstalled { installed: false, .. } => return Ok(None),
            other => return Err(unexpected(&other)),
        }
    }
    Ok(Some(base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_common::ids::{ChunkNodeId, PoolId};

    fn row(current: &[u32], next: &[u32]) -> PartitionRow {
        let ids = |list: &[u32]| list.iter().copied().map(DiskId).collect();
        PartitionRow { current: ids(current), next: ids(next) }
    }

    #[test]
    fn the_first_table_never_has_fewer_owners_than_a_write_quorum() {
        let disk = |disk: u32, node: u32| PlacementDisk {
            disk: DiskId(disk),
            node: ChunkNodeId(node),
            failure_domain: node.to_string(),
            weight: 1,
        };
        let three = [disk(1, 1), disk(2, 2), disk(3, 3)];
        let suffice = |disks: &[PlacementDisk], waits_briefly| suffice_for_first_table(disks, 3, waits_briefly);
        assert!(suffice(&three, true));
        assert!(!suffice(&three[..2], true), "the third one comes soon, perhaps");
        assert!(suffice(&three[..2], false));
        assert!(!suffice(&three[..1], false), "one replica is no quorum of three");
        assert!(suffice(&[disk(1, 1), disk(2, 1)], false), "two disks of one server");
        assert!(suffice_for_first_table(&three[..1], 1, true));
    }

    #[test]
    fn a_move_sets_next_and_a_move_back_cancels_it() {
        let rows = vec![row(&[1, 2], &[]), row(&[1, 2], &[1, 3]), row(&[1, 2], &[1, 3]), row(&[], &[])];
        let table = PartitionTable { epoch: TableEpoch(5), pool: PoolId::DEFAULT, replicas: 2, rows, disks: [].into() };
        assert_eq!(owners_to_be(&table)[1], [DiskId(1), DiskId(3)]);
        let owners = [[1, 4], [1, 3], [1, 2], [1, 2]].map(|row| row.map(DiskId).to_vec()).to_vec();
        let expected = vec![
            (PartitionId(0), row(&[1, 2], &[1, 4])),
            (PartitionId(2), row(&[1, 2], &[])),
            (PartitionId(3), row(&[1, 2], &[])),
        ];
        assert_eq!(changes(&table, owners), expected);
    }
}
