//! Locks when servers and mounts die.

use std::time::{Duration, Instant};

use cairn_cluster_tests::harness::{DevCluster, Locker, size};
use cairn_common::limits::SESSION_TIMEOUT;

use super::counters::count;
use super::{file, two_lockers};

/// A wait through the loss of a leader.
const FAILOVER: Duration = Duration::from_secs(10);

/// The mount of a holder dies with its session, and only then the lock goes.
#[test]
fn kill_of_a_mount_frees_its_locks_when_its_session_ends() {
    let cluster = DevCluster::start();
    cluster.add_mount();
    let (one, two) = (cluster.mount(1), cluster.mount(2));
    let (mut a, mut b) = two_lockers(&two, &one, "f");
    a.expect("flock f ex try", "ok");
    a.expect("posix f wr 0 10 try", "ok");
    b.waits("posix f wr 0 10 wait");
    let begun = Instant::now();
    cluster.kill9("mount2");
    let mut c = Locker::with("f", "w", &one.join("f"));
    c.refused("flock f sh try", libc::EAGAIN);
    assert_eq!(b.answer(SESSION_TIMEOUT + FAILOVER).as_deref(), Some("ok"));
    let took = begun.elapsed();
    eprintln!("locks: {took:?} after kill -9 of a mount its locks are free");
    c.expect("flock f ex wait", "ok");
    assert!(took > SESSION_TIMEOUT / 3, "{took:?}: nobody knew yet that the mount is dead");
}

/// Whoever mounts the same point of the same host again is in the place of the dead one.
#[test]
fn a_mount_that_is_started_anew_frees_the_locks_of_the_dead_one() {
    let cluster = DevCluster::start();
    cluster.add_mount();
    let (one, two) = (cluster.mount(1), cluster.mount(2));
    let (mut a, mut b) = two_lockers(&two, &one, "f");
    a.expect("flock f ex try", "ok");
    b.waits("flock f ex wait");
    cluster.kill9("mount2");
    let begun = Instant::now();
    cluster.up();
    assert_eq!(b.answer(FAILOVER).as_deref(), Some("ok"));
    eprintln!("locks: free {:?} after the dead mount was started anew", begun.elapsed());
    // The open file of the dead mount is no way to the new one.
    a.refused("flock f sh try", libc::ENOTCONN);
}

/// The leader dies while a lock is held and others wait: the lock stays, and the waits end as ever.
#[test]
fn locks_and_waits_outlive_the_leader() {
    let cluster = DevCluster::start();
    let (one, two) = (cluster.mount(1), cluster.add_mount());
    let (here, there) = file(&one, &two, "f");
    let mut a = Locker::with("f", "w", &here);
    let mut waiters = [Locker::with("f", "w", &there), Locker::with("f", "w", &here)];
    let mut dead = Locker::with("f", "w", &there);
    a.expect("posix f wr 0 10 try", "ok");
    a.expect("flock f ex try", "ok");
    waiters[0].waits("posix f wr 0 10 wait");
    waiters[1].waits("flock f ex wait");
    dead.waits("posix f rd 0 10 wait");
    cluster.kill9(&cluster.leader());
    cluster.leader();
    let mut c = Locker::with("f", "w", &there);
    c.refused("posix f rd 5 1 try", libc::EAGAIN);
    c.refused("flock f sh try", libc::EAGAIN);
    let took = dead.kill();
    assert!(took < Duration::from_secs(2), "a waiter was killed after {took:?}");
    a.expect("posix f un 0 10 try", "ok");
    assert!(waiters[0].wakes("ok") < FAILOVER);
    a.kill();
    assert!(waiters[1].wakes("ok") < FAILOVER);
    c.refused("posix f rd 5 1 try", libc::EAGAIN);
    c.refused("flock f sh try", libc::EAGAIN);
}

/// Nobody gets a lock that somebody has, whoever leads.
#[test]
fn nothing_is_lost_under_a_lock_while_leaders_die() {
    let cluster = DevCluster::start();
    let (one, two) = (cluster.mount(1), cluster.add_mount());
    let kills = size("CAIRN_LOCK_KILLS", 2);
    for how in ["flock", "posix"] {
        count(&one, &two, how, size("CAIRN_LOCK_COUNTS", 100) as u64, || {
            for _ in 0..kills {
                std::thread::sleep(Duration::from_millis(500));
                cluster.kill9(&cluster.leader());
                cluster.leader();
                std::thread::sleep(Duration::from_millis(500));
                cluster.up();
            }
        });
        cluster.wait_healthy();
    }
}
