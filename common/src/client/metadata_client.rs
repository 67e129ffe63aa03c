//! A session with the metadata group. Finds and follows the leader; every call is bounded; a change
//! happens exactly once, however many servers it had to be sent to. It caches nothing but the
//! partition table, and promises no order among calls that run at the same time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::chunk_client::TableSource;
use super::error::ClientError;
use super::leader_route::LeaderRoute;
use super::session_tasks;
use super::slot_pool::{Slot, SlotPool};
use super::table_cache::TableCache;
use crate::block::BlockId;
use crate::codec;
use crate::ids::{DiskId, RequestId, SessionEpoch, SessionId, TableEpoch};
use crate::limits;
use crate::partition_table::PartitionTable;
use crate::protocol::metadata::{
    MetadataReply, MetadataRequest, Mutation, MutationResult, Query, QueryResult, SessionEvent, Stamp,
};
use crate::protocol::{Service, ServiceError};
use crate::transport::{Call, Transport, TransportError};

/// First wait after a server that could not help, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

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
    table_fetch: tokio::sync::Mutex<()>,
    slots: SlotPool,
    fenced: watch::Sender<bool>,
    closed: AtomicBool,
}

/// Sends requests to whoever leads.
pub(super) struct Channel {
    transport: Arc<dyn Transport>,
    pub(super) route: LeaderRoute,
    pub(super) settings: MetadataClientSettings,
}

