//! Brings blocks to the next owners of moving partitions. What must be there is what files refer
//! to: the back-references, which are ordered by block, so that a partition is a range of them.
//!
//! For each moving partition: every block of it goes into the repair queue for each new owner;
//! commits that are applied meanwhile put theirs in, too (`namespace`); when none of them is left in
//! the queue, and every mount has had the time to learn of the move, `next` becomes `current`.
//! A new leader begins again, which costs a question for each block that is there already.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::block::BlockId;
use cairn_common::ids::{DiskId, PartitionId};
use cairn_common::partition_table::{PartitionRow, PartitionTable};
use cairn_common::protocol::ServiceError;

use super::context::{Context, broken};
use super::{movement, repair};
use crate::namespace::command::Action;
use crate::namespace::{cluster, partition_blocks};
use crate::storage::{ReadView, StorageError};

/// Queue entries of moves that may be open at once, so that the queue stays short.
const OPEN_ENTRIES: usize = 16_384;
/// Blocks that one read of the back-references gives.
const PAGE: usize = 1024;
/// Partitions that one blocking read covers.
const PER_READ: usize = 64;
/// Partitions that one step looks after, so that a step stays short.
const PER_STEP: usize = 8192;

/// Memory of the placement task about the moves under way.
#[derive(Default)]
pub(super) struct Filling {
    moves: BTreeMap<PartitionId, Move>,
}

struct Move {
    next: Vec<DiskId>,
    /// Since when this leader knows of it.
    since: Duration,
    /// Queue entries that it made; None until all were made.
    entries: Option<usize>,
}

impl Filling {
    /// Takes moves further. Returns whether any is under way.
    pub(super) async fn step(&mut self, context: &Arc<Context>) -> Result<bool, ServiceError> {
        let now = context.clock.monotonic();
        let table = {
            let view = context.group.view();
            context.table.table(&*view).map_err(broken)?
        };
        self.follow(&table, now);
        if self.moves.is_empty() {
            return Ok(false);
        }
        self.enqueue(context, &table).await?;
        let spread = context.options.timings.table_spread;
        let filled = self.moves.iter().filter(|(_, m)| m.entries.is_some() && now.saturating_sub(m.since) >= spread);
        let candidates: Vec<PartitionId> = filled.map(|(partition, _)| *partition).take(PER_STEP).collect();
        let done = self.finished(context, &table, candidates).await?;
        if !done.is_empty() {
            let rows = done.iter().map(|partition| {
                let current = table.rows[partition.0 as usize].next.clone();
                (*partition, PartitionRow { current, next: Vec::new() })
            });
            if movement::install(context, table.epoch, rows.collect()).await?.is_some() {
                tracing::info!(partitions = done.len(), left = self.moves.len() - done.len(), "moves are finished");
            }
        }
        Ok(true)
    }

    /// Takes in the moves that the table shows.
    fn follow(&mut self, table: &PartitionTable, now: Duration) {
        let moving = |partition: &PartitionId| table.rows.get(partition.0 as usize).map(|row| &row.next);
        self.moves.retain(|partition, known| moving(partition) == Some(&known.next));
        for (partition, row) in (0u32..).map(PartitionId).zip(&table.rows) {
            if !row.next.is_empty() {
                self.moves.entry(partition).or_insert_with(|| Move {
                    next: row.next.clone(),
                    since: now,
                    entries: None,
                });
            }
        }
    }

