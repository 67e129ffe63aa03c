//! The bytes of every kind of record, as its newest version writes them. They are on disks: a change here
//! means that old records are not readable any more. Make a new record version instead.

use std::fmt::Debug;

use bytes::Bytes;
use cairn_common::block::{BlockHash, BlockId};
use cairn_common::clock::Timestamp;
use cairn_common::extent::{BlockReference, ExtentContent};
use cairn_common::ids::{
    ChunkNodeId, ClusterId, CommitSequence, DataVersion, DiskId, DiskUuid, Incarnation, InodeId, PoolId, SessionEpoch,
    TableEpoch,
};
use cairn_common::partition_table::PartitionRow;
use cairn_common::protocol::metadata::NodeKind;
use proptest::prelude::*;

use crate::namespace::records::{
    self, ChunkNode, Cluster, Disk, Entry, Garbage, Inode, Lock, Marker, Number, Opaque, Open, OrderedEntry, OwnedRow,
    PartitionRows, Record, Session, Slot, StoredExtent, Trim, Versioned,
};

/// Compares with hexadecimal digits, whose spaces only help the reader.
pub(super) fn assert_golden(bytes: &[u8], golden: &str) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.replace(' ', ""));
}

fn bytes_of(golden: &str) -> Vec<u8> {
    let digits = golden.replace(' ', "");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// The record's bytes are these, they read back as the record, and nothing else does.
fn plain<R: Record + PartialEq + Debug>(record: &R, golden: &str) {
    let bytes = records::encode(record);
    assert_golden(&bytes, golden);
    assert_eq!(&records::decode::<R>(&bytes).unwrap(), record);
    refuses(&bytes, |bytes| records::decode::<R>(bytes).ok());
}

const SEQUENCE: CommitSequence = CommitSequence(0x0707);

fn versioned<R: Versioned + PartialEq + Debug>(record: &R, golden: &str) {
    let bytes = records::encode_versioned(SEQUENCE, record);
    assert_golden(&bytes, &format!("{:02x} 0000000000000707 {golden}", R::VERSION));
    assert_eq!(records::decode_versioned::<R>(&bytes).unwrap(), (SEQUENCE, read_back(&bytes)));
    assert_eq!(&read_back::<R>(&bytes), record);
    refuses(&bytes, |bytes| records::decode_versioned::<R>(bytes).ok());
}

fn read_back<R: Versioned>(bytes: &[u8]) -> R {
    records::decode_versioned(bytes).unwrap().1
}

/// No other version is taken for this one, and the fixed part may not be cut.
fn refuses<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Option<T>) {
    for version in [0, bytes[0] + 1, 255] {
        let mut other = bytes.to_vec();
        other[0] = version;
        assert!(decode(&other).is_none(), "version {version} is not known");
    }
    assert!(decode(&[]).is_none());
}

fn time(seconds: i64, nanos: u32) -> Timestamp {
    Timestamp { seconds, nanos }
}

fn inode(kind: NodeKind) -> Inode {
    Inode {
        kind,
        mode: 0o4755,
        links: 3,
        uid: 1000,
        gid: 100,
        size: 0x1234,
        atime: time(-1, 999_999_999),
        mtime: time(2, 0),
        ctime: time(3, 1),
        btime: time(4, 2),
        data_version: DataVersion(9),
        xattr_list_bytes: 12,
        access_acl: false,
        default_acl: false,
        device: 0,
        allocated: 0,
        trim: None,
        parent: InodeId(0),
        next_cookie: 0,
    }
}

const INODE: &str = "09ed 00000003 000003e8 00000064 0000000000001234 ffffffffffffffff 3b9ac9ff \
    0000000000000002 00000000 0000000000000003 00000001 0000000000000004 00000002 0000000000000009 0000000c";

