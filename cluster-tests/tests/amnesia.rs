//! The amnesia layer itself, mounted: what was synced survives a power loss, what was not goes, and
//! the protocols that our servers use for durable files are enough on it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cairn_cluster_tests::amnesia::{Control, Loss};

/// A mounted layer in a process of its own.
struct Mounted {
    folder: tempfile::TempDir,
    process: Child,
    control: Control,
}

impl Mounted {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (backing, mount, socket) =
            (folder.path().join("backing"), folder.path().join("mount"), folder.path().join("control"));
        fs::create_dir_all(&backing).expect("backing folder");
        fs::create_dir_all(&mount).expect("mount point");
        let process = Command::new(env!("CARGO_BIN_EXE_cairn-amnesia"))
            .args(["mount", "--control"])
            .arg(&socket)
            .arg("--layer")
            .arg(format!("{}={}", backing.display(), mount.display()))
            .stdin(Stdio::piped())
            .spawn()
            .expect("cairn-amnesia starts");
        let start = Instant::now();
        while !socket.exists() {
            assert!(start.elapsed() < Duration::from_secs(10), "cairn-amnesia does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { control: Control::new(&socket), folder, process }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("mount").join(name)
    }

    /// Drops all that is not synced: a seed under which nothing survives by chance.
    fn lose_all(&self) -> Loss {
        self.lose_power(seed_that_keeps_nothing())
    }

    fn lose_power(&self, seed: u64) -> Loss {
        self.control.lose_power(seed).expect("the layer answers")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let status = self.process.wait().expect("cairn-amnesia ends");
        if !std::thread::panicking() {
            assert!(status.success(), "cairn-amnesia ended with {status}");
        }
    }
}

/// The layer draws its share to keep first; with this seed it draws nothing. Checked by the tests
/// that count on it.
fn seed_that_keeps_nothing() -> u64 {
    use rand::{Rng, SeedableRng};
    (0..).find(|seed| rand::rngs::StdRng::seed_from_u64(*seed).random_range(0..6) == 0).expect("there are many")
}

fn sync(path: &Path) {
    File::open(path).and_then(|file| file.sync_all()).expect("fsync");
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .expect("readdir")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

#[test]
fn synced_bytes_survive_and_unsynced_bytes_go() {
    let layer = Mounted::new();
    let path = layer.path("file");
    let mut file = File::create(&path).expect("create");
    file.write_all(&[1; 10_000]).expect("write");
    file.sync_data().expect("fdatasync");
    file.seek(SeekFrom::Start(5_000)).expect("seek");
    file.write_all(&[2; 10_000]).expect("write");
    assert_eq!(fs::read(&path).expect("read"), [[1; 5_000].as_slice(), &[2; 10_000]].concat(), "seen before the loss");
    let loss = layer.lose_all();
    assert_eq!((loss.bytes_kept, loss.bytes_lost), (0, 10_000));
    assert_eq!(fs::read(&path).expect("the name was synced with the file"), [1; 10_000]);
    assert_eq!(fs::read(layer.folder.path().join("backing/durable/file")).expect("backing"), [1; 10_000]);
    assert!(file.write_all(b"more").is_err(), "a handle from before the loss is dead");
}

#[test]
fn truncation_and_holes_need_a_sync_too() {
    let layer = Mounted::new();
    let path = layer.path("file");
    let file = File::create_new(&path).expect("create");
    file.write_all_at(&[7; 9_000], 0).expect("write");
    file.sync_all().expect("fsync");
    file.set_len(100).expect("truncate");
    file.set_len(9_000).expect("extend");
    assert_eq!(fs::read(&path).expect("read"), [[7; 100].as_slice(), &[0; 8_900]].concat());
    layer.lose_all();
    assert_eq!(fs::read(&path).expect("read"), [7; 9_000], "the truncation was not synced");

    let file = File::options().read(true).write(true).open(&path).expect("open");
    use rustix::fs::{FallocateFlags, fallocate};
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4_096, 4_096).expect("punch");
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 1 << 20).expect("preallocate");
    file.sync_data().expect("fdatasync");
    file.write_all_at(&[8; 10], 5_000).expect("write");
    layer.lose_all();
    let expected = [[7; 4_096].as_slice(), &[0; 4_096], &[7; 808]].concat();
    assert_eq!(fs::read(&path).expect("read"), expected, "the hole stays, the write into it goes");
}

