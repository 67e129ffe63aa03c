//! Measures the store of one disk: small puts in flight together, large puts, large gets, small reads
//! of large blocks. `cargo run --release -p cairn-chunk --example store_bench -- FOLDER [SECONDS]`
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_chunk::block_store::file_disk::FileDisk;
use cairn_chunk::block_store::{DiskStore, PreparedBlock, ReadOutcome, StoreOptions};
use cairn_common::block::{BlockHash, BlockId};
use cairn_common::ids::{DiskUuid, PoolId};
use cairn_common::protocol::chunk::{Encoding, PutOutcome};
use rand::RngCore;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let parent = PathBuf::from(arguments.next().ok_or("give a folder on the disk to measure")?);
    let time = Duration::from_secs(arguments.next().map_or(Ok(5), |seconds| seconds.parse())?);
    let folder = tempfile::tempdir_in(parent)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    runtime.block_on(run(folder.path(), time))
}

async fn run(folder: &Path, time: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let segments = folder.join("segments");
    std::fs::create_dir(&segments)?;
    let options = StoreOptions { scrub_bytes_per_second: 0, ..StoreOptions::default() };
    let disk = Arc::new(FileDisk::new(&segments));
    let store = Arc::new(DiskStore::open(disk, &folder.join("index"), DiskUuid::random(), options)?);
    for (size, in_flight) in [(4 << 10, 1), (4 << 10, 64), (64 << 10, 64), (4 << 20, 8)] {
        let (blocks, took) = puts(&store, size, in_flight, time).await?;
        report(&format!("put {:>7} B, {in_flight:>2} in flight", size), blocks, size, took);
    }
    let large = large_blocks(&store)?;
    for (what, length, threads) in [("get 4 MiB", u32::MAX, 2), ("get 4 KiB of 4 MiB", 4096, 2)] {
        let (reads, bytes, took) = gets(&store, &large, length, threads, time);
        let rate = reads as f64 / took.as_secs_f64();
        println!("{what:<28} {rate:>10.0} /s {:>9.1} MB/s (page cache)", bytes as f64 / 1e6 / took.as_secs_f64());
    }
    Ok(())
}

fn report(what: &str, blocks: u64, size: usize, took: Duration) {
    let rate = blocks as f64 / took.as_secs_f64();
    println!("{what:<28} {rate:>10.0} /s {:>9.1} MB/s", rate * size as f64 / 1e6);
}

/// Puts different blocks from so many tasks at once. The time includes hashing them.
async fn puts(
    store: &Arc<DiskStore>,
    size: usize,
    in_flight: usize,
    time: Duration,
) -> Result<(u64, Duration), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let tasks: Vec<_> = (0..in_flight).map(|_| tokio::spawn(put_until(store.clone(), size, began + time))).collect();
    let mut blocks = 0;
    for task in tasks {
        blocks += task.await?;
    }
    Ok((blocks, began.elapsed()))
}

async fn put_until(store: Arc<DiskStore>, size: usize, end: Instant) -> u64 {
    let mut template = vec![0; size];
    rand::rng().fill_bytes(&mut template);
    let mut blocks = 0;
    while Instant::now() < end {
        // Another block: a few other bytes.
        rand::rng().fill_bytes(&mut template[..16]);
        let data = Bytes::copy_from_slice(&template);
        let name = BlockId { pool: PoolId::DEFAULT, hash: BlockHash::of(&data) };
        // A server hashes what it gets; the client's own hash above is not its work, and small beside it.
        let Some(block) = PreparedBlock::check(name, Encoding::Plain, size as u32, data) else { return blocks };
        if store.put(vec![block]).await != [PutOutcome::Durable] {
            return blocks;
        }
        blocks += 1;
    }
    blocks
}

fn large_blocks(store: &DiskStore) -> Result<Vec<BlockId>, Box<dyn std::error::Error>> {
    let mut large = Vec::new();
    store.for_each(|block, entry| {
        if entry.stored_bytes == 4 << 20 {
            large.push(block);
        }
        large.len() < 64
    })?;
    Ok(large)
}

fn gets(store: &DiskStore, blocks: &[BlockId], length: u32, threads: usize, time: Duration) -> (u64, u64, Duration) {
    let (reads, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (reads, bytes) = (&reads, &bytes);
            scope.spawn(move || {
                for (number, block) in blocks.iter().cycle().skip(thread * 7).enumerate() {
                    if began.elapsed() >= time {
                        break;
                    }
                    let offset = if length == u32::MAX { 0 } else { (number % 1024 * 37 % 1024 * 4096) as u32 };
                    if let ReadOutcome::Found { data, .. } = store.read(block, offset, length) {
                        reads.fetch_add(1, Ordering::Relaxed);
                        bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    (reads.into_inner(), bytes.into_inner(), began.elapsed())
}
