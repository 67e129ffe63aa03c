//! Repair: pulls blocks that a disk of this server should hold from the servers that have them. Tasks
//! come with the answers to heartbeats and are given again until they are reported as done, so none
//! has to be kept. Gives way to users.

mod pull;
pub mod traffic;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::block::BlockId;
use cairn_common::ids::DiskId;
use cairn_common::protocol::chunk_control::RepairTask;
use cairn_common::telemetry::metric_names;
use cairn_common::transport::Transport;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use traffic::Traffic;

use crate::disk_set::DiskSet;
use crate::report::TableKeeper;

/// Blocks pulled at once.
const PARALLEL_PULLS: usize = 4;
/// Tasks taken at once; the leader gives the others again.
const MAX_TASKS: usize = 4096;
/// A pull waits for a moment without users' requests, but no longer than this.
const MAX_COURTESY: Duration = Duration::from_millis(50);
/// A task that failed is not tried again before this has passed: the leader gives it with every
/// heartbeat.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Carries repair tasks out.
pub struct Replicator {
    transport: Arc<dyn Transport>,
    disks: Arc<DiskSet>,
    tables: Arc<TableKeeper>,
    traffic: Arc<Traffic>,
    turns: Semaphore,
    known: Mutex<HashSet<(BlockId, DiskId)>>,
}

impl Replicator {
    /// Pulls over this transport, placing and finding by these tables.
    pub fn new(
        transport: Arc<dyn Transport>,
        disks: Arc<DiskSet>,
        tables: Arc<TableKeeper>,
        traffic: Arc<Traffic>,
    ) -> Arc<Self> {
        Arc::new(Self {
            transport,
            disks,
            tables,
            traffic,
            turns: Semaphore::new(PARALLEL_PULLS),
            known: Mutex::default(),
        })
    }

    /// Takes tasks that are not under way already, as many as there is room for.
    pub fn submit(self: &Arc<Self>, tasks: Vec<RepairTask>) {
        for task in tasks {
            let name = (task.block, task.disk);
            {
                let mut known = self.known.lock();
                if known.len() >= MAX_TASKS || !known.insert(name) {
                    continue;
                }
            }
            let this = self.clone();
            tokio::spawn(async move {
                if !this.carry_out(&task).await {
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                this.known.lock().remove(&name);
            });
        }
    }

    /// True if the block is whole and durable now.
    async fn carry_out(&self, task: &RepairTask) -> bool {
        // The semaphore is never closed.
        let Ok(_turn) = self.turns.acquire().await else { return false };
        self.traffic.quiet(MAX_COURTESY).await;
        match self.pull(task).await {
            Ok(copied) => {
                if copied {
                    metrics::counter!(metric_names::REPAIR_COPIED_BLOCKS).increment(1);
                }
                true
            }
            Err(error) => {
                metrics::counter!(metric_names::REPAIR_FAILURES).increment(1);
                tracing::warn!(block = %task.block, disk = %task.disk, %error, "cannot repair; it will be tried again");
                false
            }
        }
    }
}
