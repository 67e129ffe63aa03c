//! The chunk client against servers that are dead, slow, full, wrong or moved: a put is durable on a
//! quorum or fails, a read gives right bytes or fails, and one bad server costs little.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_common::block::{BlockHash, BlockId};
use cairn_common::block_tree::{BlockTree, covering_groups, proof};
use cairn_common::client::{ChunkClient, ChunkClientSettings, ClientError, PutRoom, TableSource};
use cairn_common::codec;
use cairn_common::ids::{ChunkNodeId, DiskId, PoolId, RequestId, TableEpoch};
use cairn_common::partition_table::{DiskLocation, PartitionRow, PartitionTable};
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::chunk::{ChunkReply, ChunkRequest, GotRange, PutOutcome};
use cairn_common::transport::{Answer, Call, Transport, TransportError};
use parking_lot::Mutex;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mood {
    #[default]
    Well,
    Dead,
    Silent,
    Full,
    Liar,
    Empty,
    NotOwner,
}

/// Chunk servers 1..=4, each with the disk of its number, and the metadata group.
struct Servers {
    moods: Mutex<HashMap<u16, Mood>>,
    blocks: Mutex<HashMap<(u16, BlockId), Bytes>>,
    requests: Mutex<Vec<u16>>,
    damaged: Mutex<Vec<(BlockId, DiskId)>>,
    table: Mutex<Arc<PartitionTable>>,
    next_table: Mutex<Option<PartitionTable>>,
}

fn table(epoch: u64, owners: [u32; 3]) -> PartitionTable {
    let location = |disk: u32| DiskLocation {
        node: ChunkNodeId(disk),
        name: format!("chunk{disk}"),
        address: SocketAddr::from(([127, 0, 0, 1], disk as u16)),
    };
    PartitionTable {
        epoch: TableEpoch(epoch),
        pool: PoolId::DEFAULT,
        replicas: 3,
        rows: vec![PartitionRow { current: owners.map(DiskId).to_vec(), next: Vec::new() }],
        disks: (1..=4).map(|disk| (DiskId(disk), location(disk))).collect::<BTreeMap<_, _>>(),
    }
}

impl Servers {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            moods: Mutex::default(),
            blocks: Mutex::default(),
            requests: Mutex::default(),
            damaged: Mutex::default(),
            table: Mutex::new(Arc::new(table(1, [1, 2, 3]))),
            next_table: Mutex::default(),
        })
    }

    fn mood(&self, port: u16, mood: Mood) {
        self.moods.lock().insert(port, mood);
    }

    fn client(self: &Arc<Self>) -> ChunkClient {
        let settings = ChunkClientSettings {
            call_timeout: Duration::from_secs(4),
            put_timeout: Duration::from_secs(1),
            get_timeout: Duration::from_secs(1),
            straggler_grace: Duration::from_millis(100),
            hedge_after: Duration::from_millis(40),
        };
        ChunkClient::new(self.clone(), self.clone(), settings)
    }

    fn answer(&self, port: u16, mood: Mood, message: ChunkRequest, payload: Bytes) -> (ChunkReply, Bytes) {
        match message {
            ChunkRequest::Put { blocks, .. } => {
                let mut at = 0;
                let outcomes = blocks.iter().map(|put| {
                    let bytes = payload.slice(at..at + put.stored_bytes as usize);
                    at += put.stored_bytes as usize;
                    assert_eq!(put.disk, DiskId(u32::from(port)));
                    match mood {
                        Mood::Full if !put.reserve => PutOutcome::NoSpace,
                        Mood::NotOwner => PutOutcome::NotOwner,
                        _ => {
                            assert_eq!(BlockHash::of(&bytes), put.block.hash);
                            self.blocks.lock().insert((port, put.block), bytes);
                            PutOutcome::Durable
                        }
                    }
                });
                (ChunkReply::Put(outcomes.collect()), Bytes::new())
            }
            ChunkRequest::Get { ranges } => {
                let range = &ranges[0];
                let block = self.blocks.lock().get(&(port, range.block)).cloned().filter(|_| mood != Mood::Empty);
                let Some(block) = block else { return (ChunkReply::Got(vec![GotRange::Missing]), Bytes::new()) };
                let block_bytes = block.len() as u32;
                let groups = covering_groups(block_bytes, range.offset, range.length).unwrap();
                let mut data = block[groups.start as usize..groups.end as usize].to_vec();
                let proof = proof(&BlockTree::of(&block).groups, block_bytes, &groups);
                if mood == Mood::Liar {
                    data[0] ^= 1;
                }
                let found = GotRange::Found {
                    block_bytes,
                    data_offset: groups.start,
                    data_bytes: data.len() as u32,
                    proof_bytes: proof.len() as u32,
                };
                data.extend(proof);
                (ChunkReply::Got(vec![found]), data.into())
            }
            other => panic!("{other:?}"),
        }
    }
}

