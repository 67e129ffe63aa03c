//! Metadata servers for tests: real QUIC with mutual TLS, real Raft, real RocksDB, in this process,
//! each in a folder of its own. Waits are bounded and on conditions.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_common::clock::SystemClock;
use cairn_common::extent::{Extent, ExtentContent, NewExtent};
use cairn_common::identity::{ClusterAuthority, Identity};
use cairn_common::ids::{
    ClusterId, Incarnation, InodeId, LeaseGeneration, MetadataNodeId, RequestId, SessionEpoch, SessionId, SlotId,
    TableEpoch,
};
use cairn_common::name::Name;
use cairn_common::protocol::admin::{AdminReply, AdminRequest, MetadataMember};
use cairn_common::protocol::chunk_control::{ChunkControlReply, ChunkControlRequest};
use cairn_common::protocol::metadata::{
    ChangeEffects, LeaseGrant, MetadataReply, MetadataRequest, Mutation, MutationResult, NewNode, OpenMode, Query,
    QueryResult, SessionEvent, Stamp,
};
use cairn_common::protocol::write_reserve::ReserveReport;
use cairn_common::protocol::{FsError, Role, Service, ServiceError};
use cairn_common::transport::quic::{QuicServer, QuicServerHandle, QuicTransport};
use cairn_common::transport::{self, TransportError};
use cairn_meta::namespace;
use cairn_meta::raft::{GroupOptions, GroupTimings, MetadataGroup};
use cairn_meta::raft::{NodeIdentity, node_identity};
use cairn_meta::service::{MetadataService, ServiceOptions, ServiceTimings};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest wait for a condition.
pub(crate) const PATIENCE: Duration = Duration::from_secs(9);
const CALL: Duration = Duration::from_secs(8);

pub(crate) struct Node {
    group: Arc<MetadataGroup>,
    service: Arc<MetadataService>,
    endpoint: QuicServerHandle,
    transport: Arc<QuicTransport>,
}

/// A metadata group and its authority.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    authority: ClusterAuthority,
    pub(crate) members: Vec<MetadataMember>,
    nodes: Vec<Option<Node>>,
    timings: ServiceTimings,
}

/// Intervals that fit a test.
pub(crate) fn quick() -> ServiceTimings {
    ServiceTimings {
        first_table_grace: Duration::from_millis(300),
        table_spread: Duration::from_millis(300),
        repair_retry: Duration::from_millis(300),
        ..ServiceTimings::default()
    }
}

impl Cluster {
    pub(crate) async fn start(members: u64, timings: ServiceTimings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = ClusterAuthority::generate(ClusterId::random()).unwrap();
        // All ports are held until all are known, so that they differ.
        let sockets: Vec<UdpSocket> = (0..members).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let members: Vec<MetadataMember> = (1..)
            .zip(&sockets)
            .map(|(node, socket)| MetadataMember {
                node: MetadataNodeId(node),
                incarnation: Incarnation::random(),
                name: format!("meta{node}"),
                address: socket.local_addr().unwrap(),
            })
            .collect();
        drop(sockets);
        let mut cluster = Self { folder, authority, nodes: members.iter().map(|_| None).collect(), members, timings };
        for member in &cluster.members {
            let identity = NodeIdentity { cluster: cluster.id(), node: member.node, incarnation: member.incarnation };
            node_identity::format(&cluster.data(&member.name), &identity, &cluster.members).unwrap();
        }
        for index in 0..cluster.members.len() {
            cluster.start_node(index).await;
        }
        cluster
    }

    pub(crate) fn id(&self) -> ClusterId {
        self.authority.cluster()
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn identity(&self, role: Role, name: &str) -> Identity {
        let files = self.authority.issue_into(&self.folder.path().join("pki"), role, name).unwrap();
        Identity::load(&files).unwrap()
    }

    pub(crate) async fn start_node(&mut self, index: usize) {
        let member = self.members[index].clone();
        let data = self.data(&member.name);
        let (_, initial_members) = node_identity::load(&data).unwrap();
        let identity = self.identity(Role::Metadata, &member.name);
        let transport = Arc::new(QuicTransport::new(&identity).unwrap());
        let clock = Arc::new(SystemClock);
        let address = member.address;
        let group = MetadataGroup::start(GroupOptions {
            data,
            cluster: self.id(),
            member,
            initial_members,
            transport: transport.clone(),
            clock: clock.clone(),
            logic: Arc::new(namespace::apply),
            timings: GroupTimings { cache_bytes: 8 << 20, ..GroupTimings::default() },
        })
        .await
        .unwrap();
        let options = ServiceOptions { cluster: self.id(), partitions: 64, replicas: 3, timings: self.timings.clone() };
        let service = MetadataService::start(group.clone(), transport.clone(), clock, options);
        let endpoint = QuicServer::serve(address, &identity, service.clone()).unwrap();
        self.nodes[index] = Some(Node { group, service, endpoint, transport });
    }

    /// Stops all nodes. Every test ends so: RocksDB's threads must not outlive `main`.
    pub(crate) async fn stop(&mut self) {
        for index in 0..self.nodes.len() {
            self.stop_node(index).await;
        }
    }

    /// Stops a node, if it runs; its data stays.
    pub(crate) async fn stop_node(&mut self, index: usize) {
        let Some(node) = self.nodes[index].take() else { return };
        node.service.shutdown().await;
        node.endpoint.shutdown(Duration::from_millis(100)).await;
        node.group.shutdown().await;
        node.transport.close();
    }

    /// The node that leads and answers.
    pub(crate) async fn leader(&self) -> usize {
        let leading = || {
            let leads = |node: &Option<Node>| node.as_ref().is_some_and(|node| node.service.is_leading());
            self.nodes.iter().position(leads)
        };
        until("a leader", || async { leading() }).await
    }

    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.members[index].address
    }

