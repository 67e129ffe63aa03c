//! Registers the server and reports regularly. News of blocks are repeated until a report with them
//! was answered; a leader that does not know the server is told everything again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::{ChunkNodeId, DiskId, Incarnation, TableEpoch};
use cairn_common::limits::CHUNK_HEARTBEAT_INTERVAL;
use cairn_common::protocol::chunk_control::{
    ChunkControlReply, ChunkControlRequest, DiskReport, Heartbeat, RegisteredDisk, Registration,
};
use cairn_common::telemetry::metric_names;
use tokio::sync::watch;

use super::leader::MetadataLeader;
use super::table_keeper::TableKeeper;
use crate::block_store::journal::{News, Pending};
use crate::disk_set::{DiskSet, DiskSlot};
use crate::replicate::Replicator;

/// Most news of one disk in a report.
const NEWS_PER_DISK: usize = 1024;
/// A registration or report waits no longer than this before it is made anew.
const REPORT_BOUND: Duration = Duration::from_secs(5);

/// How the server introduces itself.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// The life of its data folder.
    pub incarnation: Incarnation,
    /// Its name; the name in its certificate.
    pub name: String,
    /// Where others reach it.
    pub address: SocketAddr,
    /// What fails together with it.
    pub failure_domain: String,
}

/// The reporting task.
pub struct Reporter {
    introduction: Introduction,
    leader: Arc<MetadataLeader>,
    disks: Arc<DiskSet>,
    tables: Arc<TableKeeper>,
    replicator: Arc<Replicator>,
    registered: watch::Sender<bool>,
}

impl Reporter {
    /// Ready to [`Reporter::run`].
    pub fn new(
        introduction: Introduction,
        leader: Arc<MetadataLeader>,
        disks: Arc<DiskSet>,
        tables: Arc<TableKeeper>,
        replicator: Arc<Replicator>,
    ) -> Self {
        Self { introduction, leader, disks, tables, replicator, registered: watch::Sender::new(false) }
    }

    /// Turns true when the cluster has numbered the disks for the first time.
    pub fn registered(&self) -> watch::Receiver<bool> {
        self.registered.subscribe()
    }

    /// Registers and reports for ever; ends when it is dropped.
    pub async fn run(self) {
        loop {
            let node = self.register().await;
            self.report_as(node).await;
            for store in self.disks.slots().iter().filter_map(|slot| slot.store()) {
                store.report_all_damage();
            }
        }
    }

    async fn register(&self) -> ChunkNodeId {
        loop {
            let disks = self.disks.clone();
            let Ok(disks) = cairn_common::blocking::run(move || introduce(&disks)).await else {
                tracing::error!("cannot gather the sizes of the disks");
                tokio::time::sleep(CHUNK_HEARTBEAT_INTERVAL).await;
                continue;
            };
            let registration = Registration {
                incarnation: self.introduction.incarnation,
                name: self.introduction.name.clone(),
                address: self.introduction.address,
                failure_domain: self.introduction.failure_domain.clone(),
                disks,
            };
            match self.leader.call(&ChunkControlRequest::Register(registration), REPORT_BOUND).await {
                Ok(ChunkControlReply::Registered { node, disks }) if disks.len() == self.disks.slots().len() => {
                    tracing::info!(%node, ?disks, "registered with the cluster");
                    self.disks.number(&disks);
                    self.registered.send_replace(true);
                    return node;
                }
                Ok(_) => tracing::error!("the metadata leader answered something else to a registration"),
                Err(error) => tracing::warn!(%error, "cannot register; trying again"),
            }
            tokio::time::sleep(CHUNK_HEARTBEAT_INTERVAL).await;
        }
    }

    /// Reports until the leader asks for a new registration.
    async fn report_as(&self, node: ChunkNodeId) {
        let mut ticks = tokio::time::interval(CHUNK_HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A disk that hangs holds the heartbeat up, and with it nothing else: the server shows as down.
            let (disks, incarnation) = (self.disks.clone(), self.introduction.incarnation);
            let epoch = self.tables.current().epoch;
            let gather = move || gather(&disks, node, incarnation, epoch);
            let Ok((heartbeat, pending)) = cairn_common::blocking::run(gather).await else {
                tracing::error!("cannot gather the state of the disks");
                continue;
            };
            match self.leader.call(&ChunkControlRequest::Heartbeat(heartbeat), REPORT_BOUND).await {
                Ok(ChunkControlReply::Heard { table, tasks, register }) => {
                    if register {
                        tracing::info!("the metadata leader does not know this server: registering again");
                        return;
                    }
                    self.confirm(&pending);
                    if table > self.tables.current().epoch {
                        self.tables.at_least(table).await;
                    }
                    self.replicator.submit(tasks);
                }
                Ok(_) => tracing::error!("the metadata leader answered something else to a heartbeat"),
                Err(error) => {
                    metrics::counter!(metric_names::CHUNK_HEARTBEAT_FAILURES).increment(1);
                    tracing::warn!(%error, "heartbeat was not answered");
                }
            }
        }
    }

    fn confirm(&self, pending: &[(DiskId, Pending)]) {
        for (disk, news) in pending {
            if let Some(store) = self.disks.store(*disk) {
                store.journal().confirm(news);
            }
        }
    }
}

/// The disks as they are introduced. Blocks on statfs.
fn introduce(disks: &DiskSet) -> Vec<RegisteredDisk> {
    let disk = |slot: &DiskSlot| RegisteredDisk { uuid: slot.uuid, capacity_bytes: slot.report().capacity_bytes };
    disks.slots().iter().map(disk).collect()
}

/// The state of all disks, and the news in it. Blocks on statfs.
fn gather(
    disks: &DiskSet,
    node: ChunkNodeId,
    incarnation: Incarnation,
    table: TableEpoch,
) -> (Heartbeat, Vec<(DiskId, Pending)>) {
    let mut reports = Vec::new();
    let mut pending = Vec::new();
    let (mut damaged, mut repaired) = (Vec::new(), Vec::new());
    for (disk, slot) in disks.numbered() {
        let report = slot.report();
        let label = slot.uuid.to_string();
        metrics::gauge!(metric_names::CHUNK_BLOCKS, "disk" => label.clone()).set(report.blocks as f64);
        metrics::gauge!(metric_names::CHUNK_DISK_FREE_BYTES, "disk" => label.clone()).set(report.free_bytes as f64);
        metrics::gauge!(metric_names::CHUNK_DISK_CAPACITY_BYTES, "disk" => label).set(report.capacity_bytes as f64);
        reports.push(DiskReport {
            disk,
            capacity_bytes: report.capacity_bytes,
            free_bytes: report.free_bytes,
            reserve_bytes: report.reserve_bytes,
            room_bytes: report.room_bytes,
            file_system: report.file_system,
            blocks: report.blocks,
            damaged_blocks: report.damaged_blocks,
            failure: report.failure,
        });
        let Some(store) = slot.store() else { continue };
        let news = store.journal().pending(NEWS_PER_DISK);
        for (block, news, _) in &news.items {
            match news {
                News::Damaged => damaged.push((*block, disk)),
                News::Repaired => repaired.push((*block, disk)),
            }
        }
        pending.push((disk, news));
    }
    let heartbeat = Heartbeat { node, incarnation, table, disks: reports, damaged, repaired };
    (heartbeat, pending)
}