#[async_trait]
impl Transport for Servers {
    async fn call(&self, to: SocketAddr, call: Call) -> Result<Answer, TransportError> {
        let port = to.port();
        self.requests.lock().push(port);
        tokio::time::sleep(Duration::from_millis(2)).await;
        let mood = self.moods.lock().get(&port).copied().unwrap_or_default();
        match mood {
            Mood::Dead => return Err(TransportError::Unreachable { address: to, reason: "told to be dead".into() }),
            Mood::Silent => {
                tokio::time::sleep(call.timeout).await;
                return Err(TransportError::NoAnswer { address: to, reason: "told to be silent".into() });
            }
            _ => {}
        }
        let message = codec::decode(&call.header).unwrap();
        let (reply, payload) = self.answer(port, mood, message, call.payload.concat().into());
        Answer::with_payload(&reply, vec![payload])
            .map_err(|error: ServiceError| TransportError::Refused { address: to, error })
    }
}

#[async_trait]
impl TableSource for Servers {
    fn table(&self) -> Arc<PartitionTable> {
        self.table.lock().clone()
    }

    async fn refresh(&self, _: TableEpoch) -> Result<Arc<PartitionTable>, ClientError> {
        if let Some(next) = self.next_table.lock().take() {
            *self.table.lock() = Arc::new(next);
        }
        Ok(self.table())
    }

    async fn report_damage(&self, damaged: Vec<(BlockId, DiskId)>) -> Result<(), ClientError> {
        self.damaged.lock().extend(damaged);
        Ok(())
    }
}