#[test]
fn inodes_are_what_they_were() {
    // Each as version 1 wrote it: version 2 says behind it which access control lists there are.
    let versions = |inode: &Inode, golden: &str| {
        assert_eq!(Inode::VERSION, 2);
        versioned(inode, &format!("{golden} 00"));
        let old = bytes_of(&format!("01 0000000000000707 {golden}"));
        assert_eq!(&read_back::<Inode>(&old), inode, "version 1");
    };
    let file = Inode { allocated: 0x1000, ..inode(NodeKind::File) };
    versions(&file, &format!("01 {INODE} 0000000000001000 00"));
    let with_acl = Inode { access_acl: true, ..file.clone() };
    versioned(&with_acl, &format!("01 {INODE} 0000000000001000 00 01"));
    let trim = Some(Trim { from: 0x20, before: CommitSequence(0x30) });
    let trimmed = format!("01 {INODE} 0000000000001000 01 0000000000000020 0000000000000030");
    versions(&Inode { trim, ..file }, &trimmed);
    let directory = Inode { parent: InodeId(5), next_cookie: 6, ..inode(NodeKind::Directory) };
    versions(&directory, &format!("02 {INODE} 0000000000000005 0000000000000006"));
    let with_acls = Inode { access_acl: true, default_acl: true, ..directory.clone() };
    versioned(&with_acls, &format!("02 {INODE} 0000000000000005 0000000000000006 03"));
    let with_default = Inode { default_acl: true, ..directory };
    versioned(&with_default, &format!("02 {INODE} 0000000000000005 0000000000000006 02"));
    versions(&inode(NodeKind::Symlink), &format!("03 {INODE}"));
    versions(&inode(NodeKind::Fifo), &format!("04 {INODE}"));
    versions(&inode(NodeKind::Socket), &format!("05 {INODE}"));
    let device = Inode { device: 0x0801, ..inode(NodeKind::CharDevice) };
    versions(&device, &format!("06 {INODE} 0000000000000801"));
    let device = Inode { device: 0x0801, ..inode(NodeKind::BlockDevice) };
    versions(&device, &format!("07 {INODE} 0000000000000801"));
    let unknown = bytes_of(&format!("02 0000000000000707 03 {INODE} 04"));
    assert!(records::decode_versioned::<Inode>(&unknown).is_err(), "no list of that kind is known");
}

#[test]
fn names_and_bytes_are_what_they_were() {
    let (inode, kind) = (InodeId(5), NodeKind::File);
    versioned(&Entry { inode, kind, cookie: 3 }, "0000000000000005 01 0000000000000003");
    let name = Bytes::from_static(b"name");
    versioned(&OrderedEntry { inode, kind, name }, "0000000000000005 01 6e616d65");
    let content = ExtentContent::Inline(Bytes::from_static(b"abc"));
    versioned(&StoredExtent { length: 3, content }, "0000000000000003 01 616263");
    let block = BlockId { pool: PoolId(1), hash: BlockHash([0xab; 32]) };
    let content = ExtentContent::Block(BlockReference { block, block_offset: 16, block_length: 4096 });
    let golden = format!("0000000000001000 02 0001 {} 00000010 00001000", "ab".repeat(32));
    versioned(&StoredExtent { length: 4096, content }, &golden);
    versioned(&StoredExtent { length: 7, content: ExtentContent::Unwritten }, "0000000000000007 03");
    versioned(&Opaque(Bytes::from_static(b"target")), "746172676574");
}

#[test]
fn sessions_are_what_they_were() {
    let session = Session { epoch: SessionEpoch(1), slots: 128, opened: time(5, 6), client: "host".into() };
    plain(&session, "01 00000001 0080 0000000000000005 00000006 00000004 686f7374");
    let slot = Slot { sequence: 9, changed: vec![InodeId(5)], outcome: Bytes::from_static(&[0, 1]) };
    let bytes = records::encode(&slot);
    assert_golden(&bytes, "02 0000000000000009 00000001 0000000000000005 0001");
    assert_eq!(records::decode::<Slot>(&bytes).unwrap(), slot);
    let first = records::decode::<Slot>(&[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1]).unwrap();
    assert_eq!(first, Slot { changed: Vec::new(), ..slot }, "version 1 knew of no changes");
    plain(&Open { readers: 1, writers: 2 }, "01 00000001 00000002");
    plain(&Lock { end: 0x1234, write: true, pid: 77 }, "01 0000000000001234 01 0000004d");
    plain(&Marker, "01");
    plain(&Garbage { cursor: 0x1000 }, "01 0000000000001000");
}