#[test]
fn names_need_a_sync_of_their_directory() {
    let layer = Mounted::new();
    fs::create_dir(layer.path("dir")).expect("mkdir");
    sync(&layer.path(""));
    fs::write(layer.path("dir/a"), b"a").expect("write");
    fs::write(layer.path("dir/b"), b"b").expect("write");
    sync(&layer.path("dir/a"));
    fs::rename(layer.path("dir/a"), layer.path("dir/c")).expect("rename");
    assert_eq!(names(&layer.path("dir")), ["b", "c"]);
    let loss = layer.lose_all();
    assert_eq!((loss.operations_kept, loss.operations_lost), (0, 2));
    assert_eq!(names(&layer.path("dir")), ["a"], "fsync of a file brings its creation, not its rename");

    fs::remove_file(layer.path("dir/a")).expect("unlink");
    layer.lose_all();
    assert_eq!(fs::read(layer.path("dir/a")).expect("back again"), b"a");
    fs::remove_file(layer.path("dir/a")).expect("unlink");
    fs::create_dir(layer.path("dir/new")).expect("mkdir");
    sync(&layer.path("dir"));
    layer.lose_all();
    assert_eq!(names(&layer.path("dir")), ["new"]);
}

/// What `durable_file` does: write a temporary file, fsync, rename over, fsync the folder.
#[test]
fn atomic_replacement_is_old_or_new_and_new_after_the_last_sync() {
    let layer = Mounted::new();
    let (path, temporary) = (layer.path("value"), layer.path("value.new"));
    let mut current = 0_u32;
    for round in 1..40_u32 {
        let acknowledged = round % 2 == 0;
        let mut file = File::create(&temporary).expect("create");
        file.write_all(&round.to_le_bytes().repeat(2_000)).expect("write");
        file.sync_all().expect("fsync");
        fs::rename(&temporary, &path).expect("rename");
        if acknowledged {
            sync(&layer.path(""));
            current = round;
        }
        layer.lose_power(u64::from(round));
        match fs::read(&path) {
            Ok(bytes) => {
                let found = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
                assert_eq!(bytes, found.to_le_bytes().repeat(2_000), "round {round}: torn");
                assert!(found == current || (!acknowledged && found == round), "round {round}: {found}");
                current = found;
            }
            Err(error) => assert_eq!(current, 0, "round {round}: {error}"),
        }
    }
}

/// The same without the first fsync is not enough: the layer must show that.
#[test]
fn a_rename_without_fsync_of_the_file_can_lose_its_bytes() {
    let layer = Mounted::new();
    let mut damaged = 0;
    for round in 0..20_u8 {
        fs::write(layer.path("value.new"), [round; 20_000]).expect("write");
        fs::rename(layer.path("value.new"), layer.path("value")).expect("rename");
        sync(&layer.path(""));
        layer.lose_power(u64::from(round));
        damaged += u32::from(fs::read(layer.path("value")).expect("the rename is durable") != [round; 20_000]);
    }
    assert!(damaged > 10, "only {damaged} of 20 were damaged");
}

