//! The server over real QUIC, with a metadata leader of the test's own: it registers, keeps and gives
//! blocks, refuses what it does not own, reports damage and repairs it from another server.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_chunk::disk_set::DiskSet;
use cairn_chunk::identity::DataFolder;
use cairn_chunk::server::{ChunkServer, ServerSettings};
use cairn_common::block::BlockId;
use cairn_common::block_tree::verify;
use cairn_common::config::IdentityFiles;
use cairn_common::identity::{ClusterAuthority, Identity};
use cairn_common::ids::{ChunkNodeId, ClusterId, DiskId, PartitionId, PoolId, RequestId, TableEpoch};
use cairn_common::partition_table::{DiskLocation, PartitionRow, PartitionTable};
use cairn_common::protocol::chunk::{ChunkReply, ChunkRequest, Encoding, GetRange, GotRange, PutBlock, PutOutcome};
use cairn_common::protocol::chunk_control::{ChunkControlReply, ChunkControlRequest, RepairTask};
use cairn_common::protocol::{Role, Service, ServiceError};
use cairn_common::transport::quic::{QuicServer, QuicServerHandle, QuicTransport};
use cairn_common::transport::{Answer, Incoming, PeerIdentity, RequestHandler, TransportError, request};
use parking_lot::Mutex;
use support::{bytes, name_of, quiet};

#[derive(Default)]
struct LeaderState {
    /// Incarnation and address of each server, in the order in which they came.
    servers: Vec<(u128, String, SocketAddr)>,
    damaged: Vec<(BlockId, DiskId)>,
    repaired: Vec<(BlockId, DiskId)>,
    tasks: Vec<RepairTask>,
    epoch: u64,
    /// The only disk that owns anything; None: all do.
    owner: Option<DiskId>,
    refuses_reports: bool,
    table_requests: u32,
}

/// A metadata leader: server n gets number n, its one disk number 10·n.
#[derive(Default)]
struct Leader(Mutex<LeaderState>);

impl LeaderState {
    fn table(&self) -> PartitionTable {
        let disk = |(n, (_, name, address)): (usize, &(u128, String, SocketAddr))| {
            let location = DiskLocation { node: ChunkNodeId(n as u32), name: name.clone(), address: *address };
            (DiskId(10 * n as u32), location)
        };
        let disks: BTreeMap<_, _> = self.servers.iter().enumerate().map(disk).collect();
        let current = match self.owner {
            Some(owner) => vec![owner],
            None => disks.keys().copied().collect(),
        };
        let rows = vec![PartitionRow { current, next: Vec::new() }; 4];
        PartitionTable { epoch: TableEpoch(self.epoch), pool: PoolId::DEFAULT, replicas: 1, rows, disks }
    }
}

#[async_trait]
impl RequestHandler for Leader {
    async fn handle(&self, peer: Arc<PeerIdentity>, incoming: Incoming) -> Result<Answer, ServiceError> {
        let mut state = self.0.lock();
        let reply = match incoming.message()? {
            ChunkControlRequest::Register(registration) => {
                assert_eq!(registration.name, peer.name);
                let id = registration.incarnation.0;
                let known = state.servers.iter().position(|server| server.0 == id);
                let server = (id, registration.name, registration.address);
                let number = known.unwrap_or(state.servers.len());
                match known {
                    Some(known) => state.servers[known] = server,
                    None => state.servers.push(server),
                }
                state.epoch += 1;
                ChunkControlReply::Registered {
                    node: ChunkNodeId(number as u32),
                    disks: vec![DiskId(10 * number as u32)],
                }
            }
            ChunkControlRequest::Heartbeat(heartbeat) => {
                if state.refuses_reports {
                    return Err(ServiceError::Unavailable { reason: "on purpose".to_owned() });
                }
                state.damaged.extend(heartbeat.damaged);
                let repaired = heartbeat.repaired;
                state.tasks.retain(|task| !repaired.contains(&(task.block, task.disk)));
                state.repaired.extend(repaired);
                let mine = |task: &&RepairTask| heartbeat.disks.iter().any(|disk| disk.disk == task.disk);
                let tasks = state.tasks.iter().filter(mine).cloned().collect();
                ChunkControlReply::Heard { table: TableEpoch(state.epoch), tasks, register: false }
            }
            ChunkControlRequest::PartitionTable { known } => {
                state.table_requests += 1;
                ChunkControlReply::Table((known.0 < state.epoch).then(|| state.table()))
            }
        };
        Answer::message(&reply)
    }
}

