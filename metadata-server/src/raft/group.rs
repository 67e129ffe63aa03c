//! [`MetadataGroup`]: this server's membership of the Raft group. It opens log and state, runs openraft
//! on threads of its own, and is what the service sees of all that. Promise: an outcome is returned
//! only after its entry is on stable storage on a majority and applied here.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::clock::HybridClock;
use cairn_common::ids::{MetadataNodeId, RequestId};
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::admin::MetadataMember;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::storage::RaftLogStorage;
use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use rocksdb::Cache;
use tokio::sync::watch;

use super::ballot::Ballot;
use super::handle::RaftHandle;
use super::log::RaftLog;
use super::network::{Factory, Network};
use super::options::{GroupError, GroupOptions, GroupTimings};
use super::proposer::Proposer;
use super::read_barrier::ReadBarrier;
use super::runtime::GroupRuntime;
use super::snapshot_inbox::SnapshotInbox;
use super::state_machine::StateMachine;
use super::state_store::{self, StateStore};
use super::status::{self, GroupStatus};
use super::types::{Member, TypeConfig};
use super::watcher::Watched;
use super::{maintenance, membership, watcher};
use crate::namespace::command::{Action, Outcome};
use crate::storage::{ReadView, RocksEngine, StorageEngine};

/// This server's membership of the metadata group.
pub struct MetadataGroup {
    raft: RaftHandle,
    store: Arc<StateStore>,
    inbox: Arc<SnapshotInbox>,
    clock: Arc<HybridClock>,
    ballot: Arc<Ballot>,
    proposer: Proposer,
    barrier: ReadBarrier,
    watched: Watched,
    timings: GroupTimings,
    runtime: Mutex<Option<GroupRuntime>>,
}

impl MetadataGroup {
    /// Opens log and state, replays what is committed, joins the group. Returns before there is a
    /// leader.
    pub async fn start(options: GroupOptions) -> Result<Arc<Self>, GroupError> {
        let runtime = GroupRuntime::start().map_err(|source| io_error("starting threads", source))?;
        let Some(handle) = runtime.handle() else { return Err(GroupError::Raft("no runtime".into())) };
        match handle.spawn(Self::start_inside(options)).await {
            Ok(Ok(group)) => {
                *group.runtime.lock() = Some(runtime);
                Ok(Arc::new(group))
            }
            Ok(Err(error)) => {
                runtime.stop().await;
                Err(error)
            }
            Err(panic) => Err(GroupError::Raft(panic.to_string())),
        }
    }

    /// The same on the caller's runtime, with a state and a log that the caller has opened: for a
    /// simulation, which owns threads, time and storage. The log must refuse to be purged beyond what
    /// the state has on stable storage. Ends with the runtime; [`Self::shutdown`] does nothing.
    pub async fn start_on(
        options: GroupOptions,
        store: Arc<StateStore>,
        log: impl RaftLogStorage<TypeConfig>,
    ) -> Result<Arc<Self>, GroupError> {
        Self::run(options, store, log).await.map(Arc::new)
    }

    async fn start_inside(options: GroupOptions) -> Result<Self, GroupError> {
        let (data, cache_bytes) = (options.data.clone(), options.timings.cache_bytes);
        let (store, mut log) = cairn_common::blocking::run(move || {
            let cache = Cache::new_hyper_clock_cache(cache_bytes, 0);
            let open = move |folder: &std::path::Path| {
                Ok(Arc::new(RocksEngine::open(folder, &cache)?) as Arc<dyn StorageEngine>)
            };
            state_store::refuse_lost(&data).map_err(|e| io_error("checking the data folder", e))?;
            let store = StateStore::open(&data, Arc::new(open)).map_err(|e| io_error("opening the state", e))?;
            let log = RaftLog::open(&data.join("log")).map_err(|e| io_error("opening the raft log", e))?;
            state_store::mark_created(&data).map_err(|e| io_error("marking the data folder", e))?;
            Ok::<_, GroupError>((Arc::new(store), log))
        })
        .await
        .map_err(|panic| GroupError::Raft(panic.to_string()))??;
        let durable = store.clone();
        log.limit_purge(Arc::new(move || durable.engine().durable_index()));
        Self::run(options, store, log).await
    }

    async fn run(
        options: GroupOptions,
        store: Arc<StateStore>,
        log: impl RaftLogStorage<TypeConfig>,
    ) -> Result<Self, GroupError> {
        let GroupOptions { data: _, cluster, member, initial_members, transport, clock, logic, timings } = options;
        let machine_clock = clock.clone();
        let clock = Arc::new(HybridClock::new(clock));
        let state =
            StateMachine::new(store.clone(), logic, clock.clone()).map_err(|e| io_error("reading the state", e))?;
        let network = Factory(Arc::new(Network { transport, cluster, own: member.clone() }));
        let config = Arc::new(config(cluster.to_string(), &timings)?);
        let fatal = |e: String| GroupError::Raft(e);
        let raft = Raft::new(member.node.0, config, network, log, state).await.map_err(|e| fatal(e.to_string()))?;
        let handle = RaftHandle::new(raft, member, cluster);
        let ballot = Ballot::new(&handle, machine_clock.clone(), &timings);
        initialize(&handle, initial_members).await?;
        let watched = watcher::watch(&handle);
        maintenance::start(handle.clone(), store.clone(), timings.clone());
        let leadership = || watched.leadership.clone();
        let proposer = Proposer::start(handle.clone(), clock.clone(), leadership(), timings.propose_timeout);
        let barrier = ReadBarrier::start(handle.clone(), machine_clock, leadership(), &timings);
        let inbox = Arc::new(SnapshotInbox::new(store.clone()));
        let runtime = Mutex::new(None);
        Ok(Self { raft: handle, store, inbox, clock, ballot, proposer, barrier, watched, timings, runtime })
    }

