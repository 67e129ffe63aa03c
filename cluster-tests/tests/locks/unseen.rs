//! A mount that cannot look at its callers, because it lives in a process namespace of its own and they do
//! not: it does not know which call a lock of a whole file is for.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use cairn_cluster_tests::harness::{DevCluster, Locker, program, wait_for};
use rustix::process::{Pid, Signal, kill_process};

const KEPT_OUT: i32 = libc::EAGAIN;
/// What such a mount is told to be the longest call.
const CALL: Duration = Duration::from_secs(3);

/// A mount of a process namespace of its own.
struct Inside {
    unshare: Child,
    point: PathBuf,
}

impl Inside {
    fn start(cluster: &DevCluster) -> Self {
        let point = cluster.outside().join("inside");
        std::fs::create_dir(&point).expect("mkdir");
        let unshare = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child"])
            .arg(program("cairn-mount"))
            .arg("--config")
            .arg(cluster.config("mount2"))
            .args(["--metrics", "127.0.0.1:0", "--call-timeout-s", &CALL.as_secs().to_string()])
            .arg(&point)
            .spawn()
            .expect("unshare starts");
        let inside = Self { unshare, point };
        wait_for("the mount", Duration::from_secs(30), || inside.is_mounted().then_some(()));
        inside
    }

    fn is_mounted(&self) -> bool {
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        table.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == self.point))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let id = self.unshare.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)) {
            let _ = kill_process(child, Signal::TERM);
        }
        let _ = self.unshare.wait();
    }
}

#[test]
fn whole_files_of_unseen_callers_exclude_every_kind_of_lock() {
    let cluster = DevCluster::start();
    cluster.add_mount();
    let inside = Inside::start(&cluster);
    let (one, two) = (cluster.mount(1), &inside.point);
    for (seen, unseen) in
        [("flock f ex", "posix f wr 0 0"), ("posix f wr 0 0", "flock f ex"), ("ofd f rd 7 1", "flock f ex")]
    {
        let (mut a, mut b) = super::two_lockers(&one, two, "f");
        a.expect(&format!("{seen} try"), "ok");
        b.refused(&format!("{unseen} try"), KEPT_OUT);
        a.expect("close f", "ok");
        b.expect(&format!("{unseen} wait"), "ok");
        let mut c = Locker::with("f", "w", &one.join("f"));
        c.refused(&format!("{seen} try"), KEPT_OUT);
        b.expect("close f", "ok");
        c.expect(&format!("{seen} wait"), "ok");
    }
    // Parts of files are POSIX, and go with a close.
    let (mut a, mut b) = super::two_lockers(&one, two, "g");
    b.expect("posix f wr 5 5 try", "ok");
    b.open("h", "r", &two.join("g"));
    a.expect("flock f ex try", "ok");
    a.refused("posix f rd 9 1 try", KEPT_OUT);
    b.expect("close h", "ok");
    a.expect("posix f rd 9 1 try", "ok");
    // Nobody could end such a wait, so it ends by itself.
    let begun = Instant::now();
    b.refused("posix f wr 9 1 wait", libc::ETIMEDOUT);
    eprintln!("locks: a wait of an unseen caller ends after {:?}", begun.elapsed());
    assert!(begun.elapsed() >= CALL);
}
