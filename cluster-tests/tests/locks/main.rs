//! Locks of flock(2) and fcntl(2) from two mounts at once: who is kept out, who waits, what ends a lock.

mod counters;
mod ends;
mod failures;
mod kinds;
mod waits;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_cluster_tests::harness::{DevCluster, Locker};

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

/// One cluster for all of them: starting one takes longer than they do.
#[test]
fn locks_hold_across_mounts_and_end_with_their_owner() {
    let cluster = DevCluster::start();
    let (one, two) = (cluster.mount(1), cluster.add_mount());
    let cases: &[(&str, Case)] = &[
        ("flock excludes", kinds::flock_excludes),
        ("fcntl ranges", kinds::fcntl_ranges),
        ("who is in the way", kinds::who_is_in_the_way),
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
        ("the order of waits", waits::in_order),
        ("deadlock", waits::deadlock),
        ("interrupted waits", waits::interrupted),
        ("killed waits", waits::killed),
    ];
    for (number, (what, case)) in cases.iter().enumerate() {
        let start = std::time::Instant::now();
        let name = format!("case{number}");
        fs::create_dir(one.join(&name)).expect("mkdir");
        case(&one.join(&name), &two.join(&name));
        eprintln!("{what}: {:?}", start.elapsed());
    }
}
