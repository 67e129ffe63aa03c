//! Two mounts work against each other without rest: opposing renames, creates and unlinks in one
//! directory, appends to one file, stores into one mapping. Nothing hangs, no mount loses its session,
//! no name and no byte is lost.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_cluster_tests::harness::{DevCluster, SharedMapping, size};

/// Longest time that one step of a loop may take: a lease that is not given back is waited for 10 s.
const STEP_MAX: Duration = Duration::from_secs(9);

/// How long each pair of loops runs.
fn duration() -> Duration {
    Duration::from_secs(size("CAIRN_LOOP_SECONDS", 4) as u64)
}

struct Loops {
    cluster: DevCluster,
    roots: [PathBuf; 2],
}

impl Loops {
    fn start(folder: &str) -> Self {
        let cluster = DevCluster::start();
        cluster.add_mount();
        let roots = [1, 2].map(|number| cluster.mount(number).join(folder));
        fs::create_dir(&roots[0]).expect("mkdir");
        Self { cluster, roots }
    }

    /// Runs `step` with rising numbers on both mounts at once; answers how many each made.
    fn run(&self, what: &str, step: impl Fn(usize, &Path, u64) + Sync) -> [u64; 2] {
        let (over, begun) = (AtomicBool::new(false), Instant::now());
        let counts = std::thread::scope(|scope| {
            let loops = [0, 1].map(|actor| {
                let (over, step, root) = (&over, &step, &self.roots[actor]);
                scope.spawn(move || {
                    let mut made = 0;
                    while !over.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        step(actor, root, made);
                        let took = start.elapsed();
                        assert!(took < STEP_MAX, "{what}: step {made} on mount {} took {took:?}", actor + 1);
                        made += 1;
                    }
                    made
                })
            });
            while begun.elapsed() < duration() && !loops.iter().any(|running| running.is_finished()) {
                std::thread::sleep(Duration::from_millis(20));
            }
            over.store(true, Ordering::Relaxed);
            loops.map(|running| running.join().expect("a loop"))
        });
        eprintln!("{what}: {} and {} steps in {:?}", counts[0], counts[1], begun.elapsed());
        for actor in [1, 2] {
            let log = self.cluster.log(&format!("mount{actor}"));
            assert!(!log.contains("has ended this session"), "{what}: mount {actor} lost its session:\n{log}");
        }
        assert!(counts.iter().all(|count| *count > 5), "{what}: a mount hardly got its turn: {counts:?}");
        counts
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("read_dir");
    entries.map(|entry| entry.expect("entry").file_name().into_string().expect("ASCII")).collect()
}

/// The loser of a race finds nothing to move: that is an answer, anything else a fault.
fn moved(from: &Path, to: &Path) -> bool {
    match fs::rename(from, to) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => panic!("mv {} {}: {error}", from.display(), to.display()),
    }
}

#[test]
fn opposing_renames() {
    let loops = Loops::start("renames");
    for folder in ["D1", "D2"] {
        fs::create_dir(loops.roots[0].join(folder)).expect("mkdir");
    }
    let files: Vec<String> = (0..4).map(|number| format!("file{number}")).collect();
    for name in &files {
        fs::write(loops.roots[0].join("D1").join(name), name).expect("write");
    }
    loops.run("mv D1/x D2 against mv D2/y D1", |actor, root, number| {
        let (from, to) = if actor == 0 { ("D1", "D2") } else { ("D2", "D1") };
        let name = &files[number as usize % files.len()];
        moved(&root.join(from).join(name), &root.join(to).join(name));
    });
    for root in &loops.roots {
        let (one, two) = (names(&root.join("D1")), names(&root.join("D2")));
        assert!(one.is_disjoint(&two), "a file is in both: {one:?} {two:?}");
        let all: BTreeSet<String> = one.union(&two).cloned().collect();
        assert_eq!(all, files.iter().cloned().collect(), "a file is lost or came from nowhere");
        for name in &files {
            let folder = if one.contains(name) { "D1" } else { "D2" };
            assert_eq!(fs::read_to_string(root.join(folder).join(name)).expect("read"), *name);
        }
    }
}