impl MetadataClient {
    /// Opens a session. What the cluster asks of the mount arrives at `events`.
    pub async fn open(
        transport: Arc<dyn Transport>,
        settings: MetadataClientSettings,
        events: mpsc::UnboundedSender<SessionEvent>,
    ) -> Result<Self, ClientError> {
        let route = LeaderRoute::new(&settings.servers)
            .ok_or_else(|| ClientError::Refused { reason: "no address of a metadata server is given".into() })?;
        let message = MetadataRequest::OpenSession { client: settings.client.clone() };
        let channel = Channel { transport, route, settings };
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

    /// A linearizable read.
    pub async fn query(&self, request: RequestId, query: Query) -> Result<QueryResult, ClientError> {
        let message = MetadataRequest::Query { session: self.session.id, query };
        match self.session.call("read", request, &message, self.session.channel.deadline()).await? {
            MetadataReply::Answered(answer) => Ok(answer?),
            other => Err(unexpected("read", &other)),
        }
    }

    /// A change. `TimedOut` leaves it under way: it may still happen, once.
    pub async fn mutate(&self, request: RequestId, mutation: Mutation) -> Result<MutationResult, ClientError> {
        let waited = self.session.channel.settings.call_timeout;
        match tokio::time::timeout(waited, self.submit(request, mutation)).await {
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
    ) -> BoxFuture<'static, Result<MutationResult, ClientError>> {
        let session = self.session.clone();
        let (answer_to, answer) = oneshot::channel();
        tokio::spawn(async move {
            let slot = session.slots.take().await;
            let result = session.settle(request, &slot, mutation).await;
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

    /// Tells the cluster that an event's flush is done.
    pub async fn flush_done(&self, ticket: u64) -> Result<(), ClientError> {
        let message = MetadataRequest::FlushDone { session: self.session.id, ticket };
        self.session.done("answer a flush", RequestId::random(), &message, self.session.channel.deadline()).await
    }

    /// Ends the session within `bound`; its open files are released. Nothing works afterwards.
    pub async fn close(&self, bound: Duration) -> Result<(), ClientError> {
        self.session.closed.store(true, Ordering::Release);
        self._tasks.stop();
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
    async fn settle(&self, request: RequestId, slot: &Slot, mutation: Mutation) -> Result<MutationResult, ClientError> {
        let stamp = Stamp { session: self.id, epoch: self.epoch, slot: slot.id, sequence: slot.sequence };
        let message = MetadataRequest::Mutate { stamp, mutation };
        loop {
            match self.call("change", request, &message, self.channel.deadline()).await {
                Ok(MetadataReply::Mutated(result)) => return Ok(result?),
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

impl Channel {
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.call_timeout
    }

    /// Asks whoever leads until there is a definite answer or the time is over.
    pub(super) async fn call(
        &self,
        what: &'static str,
        request: RequestId,
        message: &MetadataRequest,
        deadline: Instant,
    ) -> Result<MetadataReply, ClientError> {
        let begun = Instant::now();
        let header: Bytes = codec::encode(message)
            .map_err(|error| ClientError::Protocol { reason: format!("{what}: {error}") })?
            .into();
        let mut back_off = BACK_OFF.0;
        let mut identity_refusals = 0;
        let mut tried = String::from("nobody");
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut { what, waited: begun.elapsed(), tried });
            }
            let address = self.route.current();
            let error = match self.attempt(address, request, header.clone(), left).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            tried = error.to_string();
            let wait = match error {
                TransportError::Refused { error, .. } => match error {
                    ServiceError::NotLeader { leader } => !self.route.not_leader(address, leader),
                    ServiceError::SessionFenced { session } => return Err(ClientError::SessionFenced { session }),
                    ServiceError::Forbidden { .. } => return Err(ClientError::Refused { reason: tried }),
                    ServiceError::NoSpace { .. } => return Err(ClientError::NoSpace { reason: tried }),
                    ServiceError::BadSequence => {
                        return Err(ClientError::OutOfSequence { reason: format!("{what}: {tried}") });
                    }
                    ServiceError::Invalid { .. } | ServiceError::StaleTable { .. } => {
                        return Err(ClientError::Protocol { reason: format!("{what}: {tried}") });
                    }
                    ServiceError::Unavailable { .. } | ServiceError::Internal { .. } => {
                        self.route.failed(address);
                        true
                    }
                },
                TransportError::Identity { .. } => {
                    identity_refusals += 1;
                    if identity_refusals >= self.route.server_count() {
                        return Err(ClientError::Refused { reason: tried });
                    }
                    self.route.failed(address);
                    false
                }
                TransportError::Unreachable { .. }
                | TransportError::NoAnswer { .. }
                | TransportError::Invalid { .. } => {
                    self.route.failed(address);
                    true
                }
            };
            tracing::debug!(%request, what, tried, "metadata attempt failed");
            if wait || back_off > BACK_OFF.0 {
                let jitter = back_off.mul_f64(0.5 + rand::random::<f64>() / 2.0);
                tokio::time::sleep(jitter.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
            back_off = (back_off * 2).min(BACK_OFF.1);
        }
    }

    /// One attempt at one server. Ends early when another call has found that server not to be the
    /// one to ask.
    async fn attempt(
        &self,
        address: SocketAddr,
        request: RequestId,
        header: Bytes,
        left: Duration,
    ) -> Result<MetadataReply, TransportError> {
        let timeout = self.settings.attempt_timeout.min(left);
        let call = Call { service: Service::Metadata, request, timeout, header, payload: Vec::new() };
        let mut route = self.route.subscribe();
        let answer = tokio::select! {
            answer = self.transport.call(address, call) => answer?,
            _ = route.wait_for(|current| *current != address) => {
                return Err(TransportError::NoAnswer { address, reason: "another call found it gone".into() });
            }
            () = tokio::time::sleep(timeout) => {
                return Err(TransportError::NoAnswer { address, reason: format!("{timeout:?} are over") });
            }
        };
        codec::decode(&answer.header).map_err(|error| TransportError::Invalid { address, reason: error.to_string() })
    }
}

fn unexpected(what: &str, reply: &MetadataReply) -> ClientError {
    let kind = match reply {
        MetadataReply::Session { .. } => "Session",
        MetadataReply::KeptAlive { .. } => "KeptAlive",
        MetadataReply::Mutated(_) => "Mutated",
        MetadataReply::Answered(_) => "Answered",
        MetadataReply::Events(_) => "Events",
        MetadataReply::Table(_) => "Table",
        MetadataReply::Done => "Done",
    };
    ClientError::Protocol { reason: format!("{what}: the server answered {kind}") }
}
