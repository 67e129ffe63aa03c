//! Shown by 6: one of three metadata servers alive. Calls wait and then fail with ETIMEDOUT within
//! the bound, an unmount returns soon, and work goes on when a second server comes back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cairn_cluster_tests::harness::{DevCluster, is_alive, wait_for};

/// The default bound of a call, and what a busy machine may add.
const BOUND: Duration = Duration::from_secs(30);
const SLACK: Duration = Duration::from_secs(6);

/// A mount may answer from memory while its leases last, exclusive ones for 10 s.
const LEASES_OVER: Duration = Duration::from_millis(10_500);

/// A call on a mount without a quorum.
type Call = (&'static str, fn(&Path) -> io::Result<()>);

const CALLS: &[Call] = &[
    ("stat", |mount| fs::metadata(mount.join("file")).map(|_| ())),
    ("open and read", |mount| fs::read(mount.join("file")).map(|_| ())),
    ("create", |mount| File::create(mount.join("new")).map(|_| ())),
    ("readdir", |mount| fs::read_dir(mount.join("folder"))?.try_for_each(|entry| entry.map(|_| ()))),
    ("rename", |mount| fs::rename(mount.join("file"), mount.join("other"))),
];

#[test]
fn calls_time_out_unmount_returns_and_work_goes_on() {
    let cluster = DevCluster::start();
    let (mount, second) = (cluster.mount(1), cluster.add_mount());
    fs::write(mount.join("file"), b"before").expect("write");
    fs::create_dir(mount.join("folder")).expect("mkdir");
    let (leader, follower) = (cluster.leader(), cluster.follower());
    // Started before a file is open: a new process closes its copies of open files, and closing flushes.
    let back = cluster.prepare_start(&follower);
    let mut umount = Command::new("sh")
        .args(["-c", "read go; exec umount \"$0\""])
        .arg(&second)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let mut opened = File::create(mount.join("opened")).expect("create");
    cluster.kill9(&leader);
    cluster.kill9(&follower);

    opened.write_all(b"dirty").expect("a write goes to the mount's memory");
    std::thread::sleep(LEASES_OVER);
    std::thread::scope(|scope| {
        let mut running = vec![("fsync", scope.spawn(|| timed(|| opened.sync_all())))];
        for (what, call) in CALLS {
            let mount = &mount;
            running.push((what, scope.spawn(move || timed(|| call(mount)))));
        }
        // Meanwhile a mount is taken away, as people do it.
        let pid = cluster.pid("mount2").expect("mount2 runs");
        let start = Instant::now();
        umount.stdin.take().expect("piped").write_all(b"go\n").expect("sh reads");
        let status = umount.wait().expect("umount ends");
        eprintln!("umount without a quorum: {status} after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(5), "umount took {:?}", start.elapsed());
        assert!(status.success());
        wait_for("the end of the mount's process", Duration::from_secs(15), || (!is_alive(pid)).then_some(()));
        for (what, thread) in running {
            let (result, took) = thread.join().expect("the call does not panic");
            eprintln!("{what} without a quorum: {result:?} after {took:?}");
            let code = result.expect_err("there is no quorum").raw_os_error();
            assert_eq!(code, Some(libc::ETIMEDOUT), "{what}");
            assert!(took > Duration::from_secs(3), "{what} did not wait: {took:?}");
            assert!(took < BOUND + SLACK, "{what} took {took:?}");
        }
    });

    // A call that began without a quorum ends well when there is one in time.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| timed(|| fs::read(mount.join("file")).map(|_| ())));
        std::thread::sleep(Duration::from_secs(2));
        back.go();
        let (result, took) = waiting.join().expect("the call does not panic");
        eprintln!("read across the return of a server: {result:?} after {took:?}");
        result.expect("work goes on");
    });
    fs::write(mount.join("after"), b"after").expect("write");
    assert_eq!(fs::read(mount.join("after")).expect("read"), b"after");
    // What timed out may have happened or not, but nothing in between.
    let (old, new) = (fs::read(mount.join("file")), fs::read(mount.join("other")));
    assert!(old.is_ok() != new.is_ok(), "rename: {old:?} and {new:?}");
    assert_eq!(old.or(new).expect("one of them"), b"before");
    opened.sync_all().ok();
    drop(opened);
    cluster.up();
    cluster.wait_healthy();
}

fn timed(call: impl FnOnce() -> io::Result<()>) -> (io::Result<()>, Duration) {
    let start = Instant::now();
    let result = call();
    (result, start.elapsed())
}
