//! Repair: the state's queue names every replica that is missing or damaged; the leader hands the
//! entries to the servers whose disks they are about, a bounded number at a time, again and again
//! until the server reports the block whole. Only the queue is replicated; what was handed out is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_common::block::BlockId;
use cairn_common::ids::{DiskId, RequestId};
use cairn_common::partition_table::PartitionTable;
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::chunk_control::RepairTask;
use parking_lot::Mutex;

use super::context::{Context, broken};
use super::leader::Leader;
use crate::namespace::cluster;
use crate::namespace::command::Action;

/// Most tasks in the answer to one heartbeat.
const TASKS_PER_HEARTBEAT: usize = 256;
/// Most entries of the queue that are held in memory for one disk.
const HELD_PER_DISK: usize = 2048;
/// Entries of the queue that one step reads.
const PAGE: usize = 2048;
/// Replicas in one proposal.
pub(super) const PER_PROPOSAL: usize = 1024;

/// Work that waits for the heartbeats of its server.
#[derive(Default)]
pub(super) struct RepairDesk {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// For each disk its blocks, and when each was last handed out.
    disks: BTreeMap<DiskId, BTreeMap<BlockId, Option<Duration>>>,
    /// Where the walk through the queue goes on.
    cursor: Option<(BlockId, DiskId)>,
}

impl RepairDesk {
    /// Whether there may be tasks for any of the disks.
    fn has_work(&self, disks: &BTreeSet<DiskId>) -> bool {
        let state = self.state.lock();
        disks.iter().any(|disk| state.disks.get(disk).is_some_and(|blocks| !blocks.is_empty()))
    }

    /// Up to [`TASKS_PER_HEARTBEAT`] tasks for the disks, best sources first.
    fn hand_out(
        &self,
        disks: &BTreeSet<DiskId>,
        table: &PartitionTable,
        live: &BTreeSet<DiskId>,
        retry: Duration,
        now: Duration,
    ) -> Vec<RepairTask> {
        let mut state = self.state.lock();
        let mut tasks = Vec::new();
        for disk in disks {
            let Some(blocks) = state.disks.get_mut(disk) else { continue };
            let due = blocks.iter_mut().filter(|(_, at)| at.is_none_or(|at| now.saturating_sub(at) >= retry));
            for (block, at) in due.take(TASKS_PER_HEARTBEAT - tasks.len()) {
                *at = Some(now);
                tasks.push(RepairTask { block: *block, disk: *disk, sources: sources(table, block, *disk, live) });
            }
        }
        tasks
    }

    /// Replicas that are whole again.
    fn finished(&self, repaired: &[(BlockId, DiskId)]) {
        let mut state = self.state.lock();
        for (block, disk) in repaired {
            if let Some(blocks) = state.disks.get_mut(disk) {
                blocks.remove(block);
            }
        }
    }
}

/// Disks that should have a block, live ones first.
fn sources(table: &PartitionTable, block: &BlockId, disk: DiskId, live: &BTreeSet<DiskId>) -> Vec<DiskId> {
    let mut sources = table.row_of(block).map(|row| row.write_set()).unwrap_or_default();
    sources.retain(|source| *source != disk);
    sources.sort_by_key(|source| !live.contains(source));
    sources
}

/// Tasks for a server's disks.
pub(super) fn tasks(
    context: &Context,
    leader: &Leader,
    disks: &BTreeSet<DiskId>,
) -> Result<Vec<RepairTask>, ServiceError> {
    if !leader.repair.has_work(disks) {
        return Ok(Vec::new());
    }
    let table = {
        let view = context.group.view();
        context.table.table(&*view).map_err(broken)?
    };
    let (now, timings) = (context.clock.monotonic(), &context.options.timings);
    let live = leader.roster.live_disks(timings.chunk_timeout, now);
    Ok(leader.repair.hand_out(disks, &table, &live, timings.repair_retry, now))
}

/// Puts replicas into the queue: those that the table wants where they are said to lack.
pub(super) async fn record_damage(
    context: &Context,
    request: RequestId,
    mut damaged: Vec<(BlockId, DiskId)>,
) -> Result<(), ServiceError> {
    let table = {
        let view = context.group.view();
        context.table.table(&*view).map_err(broken)?
    };
    damaged.retain(|(block, disk)| table.row_of(block).is_some_and(|row| row.owns(*disk)));
    for batch in damaged.chunks(PER_PROPOSAL) {
        context.group.propose(request, Action::RecordDamage { damaged: batch.to_vec() }).await?;
    }
    Ok(())
}

