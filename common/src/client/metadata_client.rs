//! A session with the metadata group. Finds and follows the leader; every call is bounded; a change
//! happens exactly once, however many servers it had to be sent to. It caches nothing but the
//! partition table, and promises no order among calls that run at the same time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::channel::Channel;
use super::chunk_client::TableSource;
use super::error::ClientError;
use super::leader_route::LeaderRoute;
use super::lease_clock::LeaseClock;
use super::session_tasks;
use super::slot_pool::{Slot, SlotPool};
use super::table_cache::TableCache;
use super::write_grant::WriteGrant;
use crate::block::BlockId;
use crate::clock::Clock;
use crate::ids::{CommitSequence, DiskId, InodeId, LeaseGeneration, RequestId, SessionEpoch, SessionId, TableEpoch};
use crate::limits;
use crate::partition_table::PartitionTable;
use crate::protocol::FsError;
use crate::protocol::locks::{LockRequest, LockWait};
use crate::protocol::metadata::{
    Attributes, ChangeEffects, LeaseGrant, MetadataReply, MetadataRequest, Mutation, MutationResult, Query,
    QueryResult, SessionEvent, Stamp,
};
use crate::transport::Transport;

/// How a client talks to the metadata group.
#[derive(Clone, Debug)]
pub struct MetadataClientSettings {
    /// Addresses of the metadata servers, any order; at least one.
    pub servers: Vec<SocketAddr>,
    /// Host and mount point, for people.
    pub client: String,
    /// One attempt at one server.
    pub attempt_timeout: Duration,
    /// A whole call.
    pub call_timeout: Duration,
    /// Renewal of the session.
    pub keep_alive: Duration,
}

impl MetadataClientSettings {
    /// The limits of [`crate::limits`].
    pub fn new(servers: Vec<SocketAddr>, client: String) -> Self {
        Self {
            servers,
            client,
            attempt_timeout: limits::ATTEMPT_TIMEOUT,
            call_timeout: limits::CALL_TIMEOUT,
            keep_alive: limits::KEEP_ALIVE_INTERVAL,
        }
    }
}

/// What the cluster asks of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// To do something; it is asked again until it is answered.
    Asked(SessionEvent),
    /// A leader that knows none of this session's shared leases grants leases of this generation. No
    /// shared lease is valid any more; the mount drops what they covered, [adopts](LeaseClock::adopt)
    /// the generation, reclaims leases for its open files and [checks in](MetadataClient::check_in).
    NewGeneration(LeaseGeneration),
}

/// Answer of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The answer; an error may be worth a lease, too (a name that is absent).
    pub result: Result<QueryResult, FsError>,
    /// State that it shows.
    pub sequence: CommitSequence,
    /// Leases that came with it.
    pub grant: Option<LeaseGrant>,
}

/// Answer of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its result.
    pub result: Result<MutationResult, FsError>,
    /// What it did, for caches.
    pub effects: ChangeEffects,
}

/// Shared leases on open files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// Attributes of those that are leased now.
    pub held: Vec<Attributes>,
    /// State that they show.
    pub sequence: CommitSequence,
    /// Generation of the leases.
    pub generation: LeaseGeneration,
}

/// An open session. Cheap to clone; background tasks end with [`MetadataClient::close`] or when the
/// last clone is dropped.
#[derive(Clone)]
pub struct MetadataClient {
    session: Arc<Session>,
    _tasks: Arc<session_tasks::SessionTasks>,
}

/// What calls and background tasks share.
pub(super) struct Session {
    pub(super) channel: Channel,
    pub(super) id: SessionId,
    pub(super) epoch: SessionEpoch,
    pub(super) tables: TableCache,
    pub(super) leases: Arc<LeaseClock>,
    pub(super) grant: Arc<WriteGrant>,
    /// Returns of leases so far.
    returns: AtomicU64,
    /// Ends the wait before the next keep-alive.
    pub(super) renew_now: Notify,
    table_fetch: tokio::sync::Mutex<()>,
    slots: SlotPool,
    fenced: watch::Sender<bool>,
    closed: AtomicBool,
}

