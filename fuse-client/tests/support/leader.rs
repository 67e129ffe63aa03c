//! The leader's side of leases, in its simplest faithful form: pins, recalls, the wait for them, and
//! generations. Served to the real metadata client as a transport whose messages overtake each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_common::clock::Timestamp;
use cairn_common::codec;
use cairn_common::ids::{CommitSequence, InodeId, LeaseGeneration, PoolId, SessionEpoch, SessionId, TableEpoch};
use cairn_common::partition_table::PartitionTable;
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::locks::LockWait;
use cairn_common::protocol::metadata::{
    Attributes, ChangeEffects, LeaseGrant, MetadataReply, MetadataRequest, Mutation, Query, SessionEvent,
};
use cairn_common::protocol::write_reserve::{ReserveReport, ReserveShare};
use cairn_common::transport::{Answer, Call, Transport, TransportError};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::state::State;

/// A session is given up this long after its last renewal: its lease, and what clocks may differ.
const PATIENCE: Duration = Duration::from_millis(1100);
/// As the real leader: an answer may be on its way.
const REDELIVER: Duration = Duration::from_millis(250);

/// The cluster.
pub(crate) struct FakeCluster {
    pub(crate) state: Mutex<State>,
    leases: Mutex<Leases>,
    mail: Notify,
    /// So many puts fail as if no quorum answered.
    pub(crate) failing_puts: AtomicU32,
    /// So many puts are refused for good.
    pub(crate) refused_puts: AtomicU32,
    /// Only the write reserve is left, and keep-alives say so.
    pub(crate) disks_are_full: AtomicBool,
    /// What puts took of the reserve.
    pub(crate) reserve_bytes: AtomicU64,
    /// What each mount may buffer.
    pub(crate) granted: AtomicU64,
    /// So many reads of blocks and of metadata fail.
    pub(crate) failing_reads: AtomicU32,
    /// While locked, commits wait: their answer is late.
    pub(crate) commits: tokio::sync::Mutex<()>,
    /// Messages take up to so many milliseconds.
    pub(crate) jitter_ms: AtomicU32,
    /// Nobody gets leases.
    pub(crate) no_leases: AtomicBool,
    pub(crate) puts: AtomicU32,
    pub(crate) questions: AtomicU64,
}

#[derive(Default)]
struct Leases {
    sessions: BTreeMap<SessionId, Session>,
    holders: BTreeSet<(InodeId, SessionId)>,
    /// Gave a lease back and have the file open all the same.
    openers: BTreeSet<(InodeId, SessionId)>,
    pins: BTreeMap<InodeId, u32>,
    recalls: BTreeMap<u64, (SessionId, SessionEvent, Option<oneshot::Sender<bool>>)>,
    /// When each of them was handed out.
    handed_out: BTreeMap<u64, Instant>,
    tickets: u64,
    sequence: u64,
    term: u64,
}

#[derive(Default)]
struct Session {
    taken_back: u64,
    silent: bool,
    fenced: bool,
    /// Holds nothing of an earlier leader.
    checked_in: bool,
}

impl Default for FakeCluster {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            leases: Mutex::new(Leases { term: 1, ..Leases::default() }),
            mail: Notify::new(),
            failing_puts: AtomicU32::new(0),
            refused_puts: AtomicU32::new(0),
            disks_are_full: AtomicBool::new(false),
            reserve_bytes: AtomicU64::new(0),
            granted: AtomicU64::new(u64::MAX),
            failing_reads: AtomicU32::new(0),
            commits: tokio::sync::Mutex::default(),
            jitter_ms: AtomicU32::new(0),
            no_leases: AtomicBool::new(false),
            puts: AtomicU32::new(0),
            questions: AtomicU64::new(0),
        }
    }
}

impl Leases {
    fn generation(&self, session: SessionId) -> LeaseGeneration {
        LeaseGeneration((self.term << 24) + 1 + self.sessions.get(&session).map_or(0, |s| s.taken_back))
    }

