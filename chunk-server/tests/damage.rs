//! Rot in every region of a record: right bytes, `Damaged` or `Missing`, never wrong bytes; and damage
//! is found, told and mended.

mod support;

use std::sync::Arc;

use cairn_chunk::block_store::disk::SegmentId;
use cairn_chunk::block_store::index_entry::IndexEntry;
use cairn_chunk::block_store::journal::News;
use cairn_chunk::block_store::record::{HEADER_BYTES, groups_bytes, record_bytes};
use cairn_chunk::block_store::{DiskStore, ReadOutcome, StoreOptions};
use cairn_common::protocol::chunk::PutOutcome;
use support::faulty_disk::FaultyDisk;
use support::{bytes, is_found, name_of, open, prepared, put, quiet, read, read_whole, wait_until};

const FIRST: SegmentId = SegmentId(1);

fn entry_of(store: &DiskStore, data: &bytes::Bytes) -> IndexEntry {
    let mut found = None;
    store
        .for_each(|block, entry| {
            if block == name_of(data) {
                found = Some(entry);
            }
            true
        })
        .unwrap();
    found.expect("the block is indexed")
}

fn news(store: &DiskStore) -> Vec<(cairn_common::block::BlockId, News)> {
    store.journal().pending(usize::MAX).items.into_iter().map(|(block, news, _)| (block, news)).collect()
}

#[tokio::test]
async fn flipped_bits_never_become_wrong_bytes() {
    let disk = FaultyDisk::default();
    let folder = tempfile::tempdir().unwrap();
    let store = open(Arc::new(disk.clone()), &folder.path().join("index"), quiet());
    for length in [1, 63, 64, 5000, 16 << 10, (16 << 10) + 1, 100_000] {
        let data = bytes(length, length as u64);
        assert_eq!(put(&store, &data).await, PutOutcome::Durable);
        let entry = entry_of(&store, &data);
        let start = entry.offset as usize;
        let payload = start + HEADER_BYTES + groups_bytes(length as u32);
        // Header and chaining values byte by byte, the payload in steps and at its end.
        let places = (start..payload).chain((payload..payload + length).step_by(37)).chain([payload + length - 1]);
        for place in places {
            disk.flip(FIRST, place, (place % 8) as u8);
            let whole = read_whole(&store, &data);
            let in_payload = place >= payload;
            assert_eq!(is_found(&whole), !in_payload, "{length} bytes, flipped at {}", place - start);
            for offset in [0, length / 2, length - 1] {
                let part = read(&store, &data, offset as u32, 1);
                assert!(matches!(part, ReadOutcome::Found { .. } | ReadOutcome::Damaged), "{part:?}");
            }
            disk.flip(FIRST, place, (place % 8) as u8);
        }
        assert!(is_found(&read_whole(&store, &data)), "the flips were taken back");
        assert!(!store.has(&name_of(&data)), "but the block stays marked until it is put again");
    }
    assert_eq!(store.report().damaged_blocks, 7);
}

#[tokio::test]
async fn a_rebuild_over_flipped_bits_keeps_all_other_blocks() {
    let disk = FaultyDisk::default();
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let blocks: Vec<_> = [5000, 40_000, 64, 20_000].iter().map(|length| bytes(*length, *length as u64)).collect();
    let store = open(Arc::new(disk.clone()), &index, quiet());
    for block in &blocks {
        assert_eq!(put(&store, block).await, PutOutcome::Durable);
    }
    let victim = entry_of(&store, &blocks[1]);
    drop(store);
    let record = record_bytes(victim.stored_bytes) as usize;
    // In the header: not readable, so not even known. Behind it: known as damaged.
    for (place, readable) in
        [(0, false), (70, false), (HEADER_BYTES - 1, false), (HEADER_BYTES + 5, true), (record - 500, true)]
    {
        let disk = disk.fork();
        disk.flip(FIRST, victim.offset as usize + place, 3);
        std::fs::remove_dir_all(&index).unwrap();
        let store = open(Arc::new(disk.clone()), &index, quiet());
        for (number, block) in blocks.iter().enumerate() {
            assert_eq!(store.has(&name_of(block)), number != 1, "flip at {place}: block {number}");
            assert!(is_found(&read_whole(&store, block)) || number == 1, "flip at {place}: block {number}");
        }
        assert_eq!(store.report().damaged_blocks, u64::from(readable), "flip at {place}");
        let expected: &[_] = if readable { &[(name_of(&blocks[1]), News::Damaged)] } else { &[] };
        assert_eq!(news(&store), expected, "flip at {place}");
        assert_eq!(put(&store, &blocks[1]).await, PutOutcome::Durable);
        assert!(store.has(&name_of(&blocks[1])) && is_found(&read_whole(&store, &blocks[1])));
    }
}

