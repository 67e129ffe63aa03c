//! The bytes of every kind of key. A change here is a change of what is on disks: make a new table
//! instead.

use cairn_common::block::{BlockHash, BlockId};
use cairn_common::ids::{ChunkNodeId, DiskId, DiskUuid, Incarnation, InodeId, PoolId, SessionId, SlotId};
use cairn_common::protocol::locks::{LockKind, LockOwner};

use super::golden_records::assert_golden;
use crate::namespace::keys::{self, Counter, Table};

#[test]
fn keys_are_what_they_were() {
    let inode = InodeId(0x0102_0304_0506_0708);
    let session = SessionId(0x1112_1314_1516_1718);
    let block = BlockId { pool: PoolId(0x0a0b), hash: BlockHash([0xee; 32]) };
    let uuid = 0x2122_2324_2526_2728_292a_2b2c_2d2e_2f30;
    let hash = "ee".repeat(32);
    assert_golden(&keys::cluster(), "01 00000000");
    assert_golden(&keys::counter(Counter::CommitSequence), "02 00000000 01");
    assert_golden(&keys::counter(Counter::LastInode), "02 00000001 02");
    assert_golden(&keys::counter(Counter::Inodes), "02 00000001 03");
    assert_golden(&keys::counter(Counter::LastSession), "02 00000000 04");
    assert_golden(&keys::counter(Counter::LastChunkNode), "02 00000000 05");
    assert_golden(&keys::counter(Counter::LastDisk), "02 00000000 06");
    assert_golden(&keys::counter(Counter::LastMetadataNode), "02 00000000 07");
    assert_golden(&keys::counter(Counter::TableEpoch), "02 00000000 08");
    assert_golden(&keys::counter(Counter::UnderReplicatedBlocks), "02 00000000 09");
    assert_golden(&keys::inode(inode), "10 00000001 0102030405060708");
    assert_golden(&keys::entry(inode, b"name"), "11 00000001 0102030405060708 6e616d65");
    assert_golden(&keys::entry_order(inode, 3), "12 00000001 0102030405060708 0000000000000003");
    assert_golden(&keys::extent(inode, 4096), "13 00000001 0102030405060708 0000000000001000");
    assert_golden(&keys::xattr(inode, b"user.a"), "14 00000001 0102030405060708 757365722e61");
    assert_golden(&keys::symlink(inode), "15 00000001 0102030405060708");
    assert_golden(&keys::open(inode, session), "16 00000001 0102030405060708 1112131415161718");
    assert_golden(&keys::session_open(session, inode), "17 00000001 1112131415161718 0102030405060708");
    assert_golden(&keys::orphan(inode), "18 00000001 0102030405060708");
    assert_golden(&keys::garbage(inode), "19 00000001 0102030405060708");
    assert_golden(&keys::exclusive(inode), "1a 00000001 0102030405060708");
    let owner = |kind| LockOwner { kind, id: 0x3132_3334_3536_3738 };
    for (kind, byte) in [LockKind::Posix, LockKind::Ofd, LockKind::Flock, LockKind::Unseen].into_iter().zip(1..) {
        let golden =
            format!("1b 00000001 0102030405060708 1112131415161718 {byte:02x} 3132333435363738 0000000000001000");
        assert_golden(&keys::lock(inode, session, owner(kind), 4096), &golden);
    }
    assert_golden(&keys::session_lock(session, inode), "1c 00000001 1112131415161718 0102030405060708");
    assert_golden(&keys::lock_count(session), "32 00000000 1112131415161718");
    let backref = format!("20 00000000 0a0b {hash} 00000001 0102030405060708 0000000000001000");
    assert_golden(&keys::backref(&block, inode, 4096), &backref);
    assert_golden(&keys::repair(&block, DiskId(5)), &format!("21 00000000 0a0b {hash} 00000005"));
    assert_golden(&keys::session(session), "30 00000000 1112131415161718");
    assert_golden(&keys::slot(session, SlotId(7)), "31 00000000 1112131415161718 0007");
    assert_golden(&keys::chunk_node(ChunkNodeId(9)), "40 00000000 00000009");
    let incarnation = keys::chunk_node_by_incarnation(Incarnation(uuid));
    assert_golden(&incarnation, "41 00000000 2122232425262728292a2b2c2d2e2f30");
    assert_golden(&keys::disk(DiskId(5)), "42 00000000 00000005");
    assert_golden(&keys::disk_by_uuid(DiskUuid(uuid)), "43 00000000 2122232425262728292a2b2c2d2e2f30");
    assert_golden(&keys::partition_rows(PoolId(1), 2), "44 00000000 0001 00000002");
}

#[test]
fn every_table_has_its_own_byte() {
    let bytes: std::collections::BTreeSet<u8> = Table::ALL.iter().map(|table| *table as u8).collect();
    assert_eq!(bytes.len(), Table::ALL.len());
    assert!(!bytes.contains(&0), "the storage engine's");
    assert!(!bytes.contains(&u8::MAX), "no prefix could end");
}

#[test]
fn a_prefix_ends_behind_all_that_begin_with_it() {
    assert_eq!(keys::end_of(&[1, 2]), [1, 3]);
    assert_eq!(keys::end_of(&[1, 0xff, 0xff]), [2]);
    let (from, to) = keys::extents(InodeId(u64::MAX));
    let last = keys::extent(InodeId(u64::MAX), u64::MAX);
    assert!(from <= last && last < to);
}