    fn recall(
        &mut self,
        session: SessionId,
        inode: InodeId,
        exclusive: bool,
        last_name: bool,
    ) -> oneshot::Receiver<bool> {
        self.tickets += 1;
        let (done, answered) = oneshot::channel();
        let event = SessionEvent::Recall { inode, ticket: self.tickets, exclusive, last_name };
        self.recalls.insert(self.tickets, (session, event, Some(done)));
        answered
    }

    /// Recalls that a session is to be told of now: new ones, and those that were not answered for a while.
    fn due(&mut self, session: SessionId) -> Vec<SessionEvent> {
        let now = Instant::now();
        let Self { recalls, handed_out, .. } = self;
        let mut due = Vec::new();
        for (ticket, (_, event, _)) in recalls.iter().filter(|(_, recall)| recall.0 == session) {
            if handed_out.get(ticket).is_none_or(|at| now.duration_since(*at) >= REDELIVER) {
                handed_out.insert(*ticket, now);
                due.push(event.clone());
            }
        }
        due
    }

    /// Not what is pinned, another session's, or being recalled from this one: with its answer to that
    /// everything that it has goes.
    fn may_grant(&self, state: &State, session: SessionId, inode: InodeId) -> bool {
        let taken = state.exclusive.get(&inode).is_some_and(|holder| *holder != session);
        let recalled = self.recalls.values().any(|(holder, event, _)| {
            let SessionEvent::Recall { inode: recalled, .. } = event;
            *holder == session && *recalled == inode
        });
        !taken && !recalled && !self.pins.contains_key(&inode)
    }

    fn give_up_on(&mut self, session: SessionId) {
        if let Some(known) = self.sessions.get_mut(&session) {
            known.taken_back += 1;
        }
        self.holders.retain(|(_, holder)| *holder != session);
    }
}

impl FakeCluster {
    /// What a mount may buffer; all that it wants unless a test says otherwise.
    fn share(&self, report: ReserveReport) -> ReserveShare {
        let full = self.disks_are_full.load(Ordering::SeqCst);
        let most = if full { 0 } else { self.granted.load(Ordering::SeqCst) };
        ReserveShare { granted: report.wanted.min(most), full }
    }

    /// What the cluster holds of a file.
    pub(crate) fn contents(&self, inode: InodeId) -> Vec<u8> {
        self.state.lock().contents(inode)
    }

    /// Attributes as the cluster has them.
    pub(crate) fn attributes(&self, inode: InodeId) -> Attributes {
        self.state.lock().nodes[&inode].attributes
    }

    /// Opens sent so far.
    pub(crate) fn opens(&self) -> u32 {
        self.state.lock().opens_sent
    }

    /// Questions answered so far.
    pub(crate) fn questions(&self) -> u64 {
        self.questions.load(Ordering::SeqCst)
    }

    /// Another leader, which knows no shared lease. It makes changes when all mounts have checked in.
    pub(crate) fn change_leader(&self) {
        let mut leases = self.leases.lock();
        leases.term += 1;
        leases.holders.clear();
        leases.openers.clear();
        for session in leases.sessions.values_mut() {
            session.checked_in = false;
        }
    }