#[tokio::test]
async fn a_damaged_block_is_written_anew_and_told_as_repaired() {
    let disk = FaultyDisk::default();
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let data = bytes(50_000, 1);
    let store = open(Arc::new(disk.clone()), &index, quiet());
    put(&store, &data).await;
    let before = entry_of(&store, &data);
    disk.flip(FIRST, 30_000, 0);
    assert_eq!(read_whole(&store, &data), ReadOutcome::Damaged);
    assert_eq!(news(&store), [(name_of(&data), News::Damaged)]);
    assert!(is_found(&read(&store, &data, 0, 100)), "a whole group of a damaged block can still be read");
    drop(store);

    // The mark survives the restart, and so does the news.
    let store = open(Arc::new(disk.clone()), &index, quiet());
    assert!(!store.has(&name_of(&data)));
    assert_eq!(news(&store), [(name_of(&data), News::Damaged)]);
    assert_eq!(put(&store, &data).await, PutOutcome::Durable);
    assert_ne!(entry_of(&store, &data).offset, before.offset, "written anew");
    assert!(store.has(&name_of(&data)) && is_found(&read_whole(&store, &data)));
    assert_eq!(news(&store), [(name_of(&data), News::Repaired)]);
    assert_eq!(store.report().damaged_blocks, 0);
    let syncs = disk.syncs();
    assert_eq!(put(&store, &data).await, PutOutcome::Durable);
    assert_eq!(disk.syncs(), syncs, "a block that is known is not written again");
}

#[tokio::test]
async fn scrub_finds_rot_that_nobody_reads() {
    for (what, place) in [("payload", 300), ("header", 20), ("chaining value", HEADER_BYTES + 3)] {
        let disk = FaultyDisk::default();
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions { scrub_bytes_per_second: 1 << 30, ..quiet() };
        let store = open(Arc::new(disk.clone()), &folder.path().join("index"), options);
        let blocks: Vec<_> = (0..20).map(|seed| bytes(20_000, seed)).collect();
        for block in &blocks {
            put(&store, block).await;
        }
        let entry = entry_of(&store, &blocks[7]);
        disk.flip(FIRST, entry.offset as usize + place, 5);
        wait_until("the scrub finds the rot", || store.report().damaged_blocks == 1);
        assert!(!store.has(&name_of(&blocks[7])), "{what}");
        assert_eq!(news(&store), [(name_of(&blocks[7]), News::Damaged)], "{what}");
    }
}

#[tokio::test]
async fn a_segment_shorter_than_known_is_damage_and_new_blocks_go_elsewhere() {
    let disk = FaultyDisk::default();
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let (old, new) = (bytes(50_000, 1), bytes(50_000, 2));
    let store = open(Arc::new(disk.clone()), &index, quiet());
    put(&store, &old).await;
    drop(store);
    disk.truncate(FIRST, 20_000);
    let store = open(Arc::new(disk.clone()), &index, quiet());
    assert_eq!(put(&store, &new).await, PutOutcome::Durable);
    assert_eq!(entry_of(&store, &new).segment, SegmentId(2));
    assert_eq!(read_whole(&store, &old), ReadOutcome::Damaged);
    assert!(is_found(&read_whole(&store, &new)));
    assert_eq!(put(&store, &old).await, PutOutcome::Durable);
    assert!(is_found(&read_whole(&store, &old)));
}

/// A file of a user that looks like a segment must not become records when a header before it rots.
#[tokio::test]
async fn the_image_of_a_record_in_a_block_is_not_a_record() {
    let disk = FaultyDisk::default();
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let store = open(Arc::new(disk.clone()), &index, quiet());
    let inner = bytes(5000, 1);
    put(&store, &inner).await;
    let image: bytes::Bytes = disk.content(FIRST).into();
    put(&store, &image).await;
    let after = bytes(700, 3);
    put(&store, &after).await;
    let outer = entry_of(&store, &image);
    drop(store);
    disk.flip(FIRST, 10, 1);
    disk.flip(FIRST, outer.offset as usize + 10, 1);
    std::fs::remove_dir_all(&index).unwrap();
    let store = open(Arc::new(disk), &index, quiet());
    assert_eq!(read_whole(&store, &inner), ReadOutcome::Missing, "its image in another block does not count");
    assert!(is_found(&read_whole(&store, &after)));
    assert_eq!(store.report().blocks, 1);
}

/// A record torn by a crash, whole ones behind it: it must not look like rot once later batches prove
/// that its own was not the last.
#[tokio::test]
async fn a_torn_record_is_not_taken_for_damage_later() {
    let disk = FaultyDisk::default();
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let (torn, whole, later) = (bytes(5000, 1), bytes(5000, 2), bytes(5000, 3));
    let store = open(Arc::new(disk.clone()), &index, quiet());
    store.put(vec![prepared(&torn), prepared(&whole)]).await;
    drop(store);
    disk.flip(FIRST, HEADER_BYTES + 10, 1);
    for _ in 0..2 {
        std::fs::remove_dir_all(&index).unwrap();
        let store = open(Arc::new(disk.clone()), &index, quiet());
        assert_eq!(read_whole(&store, &torn), ReadOutcome::Missing);
        assert!(is_found(&read_whole(&store, &whole)));
        assert_eq!(store.report().damaged_blocks, 0);
        assert_eq!(put(&store, &later).await, PutOutcome::Durable);
    }
}