impl MetadataClient {
    /// Opens a session. What the cluster asks of the mount arrives at `events`.
    pub async fn open(
        transport: Arc<dyn Transport>,
        settings: MetadataClientSettings,
        clock: Arc<dyn Clock>,
        events: mpsc::UnboundedSender<ClientEvent>,
    ) -> Result<Self, ClientError> {
        let route = LeaderRoute::new(&settings.servers)
            .ok_or_else(|| ClientError::Refused { reason: "no address of a metadata server is given".into() })?;
        let message = MetadataRequest::OpenSession { client: settings.client.clone() };
        let channel = Channel::new(transport, route, settings);
        let deadline = channel.deadline();
        let reply = channel.call("open a session", RequestId::random(), &message, deadline).await?;
        let MetadataReply::Session { session, epoch, slots, servers, .. } = reply else {
            return Err(unexpected("open a session", &reply));
        };
        channel.route.learn(&servers);
        let session = Arc::new(Session {
            channel,
            id: session,
            epoch,
            tables: TableCache::default(),
            leases: Arc::new(LeaseClock::new(clock)),
            grant: Arc::default(),
            returns: AtomicU64::new(0),
            renew_now: Notify::new(),
            table_fetch: tokio::sync::Mutex::new(()),
            slots: SlotPool::new(slots.max(1)),
            fenced: watch::Sender::new(false),
            closed: AtomicBool::new(false),
        });
        session.fetch_table(TableEpoch(0)).await?;
        let tasks = Arc::new(session_tasks::SessionTasks::start(&session, events));
        Ok(Self { session, _tasks: tasks })
    }

    /// The session's number.
    pub fn session(&self) -> SessionId {
        self.session.id
    }

    /// Becomes true when the cluster has ended the session.
    pub fn fenced(&self) -> watch::Receiver<bool> {
        self.session.fenced.subscribe()
    }

    /// How long this session may act on its leases.
    pub fn leases(&self) -> &Arc<LeaseClock> {
        &self.session.leases
    }

    /// What this session may acknowledge before it is committed.
    pub fn write_grant(&self) -> &Arc<WriteGrant> {
        &self.session.grant
    }

    /// Everything of earlier generations is dropped and leases of open files are reclaimed: the next
    /// keep-alive, sent at once, says so.
    pub fn check_in(&self, generation: LeaseGeneration) {
        self.session.leases.check_in(generation);
        self.session.renew_now.notify_one();
    }

    /// A linearizable read. `lease`: ask for shared leases on what the answer tells about.
    pub async fn query(&self, request: RequestId, query: Query, lease: bool) -> Result<Answer, ClientError> {
        let message = MetadataRequest::Query { session: self.session.id, query, lease };
        match self.session.call("read", request, &message, self.session.channel.deadline()).await? {
            MetadataReply::Answered { answer, sequence, grant } => Ok(Answer { result: answer, sequence, grant }),
            other => Err(unexpected("read", &other)),
        }
    }

    /// Asks for shared leases on open files.
    pub async fn reclaim(&self, request: RequestId, inodes: Vec<InodeId>) -> Result<Reclaimed, ClientError> {
        let message = MetadataRequest::Reclaim { session: self.session.id, inodes };
        match self.session.call("reclaim leases", request, &message, self.session.channel.deadline()).await? {
            MetadataReply::Reclaimed { held, sequence, generation } => Ok(Reclaimed { held, sequence, generation }),
            other => Err(unexpected("reclaim leases", &other)),
        }
    }

    /// Gives shared leases of a generation back. After an error it is not known whether the leader has
    /// taken them, and it may still do so.
    pub async fn return_leases(
        &self,
        request: RequestId,
        generation: LeaseGeneration,
        inodes: Vec<InodeId>,
    ) -> Result<(), ClientError> {
        let number = self.session.returns.fetch_add(1, Ordering::Relaxed) + 1;
        let message = MetadataRequest::ReturnLeases { session: self.session.id, generation, number, inodes };
        self.session.done("return leases", request, &message, self.session.channel.deadline()).await
    }

