//! A metadata group in one process: real transport over loopback, real logs and engines in a
//! temporary folder, and a tiny state machine (a map from session names to their numbers).
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cairn_common::clock::{Clock, SystemClock, Timestamp};
use cairn_common::identity::{ClusterAuthority, Identity};
use cairn_common::ids::{ClusterId, Incarnation, MetadataNodeId, RequestId, SessionEpoch, SessionId};
use cairn_common::protocol::admin::MetadataMember;
use cairn_common::protocol::{Role, ServiceError};
use cairn_common::transport::quic::{QuicServer, QuicServerHandle, QuicTransport};
use cairn_common::transport::{Answer, Call, Incoming, PeerIdentity, RequestHandler, Transport, TransportError};
use cairn_meta::namespace::command::{Action, Command, Outcome};
use cairn_meta::raft::{GroupError, GroupOptions, GroupTimings, MetadataGroup, RaftService};
use cairn_meta::storage::{ReadView, StorageError, Transaction};
use parking_lot::Mutex;
use tempfile::TempDir;

/// Counts sessions at key [1, 0]; a session's name is at [1, 1, name] with number and time.
pub fn logic(tx: &mut Transaction<'_>, command: &Command) -> Result<Outcome, StorageError> {
    let Action::OpenSession { client, .. } = &command.action else { return Ok(Outcome::Done) };
    let count = tx.get(&[1, 0])?.map_or(0, |count| u64::from_be_bytes(count[..8].try_into().unwrap())) + 1;
    tx.put(vec![1, 0], count.to_be_bytes().to_vec());
    let mut value = count.to_be_bytes().to_vec();
    value.extend(command.time.seconds.to_be_bytes());
    value.extend(command.time.nanos.to_be_bytes());
    tx.put([&[1, 1], client.as_bytes()].concat(), value);
    Ok(Outcome::Session { session: SessionId(count), epoch: SessionEpoch(1) })
}

/// Pairs of addresses that cannot reach each other.
#[derive(Default)]
pub struct Cuts(Mutex<HashSet<(SocketAddr, SocketAddr)>>);

struct Gate {
    inner: QuicTransport,
    own: SocketAddr,
    cuts: Arc<Cuts>,
}

#[async_trait]
impl Transport for Gate {
    async fn call(&self, address: SocketAddr, call: Call) -> Result<Answer, TransportError> {
        if self.cuts.0.lock().contains(&(self.own, address)) {
            return Err(TransportError::Unreachable { address, reason: "cut by the test".into() });
        }
        let answer = self.inner.call(address, call).await;
        if self.cuts.0.lock().contains(&(address, self.own)) {
            return Err(TransportError::NoAnswer { address, reason: "cut by the test".into() });
        }
        answer
    }
}

#[derive(Default)]
struct Slot(OnceLock<RaftService>);

#[async_trait]
impl RequestHandler for Slot {
    async fn handle(&self, peer: Arc<PeerIdentity>, incoming: Incoming) -> Result<Answer, ServiceError> {
        match self.0.get() {
            Some(service) => service.handle(peer, incoming).await,
            None => Err(ServiceError::Unavailable { reason: "starting".into() }),
        }
    }
}

/// The machine's clock, set back by some seconds.
#[derive(Default)]
pub struct TestClock(pub AtomicI64);

impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        let now = SystemClock.wall();
        Timestamp { seconds: now.seconds - self.0.load(Ordering::Relaxed), ..now }
    }
    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

pub struct Node {
    pub member: MetadataMember,
    pub data: PathBuf,
    pub group: Arc<MetadataGroup>,
    server: QuicServerHandle,
}

pub struct Cluster {
    pub folder: TempDir,
    pub cluster: ClusterId,
    pub timings: GroupTimings,
    pub cuts: Arc<Cuts>,
    pub clock: Arc<TestClock>,
    authority: ClusterAuthority,
    pub members: Vec<MetadataMember>,
    pub nodes: Vec<Option<Node>>,
}

impl Cluster {
    /// Starts `count` servers that form a group.
    pub async fn start(count: u64, timings: GroupTimings) -> Self {
        let _ = std::env::var("CAIRN_LOG").map(|_| cairn_common::telemetry::init("test", "raft"));
        let cluster = ClusterId::random();
        let mut this = Self {
            folder: tempfile::tempdir().unwrap(),
            cluster,
            timings,
            cuts: Arc::default(),
            clock: Arc::default(),
            authority: ClusterAuthority::generate(cluster).unwrap(),
            members: Vec::new(),
            nodes: Vec::new(),
        };
        for node in 1..=count {
            let member = this.new_member(node);
            this.members.push(member);
        }
        for index in 0..count as usize {
            let (member, members) = (this.members[index].clone(), this.members.clone());
            let data = this.folder.path().join(&member.name);
            let node = this.start_node(member, data, members).await;
            this.nodes.push(Some(node));
        }
        this
    }

    pub fn new_member(&self, node: u64) -> MetadataMember {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let name = format!("meta{node}");
        MetadataMember { node: MetadataNodeId(node), incarnation: Incarnation::random(), name, address }
    }

    pub fn identity(&self, name: &str) -> Identity {
        let folder = self.folder.path().join("pki");
        Identity::load(&self.authority.issue_into(&folder, Role::Metadata, name).unwrap()).unwrap()
    }