    /// Queues the action; the leader drains its queue into one entry, stamps each command with the
    /// hybrid clock and answers when it is applied. `Unavailable` leaves it open whether it will be.
    pub async fn propose(&self, request: RequestId, action: Action) -> Result<Outcome, ServiceError> {
        self.ready_to_lead().await?;
        self.proposer.propose(request, action).await
    }

    /// After `Ok`, [`Self::view`] shows everything that was committed before this call began.
    pub async fn linearize(&self) -> Result<(), ServiceError> {
        self.ready_to_lead().await?;
        self.barrier.pass().await
    }

    /// The applied state at one point in time. Hold it shortly: it keeps old versions alive.
    pub fn view(&self) -> Box<dyn ReadView + Send + Sync> {
        self.store.engine().view()
    }

    /// The group as this server sees it.
    pub fn status(&self) -> GroupStatus {
        status::of(&self.raft, self.store.engine().durable_index())
    }

    /// The term, while this server leads and has applied an entry of that term (so its state holds
    /// all that earlier leaders acknowledged); None otherwise.
    pub fn leadership(&self) -> watch::Receiver<Option<u64>> {
        self.watched.leadership.clone()
    }

    /// Why the group stopped on this server for good (a storage error); None while it runs. A server
    /// whose group stopped must end.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.watched.failure.clone()
    }

    /// Cluster time: ahead of the stamps of all applied commands.
    pub fn clock(&self) -> &HybridClock {
        &self.clock
    }

    /// Takes `new` in as a learner, waits until it has caught up, gives it the vote of `lost` and
    /// removes that one. May be called again after an error or under another leader.
    pub async fn replace_member(&self, lost: MetadataNodeId, new: MetadataMember) -> Result<(), ServiceError> {
        membership::replace(&self.raft, lost, new).await
    }

    /// Leaves cleanly: flushes the state and stops every task. Requests fail from now on.
    pub async fn shutdown(&self) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        if let Err(error) = self.raft.raft().shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        let engine = self.store.engine();
        match cairn_common::blocking::run(move || engine.flush()).await {
            Ok(Ok(durable)) => tracing::info!(durable, "state flushed"),
            Ok(Err(error)) => tracing::error!(%error, "the state was not flushed; the log supplies the rest"),
            Err(error) => tracing::error!(%error, "the state was not flushed; the log supplies the rest"),
        }
        runtime.stop().await;
    }

    /// What [`super::RaftService`] needs.
    pub(super) fn serving(&self) -> (RaftHandle, Arc<SnapshotInbox>, Arc<Ballot>) {
        (self.raft.clone(), self.inbox.clone(), self.ballot.clone())
    }

    /// Waits while this server leads but is not ready, at most the timeout of a proposal.
    async fn ready_to_lead(&self) -> Result<(), ServiceError> {
        let mut leadership = self.watched.leadership.clone();
        if leadership.borrow().is_some() {
            return Ok(());
        }
        let leads = || self.raft.raft().metrics().borrow_watched().state == ServerState::Leader;
        if !leads() {
            return Err(self.raft.not_leader());
        }
        let ready = async {
            while leadership.borrow_and_update().is_none() {
                if leadership.changed().await.is_err() || !leads() {
                    return Err(self.raft.not_leader());
                }
            }
            Ok(())
        };
        let late = || ServiceError::Unavailable { reason: "this server leads but has no majority".into() };
        tokio::time::timeout(self.timings.propose_timeout, ready).await.unwrap_or_else(|_| Err(late()))
    }
}

fn io_error(what: &str, source: io::Error) -> GroupError {
    GroupError::Io { what: what.into(), source }
}

fn config(cluster: String, timings: &GroupTimings) -> Result<Config, GroupError> {
    let millis = |duration: Duration| duration.as_millis() as u64;
    let config = Config {
        cluster_name: cluster,
        heartbeat_interval: millis(timings.heartbeat),
        election_timeout_min: millis(timings.election_min),
        election_timeout_max: millis(timings.election_max),
        enable_pre_vote: Some(true),
        // A restarted leader must win an election: without one it could serve a state that is older
        // than what it served before.
        enable_leader_restore: Some(false),
        // Replication reads batches by size (`limited_get_log_entries`).
        max_payload_entries: 1024,
        // Snapshots are asked for by the maintenance task, which flushes first.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: timings.keep_entries,
        purge_batch_size: 1,
        backoff: "20ms 50ms 100ms 200ms ...500ms".into(),
        ..Config::default()
    };
    config.validate().map_err(|e| GroupError::Raft(e.to_string()))
}

/// The first members all write the same first entry; whoever has one already leaves it.
async fn initialize(raft: &RaftHandle, members: Vec<MetadataMember>) -> Result<(), GroupError> {
    if members.is_empty() {
        return Ok(());
    }
    let members: BTreeMap<u64, Member> = members.into_iter().map(|member| (member.node.0, Member(member))).collect();
    match raft.raft().initialize(members).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(GroupError::Raft(error.to_string())),
    }
}
