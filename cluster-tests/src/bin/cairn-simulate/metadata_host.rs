//! What a metadata server's machine keeps over crashes, and how the server is started on it: the real
//! group, service and namespace over a log and a state in memory that lose what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::ids::{ClusterId, Incarnation, MetadataNodeId};
use cairn_common::protocol::admin::MetadataMember;
use cairn_common::transport::{RequestHandler, Transport};
use cairn_meta::lease::LeaseRules;
use cairn_meta::raft::memory_log::{LogDisk, MemoryLog};
use cairn_meta::raft::state_store::StateStore;
use cairn_meta::raft::{GroupOptions, GroupTimings, MetadataGroup, StateMachineLogic};
use cairn_meta::service::{MetadataService, ServiceOptions, ServiceTimings};
use cairn_meta::storage::{MemoryEngine, StorageEngine, StorageError};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

use crate::clock::MachineClock;
use crate::network::{Network, Node, address_of};
use crate::observer::Changes;
use crate::planted::Planted;
use crate::planted_service::PlantedService;

/// The cluster of every simulation.
pub(crate) const CLUSTER: ClusterId = ClusterId(0xca1e_0001);
/// Few, so that tables travel fast.
const PARTITIONS: u32 = 16;
const REPLICAS: u8 = 3;

/// First byte of the keys of slots.
const SLOT_TABLE: u8 = 0x31;

type Engines = Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryEngine>>>>;

/// One machine.
pub(crate) struct MetadataHost {
    node: Node,
    data: PathBuf,
    engines: Engines,
    pub(crate) log: Arc<LogDisk>,
    group: Arc<Mutex<Option<Arc<MetadataGroup>>>>,
    planted: Option<Planted>,
    /// How long shared leases last.
    shared: Duration,
}

/// The members of the group; the machines `0..count`.
pub(crate) fn members(count: usize) -> Vec<MetadataMember> {
    (0..count)
        .map(|node| MetadataMember {
            node: MetadataNodeId(node as u64 + 1),
            incarnation: Incarnation(node as u128 + 1001),
            name: format!("meta{}", node + 1),
            address: address_of(node),
        })
        .collect()
}

impl MetadataHost {
    /// An empty machine; snapshots live in files below `folder`.
    pub(crate) fn new(node: Node, folder: &Path, dice: StdRng, shared: Duration, planted: Option<Planted>) -> Self {
        let dice = Mutex::new(dice);
        let sync_time = move || {
            let mut dice = dice.lock();
            let slow = dice.random_bool(0.01);
            Duration::from_micros(if slow { dice.random_range(5_000..60_000) } else { dice.random_range(100..2_500) })
        };
        Self {
            node,
            data: folder.join(format!("meta{}", node + 1)),
            engines: Arc::default(),
            log: match planted {
                Some(Planted::LogAckBeforeSync) => LogDisk::that_acknowledges_early(Arc::new(sync_time)),
                _ => LogDisk::new(Arc::new(sync_time)),
            },
            group: Arc::default(),
            planted,
            shared,
        }
    }

    /// The group, while it runs.
    pub(crate) fn group(&self) -> Option<Arc<MetadataGroup>> {
        self.group.lock().clone()
    }

    /// The process is about to end: nothing that it still does reaches the log.
    pub(crate) fn detach(&self) {
        self.log.detach();
    }

    /// The process is gone. With `power` what was not synced is lost, but for some of the log; without
    /// it the log is whole, and the state, which has no log of its own, falls back to its last flush.
    pub(crate) fn crash(&mut self, power: bool, dice: &mut StdRng) {
        let unsynced = self.log.unsynced();
        let keep = match power {
            false => unsynced,
            true if dice.random_bool(0.5) => 0,
            true => dice.random_range(0..=unsynced),
        };
        self.log.crash(keep);
        self.engines.lock().values().for_each(|engine| engine.crash());
    }

    /// The process ends; what it holds is let go.
    pub(crate) fn forget_process(&self) {
        let group = self.group.lock().take();
        drop(group);
    }

    /// The server's task: it runs until its runtime is dropped. `count` members form the group.
    pub(crate) fn start(
        &self,
        network: Arc<Network>,
        transport: Arc<dyn Transport>,
        life: u64,
        count: usize,
        logic: Arc<dyn StateMachineLogic>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (node, data, engines) = (self.node, self.data.clone(), self.engines.clone());
        let (disk, slot, planted, shared) = (self.log.clone(), self.group.clone(), self.planted, self.shared);
        async move {
            let store = open_state(&data, &engines, planted).expect("the state opens");
            let durable = store.clone();
            let log = MemoryLog::open(disk, Arc::new(move || durable.engine().durable_index()));
            let members = members(count);
            let options = GroupOptions {
                data,
                cluster: CLUSTER,
                member: members[node].clone(),
                initial_members: members,
                transport: transport.clone(),
                clock: Arc::new(MachineClock),
                logic,
                timings: group_timings(),
            };
            let group = MetadataGroup::start_on(options, store, log).await.expect("the group starts");
            let service_options = ServiceOptions {
                cluster: CLUSTER,
                partitions: PARTITIONS,
                replicas: REPLICAS,
                timings: service_timings(shared),
            };
            let service = MetadataService::start(group.clone(), transport, Arc::new(MachineClock), service_options);
            *slot.lock() = Some(group.clone());
            let service: Arc<dyn RequestHandler> = match planted {
                Some(planted) => PlantedService::start(service, group, planted),
                None => service,
            };
            network.serve(node, life, service);
        }
    }
}

fn open_state(data: &Path, engines: &Engines, planted: Option<Planted>) -> io::Result<Arc<StateStore>> {
    let engines = engines.clone();
    let open = move |folder: &Path| -> Result<Arc<dyn StorageEngine>, StorageError> {
        let mut engines = engines.lock();
        if let Some(engine) = engines.get(folder) {
            return Ok(engine.clone());
        }
        let mut engine = Arc::new(MemoryEngine::open(folder)?);
        if planted == Some(Planted::SnapshotWithoutSlots) {
            engine = without_slots(&engine)?;
        }
        engines.insert(folder.to_owned(), engine.clone());
        Ok(engine)
    };
    StateStore::open(data, Arc::new(open)).map(Arc::new)
}

/// The planted bug: what a snapshot brings, without the slots of sessions.
fn without_slots(engine: &MemoryEngine) -> Result<Arc<MemoryEngine>, StorageError> {
    let kept = Arc::new(MemoryEngine::new());
    let Some(mark) = engine.mark() else { return Ok(kept) };
    let mut changes = Changes::new();
    engine.view().scan(&[1], &[0xff], &mut |key, value| {
        if key[0] != SLOT_TABLE {
            changes.insert(Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)));
        }
        ControlFlow::Continue(())
    })?;
    kept.commit(changes, &mark)?;
    kept.flush()?;
    Ok(kept)
}

/// As in production, but snapshots soon and often.
fn group_timings() -> GroupTimings {
    GroupTimings {
        propose_timeout: Duration::from_secs(5),
        snapshot_entries: 150,
        keep_entries: 30,
        flush_interval: Duration::from_secs(2),
        ..GroupTimings::default()
    }
}

/// As in production, but sessions that are silent, or hold something exclusively and do nothing, end
/// sooner.
fn service_timings(shared: Duration) -> ServiceTimings {
    ServiceTimings {
        session_timeout: Duration::from_secs(4),
        leases: LeaseRules { shared, exclusive: Duration::from_secs(3), patience: shared / 3, ..LeaseRules::default() },
        table_spread: Duration::from_secs(4),
        ..ServiceTimings::default()
    }
}