    /// Until every session has checked in, or is given up.
    async fn all_checked_in(&self) {
        let begun = std::time::Instant::now();
        let missing = || self.leases.lock().sessions.values().any(|session| !session.checked_in && !session.fenced);
        while missing() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The session's messages are lost from here on.
    pub(crate) fn cut_off(&self, session: SessionId, silent: bool) {
        if let Some(known) = self.leases.lock().sessions.get_mut(&session) {
            known.silent = silent;
        }
    }

    /// The session ends, by its own wish or the cluster's.
    pub(crate) fn end(&self, session: SessionId) {
        let mut leases = self.leases.lock();
        if let Some(known) = leases.sessions.get_mut(&session) {
            known.fenced = true;
        }
        leases.holders.retain(|(_, holder)| *holder != session);
        leases.openers.retain(|(_, holder)| *holder != session);
        // Whoever waits for it goes on: the sender is dropped.
        leases.recalls.retain(|_, (holder, ..)| *holder != session);
        let mut state = self.state.lock();
        state.exclusive.retain(|_, holder| *holder != session);
        state.opens.retain(|(_, holder, _)| *holder != session);
    }

    async fn answer(&self, message: MetadataRequest) -> Result<MetadataReply, ServiceError> {
        Ok(match message {
            MetadataRequest::OpenSession { .. } => {
                let mut leases = self.leases.lock();
                let session = SessionId(1 + leases.sessions.len() as u64);
                leases.sessions.insert(session, Session { checked_in: true, ..Session::default() });
                MetadataReply::Session {
                    session,
                    epoch: SessionEpoch(1),
                    slots: 64,
                    timeout_ms: 30_000,
                    servers: Vec::new(),
                }
            }
            MetadataRequest::KeepAlive { session, leases: carried, reserve, .. } => {
                let mut leases = self.leases.lock();
                let generation = leases.generation(session);
                if let Some(known) = leases.sessions.get_mut(&session).filter(|_| carried == generation) {
                    known.checked_in = true;
                }
                kept_alive(generation, self.share(reserve))
            }
            MetadataRequest::Mutate { stamp, mutation, covered } => {
                if matches!(mutation, Mutation::Commit { .. }) {
                    let _late = self.commits.lock().await;
                }
                self.all_checked_in().await;
                self.change(stamp.session, mutation, &covered).await
            }
            MetadataRequest::Query { session, query, lease } => self.query(session, query, lease).await,
            MetadataRequest::Reclaim { session, inodes } => self.reclaim(session, &inodes),
            MetadataRequest::ReturnLeases { session, generation, inodes, .. } => {
                let mut leases = self.leases.lock();
                if leases.generation(session) == generation {
                    leases.holders.retain(|(inode, holder)| *holder != session || !inodes.contains(inode));
                }
                MetadataReply::Done
            }
            MetadataRequest::PollEvents { session, .. } => MetadataReply::Events(self.events(session).await),
            MetadataRequest::RecallDone { session, ticket, open } => {
                self.recalled(session, ticket, open);
                MetadataReply::Done
            }
            MetadataRequest::PartitionTable { .. } => MetadataReply::Table(Some(PartitionTable {
                epoch: TableEpoch(1),
                pool: PoolId::DEFAULT,
                replicas: 1,
                rows: Vec::new(),
                disks: BTreeMap::new(),
            })),
            MetadataRequest::CloseSession { session, .. } => {
                self.end(session);
                MetadataReply::Done
            }
            MetadataRequest::ReportDamage { .. } => MetadataReply::Done,
            MetadataRequest::AwaitLock { session, lock, .. } => {
                let is_busy = self.state.lock().locks.in_the_way(session, &lock).is_some();
                if is_busy {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                MetadataReply::LockWait(if is_busy { LockWait::Busy } else { LockWait::Free })
            }
            MetadataRequest::LeaveLockQueue { .. } => MetadataReply::Done,
        })
    }

    async fn events(&self, session: SessionId) -> Vec<SessionEvent> {
        let waited = async {
            loop {
                let mail = self.mail.notified();
                tokio::pin!(mail);
                mail.as_mut().enable();
                let events = self.leases.lock().due(session);
                if !events.is_empty() {
                    return events;
                }
                mail.await;
            }
        };
        tokio::time::timeout(Duration::from_millis(200), waited).await.unwrap_or_default()
    }

    fn recalled(&self, session: SessionId, ticket: u64, open: bool) {
        let mut leases = self.leases.lock();
        if let Some((_, SessionEvent::Recall { inode, exclusive, .. }, done)) = leases.recalls.remove(&ticket) {
            leases.holders.remove(&(inode, session));
            if open {
                leases.openers.insert((inode, session));
            } else {
                leases.openers.remove(&(inode, session));
            }
            if exclusive {
                let held = self.state.lock().exclusive.get(&inode) == Some(&session);
                assert!(!held, "an exclusive recall was answered, and the lease is not given up");
            }
            if let Some(done) = done {
                let _ = done.send(open);
            }
        }
    }

    fn reclaim(&self, session: SessionId, inodes: &[InodeId]) -> MetadataReply {
        let mut leases = self.leases.lock();
        let mut state = self.state.lock();
        let mut held = Vec::new();
        for inode in inodes {
            leases.openers.insert((*inode, session));
            if leases.may_grant(&state, session, *inode)
                && let Ok(node) = state.node(*inode)
            {
                held.push(node.attributes);
                leases.holders.insert((*inode, session));
            }
        }
        let generation = leases.generation(session);
        MetadataReply::Reclaimed { held, sequence: CommitSequence(leases.sequence), generation }
    }

    async fn query(&self, session: SessionId, query: Query, lease: bool) -> MetadataReply {
        self.questions.fetch_add(1, Ordering::SeqCst);
        loop {
            let waiting: Vec<_> = {
                let mut leases = self.leases.lock();
                let mut state = self.state.lock();
                let about = state.told_about(&query);
                let taken = about.into_iter().filter_map(|inode| Some((inode, *state.exclusive.get(&inode)?)));
                let taken: Vec<_> = taken.filter(|(_, holder)| *holder != session).collect();
                if taken.is_empty() {
                    return self.tell(&mut leases, &mut state, session, &query, lease);
                }
                taken.into_iter().map(|(inode, holder)| leases.recall(holder, inode, true, false)).collect()
            };
            self.mail.notify_waiters();
            for answered in waiting {
                let _ = answered.await;
            }
        }
    }

    fn tell(
        &self,
        leases: &mut Leases,
        state: &mut State,
        session: SessionId,
        query: &Query,
        lease: bool,
    ) -> MetadataReply {
        let exclusive = state.exclusive.clone();
        let taken = |inode: InodeId| exclusive.get(&inode).is_some_and(|holder| *holder != session);
        let (answer, about) = state.answer(query, |inode| !taken(inode));
        let mut refused = Vec::new();
        for inode in about {
            if self.no_leases.load(Ordering::SeqCst) || !leases.may_grant(state, session, inode) {
                refused.push(inode);
            } else if lease {
                leases.openers.remove(&(inode, session));
                leases.holders.insert((inode, session));
            }
        }
        let generation = leases.generation(session);
        let sequence = CommitSequence(leases.sequence);
        MetadataReply::Answered { answer, sequence, grant: lease.then_some(LeaseGrant { generation, refused }) }
    }

    async fn change(&self, session: SessionId, mutation: Mutation, covered: &[InodeId]) -> MetadataReply {
        let mut pinned: BTreeSet<InodeId> = BTreeSet::new();
        let mut openers = Vec::new();
        loop {
            let waiting = {
                let mut leases = self.leases.lock();
                let mut state = self.state.lock();
                let (touched, last) = state.touched(session, &mutation);
                if pinned.is_superset(&touched) {
                    return self.make(&mut leases, &mut state, session, mutation, pinned, &openers);
                }
                let mut waiting = Vec::new();
                for inode in touched {
                    if !pinned.insert(inode) {
                        continue;
                    }
                    *leases.pins.entry(inode).or_default() += 1;
                    let asks = |holder: SessionId| holder != session || !covered.contains(&inode);
                    let open = leases.openers.iter().filter(|_| last == Some(inode)).copied();
                    let holders: BTreeSet<_> = leases.holders.iter().copied().chain(open).collect();
                    for (_, holder) in holders.into_iter().filter(|(held, holder)| *held == inode && asks(*holder)) {
                        waiting.push((holder, leases.recall(holder, inode, false, last == Some(inode))));
                    }
                    if let Some(holder) = state.exclusive.get(&inode).copied().filter(|holder| *holder != session) {
                        waiting.push((holder, leases.recall(holder, inode, true, last == Some(inode))));
                    }
                }
                waiting
            };
            self.mail.notify_waiters();
            for (holder, answered) in waiting {
                match tokio::time::timeout(PATIENCE, answered).await {
                    Ok(Ok(true)) => openers.push(holder),
                    Ok(_) => {}
                    Err(_) => self.leases.lock().give_up_on(holder),
                }
            }
        }
    }

    fn make(
        &self,
        leases: &mut Leases,
        state: &mut State,
        session: SessionId,
        mutation: Mutation,
        pinned: BTreeSet<InodeId>,
        openers: &[SessionId],
    ) -> MetadataReply {
        let takes = match &mutation {
            Mutation::AcquireExclusive { inode } | Mutation::Open { inode, .. } => Some(*inode),
            _ => None,
        };
        let others_wait = takes.is_some_and(|inode| leases.pins.get(&inode).copied().unwrap_or(0) > 1);
        let may_take = !others_wait && !self.no_leases.load(Ordering::SeqCst);
        let (result, changed) = state.apply(session, mutation, may_take, openers);
        for inode in pinned {
            if let Some(pins) = leases.pins.get_mut(&inode) {
                *pins -= 1;
                if *pins == 0 {
                    leases.pins.remove(&inode);
                }
            }
        }
        leases.sequence += 1;
        let mut held = Vec::new();
        for inode in &changed {
            if leases.may_grant(state, session, *inode)
                && !self.no_leases.load(Ordering::SeqCst)
                && let Ok(node) = state.node(*inode)
            {
                held.push(node.attributes);
                leases.holders.insert((*inode, session));
            }
        }
        let changed = changed.into_iter().collect();
        let (sequence, generation) = (CommitSequence(leases.sequence), leases.generation(session));
        MetadataReply::Mutated { result, effects: ChangeEffects { sequence, changed, held, generation } }
    }

    async fn delay(&self) {
        let most = self.jitter_ms.load(Ordering::SeqCst);
        if most > 0 {
            let micros = rand::random::<u64>() % (u64::from(most) * 1000);
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
    }
}

fn kept_alive(leases: LeaseGeneration, reserve: ReserveShare) -> MetadataReply {
    MetadataReply::KeptAlive {
        time: Timestamp::default(),
        table: TableEpoch(1),
        servers: Vec::new(),
        leases,
        shared_lease_ms: 1000,
        exclusive_lease_ms: 10_000,
        reserve: Some(reserve),
    }
}

fn session_of(message: &MetadataRequest) -> Option<SessionId> {
    match message {
        MetadataRequest::KeepAlive { session, .. }
        | MetadataRequest::CloseSession { session, .. }
        | MetadataRequest::Query { session, .. }
        | MetadataRequest::Reclaim { session, .. }
        | MetadataRequest::ReturnLeases { session, .. }
        | MetadataRequest::PollEvents { session, .. }
        | MetadataRequest::AwaitLock { session, .. }
        | MetadataRequest::LeaveLockQueue { session, .. }
        | MetadataRequest::RecallDone { session, .. } => Some(*session),
        MetadataRequest::Mutate { stamp, .. } => Some(stamp.session),
        _ => None,
    }
}

/// The network to the cluster.
pub(crate) struct FakeNetwork(pub(crate) Arc<FakeCluster>);

#[async_trait]
impl Transport for FakeNetwork {
    async fn call(&self, to: SocketAddr, call: Call) -> Result<Answer, TransportError> {
        let message: MetadataRequest = codec::decode(&call.header).expect("a message");
        let cluster = self.0.clone();
        let from = session_of(&message);
        cluster.delay().await;
        let (silent, fenced) = {
            let leases = cluster.leases.lock();
            let known = from.and_then(|session| leases.sessions.get(&session));
            (known.is_some_and(|known| known.silent), known.is_some_and(|known| known.fenced))
        };
        if silent {
            tokio::time::sleep(call.timeout).await;
            return Err(TransportError::NoAnswer { address: to, reason: "cut off".into() });
        }
        if let (true, Some(session)) = (fenced, from) {
            return Err(TransportError::Refused { address: to, error: ServiceError::SessionFenced { session } });
        }
        // A server goes on when the client does not wait any more.
        let served = tokio::spawn(async move {
            let reply = cluster.answer(message).await;
            cluster.delay().await;
            reply
        });
        let reply =
            served.await.expect("the test cluster").map_err(|error| TransportError::Refused { address: to, error })?;
        Ok(Answer { header: Bytes::from(codec::encode(&reply).expect("an answer")), payload: Vec::new() })
    }
}
