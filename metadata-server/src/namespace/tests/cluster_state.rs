//! Chunk servers, the partition table, the repair queue, and the cluster's own numbers.

use std::net::SocketAddr;

use cairn_common::block::{BlockHash, BlockId};
use cairn_common::extent::{BlockReference, Extent, ExtentContent, NewExtent};
use cairn_common::ids::{
    ChunkNodeId, ClusterId, DiskId, DiskUuid, Incarnation, InodeId, MetadataNodeId, PartitionId, PoolId, TableEpoch,
};
use cairn_common::partition_table::PartitionRow;
use cairn_common::protocol::FsError;
use cairn_common::protocol::chunk_control::{RegisteredDisk, Registration};
use cairn_common::protocol::metadata::{Mutation, NewNode, Query, QueryResult};

use super::machine::Machine;
use crate::namespace::cluster;
use crate::namespace::command::{Action, Outcome};

fn registration(incarnation: u128, port: u16, disks: &[u128]) -> Registration {
    Registration {
        incarnation: Incarnation(incarnation),
        name: format!("chunk{incarnation}"),
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        failure_domain: "rack".into(),
        disks: disks.iter().map(|uuid| RegisteredDisk { uuid: DiskUuid(*uuid), capacity_bytes: 1 << 30 }).collect(),
    }
}

fn register(machine: &mut Machine, new: Registration) -> (u32, Vec<u32>) {
    match machine.act(Action::RegisterChunkServer(new)) {
        Outcome::Registered { node, disks } => (node.0, disks.iter().map(|disk| disk.0).collect()),
        other => panic!("{other:?}"),
    }
}

fn install(machine: &mut Machine, base: u64, rows: Vec<(PartitionId, PartitionRow)>) -> (u64, bool) {
    match machine.act(Action::InstallRows { base: TableEpoch(base), rows }) {
        Outcome::TableInstalled { epoch, installed } => (epoch.0, installed),
        other => panic!("{other:?}"),
    }
}

fn row(current: &[u32], next: &[u32]) -> PartitionRow {
    let disks = |ids: &[u32]| ids.iter().map(|id| DiskId(*id)).collect();
    PartitionRow { current: disks(current), next: disks(next) }
}

fn block(first: u8) -> BlockId {
    BlockId { pool: PoolId::DEFAULT, hash: BlockHash([first; 32]) }
}

#[test]
fn chunk_servers_keep_their_numbers_and_wiped_ones_get_new_ones() {
    let mut machine = Machine::new();
    assert_eq!(register(&mut machine, registration(1, 7001, &[11, 12])), (1, vec![1, 2]));
    assert_eq!(register(&mut machine, registration(2, 7002, &[21])), (2, vec![3]));
    assert_eq!(register(&mut machine, registration(1, 7001, &[12, 11])), (1, vec![2, 1]), "order of the registration");
    assert_eq!(cluster::table_epoch(&machine.base).unwrap().0, 0, "nothing that a table says has changed");
    assert_eq!(register(&mut machine, registration(1, 7009, &[11, 12])), (1, vec![1, 2]));
    assert_eq!(cluster::table_epoch(&machine.base).unwrap().0, 1, "an address has changed");
    assert_eq!(register(&mut machine, registration(3, 7001, &[31])), (3, vec![4]), "another life is another server");
    // A disk carried to another server keeps its number.
    assert_eq!(register(&mut machine, registration(3, 7001, &[31, 12])), (3, vec![4, 2]));
    assert_eq!(cluster::table_epoch(&machine.base).unwrap().0, 2);
    let servers = cluster::chunk_servers(&machine.base).unwrap();
    let disks: Vec<_> = servers.iter().map(|s| (s.node, s.disks.iter().map(|d| d.0.0).collect::<Vec<_>>())).collect();
    assert_eq!(disks, [(ChunkNodeId(1), vec![1]), (ChunkNodeId(2), vec![3]), (ChunkNodeId(3), vec![2, 4])]);
    assert_eq!(servers[0].address.port(), 7009);
    assert_eq!((servers[0].disks[0].1, servers[0].disks[0].2), (DiskUuid(11), 1 << 30));
    machine.check();
}

