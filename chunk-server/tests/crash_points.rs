//! Power failures and kills at any moment: what was acknowledged is there, nothing is ever given out
//! that was not put, and an index that is rebuilt is the index that was.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cairn_chunk::block_store::{DiskStore, ReadOutcome, StoreOptions};
use cairn_common::block::BlockId;
use cairn_common::protocol::chunk::PutOutcome;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::faulty_disk::{FaultyDisk, Operation};
use support::{bytes, is_found, name_of, open, prepared, quiet, read_whole};

/// Small segments, so that rolling over is crossed often.
fn options() -> StoreOptions {
    StoreOptions { segment_bytes: 200_000, ..quiet() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).into_iter().flatten() {
        let entry = entry.unwrap();
        // RocksDB may delete a file under our hands; such a copy is a broken index, which is a case, too.
        let _ = std::fs::copy(entry.path(), to.join(entry.file_name()));
    }
}

/// What the index knows, without where the scrub is.
fn known(store: &DiskStore) -> BTreeMap<BlockId, (u64, u64, bool)> {
    let mut known = BTreeMap::new();
    store
        .for_each(|block, entry| {
            known.insert(block, (entry.segment.0, entry.offset, entry.damaged));
            true
        })
        .unwrap();
    known
}

struct Run {
    rng: StdRng,
    disk: FaultyDisk,
    folder: tempfile::TempDir,
    /// All that was ever put, and whether it was acknowledged.
    blocks: Vec<(Bytes, bool)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            disk: FaultyDisk::default(),
            folder: tempfile::tempdir().unwrap(),
            blocks: Vec::new(),
        }
    }

    fn index(&self) -> std::path::PathBuf {
        self.folder.path().join("index")
    }

    fn new_block(&mut self) -> usize {
        let length = match self.rng.random_range(0..4) {
            0 => self.rng.random_range(1..300),
            1 => self.rng.random_range(1..20_000),
            2 => 16 << 10,
            _ => self.rng.random_range(1..60_000),
        };
        self.blocks.push((bytes(length, self.rng.random()), false));
        self.blocks.len() - 1
    }

    /// Puts in concurrent requests, some of blocks that were put before, until the round or the power ends.
    fn write(&mut self, store: &DiskStore) {
        for _ in 0..self.rng.random_range(1..8) {
            let requests: Vec<Vec<usize>> = (0..self.rng.random_range(1..6))
                .map(|_| {
                    (0..self.rng.random_range(1..4))
                        .map(|_| match self.rng.random_bool(0.2) && !self.blocks.is_empty() {
                            true => self.rng.random_range(0..self.blocks.len()),
                            false => self.new_block(),
                        })
                        .collect()
                })
                .collect();
            let puts = requests
                .iter()
                .map(|request| store.put(request.iter().map(|index| prepared(&self.blocks[*index].0)).collect()));
            let outcomes = runtime().block_on(join_all(puts));
            for (request, outcomes) in requests.iter().zip(outcomes) {
                for (index, outcome) in request.iter().zip(outcomes) {
                    self.blocks[*index].1 |= outcome == PutOutcome::Durable;
                }
            }
            if self.disk.is_off() {
                return;
            }
        }
    }

    fn check(&self, store: &DiskStore, round: u64) {
        for (data, acknowledged) in &self.blocks {
            let outcome = read_whole(store, data);
            assert!(is_found(&outcome) || !acknowledged, "round {round}: {} was lost: {outcome:?}", name_of(data));
            assert!(matches!(outcome, ReadOutcome::Found { .. } | ReadOutcome::Missing), "round {round}: {outcome:?}");
            assert_eq!(store.has(&name_of(data)), is_found(&outcome), "round {round}");
        }
    }

    fn round(&mut self, round: u64) {
        // A crash during recovery, now and then.
        if self.rng.random_bool(0.3) {
            self.disk.fail_power_after(self.rng.random_range(0..4));
            let _ = DiskStore::open(Arc::new(self.disk.clone()), &self.index(), support::UUID, options());
            let loses = self.rng.random_bool(0.5);
            self.disk.restart(loses.then_some(&mut self.rng));
        }
        let store = open(Arc::new(self.disk.clone()), &self.index(), options());
        self.check(&store, round);
        assert_eq!(store.report().damaged_blocks, 0, "round {round}: a crash is no damage");
        self.disk.fail_power_after(self.rng.random_range(0..24));
        let saved = self.folder.path().join("saved");
        let keeps_index = self.rng.random_bool(0.5);
        if !keeps_index {
            store.flush_index().unwrap();
            copy_folder(&self.index(), &saved);
        }
        self.write(&store);
        drop(store);
        let power_fails = self.rng.random_bool(0.7);
        self.disk.restart(power_fails.then_some(&mut self.rng));
        if !keeps_index {
            // The index falls back to where it was flushed last.
            copy_folder(&saved, &self.index());
        }
    }

    /// The index built anew from the segments knows what the index knows.
    fn check_rebuild(&self) {
        let store = open(Arc::new(self.disk.clone()), &self.index(), options());
        let before = known(&store);
        let report = store.report();
        drop(store);
        std::fs::remove_dir_all(self.index()).unwrap();
        let store = open(Arc::new(self.disk.clone()), &self.index(), options());
        let after = known(&store);
        let differs: Vec<_> = before.iter().filter(|(block, known)| after.get(block) != Some(known)).collect();
        let new: Vec<_> = after.iter().filter(|(block, _)| !before.contains_key(block)).collect();
        assert!(differs.is_empty() && new.is_empty(), "{differs:?} {new:?} {:?}", store.recovered());
        assert_eq!(store.report(), report);
        self.check(&store, u64::MAX);
    }
}

/// `CAIRN_CRASH_SEEDS=1000` runs as many seeds; the default fits into CI.
#[test]
fn acknowledged_blocks_survive_crashes_at_any_moment() {
    let seeds = std::env::var("CAIRN_CRASH_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        // Shown when the test fails.
        eprintln!("seed {seed}");
        let mut run = Run::new(seed);
        for round in 0..8 {
            run.round(round);
        }
        run.check_rebuild();
    }
}

/// The proof that the test above can fail: with syncs that do nothing it must find a lost block.
fn notices_a_missing(kind: Operation) {
    let lost = (0..20).any(|seed| {
        std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            run.disk.ignore(kind);
            for round in 0..4 {
                run.round(round);
            }
            run.check(&open(Arc::new(run.disk.clone()), &run.index(), options()), 99);
        })
        .is_err()
    });
    assert!(lost, "the test does not notice a missing {kind:?}");
}

#[test]
fn without_fdatasync_blocks_are_lost() {
    notices_a_missing(Operation::Sync);
}

#[test]
fn without_fsync_of_the_folder_blocks_are_lost() {
    notices_a_missing(Operation::SyncFolder);
}