fn block(bytes: usize, seed: u8) -> (BlockId, Bytes) {
    let bytes: Bytes = (0..bytes).map(|n| (n as u8).wrapping_mul(7) ^ seed ^ (n >> 10) as u8).collect();
    (BlockId { pool: PoolId::DEFAULT, hash: BlockHash::of(&bytes) }, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_costs_one_grace_and_is_named() {
    let servers = Servers::new();
    servers.mood(2, Mood::Silent);
    let client = servers.client();
    let (id, bytes) = block(100_000, 1);
    let begun = Instant::now();
    assert_eq!(
        client.put(RequestId::random(), id, bytes, None, PutRoom::Free).await.map(|placed| placed.missed),
        Ok(vec![DiskId(2)])
    );
    assert!(begun.elapsed() < Duration::from_millis(700), "{:?}", begun.elapsed());
    let begun = Instant::now();
    for seed in 2..7 {
        let (id, bytes) = block(1000, seed);
        assert_eq!(
            client.put(RequestId::random(), id, bytes, None, PutRoom::Free).await.map(|placed| placed.missed),
            Ok(vec![DiskId(2)])
        );
    }
    assert!(begun.elapsed() < Duration::from_millis(90), "known to be silent: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_a_put_waits_until_there_is_one_or_the_time_is_over() {
    let servers = Servers::new();
    servers.mood(1, Mood::Dead);
    servers.mood(2, Mood::Dead);
    let client = servers.client();
    let (id, bytes) = block(5000, 1);
    let put = tokio::spawn({
        let (client, bytes) = (client.clone(), bytes.clone());
        async move { client.put(RequestId::random(), id, bytes, None, PutRoom::Free).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!put.is_finished(), "one of three is no quorum");
    servers.mood(2, Mood::Well);
    assert_eq!(put.await.unwrap().map(|placed| placed.missed), Ok(vec![DiskId(1)]));
    servers.mood(2, Mood::Dead);
    let (id, bytes) = block(5000, 2);
    let begun = Instant::now();
    let failed = client.put(RequestId::random(), id, bytes, None, PutRoom::Free).await;
    assert!(matches!(failed, Err(ClientError::TimedOut { .. })), "{failed:?}");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_full_disks_of_three_are_no_space() {
    let servers = Servers::new();
    servers.mood(1, Mood::Full);
    let client = servers.client();
    let (id, bytes) = block(5000, 1);
    assert_eq!(
        client.put(RequestId::random(), id, bytes, None, PutRoom::Free).await.map(|placed| placed.missed),
        Ok(vec![DiskId(1)])
    );
    servers.mood(3, Mood::Full);
    let (id, bytes) = block(5000, 2);
    let full = client.put(RequestId::random(), id, bytes, None, PutRoom::Free).await;
    assert!(matches!(full, Err(ClientError::NoSpace { .. })), "{full:?}");
    let (id, bytes) = block(5000, 2);
    let acknowledged = client.put(RequestId::random(), id, bytes, None, PutRoom::Reserve).await;
    assert_eq!(acknowledged.map(|placed| placed.missed), Ok(vec![]), "the reserve is for what a program was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_a_dead_server_are_no_space_soon() {
    let servers = Servers::new();
    servers.mood(1, Mood::Full);
    servers.mood(2, Mood::Dead);
    let (id, bytes) = block(5000, 1);
    let begun = Instant::now();
    let full = servers.client().put(RequestId::random(), id, bytes, None, PutRoom::Free).await;
    assert!(matches!(full, Err(ClientError::NoSpace { .. })), "{full:?}");
    let took = begun.elapsed();
    assert!((1900..3500).contains(&took.as_millis()), "a server that is back soon costs no error: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_partition_is_found_in_the_next_table() {
    let servers = Servers::new();
    servers.mood(1, Mood::NotOwner);
    servers.mood(2, Mood::NotOwner);
    *servers.next_table.lock() = Some(table(2, [3, 4, 1]));
    let (id, bytes) = block(5000, 1);
    assert_eq!(
        servers.client().put(RequestId::random(), id, bytes, None, PutRoom::Free).await.map(|placed| placed.missed),
        Ok(vec![DiskId(1)])
    );
    assert!(servers.blocks.lock().contains_key(&(4, id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refused_commit_a_newer_table_is_used() {
    let servers = Servers::new();
    *servers.next_table.lock() = Some(table(2, [3, 4, 1]));
    let (client, (id, bytes)) = (servers.client(), block(5000, 1));
    let placed = client.put(RequestId::random(), id, bytes.clone(), None, PutRoom::Free).await.unwrap();
    assert_eq!(placed.table, TableEpoch(1));
    let placed = client.put(RequestId::random(), id, bytes, Some(placed.table), PutRoom::Free).await.unwrap();
    assert_eq!(placed.table, TableEpoch(2));
    assert!(servers.blocks.lock().contains_key(&(4, id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_move_both_rows_need_a_quorum() {
    let servers = Servers::new();
    let mut moving = table(1, [1, 2, 3]);
    moving.rows[0].next = vec![DiskId(4)];
    *servers.table.lock() = Arc::new(moving);
    servers.mood(4, Mood::Dead);
    let (id, bytes) = block(5000, 1);
    let failed = servers.client().put(RequestId::random(), id, bytes.clone(), None, PutRoom::Free).await;
    assert!(matches!(failed, Err(ClientError::TimedOut { .. })), "{failed:?}");
    servers.mood(4, Mood::Well);
    assert_eq!(
        servers.client().put(RequestId::random(), id, bytes, None, PutRoom::Free).await.map(|placed| placed.missed),
        Ok(Vec::new())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn small_blocks_share_requests() {
    let servers = Servers::new();
    let client = servers.client();
    let puts: Vec<_> = (0..300_usize)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let (id, bytes) = block(100 + n, n as u8);
                client.put(RequestId::random(), id, bytes, None, PutRoom::Free).await
            })
        })
        .collect();
    for put in puts {
        assert_eq!(put.await.unwrap().map(|placed| placed.missed), Ok(Vec::new()));
    }
    let requests = servers.requests.lock().len();
    assert!(requests < 300, "{requests} requests for 300 blocks on three servers");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_and_missing_replicas_are_read_around_and_reported() {
    let servers = Servers::new();
    let client = servers.client();
    let (id, bytes) = block(200_000, 9);
    client.put(RequestId::random(), id, bytes.clone(), None, PutRoom::Free).await.unwrap();
    servers.mood(1, Mood::Liar);
    servers.mood(2, Mood::Empty);
    for (offset, length) in [(0, 200_000), (20_000, 1), (199_999, 1), (16_384, 16_384)] {
        for _ in 0..6 {
            let range = client.read(RequestId::random(), id, 200_000, offset, length).await.unwrap();
            assert!(range.offset <= offset);
            let from = range.offset as usize;
            assert_eq!(range.bytes, bytes[from..from + range.bytes.len()]);
            assert!(range.offset as usize + range.bytes.len() >= (offset + length) as usize);
        }
    }
    let mut damaged = servers.damaged.lock().clone();
    damaged.sort_by_key(|(_, disk)| *disk);
    assert_eq!(damaged, [(id, DiskId(1)), (id, DiskId(2))], "each once");
    servers.mood(3, Mood::Liar);
    let failed = client.read(RequestId::random(), id, 200_000, 0, 10).await;
    assert!(matches!(failed, Err(ClientError::NoReplica { .. })), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_another_length_than_its_extent_says_is_refused() {
    let servers = Servers::new();
    let client = servers.client();
    let (id, bytes) = block(50_000, 9);
    client.put(RequestId::random(), id, bytes, None, PutRoom::Free).await.unwrap();
    let failed = client.read(RequestId::random(), id, 60_000, 0, 60_000).await;
    assert!(failed.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_read_is_hedged_and_a_dead_server_is_remembered() {
    let servers = Servers::new();
    let client = servers.client();
    let (id, bytes) = block(50_000, 3);
    client.put(RequestId::random(), id, bytes, None, PutRoom::Free).await.unwrap();
    servers.mood(1, Mood::Silent);
    let begun = Instant::now();
    for _ in 0..20 {
        client.read(RequestId::random(), id, 50_000, 100, 100).await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "20 reads took {:?}", begun.elapsed());
    servers.mood(1, Mood::Dead);
    servers.mood(2, Mood::Dead);
    let asked = servers.requests.lock().len();
    for _ in 0..20 {
        client.read(RequestId::random(), id, 50_000, 100, 100).await.unwrap();
    }
    let asked = servers.requests.lock().len() - asked;
    assert!(asked <= 24, "{asked} requests for 20 reads: the dead are asked again and again");
}
