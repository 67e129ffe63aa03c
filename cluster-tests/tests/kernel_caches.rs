//! Each mount's kernel believes what it was told for as long as a lease lasts, and still no call on one
//! mount ever answers what was true before a call that had returned on the other (P1).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_cluster_tests::harness::{DevCluster, SharedMapping, size};

/// A cluster, a folder on it as its two mounts show it.
fn two_mounts() -> (DevCluster, PathBuf, PathBuf) {
    let cluster = DevCluster::start();
    cluster.add_mount();
    let (one, two) = (cluster.mount(1).join("shared"), cluster.mount(2).join("shared"));
    fs::create_dir(&one).expect("mkdir");
    (cluster, one, two)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readdir").map(|entry| entry.expect("entry"));
    let mut names: Vec<String> = entries
        .map(|entry| {
            // As `ls -l` does: what the listing brought along is used.
            let _ = entry.metadata();
            entry.file_name().into_string().expect("names of the test are UTF-8")
        })
        .collect();
    names.sort();
    names
}

/// Writes over a file without a trace: same size, same times.
fn replace_bytes(path: &Path, bytes: &[u8]) {
    let file = File::options().write(true).open(path).expect("open");
    let before = file.metadata().expect("fstat");
    file.write_all_at(bytes, 0).expect("write");
    let times = fs::FileTimes::new()
        .set_accessed(before.accessed().expect("atime"))
        .set_modified(before.modified().expect("mtime"));
    file.set_times(times).expect("utimens");
}

#[test]
fn the_other_mounts_last_call_is_seen_at_once() {
    let (_cluster, a, b) = two_mounts();
    fs::write(a.join("stays"), b"0000").expect("write");
    let kept = File::open(a.join("stays")).expect("open");
    for round in 0..size("CAIRN_ROUNDS", 60) as u64 {
        let name = format!("n{round}");
        // What the kernel of mount 1 may believe from here on.
        for _ in 0..3 {
            assert!(!a.join(&name).exists(), "round {round}: nobody made it");
            assert!(!names(&a).contains(&name), "round {round}");
            assert_eq!(fs::read(a.join("stays")).expect("read").len(), 4);
        }
        fs::write(b.join(&name), b"x").expect("write");
        assert!(a.join(&name).exists(), "round {round}: an absent name was believed");
        assert!(names(&a).contains(&name), "round {round}: an old listing");

        assert_eq!(fs::metadata(a.join(&name)).expect("stat").len(), 1);
        File::options().write(true).open(b.join(&name)).expect("open").set_len(10 + round).expect("truncate");
        assert_eq!(fs::metadata(a.join(&name)).expect("stat").len(), 10 + round, "round {round}: old attributes");

        fs::rename(b.join(&name), b.join("moved")).expect("rename");
        assert!(!a.join(&name).exists(), "round {round}: an old name");
        assert_eq!(fs::metadata(a.join("moved")).expect("stat").len(), 10 + round, "round {round}");
        fs::remove_file(b.join("moved")).expect("unlink");
        assert!(!a.join("moved").exists(), "round {round}: a removed name");
        assert_eq!(names(&a), ["stays"], "round {round}: a removed name in a listing");

        let bytes = format!("{:04}", round + 1).into_bytes();
        replace_bytes(&b.join("stays"), &bytes);
        let mut seen = [0; 4];
        kept.read_exact_at(&mut seen, 0).expect("read");
        assert_eq!(seen.as_slice(), bytes, "round {round}: old pages of an open file");
        assert_eq!(fs::read(a.join("stays")).expect("read"), bytes, "round {round}: old pages after an open");
    }
}

/// The kernel takes what it believes about a name along to another directory, whose lease does not cover it.
#[test]
fn a_name_that_went_to_another_directory_is_not_believed_there() {
    let (_cluster, a, b) = two_mounts();
    for folder in ["from", "to"] {
        fs::create_dir(a.join(folder)).expect("mkdir");
    }
    for round in 0..size("CAIRN_ROUNDS", 60) {
        fs::write(a.join("from/name"), b"x").expect("write");
        assert!(a.join("from/name").exists());
        fs::rename(a.join("from/name"), a.join("to/name")).expect("rename");
        fs::remove_file(b.join("to/name")).expect("unlink");
        assert!(!a.join("to/name").exists(), "round {round}: a removed name");
    }
}

