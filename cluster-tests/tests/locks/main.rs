//! Locks of flock(2) and fcntl(2) from two mounts at once: who is kept out, who waits, what ends a lock.

mod counters;
mod ends;
mod failures;
mod kinds;
mod unseen;
mod waits;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cairn_cluster_tests::harness::{DevCluster, Locker, program};

/// A case, given a folder on two mounts.
type Case = fn(&Path, &Path);

/// A wait on one mount that an unlock on the other ends is over within this.
const WOKEN: Duration = Duration::from_millis(1000);

/// A file, from both mounts.
fn file(one: &Path, two: &Path, name: &str) -> (PathBuf, PathBuf) {
    fs::write(one.join(name), b"").expect("write");
    (one.join(name), two.join(name))
}

/// Two processes that have a file open for writing as `f`, one on each mount.
fn two_lockers(one: &Path, two: &Path, name: &str) -> (Locker, Locker) {
    let (here, there) = file(one, two, name);
    (Locker::with("f", "w", &here), Locker::with("f", "w", &there))
}

/// What is as on every file system of Linux.
const ORDINARY: &[(&str, Case)] = &[
    ("flock excludes", kinds::flock_excludes),
    ("fcntl ranges", kinds::fcntl_ranges),
    ("up and down", kinds::up_and_down),
    ("flock and fcntl do not meet", kinds::flock_and_fcntl_do_not_meet),
    ("open file descriptions", kinds::open_file_descriptions),
    ("threads", kinds::threads),
    ("another process namespace", kinds::another_process_namespace),
    ("a file without a name", kinds::a_file_without_a_name),
    ("closes", ends::closes),
    ("duplicates and children", ends::duplicates_and_children),
    ("readers", ends::readers),
    ("kill of the holder", ends::kill_of_the_holder),
    ("waits are woken", waits::woken),
    ("deadlock", waits::deadlock),
    ("interrupted waits", waits::interrupted),
    ("killed waits", waits::killed),
];
/// What two mounts show, and one file system does not: no process of another machine, and an order of
/// waits that Linux does not promise.
const OURS: &[(&str, Case)] =
    &[("who is in the way", kinds::who_is_in_the_way), ("the order of waits", waits::in_order)];

fn carry_out(cases: &[(&str, Case)], one: &Path, two: &Path) {
    for (what, case) in cases {
        let start = std::time::Instant::now();
        let name = what.replace(' ', "-");
        fs::create_dir(one.join(&name)).expect("mkdir");
        case(&one.join(&name), &two.join(&name));
        eprintln!("{what}: {:?}", start.elapsed());
    }
}

/// One cluster for all of them: starting one takes longer than they do.
#[test]
fn locks_hold_across_mounts_and_end_with_their_owner() {
    let cluster = DevCluster::start();
    let (one, two) = (cluster.mount(1), cluster.add_mount());
    carry_out(ORDINARY, &one, &two);
    carry_out(OURS, &one, &two);
    shown(&cluster, &one, &two);
}

/// `cairnctl locks` shows who has a lock and who waits for it.
fn shown(cluster: &DevCluster, one: &Path, two: &Path) {
    let (mut a, mut b) = two_lockers(one, two, "shown");
    a.expect("posix f wr 5 10 try", "ok");
    b.waits("posix f rd 0 0 wait");
    let locks = |path: &str| -> serde_json::Value {
        let mut command = Command::new(program("cairnctl"));
        command.args(["locks", "--json", "--path", path, "--data"]).arg(cluster.data());
        serde_json::from_slice(&command.output().expect("cairnctl starts").stdout).expect("JSON")
    };
    let told = locks("/shown");
    let lock = |kind: &str| {
        assert_eq!(told[kind].as_array().map(Vec::len), Some(1), "{told}");
        let lock = &told[kind][0];
        (lock["kind"].clone(), lock["write"].clone(), lock["start"].clone(), lock["end"].clone(), lock["pid"].clone())
    };
    assert_eq!(lock("held"), ("posix".into(), true.into(), 5.into(), 14.into(), a.pid().into()));
    assert_eq!(lock("waiting"), ("posix".into(), false.into(), 0.into(), serde_json::Value::Null, b.pid().into()));
    assert_ne!(told["held"][0]["session"], told["waiting"][0]["session"]);
    assert_eq!(locks("/")["held"], serde_json::json!([]));
}

/// What the cases expect is what Linux does.
#[test]
fn a_local_file_system_behaves_like_that() {
    let folder = tempfile::tempdir().expect("temporary folder");
    carry_out(ORDINARY, folder.path(), folder.path());
}
