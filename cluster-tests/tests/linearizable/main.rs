//! Several programs on each of two mounts do random calls on a handful of files
//! and directories, without waiting for each other, and all that they saw goes through the
//! linearizability checker: once while nothing fails, once while the metadata leader and a chunk server
//! are killed and started again and again.
//!
//! **What is checked.** Every call is given a moment between its begin and its return; there must be an
//! order in which each answer is what POSIX says. The names of the whole tree are one object (create,
//! open, mkdir, unlink, rmdir, rename, link, stat, readdir, chmod; inode numbers, modes, numbers of links),
//! the bytes of each file are one (pwrite, append, truncate, read, size; files that are open without a
//! name, too). Nothing waits for fsync: what has returned on one mount is seen by every later call on
//! any (P1), and no kill of servers takes it back. A call that failed must have had a reason to.
//!
//! **What is not, because Linux does not promise it.** A listing sees each name at a moment of its own, so
//! a name that stays is seen once and an absent one never. A stat of a name finds the inode, its
//! attributes and its size at moments of their own, a read each page's end and each cell. A rename of
//! a name onto another may find both to be the same file, at two moments, and leave them alone; a
//! link through a handle may be refused because the kernel has counted its names itself; and a stat sees the
//! number of links of a change that runs on its mount before that has returned. Kinds of names
//! never change and directories keep their depth (see [`worker`]). Times, stores through mappings and
//! the reason that a refused call names are not looked at.
//!
//! A call that was given up (ETIMEDOUT) may happen at any later time, or never.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_cluster_tests::checker::{Operation, check, shorten};
use cairn_cluster_tests::harness::{DevCluster, Seed, size};
use rand::Rng;

mod content;
mod handle;
mod recorder;
mod worker;

use recorder::Seen;
use worker::{Shared, Site, Worker};

/// Threads on each mount.
const THREADS: usize = 4;
/// Longest time that one call may take while nothing fails: a lease that is not given back is waited for
/// 10 s.
const LONGEST: Duration = Duration::from_secs(9);
/// The same while servers are killed: an election, a restart, a busy machine.
const LONGEST_WITH_KILLS: Duration = Duration::from_secs(25);
/// Operations that a violation shows.
const SHOWN: usize = 40;
/// Objects with a violation that are shown with their history.
const OBJECTS_SHOWN: usize = 3;

#[test]
fn nothing_fails() {
    let seed = Seed::new("linearizable nothing_fails");
    let cluster = DevCluster::start();
    let operations = size("CAIRN_LINEARIZABLE", 15_000) as u64;
    let seen = run(&cluster, seed, Duration::ZERO, operations, || false);
    assert_eq!(seen.unknown, 0, "calls without a definite outcome though nothing failed");
    judge(&cluster, seen, LONGEST);
}

#[test]
fn leader_and_chunk_server_are_killed() {
    let seed = Seed::new("linearizable leader_and_chunk_server_are_killed");
    let cluster = DevCluster::start();
    let operations = size("CAIRN_LINEARIZABLE_KILLED", 2_000) as u64;
    let kills = size("CAIRN_LINEARIZABLE_KILLS", 3);
    let mut dice = seed.rng(0);
    let mut killed = 0;
    let seen = run(&cluster, seed, Duration::from_millis(10), operations, || {
        std::thread::sleep(Duration::from_millis(dice.random_range(100..600)));
        let names = [cluster.leader(), format!("chunk{}", dice.random_range(1..=3))];
        cluster.kill9_all(&names);
        std::thread::sleep(Duration::from_millis(dice.random_range(0..2_000)));
        cluster.up();
        cluster.wait_healthy();
        killed += 1;
        eprintln!("kill {killed} of {names:?}");
        killed < kills
    });
    judge(&cluster, seen, LONGEST_WITH_KILLS);
}