#[test]
fn what_slots_remember_is_what_it_was() {
    use cairn_common::codec::encode;
    use cairn_common::protocol::FsError;
    use cairn_common::protocol::metadata::MutationResult;

    type Outcome = Result<MutationResult, FsError>;
    let attributes = Inode { allocated: 0x1000, ..inode(NodeKind::File) }.attributes(InodeId(5));
    let committed: Outcome = Ok(MutationResult::Committed { attributes, appended_at: 7 });
    let golden = "00 04 05 00 fbed09 03 fbe803 64 00 fb3412 fb0010 01 fcffc99a3b 04 00 06 01 08 02 09 000001 07";
    assert_golden(&encode(&committed).unwrap(), golden);
    let done: Outcome = Ok(MutationResult::Done);
    assert_golden(&encode(&done).unwrap(), "00 00");
    let failed: Outcome = Err(FsError::NotEmpty);
    assert_golden(&encode(&failed).unwrap(), "01 04");
    let refused: Outcome = Ok(MutationResult::LockRefused);
    assert_golden(&encode(&refused).unwrap(), "00 06");
    let full: Outcome = Err(FsError::NoLocks);
    assert_golden(&encode(&full).unwrap(), "01 17");
    let node: Outcome = Ok(MutationResult::Node { attributes, created: true, exclusive: false });
    let golden = "00 02 05 00 fbed09 03 fbe803 64 00 fb3412 fb0010 01 fcffc99a3b 04 00 06 01 08 02 09 000001 01 00";
    assert_golden(&encode(&node).unwrap(), golden);
    let opened: Outcome = Ok(MutationResult::Opened { attributes, exclusive: true, extents: None });
    let golden = "00 03 05 00 fbed09 03 fbe803 64 00 fb3412 fb0010 01 fcffc99a3b 04 00 06 01 08 02 09 000001 01 00";
    assert_golden(&encode(&opened).unwrap(), golden);
}

#[test]
fn the_cluster_is_what_it_was() {
    let cluster = Cluster { cluster: ClusterId(7), partitions: 65_536, replicas: 3, feature_level: 1 };
    plain(&cluster, "01 00000000000000000000000000000007 00010000 03 00000001");
    plain(&Number(8), "01 0000000000000008");
    let node = ChunkNode {
        incarnation: Incarnation(9),
        address: "127.0.0.1:7001".parse().unwrap(),
        name: "c1".into(),
        failure_domain: "r".into(),
        disks: vec![DiskId(1), DiskId(2)],
    };
    let golden = "01 00000000000000000000000000000009 04 7f000001 1b59 00000002 6331 00000001 72 \
        00000002 00000001 00000002";
    plain(&node, golden);
    let node = ChunkNode { address: "[fe80::1%5]:7001".parse().unwrap(), disks: Vec::new(), ..node };
    let golden = "01 00000000000000000000000000000009 06 fe800000000000000000000000000001 1b59 00000000 00000005 \
        00000002 6331 00000001 72 00000000";
    plain(&node, golden);
    let disk = Disk { uuid: DiskUuid(10), node: ChunkNodeId(1), capacity_bytes: 1 << 40 };
    plain(&disk, "01 0000000000000000000000000000000a 00000001 0000010000000000");
    let row = PartitionRow { current: vec![DiskId(1), DiskId(2)], next: vec![DiskId(3)] };
    // Version 1 did not say since when.
    let old = [1, 0, 2, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0, 0, 3, 0, 0];
    let rows = PartitionRows(vec![OwnedRow { row: row.clone(), since: TableEpoch(0) }, OwnedRow::default()]);
    assert_eq!(records::decode::<PartitionRows>(&old).unwrap(), rows);
    assert_eq!(PartitionRows::row(&old, 0).unwrap(), rows.0[0]);
    let rows = PartitionRows(vec![OwnedRow { row, since: TableEpoch(9) }, OwnedRow::default()]);
    plain(&rows, "02 0002 0000000000000009 02 00000001 00000002 01 00000003 0000000000000000 00 00");
    let bytes = records::encode(&rows);
    for (index, row) in rows.0.iter().enumerate() {
        assert_eq!(&PartitionRows::row(&bytes, index).unwrap(), row);
    }
    assert!(PartitionRows::row(&bytes, 2).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever lies in a record, reading it ends with a record or an error.
    #[test]
    fn no_bytes_make_a_decoder_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in 0..3u8) {
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        fn decodes<R: Record>(bytes: &[u8]) -> bool {
            records::decode::<R>(bytes).is_ok()
        }
        let _ = (decodes::<Cluster>(&bytes), decodes::<Number>(&bytes), decodes::<ChunkNode>(&bytes));
        let _ = (decodes::<Disk>(&bytes), decodes::<PartitionRows>(&bytes), decodes::<Session>(&bytes));
        let _ = (decodes::<Slot>(&bytes), decodes::<Open>(&bytes), decodes::<Marker>(&bytes));
        let _ = (decodes::<Garbage>(&bytes), decodes::<Lock>(&bytes));
        let _ = (records::decode_versioned::<Inode>(&bytes), records::decode_versioned::<Entry>(&bytes));
        let _ = (records::decode_versioned::<OrderedEntry>(&bytes), records::decode_versioned::<Opaque>(&bytes));
        let _ = records::decode_versioned::<StoredExtent>(&bytes);
    }
}
