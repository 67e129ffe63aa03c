//! Who waits together shares a sync; full and failing disks answer so, and never `Durable`.

mod support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_chunk::block_store::file_disk::FileDisk;
use cairn_chunk::block_store::{PreparedBlock, ReadOutcome, StoreOptions};
use cairn_common::protocol::chunk::{Encoding, PutOutcome};
use futures::future::join_all;
use support::faulty_disk::{FaultyDisk, Operation};
use support::{bytes, is_found, name_of, open, prepared, put, quiet, read, read_whole};

struct Fixture {
    disk: FaultyDisk,
    store: cairn_chunk::block_store::DiskStore,
    folder: tempfile::TempDir,
}

fn fixture(options: StoreOptions) -> Fixture {
    let disk = FaultyDisk::default();
    let folder = tempfile::tempdir().unwrap();
    let store = open(Arc::new(disk.clone()), &folder.path().join("index"), options);
    Fixture { disk, store, folder }
}

#[tokio::test]
async fn concurrent_puts_share_fdatasyncs() {
    let f = fixture(quiet());
    f.disk.set_sync_time(Duration::from_millis(5));
    let blocks: Vec<Bytes> = (0..200).map(|seed| bytes(4096, seed)).collect();
    let outcomes = join_all(blocks.iter().map(|block| put(&f.store, block))).await;
    assert!(outcomes.iter().all(|outcome| *outcome == PutOutcome::Durable));
    assert!((1..=20).contains(&f.disk.syncs()), "{} fdatasyncs for 200 puts", f.disk.syncs());
    assert_eq!(f.disk.folder_syncs(), 2, "at the start, and for the one new segment");
    assert!(blocks.iter().all(|block| is_found(&read_whole(&f.store, block))));
}

#[tokio::test]
async fn equal_blocks_in_one_commit_are_stored_once() {
    let f = fixture(quiet());
    let block = bytes(4096, 1);
    let outcomes = f.store.put(vec![prepared(&block), prepared(&bytes(10, 2)), prepared(&block)]).await;
    assert_eq!(outcomes, [PutOutcome::Durable; 3]);
    assert_eq!(f.store.report().blocks, 2);
}

#[test]
fn data_that_are_not_their_name_are_refused() {
    let data = bytes(4096, 1);
    let other = bytes(4096, 2);
    assert!(PreparedBlock::check(name_of(&data), Encoding::Plain, 4096, other).is_none());
    assert!(PreparedBlock::check(name_of(&[]), Encoding::Plain, 0, Bytes::new()).is_none());
    let large = bytes(cairn_common::limits::MAX_BLOCK_BYTES + 1, 3);
    assert!(PreparedBlock::check(name_of(&large), Encoding::Plain, 0, large).is_none());
}

#[tokio::test]
async fn a_full_disk_says_so_and_takes_blocks_again_later() {
    let f = fixture(quiet());
    let (first, second, third) = (bytes(30_000, 1), bytes(30_000, 2), bytes(30_000, 3));
    put(&f.store, &first).await;
    // Below the reserve: not even tried.
    f.disk.set_free_bytes(10_000);
    assert_eq!(put(&f.store, &second).await, PutOutcome::NoSpace);
    assert_eq!(put(&f.store, &first).await, PutOutcome::Durable, "it is there already");
    f.disk.set_free_bytes(1 << 30);
    // The file system is full all the same, and wrote a part of the record.
    let length = f.disk.content(cairn_chunk::block_store::disk::SegmentId(1)).len();
    f.disk.fail(Operation::Write, ErrorKind::StorageFull, false);
    assert_eq!(put(&f.store, &second).await, PutOutcome::NoSpace);
    assert_eq!(f.disk.content(cairn_chunk::block_store::disk::SegmentId(1)).len(), length, "cut back");
    assert_eq!(f.store.failure(), None);
    assert_eq!(put(&f.store, &second).await, PutOutcome::Durable);
    assert_eq!(put(&f.store, &third).await, PutOutcome::Durable);
    for block in [&first, &second, &third] {
        assert!(is_found(&read_whole(&f.store, block)));
    }
}

#[tokio::test]
async fn the_configured_capacity_and_the_reserve_are_kept() {
    let f = fixture(StoreOptions { capacity_bytes: 100_000, ..quiet() });
    let outcomes = join_all((0..10).map(|seed| {
        let block = bytes(20_000, seed);
        let store = &f.store;
        async move { put(store, &block).await }
    }))
    .await;
    let stored = outcomes.iter().filter(|outcome| **outcome == PutOutcome::Durable).count();
    assert_eq!(stored, 4, "{outcomes:?}");
    assert_eq!(f.store.report().capacity_bytes, 100_000);
    assert!(f.store.report().free_bytes < 20_000);
    let default = StoreOptions::default();
    assert_eq!(
        [default.reserve(0), default.reserve(10 << 30), default.reserve(1 << 50)],
        [0, (10 << 30) / 100, 64 << 30]
    );
}