    pub async fn start_node(&self, member: MetadataMember, data: PathBuf, initial: Vec<MetadataMember>) -> Node {
        let identity = self.identity(&member.name);
        let slot = Arc::new(Slot::default());
        let server = QuicServer::serve(member.address, &identity, slot.clone()).unwrap();
        let inner = QuicTransport::new(&identity).unwrap();
        let transport = Arc::new(Gate { inner, own: member.address, cuts: self.cuts.clone() });
        let options = self.options(member.clone(), data.clone(), initial, transport);
        let group = MetadataGroup::start(options).await.unwrap();
        let _ = slot.0.set(RaftService::new(group.clone()));
        Node { member, data, group, server }
    }

    fn options(
        &self,
        member: MetadataMember,
        data: PathBuf,
        initial_members: Vec<MetadataMember>,
        transport: Arc<dyn Transport>,
    ) -> GroupOptions {
        GroupOptions {
            data,
            cluster: self.cluster,
            member,
            initial_members,
            transport,
            clock: self.clock.clone(),
            logic: Arc::new(logic),
            timings: self.timings.clone(),
        }
    }

    /// Starts a group without serving it.
    pub async fn try_start(&self, member: MetadataMember, data: PathBuf) -> Result<Arc<MetadataGroup>, GroupError> {
        let transport = QuicTransport::new(&self.identity(&member.name)).unwrap();
        let members = self.members.clone();
        MetadataGroup::start(self.options(member, data, members, Arc::new(transport))).await
    }

    pub fn group(&self, index: usize) -> &Arc<MetadataGroup> {
        &self.nodes[index].as_ref().expect("the node runs").group
    }

    pub fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].is_some())
    }

    /// Stops cleanly.
    pub async fn stop(&mut self, index: usize) -> PathBuf {
        let node = self.nodes[index].take().expect("the node runs");
        node.group.shutdown().await;
        node.server.shutdown(Duration::from_millis(100)).await;
        let data = node.data.clone();
        assert_eq!(Arc::strong_count(&node.group), 1, "nobody holds the group");
        data
    }

    /// Ends it as a crash would: what its folder holds at that moment is what a new process finds.
    pub async fn crash(&mut self, index: usize) -> PathBuf {
        self.isolate(index, true);
        let node = self.nodes[index].as_ref().expect("the node runs");
        let copy = node.data.with_file_name(format!("{}-{}", node.member.name, uuid_like()));
        copy_folder(&node.data, &copy);
        self.stop(index).await;
        self.isolate(index, false);
        copy
    }

    pub async fn restart(&mut self, index: usize, data: PathBuf) {
        let (member, members) = (self.members[index].clone(), self.members.clone());
        self.nodes[index] = Some(self.start_node(member, data, members).await);
    }

    /// Cuts a server off from all others, or mends that.
    pub fn isolate(&self, index: usize, cut: bool) {
        let own = self.members[index].address;
        let mut cuts = self.cuts.0.lock();
        for other in self.members.iter().filter(|member| member.address != own) {
            for pair in [(own, other.address), (other.address, own)] {
                if cut {
                    cuts.insert(pair)
                } else {
                    cuts.remove(&pair)
                };
            }
        }
    }

    /// Waits for a leader among the running servers but those given.
    pub async fn leader_but(&self, not: &[usize]) -> usize {
        let candidates: Vec<usize> = self.running().filter(|index| !not.contains(index)).collect();
        within(10, "a leader", || {
            candidates.iter().copied().find(|index| self.group(*index).leadership().borrow().is_some())
        })
        .await
    }

    pub async fn leader(&self) -> usize {
        self.leader_but(&[]).await
    }

    /// Waits until every key of all running servers is as on `index`. (How far a server has applied is
    /// told a moment later than its state shows it, so that is nothing to wait for.)
    pub async fn assert_equal(&self, index: usize) {
        for other in self.running() {
            let equal = || contents(&*self.group(other).view()) == contents(&*self.group(index).view());
            within(10, &format!("server {other} to be equal to {index}"), || equal().then_some(())).await;
        }
    }
}

/// Number of keys and a hash of all keys and values.
pub fn contents(view: &dyn ReadView) -> (usize, String) {
    let (mut hasher, mut keys) = (blake3::Hasher::new(), 0);
    let mut visit = |key: &[u8], value: &[u8]| {
        for part in [key, value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        keys += 1;
        ControlFlow::Continue(())
    };
    view.scan(&[1], &[0xff], &mut visit).unwrap();
    (keys, hasher.finalize().to_hex().to_string())
}

pub fn open(name: &str) -> Action {
    Action::OpenSession { client: name.into(), slots: 1 }
}

pub fn has(view: &dyn ReadView, name: &str) -> bool {
    view.get(&[&[1, 1], name.as_bytes()].concat()).unwrap().is_some()
}

/// When the session was opened, by the stamp of its command.
pub fn time_of(view: &dyn ReadView, name: &str) -> Timestamp {
    let value = view.get(&[&[1, 1], name.as_bytes()].concat()).unwrap().expect("it is there");
    let seconds = i64::from_be_bytes(value[8..16].try_into().unwrap());
    Timestamp { seconds, nanos: u32::from_be_bytes(value[16..20].try_into().unwrap()) }
}

pub async fn propose(group: &MetadataGroup, name: &str) -> Result<Outcome, ServiceError> {
    group.propose(RequestId::random(), open(name)).await
}

/// Polls until there is a value.
pub async fn within<T>(seconds: u64, what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {seconds} s for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Timings of tests: a restart in seconds, snapshots soon.
pub fn timings() -> GroupTimings {
    GroupTimings { propose_timeout: Duration::from_secs(5), cache_bytes: 8 << 20, ..GroupTimings::default() }
}

fn uuid_like() -> u64 {
    RequestId::random().0
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if entry.file_name() != "LOCK" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
