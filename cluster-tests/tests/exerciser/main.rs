//! One file, several mounts that take turns on it, every way to change and to read bytes (the idea is
//! fsx's, "File System eXerciser", Apple 1991): each call of each mount finds exactly what the calls before
//! it left, whichever mount made them, also while servers are killed and started again.

mod exerciser;
mod operation;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_cluster_tests::harness::{DevCluster, Seed, size};
use exerciser::{Exerciser, Limits};
use rand::Rng;

/// The whole file is a value in the metadata group until it outgrows that; then it has blocks.
const SMALL: Limits = Limits { length: 20 << 10, operation: 6 << 10 };
/// Within one block most of the time.
const MIDDLE: Limits = Limits { length: 1 << 20, operation: 128 << 10 };
/// Several blocks.
const LARGE: Limits = Limits { length: 12 << 20, operation: 5 << 20 };

/// Runs every size of file for its share of the operations.
fn exercise(seed: Seed, folders: &[PathBuf], operations: usize, failovers: bool) {
    for (run, (limits, share)) in [(SMALL, 10), (MIDDLE, 9), (LARGE, 1)].into_iter().enumerate() {
        let paths = folders.iter().map(|folder| folder.join(format!("exercised{run}"))).collect();
        let mut exerciser = Exerciser::new(seed.rng(run as u64 + 1), limits, paths, failovers);
        let begun = Instant::now();
        let count = operations * share / 20;
        (0..count).for_each(|_| exerciser.step());
        exerciser.compare_all();
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        let cut = exerciser.cut();
        eprintln!("{count} operations on a file of up to {} bytes: {rate:.0} a second, {cut} reads cut", limits.length);
    }
}

/// The exerciser itself is right: a local file system passes.
#[test]
fn a_local_file_system_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let folders = [folder.path().to_owned(), folder.path().to_owned()];
    exercise(Seed::new("exerciser a_local_file_system_passes"), &folders, 2_000, false);
}

#[test]
fn mounts_take_turns() {
    let seed = Seed::new("exerciser mounts_take_turns");
    let cluster = DevCluster::start();
    let folders = [cluster.mount(1), cluster.add_mount()];
    exercise(seed, &folders, size("CAIRN_EXERCISER", 3_000), false);
}

#[test]
fn mounts_take_turns_while_servers_are_killed() {
    let seed = Seed::new("exerciser mounts_take_turns_while_servers_are_killed");
    let cluster = DevCluster::start();
    let folders = [cluster.mount(1), cluster.add_mount()];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let exercising = scope.spawn(|| {
            let _done = SetOnDrop(&done);
            exercise(seed, &folders, size("CAIRN_EXERCISER_KILLED", 2_000), true);
        });
        let (mut dice, mut kills) = (seed.rng(0), 0);
        while !done.load(Ordering::Relaxed) {
            let names = [cluster.leader(), format!("chunk{}", dice.random_range(1..=3))];
            cluster.kill9_all(&names);
            kills += 1;
            std::thread::sleep(Duration::from_millis(dice.random_range(0..2_000)));
            cluster.up();
            cluster.wait_healthy();
            std::thread::sleep(Duration::from_millis(dice.random_range(0..1_500)));
        }
        eprintln!("a leader and a chunk server killed {kills} times");
        exercising.join().expect("the exerciser");
    });
}

/// Tells of the end of a thread also when it panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
