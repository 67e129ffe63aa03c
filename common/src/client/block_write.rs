//! Puts a block on its owners. The promise: `Ok` means that the block is on stable storage on a write
//! quorum of the partition's row (of both rows during a move), and names the owners that did not
//! confirm it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::chunk_client::{ChunkClient, Shared};
use super::error::ClientError;
use super::put_queue::PutJob;
use crate::block::BlockId;
use crate::ids::{DiskId, RequestId, TableEpoch};
use crate::partition_table::{PartitionRow, PartitionTable};
use crate::protocol::ServiceError;
use crate::protocol::chunk::PutOutcome;
use crate::transport::TransportError;

/// First wait before another round, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// A put that finds no quorum, and a full disk, for so long is refused: the others are slow or gone, and a
/// program is not to wait for them when a full disk is as much in its way.
const FULL_PATIENCE: Duration = Duration::from_secs(2);

/// Which room of the disks a put may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutRoom {
    /// All but the write reserve: the program can still be told that there is no space.
    Free,
    /// The write reserve, too: the bytes were acknowledged to a program, under a grant.
    Reserve,
}

/// Where a block is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The table by which a write quorum has it.
    pub table: TableEpoch,
    /// Its owners by that table that did not confirm it.
    pub missed: Vec<DiskId>,
}

/// One block on its way to a quorum, over as many rounds as it takes.
struct Put<'a> {
    shared: &'a Arc<Shared>,
    request: RequestId,
    block: BlockId,
    bytes: Bytes,
    room: PutRoom,
    /// Disks that have it on stable storage: true under every later table, too.
    confirmed: BTreeSet<DiskId>,
    tried: Vec<String>,
    full_disks: usize,
}

/// How a round ended.
enum Round {
    /// Durable; these owners did not confirm.
    Quorum(Vec<DiskId>),
    /// Not durable; fetch a table newer than this one first, if given.
    Failed { refresh: Option<TableEpoch> },
}

impl ChunkClient {
    /// Makes a block durable on a write quorum, by a table newer than `refused` if there is one: a
    /// commit of it was refused for being placed by that. Waits at most `call_timeout`.
    ///
    /// # Errors
    /// `NoSpace` when full disks, alone or with servers that do not answer, leave no quorum; some disks
    /// may have the block all the same, and no commit names it.
    pub async fn put(
        &self,
        request: RequestId,
        block: BlockId,
        bytes: Bytes,
        refused: Option<TableEpoch>,
        room: PutRoom,
    ) -> Result<Placed, ClientError> {
        let waited = self.shared.settings.call_timeout;
        let begun = Instant::now();
        let deadline = begun + waited;
        let mut put = Put {
            shared: &self.shared,
            request,
            block,
            bytes,
            room,
            confirmed: BTreeSet::new(),
            tried: Vec::new(),
            full_disks: 0,
        };
        let mut back_off = BACK_OFF.0;
        let mut pause = refused.is_none();
        loop {
            let table = self.shared.tables.table();
            let refresh = match table.row_of(&block) {
                _ if refused.is_some_and(|refused| table.epoch <= refused) => {
                    put.tried =
                        vec![format!("a commit by table {} was refused, and no newer one is here", table.epoch)];
                    Some(table.epoch)
                }
                None => {
                    put.tried = vec!["no chunk servers have registered with the cluster yet".into()];
                    Some(table.epoch)
                }
                Some(row) => match put.round(&table, row, deadline).await {
                    Round::Quorum(missed) => return Ok(Placed { table: table.epoch, missed }),
                    Round::Failed { refresh } => {
                        let possible = row.write_set().len() - put.full_disks;
                        let impossible = possible <= row.current.len() / 2;
                        if put.full_disks > 0 && (impossible || begun.elapsed() >= FULL_PATIENCE) {
                            return Err(ClientError::NoSpace { reason: put.tried.join("; ") });
                        }
                        refresh
                    }
                },
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut {
                    what: "put a block",
                    waited,
                    tried: std::mem::take(&mut put.tried).join("; "),
                });
            }
            if pause {
                tracing::warn!(%request, %block, tried = ?put.tried, "no write quorum yet");
                tokio::time::sleep(back_off.min(left)).await;
                back_off = (back_off * 2).min(BACK_OFF.1);
            }
            // The first refresh after a refusal is asked for at once.
            pause = true;
            if let Some(known) = refresh {
                let left = deadline.saturating_duration_since(Instant::now());
                if let Ok(Err(error)) = tokio::time::timeout(left, self.shared.tables.refresh(known)).await {
                    match error {
                        ClientError::SessionFenced { .. } | ClientError::Refused { .. } => return Err(error),
                        other => tracing::debug!(%request, error = %other, "no newer table"),
                    }
                }
            }
        }
    }
}