    /// A change. `covered`: inodes whose cached state is put aside until the answer comes. `TimedOut`
    /// leaves it under way: it may still happen, once.
    pub async fn mutate(
        &self,
        request: RequestId,
        mutation: Mutation,
        covered: Vec<InodeId>,
    ) -> Result<Changed, ClientError> {
        let waited = self.session.channel.settings.call_timeout;
        match tokio::time::timeout(waited, self.submit(request, mutation, covered)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut {
                what: "change",
                waited,
                tried: format!("metadata server {}", self.session.channel.route.current()),
            }),
        }
    }

    /// A change whose answer is always definite: it is retried until a leader has answered or the
    /// session is over, also when the returned future is dropped. A caller that must keep the order
    /// of changes waits for it.
    pub fn submit(
        &self,
        request: RequestId,
        mutation: Mutation,
        covered: Vec<InodeId>,
    ) -> BoxFuture<'static, Result<Changed, ClientError>> {
        let session = self.session.clone();
        let (answer_to, answer) = oneshot::channel();
        tokio::spawn(async move {
            let slot = session.slots.take().await;
            let result = session.settle(request, &slot, mutation, covered).await;
            match &result {
                Ok(_) | Err(ClientError::Fs(_)) => session.slots.settled(slot),
                // Refused before it was proposed: the number is still free.
                Err(ClientError::Refused { .. } | ClientError::NoSpace { .. } | ClientError::Protocol { .. }) => {
                    session.slots.unused(slot);
                }
                Err(
                    error @ (ClientError::TimedOut { .. }
                    | ClientError::SessionFenced { .. }
                    | ClientError::NoReplica { .. }
                    | ClientError::OutOfSequence { .. }),
                ) => {
                    tracing::error!(%request, slot = %slot.id, %error, "outcome of a change is unknown, its slot is retired");
                }
            }
            let _ = answer_to.send(result);
        });
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| {
                Err(ClientError::Protocol { reason: "the task of a change ended without an answer".into() })
            })
        })
    }

    /// Answers a recall. `open`: a program has the file open without a registration.
    pub async fn recall_done(&self, ticket: u64, open: bool) -> Result<(), ClientError> {
        let message = MetadataRequest::RecallDone { session: self.session.id, ticket, open };
        self.session.done("answer a recall", RequestId::random(), &message, self.session.channel.deadline()).await
    }

    /// Waits at most `wait` until nothing is in the way of a lock; to be repeated with the same `ticket`
    /// while the wait goes on.
    pub async fn await_lock(
        &self,
        request: RequestId,
        ticket: u64,
        lock: LockRequest,
        wait: Duration,
    ) -> Result<LockWait, ClientError> {
        let wait_ms = wait.as_millis() as u32;
        let message = MetadataRequest::AwaitLock { session: self.session.id, ticket, lock, wait_ms };
        match self.session.call("wait for a lock", request, &message, self.session.channel.deadline()).await? {
            MetadataReply::LockWait(wait) => Ok(wait),
            other => Err(unexpected("wait for a lock", &other)),
        }
    }

    /// Gives a wait up.
    pub async fn leave_lock_queue(&self, request: RequestId, ticket: u64) -> Result<(), ClientError> {
        let message = MetadataRequest::LeaveLockQueue { session: self.session.id, ticket };
        self.session.done("give a wait up", request, &message, self.session.channel.deadline()).await
    }

    /// Ends the session within `bound`; its open files are released. Nothing works afterwards.
    pub async fn close(&self, bound: Duration) -> Result<(), ClientError> {
        self.session.closed.store(true, Ordering::Release);
        self._tasks.stop();
        self.session.leases.end();
        let message = MetadataRequest::CloseSession { session: self.session.id, epoch: self.session.epoch };
        self.session.done("close the session", RequestId::random(), &message, Instant::now() + bound).await
    }
}