struct Cluster {
    folder: tempfile::TempDir,
    authority: ClusterAuthority,
    leader: Arc<Leader>,
    leader_end: QuicServerHandle,
    mount: QuicTransport,
}

struct Running {
    server: ChunkServer,
    disks: Arc<DiskSet>,
    /// Keeps the lock of the data folder.
    _data: DataFolder,
    disk: DiskId,
}

fn identity(folder: &Path, authority: &ClusterAuthority, role: Role, name: &str) -> Identity {
    let files: IdentityFiles = authority.issue_into(folder, role, name).unwrap();
    Identity::load(&files).unwrap()
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = ClusterAuthority::generate(ClusterId::random()).unwrap();
        let pki = folder.path().join("pki");
        std::fs::create_dir(&pki).unwrap();
        authority.write(&pki.join("ca.pem"), &pki.join("ca.key")).unwrap();
        let leader = Arc::new(Leader::default());
        let meta = identity(&pki, &authority, Role::Metadata, "meta1");
        let leader_end = QuicServer::serve("127.0.0.1:0".parse().unwrap(), &meta, leader.clone()).unwrap();
        let mount = QuicTransport::new(&identity(&pki, &authority, Role::Mount, "mount1")).unwrap();
        Self { folder, authority, leader, leader_end, mount }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn chunk(&self, name: &str) -> Running {
        let identity = identity(&self.path("pki"), &self.authority, Role::Chunk, name);
        let data = self.path(name);
        let mut folder = DataFolder::open(&data, &[data.join("disk1")], identity.peer().cluster, name).unwrap();
        let disks = Arc::new(DiskSet::open(folder.take_disks(), quiet()));
        let settings = ServerSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            metadata: vec![self.leader_end.local_address()],
            failure_domain: name.to_owned(),
            incarnation: folder.incarnation(),
        };
        let transport = Arc::new(QuicTransport::new(&identity).unwrap());
        let server = ChunkServer::start(&identity, transport, disks.clone(), settings).unwrap();
        let mut registered = server.registered();
        tokio::time::timeout(Duration::from_secs(5), registered.wait_for(|yes| *yes)).await.unwrap().unwrap();
        let disk = disks.numbered()[0].0;
        Running { server, disks, _data: folder, disk }
    }

    async fn ask(
        &self,
        to: &Running,
        message: ChunkRequest,
        payload: Vec<Bytes>,
    ) -> Result<(ChunkReply, Bytes), TransportError> {
        let timeout = Duration::from_secs(5);
        let address = to.server.local_address();
        request(&self.mount, address, Service::Chunk, RequestId::random(), timeout, &message, payload).await
    }

    async fn put(&self, to: &Running, table: u64, blocks: &[Bytes]) -> Vec<PutOutcome> {
        let put = |data: &Bytes| PutBlock {
            block: name_of(data),
            disk: to.disk,
            encoding: Encoding::Plain,
            logical_bytes: data.len() as u32,
            stored_bytes: data.len() as u32,
            reserve: false,
        };
        let message = ChunkRequest::Put { table: TableEpoch(table), blocks: blocks.iter().map(put).collect() };
        match self.ask(to, message, blocks.to_vec()).await.unwrap().0 {
            ChunkReply::Put(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    async fn get(&self, from: &Running, block: BlockId, offset: u32, length: u32) -> (GotRange, Bytes) {
        let ranges = vec![GetRange { block, disk: from.disk, offset, length }];
        match self.ask(from, ChunkRequest::Get { ranges }, Vec::new()).await.unwrap() {
            (ChunkReply::Got(got), payload) => (got[0], payload),
            other => panic!("{other:?}"),
        }
    }

    async fn wait_for(&self, what: &str, so: impl Fn(&LeaderState) -> bool) {
        let began = Instant::now();
        while !so(&self.leader.0.lock()) {
            assert!(began.elapsed() < Duration::from_secs(8), "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Rot in the payload of a record, in the file itself.
fn rot(cluster: &Cluster, server: &str, data: &Bytes) {
    let segment = cluster.path(server).join("disk1/segments/0000000000000001.segment");
    let mut content = std::fs::read(&segment).unwrap();
    let at = content.windows(64).position(|window| window == &data[..64]).expect("the block is in the segment");
    content[at + 30] ^= 4;
    std::fs::write(&segment, content).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_put_read_looked_up_and_listed() {
    let cluster = Cluster::start().await;
    let server = cluster.chunk("chunk1").await;
    let blocks: Vec<Bytes> = [1, 5000, 16 << 10, 300_000, 4 << 20].map(|length| bytes(length, length as u64)).into();
    assert_eq!(cluster.put(&server, 1, &blocks).await, [PutOutcome::Durable; 5]);
    for data in &blocks {
        let size = data.len() as u32;
        for (offset, length) in [(0, u32::MAX), (size / 2, 1), (size - 1, 1)] {
            let (got, payload) = cluster.get(&server, name_of(data), offset, length).await;
            let GotRange::Found { block_bytes, data_offset, data_bytes, proof_bytes } = got else { panic!("{got:?}") };
            let (groups, proof) = payload.split_at(data_bytes as usize);
            assert_eq!((block_bytes, proof.len()), (size, proof_bytes as usize));
            verify(&name_of(data).hash, size, data_offset, groups, proof).unwrap();
            assert_eq!(groups, &data[data_offset as usize..(data_offset + data_bytes) as usize]);
            assert!(data_offset <= offset && data_bytes <= size);
        }
    }
    let stranger = name_of(b"stranger");
    assert_eq!(cluster.get(&server, stranger, 0, 1).await.0, GotRange::Missing);

    let has = ChunkRequest::Has { disk: server.disk, blocks: vec![name_of(&blocks[0]), stranger] };
    assert_eq!(cluster.ask(&server, has, Vec::new()).await.unwrap().0, ChunkReply::Has(vec![true, false]));
    let mut expected: Vec<BlockId> = blocks.iter().map(|data| name_of(data)).collect();
    expected.sort();
    let list =
        ChunkRequest::List { disk: server.disk, partition: PartitionId(0), partitions: 1, after: None, limit: 100 };
    let listed = ChunkReply::Listed { blocks: expected, end: true };
    assert_eq!(cluster.ask(&server, list, Vec::new()).await.unwrap().0, listed);
    server.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused() {
    let cluster = Cluster::start().await;
    let server = cluster.chunk("chunk1").await;
    let data = bytes(5000, 1);
    let block = |stored_bytes| PutBlock {
        block: name_of(b"something else"),
        disk: server.disk,
        encoding: Encoding::Plain,
        logical_bytes: stored_bytes,
        stored_bytes,
        reserve: false,
    };
    let put = |blocks| ChunkRequest::Put { table: TableEpoch(0), blocks };
    let (reply, _) = cluster.ask(&server, put(vec![block(5000)]), vec![data.clone()]).await.unwrap();
    assert_eq!(reply, ChunkReply::Put(vec![PutOutcome::HashMismatch]));
    let elsewhere = PutBlock { disk: DiskId(77), ..block(5000) };
    let (reply, _) = cluster.ask(&server, put(vec![elsewhere]), vec![data.clone()]).await.unwrap();
    assert_eq!(reply, ChunkReply::Put(vec![PutOutcome::NoDisk]));
    for stored in [0, 4999, 5001, u32::MAX] {
        let answer = cluster.ask(&server, put(vec![block(stored)]), vec![data.clone()]).await;
        let refused = matches!(&answer, Err(TransportError::Refused { error: ServiceError::Invalid { .. }, .. }));
        assert!(refused, "{stored}: {answer:?}");
    }
    let list =
        ChunkRequest::List { disk: server.disk, partition: PartitionId(3), partitions: 3, after: None, limit: 1 };
    assert!(cluster.ask(&server, list, Vec::new()).await.is_err());
    server.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_the_newest_table_gives_to_others_is_refused() {
    let cluster = Cluster::start().await;
    let server = cluster.chunk("chunk1").await;
    let (first, second) = (bytes(100, 1), bytes(100, 2));
    // A table that nobody can give: accepted.
    assert_eq!(cluster.put(&server, 1000, std::slice::from_ref(&first)).await, [PutOutcome::Durable]);
    // A newer table than the server knows: it fetches that one first.
    let epoch = {
        let mut state = cluster.leader.0.lock();
        state.refuses_reports = true;
        state.owner = Some(DiskId(999));
        state.epoch += 10;
        state.epoch
    };
    assert_eq!(cluster.put(&server, epoch, std::slice::from_ref(&second)).await, [PutOutcome::NotOwner]);
    let requests = cluster.leader.0.lock().table_requests;
    assert_eq!(cluster.put(&server, epoch - 1, std::slice::from_ref(&second)).await, [PutOutcome::NotOwner]);
    assert_eq!(cluster.leader.0.lock().table_requests, requests, "it has the table now");
    server.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_reported_and_repaired_from_another_server() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.chunk("chunk1").await, cluster.chunk("chunk2").await);
    let (rotten, missed) = (bytes(50_000, 1), bytes(5000, 2));
    cluster.put(&one, 0, std::slice::from_ref(&rotten)).await;
    cluster.put(&two, 0, &[rotten.clone(), missed.clone()]).await;
    cluster.leader.0.lock().refuses_reports = true;
    rot(&cluster, "chunk1", &rotten);
    assert_eq!(cluster.get(&one, name_of(&rotten), 0, u32::MAX).await.0, GotRange::Damaged);
    // Reports are lost for a while; the news is not.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(cluster.leader.0.lock().damaged.is_empty());
    cluster.leader.0.lock().refuses_reports = false;
    let damaged = (name_of(&rotten), one.disk);
    cluster.wait_for("damage is reported", |state| state.damaged.contains(&damaged)).await;
    assert_eq!(one.disks.slots()[0].report().damaged_blocks, 1);

    let task = |data: &Bytes| RepairTask { block: name_of(data), disk: one.disk, sources: vec![one.disk, two.disk] };
    cluster.leader.0.lock().tasks = vec![task(&rotten), task(&missed)];
    let done = [(name_of(&rotten), one.disk), (name_of(&missed), one.disk)];
    cluster.wait_for("both are repaired", |state| done.iter().all(|done| state.repaired.contains(done))).await;
    for data in [&rotten, &missed] {
        let (got, payload) = cluster.get(&one, name_of(data), 0, u32::MAX).await;
        assert!(matches!(got, GotRange::Found { .. }), "{got:?}");
        assert_eq!(payload, data);
    }
    assert_eq!(one.disks.slots()[0].report().damaged_blocks, 0);
    one.server.stop().await;
    two.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_keeps_its_numbers_and_blocks() {
    let cluster = Cluster::start().await;
    let _other = cluster.chunk("chunk0").await;
    let server = cluster.chunk("chunk1").await;
    let data = bytes(5000, 1);
    cluster.put(&server, 0, std::slice::from_ref(&data)).await;
    let disk = server.disk;
    server.server.stop().await;
    // The lock and the index are free when the last user of the disks is gone.
    let began = Instant::now();
    let mut disks = server.disks;
    drop(server._data);
    let set = loop {
        match Arc::try_unwrap(disks) {
            Ok(set) => break set,
            Err(shared) => disks = shared,
        }
        assert!(began.elapsed() < Duration::from_secs(5), "somebody keeps the disks");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    drop(set);
    let server = cluster.chunk("chunk1").await;
    assert_eq!(server.disk, disk);
    assert!(matches!(cluster.get(&server, name_of(&data), 0, 1).await.0, GotRange::Found { .. }));
    server.server.stop().await;
}