/// Takes replicas out of the queue.
pub(super) async fn record_repair(
    context: &Context,
    leader: &Leader,
    request: RequestId,
    repaired: Vec<(BlockId, DiskId)>,
) -> Result<(), ServiceError> {
    for batch in repaired.chunks(PER_PROPOSAL) {
        context.group.propose(request, Action::RecordRepair { repaired: batch.to_vec() }).await?;
        leader.repair.finished(batch);
    }
    Ok(())
}

/// One step of the walk through the queue: takes entries in for disks of live servers, and drops
/// those that no table asks for any more. Returns whether the walk came to the queue's end.
pub(super) async fn walk(context: &Context, leader: &Leader) -> Result<bool, ServiceError> {
    let now = context.clock.monotonic();
    let live = leader.roster.live_disks(context.options.timings.chunk_timeout, now);
    let cursor = leader.repair.state.lock().cursor;
    let (page, table) = {
        let view = context.group.view();
        let page = cluster::repair_queue(&*view, cursor, PAGE).map_err(broken)?;
        (page, context.table.table(&*view).map_err(broken)?)
    };
    let at_end = page.len() < PAGE;
    let mut obsolete = Vec::new();
    {
        let mut state = leader.repair.state.lock();
        if cursor.is_none() {
            // A new round: what a table or a server that is gone asked for must not hold places.
            let wanted = |block: &BlockId, disk: &DiskId| table.row_of(block).is_some_and(|row| row.owns(*disk));
            state.disks.retain(|disk, _| live.contains(disk));
            state.disks.iter_mut().for_each(|(disk, blocks)| blocks.retain(|block, _| wanted(block, disk)));
        }
        for (block, disk) in &page {
            if !table.row_of(block).is_none_or(|row| row.owns(*disk)) {
                obsolete.push((*block, *disk));
            } else if live.contains(disk) {
                let held = state.disks.entry(*disk).or_default();
                if held.len() < HELD_PER_DISK {
                    held.entry(*block).or_insert(None);
                }
            }
        }
        state.cursor = if at_end { None } else { page.last().copied() };
    }
    if !obsolete.is_empty() {
        tracing::info!(entries = obsolete.len(), "drops repairs of replicas that no row of the table asks for");
        record_repair(context, leader, RequestId::random(), obsolete).await?;
    }
    Ok(at_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_common::block::BlockHash;
    use cairn_common::ids::{PoolId, TableEpoch};
    use cairn_common::partition_table::PartitionRow;

    fn block(n: u16) -> BlockId {
        let [high, low] = n.to_be_bytes();
        BlockId { pool: PoolId::DEFAULT, hash: BlockHash(std::array::from_fn(|i| if i == 0 { high } else { low })) }
    }

    #[test]
    fn tasks_name_live_sources_first_and_come_again_until_finished() {
        let current = vec![DiskId(1), DiskId(2), DiskId(3)];
        let table = PartitionTable {
            epoch: TableEpoch(1),
            pool: PoolId::DEFAULT,
            replicas: 3,
            rows: vec![PartitionRow { current, next: vec![] }],
            disks: BTreeMap::new(),
        };
        let desk = RepairDesk::default();
        desk.state.lock().disks.entry(DiskId(3)).or_default().extend((0..300).map(|n| (block(n), None)));
        let (disks, live) = (BTreeSet::from([DiskId(3)]), BTreeSet::from([DiskId(2), DiskId(3)]));
        let (retry, second) = (Duration::from_secs(5), Duration::from_secs(1));
        let hand_out = |now| desk.hand_out(&disks, &table, &live, retry, now);
        let first = hand_out(second);
        assert_eq!(first.len(), TASKS_PER_HEARTBEAT);
        assert_eq!(first[0].sources, [DiskId(2), DiskId(1)], "the live one first, never the disk itself");
        assert_eq!(hand_out(second).len(), 300 - TASKS_PER_HEARTBEAT, "then the others");
        assert_eq!(hand_out(second * 2).len(), 0, "all are handed out");
        desk.finished(&[(block(0), DiskId(3))]);
        let again = hand_out(second * 7);
        assert_eq!(again[0].block, block(1), "the finished one does not come again, the next does");
    }
}