impl Put<'_> {
    /// Sends the block to every owner that has not confirmed it yet, and waits for a quorum, then a
    /// short grace for the others.
    async fn round(&mut self, table: &PartitionTable, row: &PartitionRow, deadline: Instant) -> Round {
        self.tried.clear();
        self.full_disks = 0;
        let owners = row.write_set();
        let mut waiting = FuturesUnordered::new();
        let mut refresh = None;
        for disk in owners.iter().copied().filter(|disk| !self.confirmed.contains(disk)) {
            let Some(location) = table.disks.get(&disk) else {
                self.tried.push(format!("disk {disk} is not in the table"));
                refresh = Some(table.epoch);
                continue;
            };
            let (outcome, answer) = oneshot::channel();
            let job = PutJob {
                request: self.request,
                table: table.epoch,
                block: self.block,
                disk,
                bytes: self.bytes.clone(),
                reserve: self.room == PutRoom::Reserve,
                outcome,
            };
            self.shared.puts.push(location.address, job);
            waiting.push(async move { (disk, location, answer.await) });
        }
        let mut until = deadline;
        loop {
            let quorum = row.is_quorum(|disk| self.confirmed.contains(&disk));
            let unsure: Vec<DiskId> = owners.iter().copied().filter(|disk| !self.confirmed.contains(disk)).collect();
            if quorum {
                let hopeful = unsure
                    .iter()
                    .any(|disk| table.disks.get(disk).is_some_and(|at| !self.shared.health.is_suspect(at.address)));
                if waiting.is_empty() || !hopeful {
                    return Round::Quorum(unsure);
                }
                until = until.min(Instant::now() + self.shared.settings.straggler_grace);
            }
            let next = tokio::time::timeout_at(until, waiting.next()).await;
            match next {
                Ok(Some((disk, location, outcome))) => {
                    let said = match outcome {
                        Ok(Ok(PutOutcome::Durable)) => {
                            self.confirmed.insert(disk);
                            continue;
                        }
                        Ok(Ok(PutOutcome::NoSpace)) => {
                            self.full_disks += 1;
                            "its disk is full".into()
                        }
                        Ok(Ok(PutOutcome::NotOwner)) => {
                            refresh = Some(table.epoch);
                            "it does not own the partition".into()
                        }
                        Ok(Ok(PutOutcome::NoDisk)) => {
                            refresh = Some(table.epoch);
                            "it has no such disk".into()
                        }
                        Ok(Ok(PutOutcome::HashMismatch)) => "the bytes arrived damaged".into(),
                        Ok(Err(error)) => {
                            match &error {
                                TransportError::Refused { error: ServiceError::StaleTable { .. }, .. } => {
                                    refresh = Some(table.epoch);
                                }
                                TransportError::Unreachable { .. } => refresh = Some(table.epoch),
                                _ => {}
                            }
                            error.to_string()
                        }
                        Err(_) => "the request was given up".to_string(),
                    };
                    self.tried.push(format!("{} (disk {disk}): {said}", location.name));
                }
                Ok(None) => return Round::Failed { refresh },
                Err(_) if quorum => {
                    for disk in &unsure {
                        if let Some(at) = table.disks.get(disk) {
                            self.shared.health.failed(at.address);
                        }
                    }
                    return Round::Quorum(unsure);
                }
                Err(_) => {
                    self.tried.push("no answer from the others".into());
                    return Round::Failed { refresh };
                }
            }
        }
    }
}