    /// Puts the blocks of partitions into the queue, as far as there is room.
    async fn enqueue(&mut self, context: &Arc<Context>, table: &Arc<PartitionTable>) -> Result<(), ServiceError> {
        let mut open: usize = self.moves.values().filter_map(|m| m.entries).sum();
        let waiting: Vec<PartitionId> =
            self.moves.iter().filter(|(_, m)| m.entries.is_none()).map(|(p, _)| *p).take(PER_STEP).collect();
        let mut batch: Vec<(BlockId, DiskId)> = Vec::new();
        let mut covered: Vec<(PartitionId, usize)> = Vec::new();
        for chunk in waiting.chunks(PER_READ) {
            if open >= OPEN_ENTRIES {
                break;
            }
            let (shared, table, chunk) = (context.clone(), table.clone(), chunk.to_vec());
            let found = blocking(move || entries_of(&*shared.group.view(), &table, &chunk)).await?;
            for (partition, entries) in found {
                open += entries.len();
                covered.push((partition, entries.len()));
                batch.extend(entries);
            }
        }
        for entries in batch.chunks(repair::PER_PROPOSAL) {
            context.propose(Action::RecordDamage { damaged: entries.to_vec() }).await?;
        }
        for (partition, entries) in covered {
            if let Some(known) = self.moves.get_mut(&partition) {
                known.entries = Some(entries);
            }
        }
        Ok(())
    }

    /// Those of the partitions whose new owners lack nothing any more.
    async fn finished(
        &self,
        context: &Arc<Context>,
        table: &Arc<PartitionTable>,
        partitions: Vec<PartitionId>,
    ) -> Result<Vec<PartitionId>, ServiceError> {
        if partitions.is_empty() {
            return Ok(partitions);
        }
        // What was committed before this instant must be in the view.
        context.group.linearize().await?;
        let (shared, table) = (context.clone(), table.clone());
        blocking(move || {
            let view = shared.group.view();
            if cluster::repair_queue(&*view, None, 1)?.is_empty() {
                return Ok(partitions);
            }
            let mut finished = Vec::new();
            for partition in partitions {
                if !lacks_anything(&*view, &table, partition)? {
                    finished.push(partition);
                }
            }
            Ok(finished)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, ServiceError> {
    match cairn_common::blocking::run(work).await {
        Ok(result) => result.map_err(broken),
        Err(error) => Err(ServiceError::Internal { reason: format!("filling: {error}") }),
    }
}

/// Owners that a row gets and does not have.
fn new_owners(row: &PartitionRow) -> impl Iterator<Item = DiskId> {
    row.next.iter().copied().filter(|disk| !row.current.contains(disk))
}

type Entries = Vec<(PartitionId, Vec<(BlockId, DiskId)>)>;

/// For each partition every block that a file refers to, with each new owner.
fn entries_of(
    view: &dyn ReadView,
    table: &PartitionTable,
    partitions: &[PartitionId],
) -> Result<Entries, StorageError> {
    let mut found = Vec::new();
    for partition in partitions {
        let (mut entries, mut after) = (Vec::new(), None);
        loop {
            let count = table.rows.len() as u32;
            let page = partition_blocks::blocks_of_partition(view, *partition, count, after, PAGE)?;
            for block in &page {
                entries.extend(new_owners(&table.rows[partition.0 as usize]).map(|disk| (*block, disk)));
            }
            after = page.last().copied();
            if page.len() < PAGE {
                break;
            }
        }
        found.push((*partition, entries));
    }
    Ok(found)
}

/// Whether the queue has an entry of the partition for one of its new owners.
fn lacks_anything(view: &dyn ReadView, table: &PartitionTable, partition: PartitionId) -> Result<bool, StorageError> {
    let (count, row) = (table.rows.len() as u32, &table.rows[partition.0 as usize]);
    // No block hashes to all zeros, and disk numbers begin at 1: nothing sorts before this.
    let mut after = Some((partition_blocks::first_block(partition, count), DiskId(0)));
    loop {
        let page = cluster::repair_queue(view, after, PAGE)?;
        for (block, disk) in &page {
            if block.partition(count) != partition {
                return Ok(false);
            }
            if new_owners(row).any(|owner| owner == *disk) {
                return Ok(true);
            }
        }
        after = page.last().copied();
        if page.len() < PAGE {
            return Ok(false);
        }
    }
}