#[test]
fn rows_go_in_against_the_epoch_and_only_if_they_are_sound() {
    let mut machine = Machine::new();
    register(&mut machine, registration(1, 7001, &[11, 12]));
    let one = |partition: u32, row: PartitionRow| vec![(PartitionId(partition), row)];
    assert_eq!(install(&mut machine, 1, one(0, row(&[1], &[]))), (0, false), "another base");
    assert_eq!(install(&mut machine, 0, one(1024, row(&[1], &[]))), (0, false), "no such partition");
    assert_eq!(install(&mut machine, 0, one(0, row(&[], &[1]))), (0, false), "no owner");
    assert_eq!(install(&mut machine, 0, one(0, row(&[1], &[9]))), (0, false), "unknown disk");
    assert_eq!(install(&mut machine, 0, one(300, row(&[1], &[]))), (1, true));
    assert!(cluster::partition_table(&machine.base).unwrap().rows.is_empty(), "some rows are missing still");
    let all = (0..1024).map(|partition| (PartitionId(partition), row(&[1 + partition % 2], &[]))).collect();
    assert_eq!(install(&mut machine, 1, all), (2, true));
    assert_eq!(install(&mut machine, 2, one(700, row(&[2], &[1]))), (3, true));
    let table = cluster::partition_table(&machine.base).unwrap();
    assert_eq!((table.epoch.0, table.rows.len(), table.replicas, table.pool), (3, 1024, 3, PoolId::DEFAULT));
    assert_eq!((&table.rows[699], &table.rows[700]), (&row(&[2], &[]), &row(&[2], &[1])));
    assert_eq!(table.disks.keys().map(|disk| disk.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(table.disks[&DiskId(1)].name, "chunk1");
    machine.check();
}

/// A quorum of owners that were: nobody would ever give the block to those that are (`docs/models.md`).
#[test]
fn a_commit_by_owners_that_were_is_refused() {
    let mut machine = Machine::new();
    let session = machine.open_session();
    register(&mut machine, registration(1, 7001, &[11, 12, 13, 14]));
    let everywhere = |row: PartitionRow| (0..1024).map(|partition| (PartitionId(partition), row.clone())).collect();
    let inode = machine.create(session, InodeId::ROOT, "a", NewNode::File, None).inode;
    let commit = |machine: &mut Machine, table: u64| {
        let content = ExtentContent::Block(BlockReference { block: block(7), block_offset: 0, block_length: 5 });
        let extent = Extent { offset: 0, length: 5, content };
        let extents = vec![NewExtent { extent, missed: vec![], table: TableEpoch(table) }];
        let commit = Mutation::Commit { inode, extents, append: true, minimum_size: 0, mtime: None };
        machine.mutate(session, commit).map(drop)
    };
    install(&mut machine, 0, everywhere(row(&[1, 2], &[])));
    assert_eq!(commit(&mut machine, 1), Ok(()));
    install(&mut machine, 1, everywhere(row(&[1, 2], &[3, 4])));
    assert_eq!(commit(&mut machine, 1), Err(FsError::PutAgain), "it is on no quorum of the owners to be");
    assert_eq!(commit(&mut machine, 2), Ok(()));
    install(&mut machine, 2, everywhere(row(&[3, 4], &[])));
    assert_eq!(commit(&mut machine, 1), Err(FsError::PutAgain), "the end of the move makes no difference");
    assert_eq!(commit(&mut machine, 2), Ok(()), "a quorum of both is one of the new owners");
    install(&mut machine, 3, everywhere(row(&[3, 4], &[1, 2])));
    install(&mut machine, 4, everywhere(row(&[3, 4], &[])));
    assert_eq!(commit(&mut machine, 3), Err(FsError::PutAgain));
    assert_eq!(commit(&mut machine, 4), Ok(()), "so is one of a move that was cancelled");
    machine.check();
}

#[test]
fn what_a_commit_missed_waits_for_repair_if_the_disk_is_an_owner() {
    let mut machine = Machine::new();
    let session = machine.open_session();
    register(&mut machine, registration(1, 7001, &[11, 12, 13, 14]));
    let all = (0..1024).map(|partition| (PartitionId(partition), row(&[1, 2], &[3]))).collect();
    install(&mut machine, 0, all);
    let inode = machine.create(session, InodeId::ROOT, "a", NewNode::File, None).inode;
    let new = |at: u64, block: BlockId, missed: &[u32]| NewExtent {
        extent: Extent {
            offset: at,
            length: 5,
            content: ExtentContent::Block(BlockReference { block, block_offset: 0, block_length: 5 }),
        },
        missed: missed.iter().map(|disk| DiskId(*disk)).collect(),
        table: TableEpoch(1),
    };
    let extents = vec![new(0, block(7), &[2, 3, 4]), new(5, block(9), &[]), new(10, block(3), &[1])];
    let commit = Mutation::Commit { inode, extents, append: true, minimum_size: 0, mtime: None };
    machine.mutate(session, commit).unwrap();
    let queue = |machine: &Machine, after| cluster::repair_queue(&machine.base, after, 2).unwrap();
    // Disk 3 is being filled: it is asked for every block, for the sender may not know.
    assert_eq!(queue(&machine, None), [(block(3), DiskId(1)), (block(3), DiskId(3))]);
    assert_eq!(queue(&machine, Some((block(3), DiskId(3)))), [(block(7), DiskId(2)), (block(7), DiskId(3))]);
    assert_eq!(queue(&machine, Some((block(7), DiskId(3)))), [(block(9), DiskId(3))]);
    let under = |machine: &Machine| cluster::under_replicated_blocks(&machine.base).unwrap();
    assert_eq!(under(&machine), 3);
    let act = |machine: &mut Machine, action| assert_eq!(machine.act(action), Outcome::Done);
    let filled = [block(3), block(9)].map(|block| (block, DiskId(3))).to_vec();
    act(&mut machine, Action::RecordRepair { repaired: filled });
    assert_eq!(under(&machine), 2);
    act(&mut machine, Action::RecordRepair { repaired: vec![(block(7), DiskId(2)), (block(8), DiskId(2))] });
    assert_eq!(under(&machine), 2, "one replica of the block is still missing");
    act(&mut machine, Action::RecordRepair { repaired: vec![(block(7), DiskId(3)), (block(7), DiskId(3))] });
    assert_eq!(under(&machine), 1);
    let damaged = vec![(block(5), DiskId(1)), (block(5), DiskId(1)), (block(5), DiskId(2)), (block(6), DiskId(4))];
    act(&mut machine, Action::RecordDamage { damaged });
    assert_eq!(under(&machine), 2);
    machine.check();
}

#[test]
fn initializing_twice_changes_nothing() {
    let mut machine = Machine::new();
    let before = machine.base.clone();
    machine.act(Action::Initialize { cluster: ClusterId(8), partitions: 4, replicas: 1 });
    assert!(machine.base == before);
    let record = cluster::cluster(&machine.base).unwrap().unwrap();
    assert_eq!((record.cluster, record.partitions, record.replicas, record.feature_level), (ClusterId(7), 1024, 3, 1));
    let Ok(QueryResult::Statfs(statfs)) = machine.ask(Query::Statfs) else { panic!() };
    assert_eq!(statfs.inodes, 1);
}

#[test]
fn node_ids_and_feature_levels_only_grow() {
    let mut machine = Machine::new();
    assert_eq!(machine.act(Action::AllocateMetadataNode), Outcome::MetadataNode(MetadataNodeId(101)));
    assert_eq!(machine.act(Action::AllocateMetadataNode), Outcome::MetadataNode(MetadataNodeId(102)));
    for (level, expected) in [(3, 3), (2, 3)] {
        assert_eq!(machine.act(Action::RaiseFeatureLevel { level }), Outcome::Done);
        assert_eq!(cluster::cluster(&machine.base).unwrap().unwrap().feature_level, expected);
    }
}