    /// A client with a certificate of its own.
    pub(crate) fn client(&self, role: Role, name: &str) -> Client {
        let transport = QuicTransport::new(&self.identity(role, name)).unwrap();
        let servers = self.members.iter().map(|member| member.address).collect();
        Client { transport: Arc::new(transport), servers }
    }

    /// A mount with an open session.
    pub(crate) async fn mount(&self, name: &str) -> Mount {
        let client = self.client(Role::Mount, name);
        match client.metadata(MetadataRequest::OpenSession { client: name.into() }).await.unwrap() {
            MetadataReply::Session { session, epoch, .. } => {
                Mount { client, session, epoch, sequences: Default::default(), generation: AtomicU64::new(0) }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Waits for a condition; panics with `what` when it does not come.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, condition: impl Fn() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends requests; follows the leader.
#[derive(Clone)]
pub(crate) struct Client {
    transport: Arc<QuicTransport>,
    servers: Vec<SocketAddr>,
}

impl Client {
    /// One request to one server.
    pub(crate) async fn ask<Q: Serialize + Sync, R: DeserializeOwned>(
        &self,
        address: SocketAddr,
        service: Service,
        message: &Q,
    ) -> Result<R, ServiceError> {
        match transport::request(&*self.transport, address, service, RequestId::random(), CALL, message, vec![]).await {
            Ok((reply, _)) => Ok(reply),
            Err(TransportError::Refused { error, .. }) => Err(error),
            Err(other) => Err(ServiceError::Unavailable { reason: other.to_string() }),
        }
    }

    /// One request to whoever leads.
    async fn ask_leader<Q: Serialize + Sync, R: DeserializeOwned>(
        &self,
        service: Service,
        message: &Q,
    ) -> Result<R, ServiceError> {
        let start = Instant::now();
        loop {
            for server in &self.servers {
                match self.ask(*server, service, message).await {
                    Err(ServiceError::NotLeader { .. } | ServiceError::Unavailable { .. }) => {}
                    answer => return answer,
                }
            }
            assert!(start.elapsed() < PATIENCE, "nobody leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn metadata(&self, message: MetadataRequest) -> Result<MetadataReply, ServiceError> {
        self.ask_leader(Service::Metadata, &message).await
    }

    pub(crate) async fn control(&self, message: ChunkControlRequest) -> Result<ChunkControlReply, ServiceError> {
        self.ask_leader(Service::ChunkControl, &message).await
    }

    pub(crate) async fn admin(&self, message: AdminRequest) -> Result<AdminReply, ServiceError> {
        self.ask_leader(Service::Admin, &message).await
    }
}

/// A task that ends with this.
pub(crate) struct Background(tokio::task::JoinHandle<()>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A session, without the background tasks of a real mount.
pub(crate) struct Mount {
    pub(crate) client: Client,
    pub(crate) session: SessionId,
    pub(crate) epoch: SessionEpoch,
    sequences: parking_lot::Mutex<BTreeMap<u16, u64>>,
    /// What the last keep-alive told.
    generation: AtomicU64,
}

impl Mount {
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp_in(0)
    }

    /// Changes that overlap need slots of their own.
    fn stamp_in(&self, slot: u16) -> Stamp {
        let mut sequences = self.sequences.lock();
        let sequence = sequences.entry(slot).or_default();
        *sequence += 1;
        Stamp { session: self.session, epoch: self.epoch, slot: SlotId(slot), sequence: *sequence }
    }

    pub(crate) fn change(&self, mutation: Mutation) -> MetadataRequest {
        MetadataRequest::Mutate { stamp: self.stamp(), mutation, covered: Vec::new() }
    }

    pub(crate) async fn mutate(&self, mutation: Mutation) -> Result<MutationResult, FsError> {
        self.mutate_in(0, mutation).await.0
    }

    /// A change in a slot of its own, with what it did.
    pub(crate) async fn mutate_in(
        &self,
        slot: u16,
        mutation: Mutation,
    ) -> (Result<MutationResult, FsError>, ChangeEffects) {
        let message = MetadataRequest::Mutate { stamp: self.stamp_in(slot), mutation, covered: Vec::new() };
        match self.client.metadata(message).await.unwrap() {
            MetadataReply::Mutated { result, effects } => (result, effects),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn query(&self, query: Query) -> Result<QueryResult, FsError> {
        match self.try_query(query).await.unwrap() {
            MetadataReply::Answered { answer, .. } => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn try_query(&self, query: Query) -> Result<MetadataReply, ServiceError> {
        self.client.metadata(MetadataRequest::Query { session: self.session, query, lease: false }).await
    }

    /// A read with leases.
    pub(crate) async fn lease(&self, query: Query) -> (Result<QueryResult, FsError>, Option<LeaseGrant>) {
        let message = MetadataRequest::Query { session: self.session, query, lease: true };
        match self.client.metadata(message).await.unwrap() {
            MetadataReply::Answered { answer, grant, .. } => (answer, grant),
            other => panic!("{other:?}"),
        }
    }

    /// The generation that this mount has.
    pub(crate) fn generation(&self) -> LeaseGeneration {
        LeaseGeneration(self.generation.load(SeqCst))
    }

    /// Sends a keep-alive; whether it has renewed the leases. Else the mount has the new generation now.
    pub(crate) async fn keep_alive(&self) -> Result<bool, ServiceError> {
        let leases = self.generation();
        let message = MetadataRequest::KeepAlive {
            session: self.session,
            epoch: self.epoch,
            leases,
            reserve: ReserveReport::default(),
        };
        match self.client.metadata(message).await? {
            MetadataReply::KeptAlive { leases: told, .. } => {
                self.generation.store(told.0, SeqCst);
                Ok(told == leases)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits for recalls: inode, ticket, exclusive, last name.
    pub(crate) async fn recalls(&self) -> Vec<(InodeId, u64, bool, bool)> {
        let message = MetadataRequest::PollEvents { session: self.session, wait_ms: 5000 };
        match self.client.metadata(message).await {
            Ok(MetadataReply::Events(events)) => {
                let parts = |SessionEvent::Recall { inode, ticket, exclusive, last_name }| {
                    (inode, ticket, exclusive, last_name)
                };
                events.into_iter().map(parts).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn recall_done(&self, ticket: u64, open: bool) {
        let message = MetadataRequest::RecallDone { session: self.session, ticket, open };
        assert_eq!(self.client.metadata(message).await, Ok(MetadataReply::Done));
    }

    /// Keeps the session and its leases alive until the answer is dropped.
    pub(crate) fn beat(self: &Arc<Self>) -> Background {
        let mount = self.clone();
        Background(tokio::spawn(async move {
            while mount.keep_alive().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }))
    }

    /// Does at once what every recall asks for, and says that files are open or not.
    pub(crate) fn obey(self: &Arc<Self>, open: bool) -> Background {
        let mount = self.clone();
        Background(tokio::spawn(async move {
            loop {
                for (inode, ticket, exclusive, _) in mount.recalls().await {
                    if exclusive {
                        let given_up = Mutation::GiveUpExclusive { inodes: vec![inode] };
                        mount.mutate_in(99, given_up).await.0.unwrap();
                    }
                    mount.recall_done(ticket, open).await;
                }
            }
        }))
    }

    pub(crate) async fn create(&self, file: &str, open: Option<OpenMode>) -> InodeId {
        match self.mutate(create(file, open)).await.unwrap() {
            MutationResult::Node { attributes, created: true, .. } => attributes.inode,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn size(&self, inode: InodeId) -> u64 {
        match self.query(Query::Attributes { inode }).await.unwrap() {
            QueryResult::Attributes(attributes) => attributes.size,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes().to_vec()).unwrap()
}

pub(crate) fn create(file: &str, open: Option<OpenMode>) -> Mutation {
    Mutation::Create {
        parent: InodeId::ROOT,
        name: name(file),
        node: NewNode::File,
        mode: 0o644,
        umask: 0,
        uid: 0,
        gid: 0,
        exclusive: true,
        open,
        exclusive_lease: open == Some(OpenMode::Write),
    }
}

/// A commit of a whole small file.
pub(crate) fn write(inode: InodeId, text: &'static [u8]) -> Mutation {
    let content = ExtentContent::Inline(Bytes::from_static(text));
    let extent = Extent { offset: 0, length: text.len() as u64, content };
    let extents = vec![NewExtent { extent, missed: vec![], table: TableEpoch(0) }];
    Mutation::Commit { inode, extents, append: false, minimum_size: text.len() as u64, mtime: None }
}

pub(crate) fn lookup(file: &str) -> Query {
    Query::Lookup { parent: InodeId::ROOT, name: name(file) }
}