/// Threads on mount 1 keep answers on their way at all times, while mount 2 counts up.
#[test]
fn answers_on_their_way_bring_nothing_old() {
    let (_cluster, a, b) = two_mounts();
    let stop = AtomicBool::new(false);
    let (newest, looks) = (AtomicU64::new(0), AtomicU64::new(0));
    fs::write(b.join("counter"), b"").expect("write");
    // Of what is true at the start, whatever is true later is seen: a length that only grows.
    let look = |what: &str, see: &dyn Fn() -> io::Result<u64>| {
        while !stop.load(Ordering::Relaxed) {
            let before = newest.load(Ordering::SeqCst);
            let seen = see().unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(seen >= before, "{what} shows {seen}, and {before} was there before it began");
            looks.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let (look, a) = (&look, &a);
        let path = a.join("counter");
        let counter = || path.clone();
        let stat = counter();
        scope.spawn(move || look("stat", &|| Ok(fs::metadata(&stat)?.len())));
        let opened = counter();
        scope.spawn(move || look("open and fstat", &|| Ok(File::open(&opened)?.metadata()?.len())));
        let handle = counter();
        scope.spawn(move || {
            look("O_PATH and fstat", &|| {
                Ok(File::options().read(true).custom_flags(libc::O_PATH).open(&handle)?.metadata()?.len())
            });
        });
        let read = counter();
        scope.spawn(move || look("read", &|| Ok(fs::read(&read)?.len() as u64)));
        scope.spawn(move || {
            look("a listing", &|| {
                let mut lengths = fs::read_dir(a)?.map(|entry| Ok(entry?.metadata()?.len()));
                lengths.next().unwrap_or_else(|| Err(io::Error::other("the folder is empty")))
            });
        });
        let file = File::options().write(true).open(b.join("counter")).expect("open");
        for round in 1..=size("CAIRN_ROUNDS", 300) as u64 {
            if round % 10 == 0 {
                // Now and then leases have time to come back.
                std::thread::sleep(Duration::from_millis(300));
            }
            file.set_len(round).expect("truncate");
            newest.store(round, Ordering::SeqCst);
        }
        stop.store(true, Ordering::Relaxed);
    });
    eprintln!("kernel_caches: {} looks", looks.load(Ordering::Relaxed));
    assert!(looks.load(Ordering::Relaxed) > 1_000);
}

/// The kernel may believe what it is told about something new. Mount 2 changes it as soon as it sees the
/// name, which may be before mount 1 has read that answer.
#[test]
fn what_was_just_made_is_seen_changed() {
    let (_cluster, a, b) = two_mounts();
    let changed = AtomicU64::new(0);
    let rounds = size("CAIRN_ROUNDS", 150) as u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=rounds {
                let (file, folder) = (b.join(format!("f{round}")), b.join(format!("d{round}")));
                for made in [&file, &folder] {
                    while !made.exists() {}
                    fs::set_permissions(made, fs::Permissions::from_mode(0o700)).expect("chmod");
                }
                changed.store(round, Ordering::SeqCst);
            }
        });
        for round in 1..=rounds {
            let (path, folder) = (a.join(format!("f{round}")), a.join(format!("d{round}")));
            let file = File::options().write(true).create_new(true).mode(0o644).open(&path).expect("create");
            fs::create_dir(&folder).expect("mkdir");
            let begun = Instant::now();
            while changed.load(Ordering::SeqCst) < round {
                assert!(begun.elapsed() < Duration::from_secs(60), "round {round}: mount 2 does not see it");
                std::thread::yield_now();
            }
            let mode = |metadata: io::Result<fs::Metadata>| metadata.expect("stat").mode() & 0o777;
            assert_eq!(mode(file.metadata()), 0o700, "round {round}: fstat");
            assert_eq!(mode(fs::metadata(&path)), 0o700, "round {round}: stat");
            assert_eq!(mode(fs::metadata(&folder)), 0o700, "round {round}: stat of the folder");
        }
    });
}

/// A kernel that asks for everything would pass all of the above.
#[test]
fn a_leased_file_costs_few_requests() {
    let (cluster, a, _) = two_mounts();
    for number in 0..20 {
        fs::write(a.join(format!("f{number}")), b"some bytes").expect("write");
    }
    let requests = || cluster.counter("mount1", "cairn_mount_operations_total", "");
    let reads = || cluster.counter("mount1", "cairn_mount_operations_total", "operation=\"read\"");
    let round = || {
        assert_eq!(names(&a).len(), 20);
        for number in 0..20 {
            assert_eq!(fs::read(a.join(format!("f{number}"))).expect("read"), b"some bytes");
        }
    };
    round();
    std::thread::sleep(Duration::from_millis(300));
    round();
    let (before, reads_before, begun) = (requests(), reads(), Instant::now());
    for _ in 0..20 {
        round();
    }
    let (asked, took) = (requests() - before, begun.elapsed());
    eprintln!("kernel_caches: {asked} requests for 400 stats, opens and reads and 20 listings in {took:?}");
    assert_eq!(reads() - reads_before, 0.0, "pages stay over opens");
    // Open, and the listings: 400 opens, 20 × (opendir, two pages). Stats cost next to nothing.
    assert!(asked < 700.0 + took.as_secs_f64() * 200.0, "{asked} requests in {took:?}");
}

/// Both map one file, write into it in turn and sync: the last page that was written is seen.
#[test]
fn mapped_writers_in_turn_see_each_other() {
    const LENGTH: usize = 4096;
    let (_cluster, a, b) = two_mounts();
    fs::write(a.join("mapped"), vec![0; LENGTH]).expect("write");
    let open = |folder: &Path| File::options().read(true).write(true).open(folder.join("mapped")).expect("open");
    let files = [open(&a), open(&b)];
    let mut mappings = [&files[0], &files[1]].map(|file| SharedMapping::of(file, LENGTH).expect("mmap"));
    for round in 0..size("CAIRN_ROUNDS", 40) {
        let (mine, other, at) = (round % 2, 1 - round % 2, round % LENGTH);
        let byte = (round % 250 + 1) as u8;
        mappings[mine].bytes_mut()[at] = byte;
        mappings[mine].sync().expect("msync");
        let mut seen = [0];
        files[other].read_exact_at(&mut seen, at as u64).expect("read");
        assert_eq!(seen[0], byte, "round {round}: a read on the other mount");
        assert_eq!(mappings[other].bytes_mut()[at], byte, "round {round}: the other mapping");
    }
    assert_eq!(files[0].metadata().expect("fstat").size(), LENGTH as u64);
}
