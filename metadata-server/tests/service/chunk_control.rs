//! Chunk servers as the metadata group sees them: registration, the first table, damage and repair,
//! and a wiped server whose partitions move to its successor. The chunk servers here are the
//! protocol's other side only; what they do with a task is tested in their own crate.

use std::collections::BTreeSet;
use std::time::Duration;

use super::support::{Client, Cluster, Mount, quick, until};
use cairn_common::block::{BlockHash, BlockId};
use cairn_common::extent::{BlockReference, Extent, ExtentContent, NewExtent};
use cairn_common::ids::{ChunkNodeId, DiskId, DiskUuid, Incarnation, InodeId, PoolId, TableEpoch};
use cairn_common::partition_table::PartitionTable;
use cairn_common::protocol::admin::{AdminReply, AdminRequest, ClusterStatus, NodeState};
use cairn_common::protocol::chunk_control::{
    ChunkControlReply, ChunkControlRequest, DiskReport, Heartbeat, RegisteredDisk, Registration, RepairTask,
};
use cairn_common::protocol::metadata::{MetadataReply, MetadataRequest, Mutation, Query, QueryResult};
use cairn_common::protocol::{Role, ServiceError};

const CAPACITY: u64 = 1 << 30;

/// What a chunk server says, without storing anything.
struct ChunkServer {
    client: Client,
    registration: Registration,
    node: ChunkNodeId,
    disk: DiskId,
}

impl ChunkServer {
    async fn start(cluster: &Cluster, name: &str) -> Self {
        let registration = Registration {
            incarnation: Incarnation::random(),
            name: name.into(),
            address: ([127, 0, 0, 1], 9).into(),
            failure_domain: name.into(),
            disks: vec![RegisteredDisk { uuid: DiskUuid::random(), capacity_bytes: CAPACITY }],
        };
        let client = cluster.client(Role::Chunk, name);
        match client.control(ChunkControlRequest::Register(registration.clone())).await.unwrap() {
            ChunkControlReply::Registered { node, disks } => Self { client, registration, node, disk: disks[0] },
            other => panic!("{other:?}"),
        }
    }

    async fn report(
        &self,
        damaged: Vec<BlockId>,
        repaired: Vec<BlockId>,
        damaged_blocks: u64,
    ) -> (Vec<RepairTask>, bool) {
        let heartbeat = Heartbeat {
            node: self.node,
            incarnation: self.registration.incarnation,
            table: TableEpoch(0),
            disks: vec![DiskReport {
                disk: self.disk,
                capacity_bytes: CAPACITY,
                free_bytes: CAPACITY / 2,
                reserve_bytes: CAPACITY / 100,
                room_bytes: CAPACITY / 2,
                file_system: 0,
                blocks: 0,
                damaged_blocks,
                failure: None,
            }],
            damaged: damaged.into_iter().map(|block| (block, self.disk)).collect(),
            repaired: repaired.into_iter().map(|block| (block, self.disk)).collect(),
        };
        match self.client.control(ChunkControlRequest::Heartbeat(heartbeat)).await.unwrap() {
            ChunkControlReply::Heard { tasks, register, .. } => (tasks, register),
            other => panic!("{other:?}"),
        }
    }

    /// Reports until there is a task, and takes all of them.
    async fn tasks(&self) -> Vec<RepairTask> {
        until("tasks", || async {
            let (tasks, register) = self.report(vec![], vec![], 0).await;
            assert!(!register);
            (!tasks.is_empty()).then_some(tasks)
        })
        .await
    }
}

fn block(n: u8) -> BlockId {
    BlockId { pool: PoolId::DEFAULT, hash: BlockHash(*blake3::hash(&[n]).as_bytes()) }
}

/// A commit of one block, which some disks lack.
fn commit(inode: InodeId, at: u64, block: BlockId, missed: Vec<DiskId>) -> Mutation {
    let content = ExtentContent::Block(BlockReference { block, block_offset: 0, block_length: 4096 });
    let extent = Extent { offset: at * 4096, length: 4096, content };
    let extents = vec![NewExtent { extent, missed, table: TableEpoch(u64::MAX) }];
    Mutation::Commit { inode, extents, append: false, minimum_size: 0, mtime: None }
}

async fn table(mount: &Mount) -> PartitionTable {
    until("a partition table", || async {
        match mount.client.metadata(MetadataRequest::PartitionTable { known: TableEpoch(0) }).await.unwrap() {
            MetadataReply::Table(table) => table.filter(|table| !table.rows.is_empty()),
            other => panic!("{other:?}"),
        }
    })
    .await
}

