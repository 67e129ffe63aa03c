//! Waiting for a lock: how it ends.

use std::path::Path;
use std::time::Duration;

use cairn_cluster_tests::harness::Locker;

use super::{WOKEN, file, two_lockers};

const KEPT_OUT: i32 = libc::EAGAIN;

pub(super) fn woken(one: &Path, two: &Path) {
    // Taken with a wait: the end of an open file of the round before may come late.
    let calls = [
        ("flock f ex wait", "flock f ex wait", "flock f un try"),
        ("flock f ex wait", "flock f sh wait", "flock f un try"),
        ("posix f wr 0 10 wait", "posix f rd 5 10 wait", "posix f un 0 0 try"),
        ("posix f wr 0 10 wait", "posix f rd 5 10 wait", "posix f rd 0 10 try"),
        ("ofd f rd 0 10 wait", "ofd f wr 5 10 wait", "ofd f un 4 10 try"),
        ("ofd f rd 0 10 wait", "posix f wr 5 10 wait", "close f"),
    ];
    for (lock, wait, end) in calls {
        let (mut a, mut b) = two_lockers(one, two, "f");
        let mut neighbour = Locker::with("f", "w", &one.join("f"));
        for waiter in [&mut b, &mut neighbour] {
            a.open("f", "w", &one.join("f"));
            a.expect(lock, "ok");
            waiter.waits(wait);
            a.tell(end);
            let took = waiter.wakes("ok");
            assert_eq!(a.answer(WOKEN).as_deref(), Some("ok"));
            eprintln!("locks: {wait} is woken by {end} after {took:?}");
            assert!(took < WOKEN, "{wait}: {took:?}");
            waiter.expect("close f", "ok");
        }
    }
}

/// Longer than a poll of the leader, so that a place in the queue is kept from one to the next.
pub(super) fn in_order(one: &Path, two: &Path) {
    let (here, there) = file(one, two, "f");
    let mut holder = Locker::with("f", "w", &here);
    holder.expect("posix f wr 0 10 try", "ok");
    let mut waiters: Vec<Locker> =
        (0..5).map(|number| Locker::with("f", "w", if number % 2 == 0 { &there } else { &here })).collect();
    for waiter in &mut waiters {
        waiter.waits("posix f wr 5 10 wait");
    }
    std::thread::sleep(Duration::from_millis(1500));
    holder.expect("posix f un 0 0 try", "ok");
    for turn in 0..waiters.len() {
        waiters[turn].wakes("ok");
        for later in &waiters[turn + 1..] {
            assert_eq!(later.answer(Duration::from_millis(50)), None, "waiter {turn} has it");
        }
        waiters[turn].expect("posix f un 0 0 try", "ok");
    }
}

pub(super) fn deadlock(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    file(one, two, "g");
    a.open("g", "w", &one.join("g"));
    b.open("g", "w", &two.join("g"));
    a.expect("posix f wr 0 1 try", "ok");
    b.expect("posix g wr 0 1 try", "ok");
    a.waits("posix g wr 0 1 wait");
    b.refused("posix f wr 0 1 wait", libc::EDEADLK);
    b.expect("posix g un 0 1 try", "ok");
    a.wakes("ok");
    // Waiting for a third that waits for nobody is none.
    let mut c = Locker::with("f", "w", &one.join("f"));
    c.expect("posix f wr 7 1 try", "ok");
    a.waits("posix f wr 7 1 wait");
    b.waits("posix g wr 0 1 wait");
    c.expect("posix f un 7 1 try", "ok");
    a.wakes("ok");
    a.expect("close g", "ok");
    b.wakes("ok");
}

pub(super) fn interrupted(one: &Path, two: &Path) {
    for (lock, wait) in [("flock f ex try", "flock f ex wait"), ("posix f wr 0 9 try", "posix f wr 0 9 wait")] {
        let (mut a, mut b) = two_lockers(one, two, "f");
        a.expect(lock, "ok");
        b.expect("catch interrupt", "ok");
        b.waits(wait);
        b.interrupt();
        let took = b.wakes(&format!("errno {}", libc::EINTR));
        eprintln!("locks: {wait} ends {took:?} after SIGINT");
        assert!(took < WOKEN, "{took:?}");
        b.refused(lock, KEPT_OUT);
        // It waits no more: nothing is given to it.
        a.expect("close f", "ok");
        let mut c = Locker::with("f", "w", &one.join("f"));
        c.expect(&lock.replace("try", "wait"), "ok");
        b.refused(lock, KEPT_OUT);
    }
}

pub(super) fn killed(one: &Path, two: &Path) {
    for (lock, wait) in [("flock f ex try", "flock f ex wait"), ("ofd f wr 0 9 try", "thread ofd f wr 0 9 wait")] {
        let (mut a, mut b) = two_lockers(one, two, "f");
        let (mut c, mut d) = (Locker::with("f", "w", &two.join("f")), Locker::with("f", "w", &two.join("f")));
        a.expect(lock, "ok");
        b.waits(wait);
        c.waits(wait);
        d.waits(wait);
        let took = b.kill();
        eprintln!("locks: {wait} ends {took:?} after kill -9");
        assert!(took < WOKEN, "{took:?}");
        // Without a handler ^C ends the process.
        c.interrupt();
        let begun = std::time::Instant::now();
        while cairn_cluster_tests::harness::is_alive(c.pid()) {
            assert!(begun.elapsed() < WOKEN, "^C has not ended a waiter");
            std::thread::sleep(Duration::from_millis(5));
        }
        a.tell("close f");
        assert!(d.wakes("ok") < WOKEN, "those that are gone are in nobody's way");
    }
}
