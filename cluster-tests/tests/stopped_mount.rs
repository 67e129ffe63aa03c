//! A mount that is stopped (SIGSTOP) while it holds leases: others go on within the time of a lease,
//! and from then on it shows nothing of the past, stopped or continued (P6).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cairn_cluster_tests::harness::{DevCluster, Stopped};

/// Time of shared and of exclusive leases, and what a busy machine may add.
const SHARED: Duration = Duration::from_secs(1);
const EXCLUSIVE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(3);
/// Longest time that a call takes when its mount goes on.
const BOUND: Duration = Duration::from_secs(45);

/// What a call on the stopped mount shows: true is the present.
type Look = (&'static str, fn(&Path) -> io::Result<bool>);

const LOOKS: &[Look] = &[
    ("stat of a new name", |folder| match fs::metadata(folder.join("new")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|_| true),
    }),
    ("stat of a removed name", |folder| match fs::metadata(folder.join("removed")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        result => result.map(|_| false),
    }),
    ("readdir", |folder| {
        let names: io::Result<Vec<_>> = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect();
        let names = names?;
        Ok(names.contains(&"new".into()) && !names.contains(&"removed".into()))
    }),
    ("read", |folder| Ok(fs::read(folder.join("changed"))? == b"new!")),
    ("open and read at", |folder| {
        let mut bytes = [0; 4];
        File::open(folder.join("changed"))?.read_exact_at(&mut bytes, 0)?;
        Ok(&bytes == b"new!")
    }),
];

/// Each look in a thread of its own, because it may block; what each answered, when it does.
fn look(folder: &Path) -> mpsc::Receiver<(&'static str, io::Result<bool>)> {
    let (found, answers) = mpsc::channel();
    for (what, see) in LOOKS {
        let (folder, found): (PathBuf, _) = (folder.to_owned(), found.clone());
        std::thread::spawn(move || {
            // The test may have failed meanwhile.
            let _ = found.send((*what, see(&folder)));
        });
    }
    answers
}

fn check(when: &str, what: &str, answer: &io::Result<bool>) {
    match answer {
        Ok(true) => {}
        Ok(false) => panic!("{when}: {what} shows the past"),
        Err(error) => eprintln!("{when}: {what} fails: {error}"),
    }
}

#[test]
fn a_stopped_mount_holds_nobody_up_and_never_shows_the_past() {
    let cluster = DevCluster::start();
    cluster.add_mount();
    let (stopped, other) = (cluster.mount(1).join("folder"), cluster.mount(2).join("folder"));
    fs::create_dir(&stopped).expect("mkdir");
    fs::write(other.join("removed"), b"").expect("write");
    fs::write(other.join("changed"), b"old!").expect("write");
    // Leases of every kind: names present and absent, a listing, attributes, pages; dirty bytes.
    let dirty = File::create(stopped.join("dirty")).expect("create");
    dirty.sync_all().expect("fsync");
    let opened = File::open(stopped.join("changed")).expect("open");
    for _ in 0..3 {
        for (what, see) in LOOKS {
            assert!(!see(&stopped).unwrap_or_else(|error| panic!("{what}: {error}")), "{what}: nothing changed yet");
        }
    }
    dirty.write_all_at(b"never committed", 0).expect("write");
    let pid = cluster.pid("mount1").expect("mount1 runs");

    let stop = Stopped::new(pid);
    let begun = Instant::now();
    fs::write(other.join("new"), b"").expect("create");
    let shared = begun.elapsed();
    fs::remove_file(other.join("removed")).expect("unlink");
    fs::write(other.join("changed"), b"new!").expect("write");
    let begun = Instant::now();
    let length = fs::metadata(other.join("dirty")).expect("stat").len();
    let exclusive = begun.elapsed();
    eprintln!("stopped_mount: a create waited {shared:?}, a stat of a file with dirty bytes {exclusive:?}");
    assert!(shared < SHARED + SLACK, "a create waited {shared:?}");
    assert!(exclusive < EXCLUSIVE + SLACK, "a stat waited {exclusive:?}");
    assert_eq!(length, 0, "what was not committed is not there");

    let answers = look(&stopped);
    let mut answered = 0;
    while let Ok((what, answer)) = answers.recv_timeout(Duration::from_secs(3)) {
        check("while stopped", what, &answer);
        answered += 1;
    }
    drop(stop);
    while let Ok((what, answer)) = answers.recv_timeout(BOUND) {
        check("begun while stopped", what, &answer);
        answered += 1;
    }
    assert_eq!(answered, LOOKS.len(), "a call hangs");
    for (what, answer) in look(&stopped) {
        check("after it was continued", what, &answer);
    }
    let mut bytes = [0; 4];
    if let Ok(4) = opened.read_at(&mut bytes, 0) {
        assert_eq!(&bytes, b"new!", "a file that was open all the time shows the past");
    }
    let lost = dirty.sync_all().expect_err("the dirty bytes were not written, and fsync says so");
    eprintln!("stopped_mount: fsync after it was continued: {lost}");
    assert_eq!(fs::metadata(other.join("dirty")).expect("stat").len(), 0, "a fenced mount wrote");
    let log = cluster.log("mount1");
    assert!(log.contains("lost"), "the log does not say what was lost");
}