async fn status(admin: &Client) -> ClusterStatus {
    match admin.admin(AdminRequest::Status).await.unwrap() {
        AdminReply::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_register_get_a_table_and_repair_what_is_missing() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (mount, admin) = (cluster.mount("m1").await, cluster.client(Role::Admin, "root"));
    let mut servers = Vec::new();
    for name in ["c1", "c2", "c3"] {
        servers.push(ChunkServer::start(&cluster, name).await);
    }
    let table = table(&mount).await;
    assert_eq!(table.rows.len(), 64);
    let all: BTreeSet<DiskId> = servers.iter().map(|server| server.disk).collect();
    for row in &table.rows {
        assert_eq!(row.current.iter().copied().collect::<BTreeSet<_>>(), all);
        assert!(row.next.is_empty());
    }
    let foreign = Registration { name: "c2".into(), ..servers[0].registration.clone() };
    let refused = servers[0].client.control(ChunkControlRequest::Register(foreign)).await;
    assert!(matches!(refused, Err(ServiceError::Forbidden { .. })), "{refused:?}");

    // A commit that missed a disk, a report of a mount, and a report of the server itself.
    for server in &servers {
        server.report(vec![], vec![], 0).await;
    }
    let inode = mount.create("f", None).await;
    mount.mutate(commit(inode, 0, block(0), vec![servers[2].disk])).await.unwrap();
    let damaged = vec![(block(1), servers[2].disk), (block(1), DiskId(999))];
    mount.client.metadata(MetadataRequest::ReportDamage { damaged }).await.unwrap();
    servers[2].report(vec![block(2)], vec![], 1).await;
    assert_eq!(status(&admin).await.under_replicated_blocks, 3);
    assert_eq!(status(&admin).await.chunk[2].state, NodeState::Degraded);
    let mut wanted = BTreeSet::new();
    until("all three tasks", || async {
        let (tasks, _) = servers[2].report(vec![], vec![], 0).await;
        for task in &tasks {
            assert_eq!(task.disk, servers[2].disk);
            assert_eq!(task.sources.len(), 2);
            assert!(!task.sources.contains(&task.disk));
        }
        (tasks.len() == 3).then_some(tasks)
    })
    .await
    .into_iter()
    .for_each(|task| {
        wanted.insert(task.block);
    });
    assert_eq!(wanted, BTreeSet::from([block(0), block(1), block(2)]));
    servers[2].report(vec![], wanted.into_iter().collect(), 0).await;
    let healed = status(&admin).await;
    assert_eq!(healed.under_replicated_blocks, 0);
    assert!(healed.chunk.iter().all(|server| server.state == NodeState::Up));

    match mount.query(Query::Statfs).await.unwrap() {
        QueryResult::Statfs(space) => assert_eq!((space.total_bytes, space.free_bytes), (CAPACITY, CAPACITY / 2)),
        other => panic!("{other:?}"),
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_server_gets_everything_back_also_what_is_written_meanwhile() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (mount, admin) = (cluster.mount("m1").await, cluster.client(Role::Admin, "root"));
    let mut servers = Vec::new();
    for name in ["c1", "c2", "c3"] {
        servers.push(ChunkServer::start(&cluster, name).await);
    }
    table(&mount).await;
    let inode = mount.create("f", None).await;
    for n in 0..30 {
        mount.mutate(commit(inode, u64::from(n), block(n), vec![])).await.unwrap();
    }
    let lost = servers.remove(1);
    let heir = ChunkServer::start(&cluster, "c2").await;
    assert_ne!(heir.disk, lost.disk);
    assert!(lost.report(vec![], vec![], 0).await.1, "the former self is not believed any more");
    let moving = until("the move", || async {
        let status = status(&admin).await;
        (status.moving_partitions > 0).then_some(status)
    })
    .await;
    assert_eq!(moving.moving_partitions, 64);
    // The files have been looked through when the first task comes. Now a mount commits that knows
    // nothing of the move: it misses nobody.
    let mut tasks = heir.tasks().await;
    mount.mutate(commit(inode, 30, block(30), vec![])).await.unwrap();
    let mut held = BTreeSet::new();
    loop {
        assert!(tasks.iter().all(|task| task.sources.contains(&servers[0].disk)));
        let blocks: Vec<BlockId> = tasks.into_iter().map(|task| task.block).collect();
        assert!(status(&admin).await.moving_partitions > 0, "not finished while a block is missing");
        held.extend(blocks.iter().copied());
        heir.report(vec![], blocks, 0).await;
        if held.contains(&block(30)) && held.len() >= 31 {
            break;
        }
        // Longer than a move takes that waits for nothing: it must wait for the rest.
        tokio::time::sleep(Duration::from_millis(700)).await;
        tasks = heir.tasks().await;
    }
    assert_eq!(held, (0..31).map(block).collect());
    until("the end of the move", || async { (status(&admin).await.moving_partitions == 0).then_some(()) }).await;
    let owners = BTreeSet::from([servers[0].disk, heir.disk, servers[1].disk]);
    let table = table(&mount).await;
    for row in &table.rows {
        assert_eq!(row.current.iter().copied().collect::<BTreeSet<_>>(), owners);
    }
    assert_eq!(table.disks[&heir.disk].node, heir.node);
    assert_eq!(status(&admin).await.under_replicated_blocks, 0);
    let names: Vec<_> = status(&admin).await.chunk.into_iter().map(|server| server.name).collect();
    assert_eq!(names, ["c1", "c3", "c2"], "the retired one is not shown");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_asks_chunk_servers_nothing_twice_and_goes_on() {
    let mut cluster = Cluster::start(3, quick()).await;
    let mount = cluster.mount("m1").await;
    let server = ChunkServer::start(&cluster, "c1").await;
    let _other = ChunkServer::start(&cluster, "c2").await;
    let before = table(&mount).await;
    assert!(before.rows.iter().all(|row| row.current.len() == 2), "two servers are a write quorum of three");
    let leader = cluster.leader().await;
    cluster.stop_node(leader).await;
    let inode = mount.create("f", None).await;
    mount.mutate(commit(inode, 0, block(0), vec![server.disk])).await.unwrap();
    let (_, register) = server.report(vec![], vec![], 0).await;
    assert!(!register, "the registration is replicated");
    assert_eq!(server.tasks().await[0].block, block(0));
    assert_eq!(table(&mount).await.rows, before.rows);
    cluster.stop().await;
}
