//! What ends a lock besides an unlock.

use std::path::Path;

use cairn_cluster_tests::harness::Locker;

use super::{WOKEN, two_lockers};

const KEPT_OUT: i32 = libc::EAGAIN;

/// The close of any descriptor of a file by a process takes all its POSIX locks on it along.
pub(super) fn closes(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    a.expect("posix f wr 0 10 try", "ok");
    a.open("g", "r", &one.join("f"));
    b.refused("posix f wr 0 10 try", KEPT_OUT);
    a.expect("close g", "ok");
    // The close has returned, so it is free.
    b.expect("posix f wr 0 10 try", "ok");
    b.expect("close f", "ok");
    a.expect("posix f wr 0 10 try", "ok");
    a.expect("flock f ex try", "ok");
    let mut c = Locker::with("f", "w", &two.join("f"));
    a.expect("close f", "ok");
    c.expect("posix f wr 0 10 try", "ok");
    // The kernel tells of the end of an open file only after the close has returned.
    c.expect("flock f ex wait", "ok");
}

pub(super) fn duplicates_and_children(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    a.expect("dup f g", "ok");
    a.expect("flock f ex try", "ok");
    a.expect("flock g ex try", "ok");
    a.expect("close f", "ok");
    b.refused("flock f ex try", KEPT_OUT);
    // A child shares the open file, and so its lock.
    let child: i32 = a.ask("fork").parse().expect("a process");
    a.expect("close g", "ok");
    b.waits("flock f ex wait");
    kill(child);
    assert!(b.wakes("ok") < WOKEN);

    let (mut a, mut b) = two_lockers(one, two, "g");
    a.expect("posix f wr 0 10 try", "ok");
    // A child does not inherit POSIX locks, and its end does not end them.
    let child: i32 = a.ask("fork").parse().expect("a process");
    kill(child);
    b.refused("posix f wr 0 10 try", KEPT_OUT);
    let child: i32 = a.ask("fork").parse().expect("a process");
    b.waits("posix f wr 0 10 wait");
    a.kill();
    assert!(b.wakes("ok") < WOKEN, "the child has the file open, and no lock");
    kill(child);
}

/// Also what was locked through a descriptor that cannot write goes with its close, and with the end of the
/// process while a child has it open. On Cairn the end of a duplicate is told only if it was opened while
/// there were locks on the file, so `a` has one.
pub(super) fn readers(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    a.expect("posix f rd 40 1 try", "ok");
    a.open("r", "r", &one.join("f"));
    a.expect("posix r rd 0 10 try", "ok");
    a.refused("posix r wr 20 10 try", libc::EBADF);
    b.refused("posix f wr 0 10 try", KEPT_OUT);
    a.expect("dup r s", "ok");
    a.expect("close s", "ok");
    b.expect("posix f wr 0 50 try", "ok");
    b.expect("close f", "ok");
    a.expect("close r", "ok");
    a.expect("close f", "ok");
    // Opened while there are none.
    a.open("r", "r", &one.join("f"));
    a.expect("posix r rd 0 10 try", "ok");
    let mut c = Locker::with("f", "w", &two.join("f"));
    c.refused("posix f wr 0 10 try", KEPT_OUT);
    a.expect("close r", "ok");
    c.expect("posix f wr 0 10 wait", "ok");
    c.expect("posix f un 0 10 try", "ok");
    a.open("r", "r", &one.join("f"));
    a.expect("posix r rd 0 10 try", "ok");
    let child: i32 = a.ask("fork").parse().expect("a process");
    c.waits("posix f wr 0 10 wait");
    a.kill();
    assert!(c.wakes("ok") < WOKEN, "the child has the file open, and no lock");
    kill(child);
}

pub(super) fn kill_of_the_holder(one: &Path, two: &Path) {
    for kind in ["flock f ex", "posix f wr 5 10", "ofd f wr 5 10"] {
        let (mut a, mut b) = two_lockers(one, two, "f");
        a.expect(&format!("{kind} try"), "ok");
        b.refused(&format!("{kind} try"), KEPT_OUT);
        b.waits(&format!("{kind} wait"));
        let took = a.kill();
        let woken = b.wakes("ok");
        eprintln!("locks: {kind}: gone {took:?} after kill -9, the other mount has it {woken:?} later");
        assert!(woken < WOKEN, "{kind}: {woken:?}");
    }
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a child of the locker");
}