#[test]
fn what_survives_by_chance_is_torn_and_repeats_with_the_seed() {
    let run = |seed| {
        let layer = Mounted::new();
        let path = layer.path("file");
        let file = File::create_new(&path).expect("create");
        file.write_all_at(&[1; 64 << 10], 0).expect("write");
        file.sync_all().expect("fsync");
        file.write_all_at(&[2; 64 << 10], 0).expect("write");
        layer.lose_power(seed);
        fs::read(&path).expect("read")
    };
    let torn: Vec<u64> = (0..12).filter(|seed| [1, 2].iter().all(|byte| run(*seed).contains(byte))).collect();
    assert!(!torn.is_empty(), "no seed tears a write");
    assert_eq!(run(torn[0]), run(torn[0]), "the same seed gives the same loss");
}

#[test]
fn an_unlinked_file_is_kept_while_it_is_open() {
    let layer = Mounted::new();
    let path = layer.path("file");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).expect("create");
    file.write_all(b"still here").expect("write");
    fs::remove_file(&path).expect("unlink");
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).expect("seek");
    file.read_to_string(&mut text).expect("an unlinked file is kept while it is open");
    assert_eq!(text, "still here");
    file.sync_all().expect("fsync of an unlinked file");
    drop(file);
    layer.lose_all();
    assert!(names(&layer.path("")).len() <= 1);
}

/// RocksDB runs on it: what it synced survives any number of power losses, and the database opens.
#[test]
fn rocksdb_keeps_what_it_synced() {
    let layer = Mounted::new();
    let mut synced = 0;
    for round in 0..12_u64 {
        // In a process of its own, which ends as by kill -9: RocksDB locks a path per process.
        let child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "rocksdb_child", "--nocapture"])
            .env("AMNESIA_DB", layer.path("db"))
            .env("AMNESIA_SYNCED", synced.to_string())
            .output()
            .expect("the child starts");
        let text = String::from_utf8_lossy(&child.stdout);
        let Some(line) = text.lines().rev().find_map(|line| line.strip_prefix("synced ")) else {
            panic!("round {round}: {text}{}", String::from_utf8_lossy(&child.stderr));
        };
        synced = line.parse::<u32>().expect("a number");
        layer.lose_power(round);
    }
    assert!(synced > 500);
}

/// Checks that all keys below `AMNESIA_SYNCED` are there, writes on, says how far it synced, and
/// kills itself. Not a test by itself.
#[test]
fn rocksdb_child() {
    let (Ok(path), Ok(synced)) = (std::env::var("AMNESIA_DB"), std::env::var("AMNESIA_SYNCED")) else { return };
    let mut synced: u32 = synced.parse().expect("a number");
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(64 << 10);
    let db = rocksdb::DB::open(&options, &path).expect("the database opens");
    let value = |key: u32| key.to_le_bytes().repeat(100);
    for key in 0..synced {
        assert_eq!(db.get(key.to_be_bytes()).expect("get"), Some(value(key)), "key {key} of {synced}");
    }
    let mut sync = rocksdb::WriteOptions::default();
    sync.set_sync(true);
    for _ in 0..50 {
        db.put_opt(synced.to_be_bytes(), value(synced), &sync).expect("put");
        synced += 1;
    }
    for extra in synced..synced + 200 {
        db.put(extra.to_be_bytes(), value(extra)).expect("put");
    }
    if synced.is_multiple_of(3) {
        db.flush().expect("flush");
        synced += 200;
        // Behind the flush, and not synced.
        db.put(synced.to_be_bytes(), value(synced)).expect("put");
    }
    // The parent reads it.
    writeln!(std::io::stdout(), "\nsynced {synced}").expect("standard output");
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("kill");
}

#[test]
fn fast_enough_for_a_log() {
    let layer = Mounted::new();
    let mut file = File::create(layer.path("log")).expect("create");
    let start = Instant::now();
    for _ in 0..500 {
        file.write_all(&[3; 700]).expect("write");
        file.sync_data().expect("fdatasync");
    }
    let each = start.elapsed() / 500;
    eprintln!("write and fdatasync: {each:?}");
    assert!(each < Duration::from_millis(5), "{each:?} a write with fdatasync is too slow");
}