#[test]
fn creates_and_unlinks_in_one_directory() {
    let loops = Loops::start("names");
    let counts = loops.run("create and unlink", |actor, root, number| {
        let path = root.join(format!("of{actor}-{number}"));
        fs::write(&path, format!("{actor} {number}")).expect("write");
        // Every tenth stays.
        if number % 10 != 0 {
            fs::remove_file(&path).expect("unlink");
        }
        // The other's files come and go beside it.
        match fs::File::create_new(root.join("wanted")) {
            Ok(_) => fs::remove_file(root.join("wanted")).expect("only its maker removes it"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}"),
        }
    });
    let stays = |actor: usize| (0..counts[actor]).step_by(10).map(move |number| format!("of{actor}-{number}"));
    let expected: BTreeSet<String> = stays(0).chain(stays(1)).collect();
    for root in &loops.roots {
        assert_eq!(names(root), expected);
        for name in &expected {
            let text = fs::read_to_string(root.join(name)).expect("read");
            assert_eq!(format!("of{}", text.replace(' ', "-")), *name);
        }
    }
}

#[test]
fn appends_to_one_file() {
    let loops = Loops::start("appends");
    let counts = loops.run("append", |actor, root, number| {
        let mut file = File::options().append(true).create(true).open(root.join("log")).expect("open");
        file.write_all(format!("{actor} {number:010}\n").as_bytes()).expect("append");
    });
    for root in &loops.roots {
        let text = fs::read_to_string(root.join("log")).expect("read");
        let mut next = [0_u64; 2];
        for line in text.lines() {
            let (actor, number) = line.split_once(' ').unwrap_or_else(|| panic!("a torn line {line:?}"));
            let actor: usize = actor.parse().unwrap_or_else(|_| panic!("a torn line {line:?}"));
            assert_eq!(number.parse(), Ok(next[actor]), "lost, doubled or out of order: {line:?}");
            next[actor] += 1;
        }
        assert_eq!(next, counts);
    }
}

/// Each mount stores into its own pages of one file through a shared mapping. The last page wins, so
/// nothing may be lost between pages that only one of them writes.
#[test]
fn stores_into_one_mapped_file() {
    const PAGE: usize = 4096;
    const PAGES: usize = 16;
    let loops = Loops::start("mapped");
    fs::write(loops.roots[0].join("map"), vec![0_u8; PAGE * PAGES]).expect("write");
    let mappings = [0, 1].map(|actor| {
        let file = File::options().read(true).write(true).open(loops.roots[actor].join("map")).expect("open");
        std::sync::Mutex::new(SharedMapping::of(&file, PAGE * PAGES).expect("mmap"))
    });
    let counts = loops.run("mmap and msync", |actor, _, number| {
        let mut mapping = mappings[actor].lock().expect("not poisoned");
        let page = (number as usize * 2 + actor) % PAGES;
        mapping.bytes_mut()[page * PAGE..page * PAGE + 8].copy_from_slice(&(number + 1).to_le_bytes());
        mapping.sync().expect("msync");
    });
    drop(mappings);
    for root in &loops.roots {
        let bytes = fs::read(root.join("map")).expect("read");
        for (actor, made) in counts.into_iter().enumerate() {
            for page in (actor..PAGES).step_by(2) {
                // The newest number of this actor that falls on this page.
                let newest = (1..=made).rev().find(|n| ((n - 1) as usize * 2 + actor) % PAGES == page);
                let stored = u64::from_le_bytes(bytes[page * PAGE..page * PAGE + 8].try_into().expect("8 bytes"));
                assert_eq!(stored, newest.unwrap_or(0), "page {page} of mount {}", actor + 1);
            }
        }
    }
}
