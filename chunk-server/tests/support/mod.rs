//! What the tests of the chunk server share: a disk in memory that can lose power, and blocks.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test program uses a part of it")]

pub mod faulty_disk;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_chunk::block_store::disk::Disk;
use cairn_chunk::block_store::{DiskStore, PreparedBlock, ReadOutcome, StoreOptions};
use cairn_common::block::{BlockHash, BlockId};
use cairn_common::block_tree::verify;
use cairn_common::ids::{DiskUuid, PoolId};
use cairn_common::protocol::chunk::{Encoding, PutOutcome};

pub const UUID: DiskUuid = DiskUuid(0x1234_5678_9abc_def0_1122_3344_5566_7788);

/// Bytes that are told from any others by their seed.
pub fn bytes(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

pub fn name_of(data: &[u8]) -> BlockId {
    BlockId { pool: PoolId::DEFAULT, hash: BlockHash::of(data) }
}

pub fn prepared(data: &Bytes) -> PreparedBlock {
    PreparedBlock::check(name_of(data), Encoding::Plain, data.len() as u32, data.clone()).expect("it is its name")
}

/// Options of a quiet store: no scrub, no flush by itself.
pub fn quiet() -> StoreOptions {
    StoreOptions {
        reserve_bytes: Some(0),
        scrub_bytes_per_second: 0,
        index_flush_interval: Duration::from_secs(3600),
        ..StoreOptions::default()
    }
}

pub fn open(disk: Arc<dyn Disk>, index: &Path, options: StoreOptions) -> DiskStore {
    DiskStore::open(disk, index, UUID, options).expect("the disk opens")
}

/// Stores one block and waits for it.
pub async fn put(store: &DiskStore, data: &Bytes) -> PutOutcome {
    store.put(vec![prepared(data)]).await[0]
}

/// Reads a whole block; panics if what is given out is not what was put.
pub fn read_whole(store: &DiskStore, data: &Bytes) -> ReadOutcome {
    read(store, data, 0, u32::MAX)
}

/// Reads a range as a client does; panics if what is given out is not what was put.
pub fn read(store: &DiskStore, block: &Bytes, offset: u32, length: u32) -> ReadOutcome {
    let name = name_of(block);
    let outcome = store.read(&name, offset, length);
    if let ReadOutcome::Found { block_bytes, data_offset, data, proof } = &outcome {
        assert_eq!(*block_bytes as usize, block.len(), "another length");
        let start = *data_offset as usize;
        assert_eq!(data[..], block[start..start + data.len()], "WRONG BYTES of {name}");
        assert!(start <= offset as usize, "the range is covered");
        assert!(start + data.len() >= block.len().min(offset as usize + length as usize), "the range is covered");
        verify(&name.hash, *block_bytes, *data_offset, data, proof).expect("the client can verify it");
    }
    outcome
}

pub fn is_found(outcome: &ReadOutcome) -> bool {
    matches!(outcome, ReadOutcome::Found { .. })
}

/// Waits until something is so; panics after 5 s.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(5), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