#[tokio::test]
async fn the_reserve_is_for_what_was_acknowledged() {
    let f = fixture(StoreOptions { reserve_bytes: Some(100_000), ..quiet() });
    let block = |seed| prepared(&bytes(20_000, seed));
    f.disk.set_free_bytes(110_000);
    let report = f.store.report();
    assert_eq!((report.free_bytes, report.room_bytes, report.reserve_bytes), (10_000, 110_000, 100_000));
    assert_eq!(f.store.put(vec![block(1)]).await, [PutOutcome::NoSpace]);
    // In one commit: neither takes what only the other may, and the floor is left.
    let all: Vec<_> = (1..=6).flat_map(|seed| [block(10 + seed), block(seed).using_reserve(true)]).collect();
    let outcomes = f.store.put(all).await;
    let stored = |of: usize| outcomes.iter().skip(of).step_by(2).filter(|o| **o == PutOutcome::Durable).count();
    assert_eq!((stored(0), stored(1)), (0, 4), "{outcomes:?}");
}

#[tokio::test]
async fn a_failed_fdatasync_is_never_retried_as_if_good() {
    for (operation, folder) in [(Operation::Sync, false), (Operation::SyncFolder, true), (Operation::Write, false)] {
        let f = fixture(quiet());
        let (old, new) = (bytes(5000, 1), bytes(5000, 2));
        if !folder {
            put(&f.store, &old).await;
        }
        f.disk.fail(operation, ErrorKind::Other, false);
        assert_eq!(put(&f.store, &new).await, PutOutcome::NoDisk, "{operation:?}");
        assert!(f.store.failure().is_some(), "{operation:?}");
        // The next sync would succeed: the disk is failed all the same.
        assert_eq!(put(&f.store, &new).await, PutOutcome::NoDisk, "{operation:?}");
        assert!(!f.store.has(&name_of(&new)));
        assert!(f.store.report().failure.is_some());
        if !folder {
            assert!(is_found(&read_whole(&f.store, &old)), "what was durable can be read");
        }
        let (disk, index) = (f.disk.clone(), f.folder.path().join("index"));
        drop(f.store);
        disk.restart(None);
        let store = open(Arc::new(disk), &index, quiet());
        assert_eq!(put(&store, &new).await, PutOutcome::Durable, "a new start reads what there is");
    }
}

#[tokio::test]
async fn an_unreadable_disk_is_not_opened_and_not_changed() {
    let f = fixture(quiet());
    let block = bytes(5000, 1);
    put(&f.store, &block).await;
    let (disk, index) = (f.disk.clone(), f.folder.path().join("index"));
    drop(f.store);
    std::fs::remove_dir_all(&index).unwrap();
    let before = disk.content(cairn_chunk::block_store::disk::SegmentId(1));
    disk.fail(Operation::Read, ErrorKind::Other, true);
    let opened = cairn_chunk::block_store::DiskStore::open(Arc::new(disk.clone()), &index, support::UUID, quiet());
    assert!(opened.is_err());
    assert_eq!(disk.content(cairn_chunk::block_store::disk::SegmentId(1)), before);
    disk.heal();
    assert!(is_found(&read_whole(&open(Arc::new(disk), &index, quiet()), &block)));
}

#[tokio::test]
async fn real_files_hold_blocks_over_restarts_and_rebuilds() {
    let folder = tempfile::tempdir().unwrap();
    let segments = folder.path().join("segments");
    std::fs::create_dir(&segments).unwrap();
    let index = folder.path().join("index");
    let options = StoreOptions { segment_bytes: 8 << 20, ..quiet() };
    let blocks: Vec<Bytes> =
        (0..12).map(|seed| bytes([100, 70_000, 1 << 20, 4 << 20][seed % 4], seed as u64)).collect();
    let store = open(Arc::new(FileDisk::new(&segments)), &index, options);
    for block in &blocks {
        assert_eq!(put(&store, block).await, PutOutcome::Durable);
    }
    drop(store);
    for rebuild in [false, true] {
        if rebuild {
            std::fs::remove_dir_all(&index).unwrap();
        }
        let store = open(Arc::new(FileDisk::new(&segments)), &index, options);
        assert_eq!(store.recovered().added, if rebuild { 12 } else { 0 });
        assert_eq!(store.recovered().torn, 0);
        for block in &blocks {
            assert!(is_found(&read_whole(&store, block)));
            let middle = block.len() as u32 / 2;
            assert!(is_found(&read(&store, block, middle, 5000)));
        }
        assert_eq!(store.read(&name_of(b"never put"), 0, 1), ReadOutcome::Missing);
    }
    // An index that is no RocksDB any more is thrown away.
    std::fs::write(index.join("CURRENT"), b"rubbish").unwrap();
    let store = open(Arc::new(FileDisk::new(&segments)), &index, options);
    assert_eq!(store.report().blocks, 12);
}

#[tokio::test]
async fn list_goes_through_a_partition_in_order() {
    use cairn_common::ids::PartitionId;
    let f = fixture(quiet());
    let blocks: Vec<Bytes> = (0..300).map(|seed| bytes(100, seed)).collect();
    join_all(blocks.iter().map(|block| put(&f.store, block))).await;
    let mut all = Vec::new();
    for partition in 0..8 {
        let mut after = None;
        let mut of_partition = Vec::new();
        loop {
            let (page, end) = f.store.list(PartitionId(partition), 8, after.as_ref(), 7).unwrap();
            assert!(page.iter().all(|block| block.partition(8) == PartitionId(partition)));
            after = page.last().copied().or(after);
            of_partition.extend(page);
            if end {
                break;
            }
        }
        assert!(of_partition.is_sorted());
        all.extend(of_partition);
    }
    let mut expected: Vec<_> = blocks.iter().map(|block| name_of(block)).collect();
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(f.store.list(PartitionId(0), 1, None, 1000).unwrap(), (expected, true));
}
