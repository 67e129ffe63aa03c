//! The metadata client against servers that lose answers, change leaders and fall silent: each change
//! happens exactly once, and every call ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_common::client::{ClientError, ClientEvent, MetadataClient, MetadataClientSettings};
use cairn_common::clock::{SystemClock, Timestamp};
use cairn_common::codec;
use cairn_common::ids::{
    CommitSequence, InodeId, LeaseGeneration, RequestId, SessionEpoch, SessionId, SlotId, TableEpoch,
};
use cairn_common::protocol::metadata::{
    ChangeEffects, MetadataReply, MetadataRequest, Mutation, MutationResult, OpenMode, Query, QueryResult, Statfs,
};
use cairn_common::protocol::{FsError, ServiceError};
use cairn_common::transport::{Answer, Call, Transport, TransportError};
use parking_lot::Mutex;
use tokio::sync::mpsc;

fn mutated(result: Result<MutationResult, FsError>) -> MetadataReply {
    MetadataReply::Mutated { result, effects: ChangeEffects::default() }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Three servers with one replicated state, and a network that loses answers.
#[derive(Default)]
struct Group {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Port of the leader; None: no quorum.
    leader: Option<u16>,
    /// One answer in so many is lost after the change was made; 0: none.
    lose_every: u32,
    calls: u32,
    fenced: bool,
    /// Generation of shared leases that the leader grants.
    generation: LeaseGeneration,
    slots: HashMap<SlotId, (u64, Result<MutationResult, FsError>)>,
    /// Inodes of the opens that were applied, in order.
    applied: Vec<u64>,
}

impl State {
    fn answer(&mut self, message: MetadataRequest) -> Result<MetadataReply, ServiceError> {
        if self.fenced && !matches!(message, MetadataRequest::OpenSession { .. }) {
            return Err(ServiceError::SessionFenced { session: SessionId(7) });
        }
        Ok(match message {
            MetadataRequest::OpenSession { .. } => MetadataReply::Session {
                session: SessionId(7),
                epoch: SessionEpoch(1),
                slots: 4,
                timeout_ms: 30_000,
                servers: vec![address(1), address(2), address(3)],
            },
            MetadataRequest::Mutate { stamp, mutation, .. } => {
                let last = self.slots.get(&stamp.slot).map_or(0, |(sequence, _)| *sequence);
                if stamp.sequence == last {
                    return Ok(mutated(self.slots[&stamp.slot].1.clone()));
                }
                if stamp.sequence != last + 1 {
                    return Err(ServiceError::BadSequence);
                }
                let Mutation::Open { inode, .. } = mutation else { panic!("only opens here") };
                self.applied.push(inode.0);
                let result = if inode.0 % 10 == 0 { Err(FsError::NotFound) } else { Ok(MutationResult::Done) };
                self.slots.insert(stamp.slot, (stamp.sequence, result.clone()));
                mutated(result)
            }
            MetadataRequest::Query { .. } => MetadataReply::Answered {
                answer: Ok(QueryResult::Statfs(Statfs::default())),
                sequence: CommitSequence(1),
                grant: None,
            },
            MetadataRequest::KeepAlive { .. } => MetadataReply::KeptAlive {
                time: Timestamp::default(),
                table: TableEpoch(0),
                servers: Vec::new(),
                leases: self.generation,
                shared_lease_ms: 1000,
                exclusive_lease_ms: 10_000,
                reserve: None,
            },
            MetadataRequest::PartitionTable { .. } => MetadataReply::Table(None),
            MetadataRequest::PollEvents { .. } => MetadataReply::Events(Vec::new()),
            _ => MetadataReply::Done,
        })
    }
}

#[async_trait]
impl Transport for Group {
    async fn call(&self, to: SocketAddr, call: Call) -> Result<Answer, TransportError> {
        tokio::task::yield_now().await;
        let message: MetadataRequest = codec::decode(&call.header).unwrap();
        if matches!(message, MetadataRequest::PollEvents { .. }) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let refused = |error| TransportError::Refused { address: to, error };
        let lost = || TransportError::NoAnswer { address: to, reason: "lost".into() };
        let mut state = self.state.lock();
        if state.leader != Some(to.port()) {
            let leader = state.leader.map(address);
            return Err(refused(ServiceError::NotLeader { leader }));
        }
        state.calls += 1;
        let calls = state.calls;
        let reply = state.answer(message).map_err(refused)?;
        if state.lose_every > 0 && calls.is_multiple_of(state.lose_every) {
            // The next leader may be another one.
            state.leader = Some(calls as u16 % 3 + 1);
            return Err(lost());
        }
        Ok(Answer { header: Bytes::from(codec::encode(&reply).unwrap()), payload: Vec::new() })
    }
}

async fn client_and_events(
    group: &Arc<Group>,
    call_timeout: Duration,
) -> (MetadataClient, mpsc::UnboundedReceiver<ClientEvent>) {
    let settings = MetadataClientSettings {
        attempt_timeout: Duration::from_millis(200),
        call_timeout,
        ..MetadataClientSettings::new(vec![address(1), address(2), address(3)], "test".into())
    };
    let (events, received) = mpsc::unbounded_channel();
    let client = MetadataClient::open(group.clone(), settings, Arc::new(SystemClock), events).await.expect("a session");
    (client, received)
}

async fn client(group: &Arc<Group>, call_timeout: Duration) -> MetadataClient {
    let (client, mut received) = client_and_events(group, call_timeout).await;
    tokio::spawn(async move { while received.recv().await.is_some() {} });
    client
}

fn open(inode: u64) -> Mutation {
    Mutation::Open { inode: InodeId(inode), mode: OpenMode::Read, exclusive_lease: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_and_new_leaders_change_nothing_twice() {
    let group = Arc::new(Group::default());
    group.state.lock().leader = Some(3);
    let client = client(&group, Duration::from_secs(20)).await;
    group.state.lock().lose_every = 4;
    let tasks: Vec<_> = (1..=60)
        .map(|inode| {
            let client = client.clone();
            tokio::spawn(async move { (inode, client.mutate(RequestId::random(), open(inode), Vec::new()).await) })
        })
        .collect();
    for task in tasks {
        let (inode, result) = task.await.unwrap();
        match result.map(|changed| changed.result) {
            Ok(Ok(MutationResult::Done)) => assert_ne!(inode % 10, 0),
            Ok(Err(FsError::NotFound)) => assert_eq!(inode % 10, 0),
            other => panic!("{inode}: {other:?}"),
        }
    }
    let mut applied = group.state.lock().applied.clone();
    applied.sort_unstable();
    assert_eq!(applied, (1..=60).collect::<Vec<_>>(), "each exactly once");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_calls_end_in_time_and_the_change_is_settled_later() {
    let group = Arc::new(Group::default());
    group.state.lock().leader = Some(1);
    let client = client(&group, Duration::from_millis(400)).await;
    group.state.lock().leader = None;
    let begun = Instant::now();
    let read = client.query(RequestId::random(), Query::Statfs, false).await;
    assert!(matches!(read, Err(ClientError::TimedOut { .. })), "{read:?}");
    let change = client.mutate(RequestId::random(), open(1), Vec::new()).await;
    assert!(matches!(change, Err(ClientError::TimedOut { .. })), "{change:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    group.state.lock().leader = Some(2);
    let begun = Instant::now();
    while group.state.lock().applied.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5), "the change is given up, its slot is lost");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for inode in 2..10 {
        client.mutate(RequestId::random(), open(inode), Vec::new()).await.expect("the slots go on");
    }
    assert_eq!(group.state.lock().applied.len(), 9, "each exactly once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_on_when_its_caller_does_not_wait() {
    let group = Arc::new(Group::default());
    group.state.lock().leader = Some(1);
    let client = client(&group, Duration::from_secs(5)).await;
    for inode in 1..20 {
        drop(client.submit(RequestId::random(), open(inode), Vec::new()));
    }
    let begun = Instant::now();
    while group.state.lock().applied.len() < 19 {
        assert!(begun.elapsed() < Duration::from_secs(5), "dropped changes are lost");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_session_is_dead() {
    let group = Arc::new(Group::default());
    group.state.lock().leader = Some(1);
    let client = client(&group, Duration::from_secs(5)).await;
    group.state.lock().fenced = true;
    let fenced = |result: &Result<_, ClientError>| matches!(result, Err(ClientError::SessionFenced { .. }));
    assert!(fenced(&client.mutate(RequestId::random(), open(1), Vec::new()).await.map(|_| ())));
    group.state.lock().fenced = false;
    assert!(*client.fenced().borrow());
    assert!(fenced(&client.query(RequestId::random(), Query::Statfs, false).await.map(|_| ())), "for ever");
    assert!(group.state.lock().applied.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_leader_count_after_the_check_in_and_end_with_the_next_leader() {
    let group = Arc::new(Group::default());
    group.state.lock().leader = Some(1);
    group.state.lock().generation = LeaseGeneration(5);
    let (client, mut events) = client_and_events(&group, Duration::from_secs(5)).await;
    let wait_until_valid = async |valid: bool| {
        let begun = Instant::now();
        while client.leases().read().shared_valid() != valid {
            assert!(begun.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert_eq!(events.recv().await, Some(ClientEvent::NewGeneration(LeaseGeneration(5))));
    assert!(!client.leases().read().shared_valid());
    client.leases().adopt(LeaseGeneration(5));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!client.leases().read().shared_valid(), "a keep-alive went by, but open files are not reclaimed");
    client.check_in(LeaseGeneration(5));
    wait_until_valid(true).await;
    {
        let mut state = group.state.lock();
        state.leader = Some(2);
        state.generation = LeaseGeneration(9);
    }
    assert_eq!(events.recv().await, Some(ClientEvent::NewGeneration(LeaseGeneration(9))));
    assert!(!client.leases().read().shared_valid(), "the old leader's grants are over before the core knows it");
    assert!(client.leases().read().exclusive_valid(), "exclusive leases are replicated");
    client.leases().adopt(LeaseGeneration(9));
    client.check_in(LeaseGeneration(9));
    wait_until_valid(true).await;
    group.state.lock().fenced = true;
    wait_until_valid(false).await;
    assert!(!client.leases().read().exclusive_valid(), "nothing is left to a session that was ended");
}
