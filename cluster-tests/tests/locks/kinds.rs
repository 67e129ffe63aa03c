//! Who is kept out, by kind of lock.

use std::path::Path;
use std::process::Command;

use cairn_cluster_tests::harness::{Locker, program};

use super::{file, two_lockers};

const KEPT_OUT: i32 = libc::EAGAIN;

pub(super) fn flock_excludes(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    a.expect("flock f ex try", "ok");
    b.refused("flock f ex try", KEPT_OUT);
    b.refused("flock f sh try", KEPT_OUT);
    let mut neighbour = Locker::with("f", "w", &one.join("f"));
    neighbour.refused("flock f sh try", KEPT_OUT);
    a.expect("flock f un try", "ok");
    b.expect("flock f sh try", "ok");
    a.expect("flock f sh try", "ok");
    neighbour.refused("flock f ex try", KEPT_OUT);
    // As on Linux, what cannot be converted at once is lost.
    a.refused("flock f ex try", KEPT_OUT);
    b.expect("flock f ex try", "ok");
    b.expect("flock f un try", "ok");
    b.expect("flock f un try", "ok");
    neighbour.expect("flock f ex try", "ok");
}

pub(super) fn fcntl_ranges(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    a.expect("posix f wr 0 10 try", "ok");
    b.expect("posix f wr 10 10 try", "ok");
    b.refused("posix f rd 9 1 try", KEPT_OUT);
    b.refused("posix f wr 5 100 try", KEPT_OUT);
    // A hole in the middle is free, and only that.
    a.expect("posix f un 4 2 try", "ok");
    b.expect("posix f wr 4 2 try", "ok");
    b.refused("posix f wr 3 1 try", KEPT_OUT);
    b.refused("posix f wr 6 1 try", KEPT_OUT);
    // To the end, wherever that is.
    a.expect("posix f wr 1000 0 try", "ok");
    b.refused("posix f rd 9000000000 1 try", KEPT_OUT);
    a.expect("posix f un 0 0 try", "ok");
    b.expect("posix f wr 0 0 try", "ok");
    a.refused("posix f rd 77 1 try", KEPT_OUT);
}

pub(super) fn who_is_in_the_way(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    let mut neighbour = Locker::with("f", "w", &one.join("f"));
    b.expect("get f wr 0 0", "free");
    a.expect("posix f rd 10 5 try", "ok");
    a.expect("posix f wr 30 5 try", "ok");
    a.expect("get f wr 0 0", "free");
    // Of another mount no process is told.
    b.expect("get f wr 0 0", "rd 10 5 0");
    b.expect("get f rd 0 0", "wr 30 5 0");
    b.expect("get f rd 0 30", "free");
    let pid = a.pid();
    neighbour.expect("get f wr 12 1", &format!("rd 10 5 {pid}"));
    neighbour.expect("getofd f wr 12 1", "rd 10 5 -1");
}

pub(super) fn up_and_down(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    a.expect("posix f rd 0 10 try", "ok");
    b.expect("posix f rd 0 10 try", "ok");
    a.refused("posix f wr 0 10 try", KEPT_OUT);
    b.refused("posix f wr 0 10 try", KEPT_OUT);
    b.expect("posix f un 5 5 try", "ok");
    a.expect("posix f wr 5 5 try", "ok");
    b.refused("posix f rd 5 5 try", KEPT_OUT);
    a.expect("posix f rd 5 5 try", "ok");
    b.expect("posix f rd 0 10 try", "ok");
    assert!(a.ask("get f wr 0 0").starts_with("rd 0 10 "), "the other's pieces are one again");
}

pub(super) fn flock_and_fcntl_do_not_meet(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    a.expect("flock f ex try", "ok");
    b.expect("posix f wr 0 0 try", "ok");
    b.refused("flock f sh try", KEPT_OUT);
    a.refused("posix f rd 0 1 try", KEPT_OUT);
    // Neither unlocks the other.
    a.expect("posix f un 0 0 try", "ok");
    b.expect("flock f un try", "ok");
    b.refused("flock f sh try", KEPT_OUT);
    a.refused("ofd f rd 0 1 try", KEPT_OUT);
}

pub(super) fn open_file_descriptions(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    a.open("g", "w", &one.join("f"));
    a.expect("ofd f wr 0 10 try", "ok");
    a.refused("ofd g wr 0 10 try", KEPT_OUT);
    a.refused("posix f wr 0 10 try", KEPT_OUT);
    b.refused("ofd f rd 5 1 try", KEPT_OUT);
    b.refused("posix f rd 5 1 try", KEPT_OUT);
    b.expect("getofd f wr 0 0", "wr 0 10 -1");
    // The close of another descriptor takes a POSIX lock along, and not this.
    a.expect("close g", "ok");
    b.refused("ofd f rd 5 1 try", KEPT_OUT);
    a.expect("ofd f un 0 4 try", "ok");
    b.expect("ofd f wr 0 4 try", "ok");
    a.expect("close f", "ok");
    b.expect("ofd f wr 0 0 wait", "ok");
}

pub(super) fn threads(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    a.expect("thread posix f wr 0 10 try", "ok");
    b.refused("thread posix f wr 0 10 try", KEPT_OUT);
    a.expect("thread flock f ex try", "ok");
    b.refused("thread flock f ex try", KEPT_OUT);
    a.expect("posix f un 0 10 try", "ok");
    b.expect("thread posix f wr 0 10 wait", "ok");
    a.expect("flock f un try", "ok");
    b.expect("thread flock f ex wait", "ok");
}

/// As a container has one: the mount sees its processes under other numbers.
pub(super) fn another_process_namespace(one: &Path, two: &Path) {
    let (here, there) = file(one, two, "f");
    let mut inside = Command::new("unshare");
    inside.args(["--pid", "--fork", "--kill-child"]).arg(program("cairn-locker"));
    let mut a = Locker::start_by(inside);
    a.open("f", "w", &here);
    let mut b = Locker::with("f", "w", &there);
    a.expect("flock f ex try", "ok");
    a.expect("posix f wr 0 0 try", "ok");
    b.refused("flock f ex try", KEPT_OUT);
    b.refused("posix f wr 0 0 try", KEPT_OUT);
    a.expect("flock f un try", "ok");
    b.expect("flock f ex try", "ok");
    b.refused("posix f wr 0 0 try", KEPT_OUT);
    b.expect("flock f un try", "ok");
    b.waits("posix f wr 0 0 wait");
    a.kill();
    b.wakes("ok");
}

pub(super) fn a_file_without_a_name(one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "f");
    a.expect("posix f wr 0 10 try", "ok");
    std::fs::remove_file(two.join("f")).expect("unlink");
    b.refused("posix f wr 0 10 try", KEPT_OUT);
    b.expect("flock f ex try", "ok");
    a.refused("flock f ex try", KEPT_OUT);
    a.expect("close f", "ok");
    b.expect("posix f wr 0 10 try", "ok");
    // A new file of the name is another.
    let mut c = Locker::with("f", "w", &one.join("f"));
    c.expect("posix f wr 0 0 try", "ok");
    c.expect("flock f ex try", "ok");
}