/// Runs programs on two mounts until there are enough operations and `disturb` has answered that it is
/// done; then looks at everything on both.
fn run(cluster: &DevCluster, seed: Seed, rest: Duration, operations: u64, mut disturb: impl FnMut() -> bool) -> Seen {
    cluster.add_mount();
    let sites = [0, 1].map(|number| Site::new(number, &cluster.mount(number as usize + 1)));
    let shared = Shared { rest, ..Shared::default() };
    let disturbing = AtomicBool::new(true);
    let start = Instant::now();
    let mut seen = Seen::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2 * THREADS)
            .map(|thread| {
                let worker = Worker::new(&shared, &sites[thread % 2], seed.rng(thread as u64 + 1));
                let enough = |begun| begun >= operations && !disturbing.load(Ordering::Relaxed);
                scope.spawn(move || worker.work(enough))
            })
            .collect();
        // Also when a worker has failed: the others end then, and the test with them.
        while threads.iter().all(|thread| !thread.is_finished()) && disturb() {}
        disturbing.store(false, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| seen.merge(thread.join().expect("a worker")));
    });
    eprintln!("{} calls in {:?}", seen.calls(), start.elapsed());
    for site in &sites {
        seen.merge(Worker::new(&shared, site, seed.rng(0)).inspect());
    }
    seen
}

/// The verdict, and what it is founded on.
fn judge(cluster: &DevCluster, mut seen: Seen, longest: Duration) {
    for (kind, count) in &seen.kinds {
        eprintln!("{kind:>12}: {:6} done, {:6} refused", count.done, count.refused);
    }
    let (calls, [beside, other]) = (seen.calls(), seen.beside);
    eprintln!(
        "{calls} calls, {} unknown; {beside} began beside another, {other} beside one of the other mount",
        seen.unknown
    );
    let early = seen.take_in_reads_from_pages();
    eprintln!("{early} pages read while a write to them ran on the same mount are not judged");
    let stats = seen.leave_out_stats_beside_changes();
    eprintln!("{stats} stats beside a change of names on the same mount are not judged");
    eprintln!("{} reads were cut at an older size by the kernel, and are not judged", seen.cut);
    eprintln!("{} calls met a directory that Linux was taking to another name, and are not judged", seen.stale);
    eprintln!("longest call: {:?} ({})", seen.longest.0, seen.longest.1);
    seen.operations.sort_by_key(|operation| operation.begin);
    let start = Instant::now();
    let checked = check(&seen.operations);
    eprintln!(
        "{} facts about {} objects checked in {:?} with {} steps",
        seen.operations.len(),
        checked.objects,
        start.elapsed(),
        checked.steps
    );
    assert!(seen.broken.is_empty(), "{} faults:\n{}", seen.broken.len(), seen.broken.join("\n"));
    if !checked.violations.is_empty() {
        let all: String = seen.operations.iter().map(line).collect();
        std::fs::write(cluster.outside().join("history"), all).expect("a file beside the cluster");
        shorten(&seen.operations).iter().take(OBJECTS_SHOWN).for_each(|history| show(history));
        panic!("{} objects could not happen:\n{}", checked.violations.len(), checked.violations.join("\n"));
    }
    assert!(checked.undecided.is_empty(), "the search was given up: {:?}", checked.undecided);
    assert!(seen.longest.0 <= longest, "a call took {:?}", seen.longest);
    assert!(other > calls / 10, "the mounts hardly met: {other} of {calls} calls ran beside one of the other");
    for mount in ["mount1", "mount2"] {
        assert!(!cluster.log(mount).contains("has ended this session"), "{mount} lost its session");
    }
}

/// The end of a history that could not happen.
fn show(history: &[Operation]) {
    eprintln!(
        "{} operations, of which those that look were left out where they are not needed; the last:",
        history.len()
    );
    history[history.len().saturating_sub(SHOWN)..].iter().for_each(|operation| eprint!("{}", line(operation)));
}

fn line(operation: &Operation) -> String {
    let Operation { life, call, reply, begin, end } = operation;
    let end = if *end == u64::MAX { "never".to_owned() } else { end.to_string() };
    format!("    mount {} {begin:>9} to {end:>9} {call:?} -> {reply:?}\n", life.client + 1)
}