#[async_trait]
impl TableSource for MetadataClient {
    fn table(&self) -> Arc<PartitionTable> {
        self.session.tables.current()
    }

    async fn refresh(&self, known: TableEpoch) -> Result<Arc<PartitionTable>, ClientError> {
        self.session.fetch_table(known).await
    }

    async fn report_damage(&self, damaged: Vec<(BlockId, DiskId)>) -> Result<(), ClientError> {
        let message = MetadataRequest::ReportDamage { damaged };
        let deadline = self.session.channel.deadline();
        self.session.done("report damage", RequestId::random(), &message, deadline).await
    }
}

impl Session {
    /// One call of the session.
    pub(super) async fn call(
        &self,
        what: &'static str,
        request: RequestId,
        message: &MetadataRequest,
        deadline: Instant,
    ) -> Result<MetadataReply, ClientError> {
        if *self.fenced.borrow() {
            return Err(ClientError::SessionFenced { session: self.id });
        }
        let result = self.channel.call(what, request, message, deadline).await;
        if let Err(ClientError::SessionFenced { .. }) = result
            && !self.fenced.send_replace(true)
        {
            self.leases.end();
            tracing::error!(session = %self.id, "the cluster has ended this session: nothing works any more, unmount and mount again");
        }
        result
    }

    async fn done(
        &self,
        what: &'static str,
        request: RequestId,
        message: &MetadataRequest,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        match self.call(what, request, message, deadline).await? {
            MetadataReply::Done => Ok(()),
            other => Err(unexpected(what, &other)),
        }
    }

    /// Sends one change until it has a definite answer.
    async fn settle(
        &self,
        request: RequestId,
        slot: &Slot,
        mutation: Mutation,
        covered: Vec<InodeId>,
    ) -> Result<Changed, ClientError> {
        let stamp = Stamp { session: self.id, epoch: self.epoch, slot: slot.id, sequence: slot.sequence };
        let message = MetadataRequest::Mutate { stamp, mutation, covered };
        loop {
            match self.call("change", request, &message, self.channel.deadline()).await {
                Ok(MetadataReply::Mutated { result, effects }) => return Ok(Changed { result, effects }),
                Ok(other) => return Err(unexpected("change", &other)),
                Err(ClientError::TimedOut { tried, .. }) if !self.closed.load(Ordering::Acquire) => {
                    tracing::warn!(%request, slot = %slot.id, tried, "a change has no answer yet, it is sent again");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Fetches the partition table unless one newer than `known` is here already.
    pub(super) async fn fetch_table(&self, known: TableEpoch) -> Result<Arc<PartitionTable>, ClientError> {
        let _one_at_a_time = self.table_fetch.lock().await;
        let have = self.tables.current();
        if have.epoch > known {
            return Ok(have);
        }
        let message = MetadataRequest::PartitionTable { known: have.epoch };
        match self.call("fetch the partition table", RequestId::random(), &message, self.channel.deadline()).await? {
            MetadataReply::Table(Some(table)) => Ok(self.tables.install(table)),
            MetadataReply::Table(None) => Ok(have),
            other => Err(unexpected("fetch the partition table", &other)),
        }
    }
}

pub(super) fn unexpected(what: &str, reply: &MetadataReply) -> ClientError {
    let kind = match reply {
        MetadataReply::Session { .. } => "Session",
        MetadataReply::KeptAlive { .. } => "KeptAlive",
        MetadataReply::Mutated { .. } => "Mutated",
        MetadataReply::Answered { .. } => "Answered",
        MetadataReply::Reclaimed { .. } => "Reclaimed",
        MetadataReply::Events(_) => "Events",
        MetadataReply::Table(_) => "Table",
        MetadataReply::Done => "Done",
        MetadataReply::LockWait(_) => "LockWait",
    };
    ClientError::Protocol { reason: format!("{what}: the server answered {kind}") }
}
