//! Which operation changes which of the three times, and which times can be kept.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use super::Case;
use super::seen::Seen;
use super::sys::{
    ALICE, as_user, chmod, chown, copy, fallocate, file, ftruncate, ignore, link, mkdir, mknod, open, pwrite,
    removexattr, rename, rmdir, setxattr, symlink, truncate, unlink, utimens,
};

pub(super) const CASES: &[(&str, Case)] = &[
    ("times of new things", new_things),
    ("times of writes", writes),
    ("times of attributes", attributes),
    ("times of names", names),
    ("times of mappings", mapped),
    ("times that are set", set),
    ("times far away", far),
    ("who may set times", permission),
    ("access times of reads", reads),
];

/// Longer than a tick of the kernel's coarse clock.
const TICK: Duration = Duration::from_millis(12);
const NOW: (i64, i64) = (0, libc::UTIME_NOW);
const OMIT: (i64, i64) = (0, libc::UTIME_OMIT);

fn times(path: &Path) -> Option<[(i64, i64); 3]> {
    let found = fs::symlink_metadata(path).ok()?;
    Some([
        (found.atime(), found.atime_nsec()),
        (found.mtime(), found.mtime_nsec()),
        (found.ctime(), found.ctime_nsec()),
    ])
}

/// Which times of each path an operation changes: some of `amc`, or `-`.
fn changes(seen: &mut Seen, what: &str, paths: &[&Path], operation: impl FnOnce()) {
    changes_of(seen, what, "amc", paths, operation);
}

fn changes_of(seen: &mut Seen, what: &str, which: &str, paths: &[&Path], operation: impl FnOnce()) {
    let before: Vec<_> = paths.iter().map(|path| times(path)).collect();
    std::thread::sleep(TICK);
    operation();
    let told: Vec<String> = paths
        .iter()
        .zip(before)
        .map(|(path, before)| {
            let (Some(before), Some(after)) = (before, times(path)) else { return "gone".to_owned() };
            let changed = |at: usize, letter| if before[at] == after[at] { None } else { Some(letter) };
            let all = [changed(0, 'a'), changed(1, 'm'), changed(2, 'c')];
            let text: String = all.into_iter().flatten().filter(|letter| which.contains(*letter)).collect();
            let back = (0..3).any(|at| after[at] < before[at]);
            let text = if text.is_empty() { "-".to_owned() } else { text };
            if back { format!("{text} backwards") } else { text }
        })
        .collect();
    seen.is(what, told.join(" "));
}

fn new_things(seen: &mut Seen, folder: &Path) {
    let in_folder = |name: &str| folder.join(name);
    type Maker = fn(&Path);
    let makers: &[(&str, Maker)] = &[
        ("create", |path| ignore(File::create_new(path).expect("create"))),
        ("mkdir", |path| ignore(mkdir(path, 0o755).expect("mkdir"))),
        ("symlink", |path| ignore(symlink("target", path).expect("symlink"))),
        ("mkfifo", |path| ignore(mknod(path, libc::S_IFIFO | 0o600, 0).expect("mkfifo"))),
        ("mknod", |path| ignore(mknod(path, libc::S_IFREG | 0o600, 0).expect("mknod"))),
    ];
    for (what, make) in makers {
        let path = in_folder(what);
        changes(seen, what, &[folder], || make(&path));
        let [a, m, c] = times(&path).expect("made");
        seen.is(format!("{what}: all three are equal"), a == m && m == c);
        let [_, of_folder, _] = times(folder).expect("there");
        seen.is(format!("{what}: and the folder's"), of_folder == m);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        seen.is(format!("{what}: it is now"), (now.as_secs() as i64 - m.0).abs() <= 2);
    }
    changes(seen, "open of what is there", &[folder, &in_folder("create")], || {
        ignore(open(in_folder("create"), libc::O_RDWR | libc::O_CREAT, 0o644).expect("open"));
    });
    changes(seen, "create that fails", &[folder, &in_folder("create")], || {
        assert!(File::create_new(in_folder("create")).is_err());
    });
}

fn writes(seen: &mut Seen, folder: &Path) {
    let (path, other) = (folder.join("file"), folder.join("other"));
    let mut own = file(&path, &[1; 10_000]);
    let watched: &[&Path] = &[&path, folder];
    changes(seen, "write", watched, || own.write_all(b"x").expect("write"));
    changes(seen, "write and close", watched, || {
        File::options().append(true).open(&path).expect("open").write_all(b"x").expect("write");
    });
    changes(seen, "write of nothing", watched, || ignore(own.write(b"").expect("write")));
    changes(seen, "overwrite of the same bytes", watched, || ignore(pwrite(&own, &[1; 100], 0).expect("write")));
    changes(seen, "fsync", watched, || own.sync_all().expect("fsync"));
    changes(seen, "truncate to the same size", watched, || {
        ignore(truncate(&path, own.metadata().expect("stat").len() as i64).expect("truncate"));
    });
    changes(seen, "truncate to less", watched, || ignore(truncate(&path, 5_000).expect("truncate")));
    changes(seen, "truncate to more", watched, || ignore(truncate(&path, 9_000).expect("truncate")));
    changes(seen, "ftruncate to the same size", watched, || ignore(ftruncate(&own, 9_000).expect("ftruncate")));
    changes(seen, "ftruncate to another size", watched, || ignore(ftruncate(&own, 9_500).expect("ftruncate")));
    changes(seen, "fallocate, new size", watched, || ignore(fallocate(&own, 0, 0, 20_000).expect("fallocate")));
    changes(seen, "fallocate within", watched, || ignore(fallocate(&own, 0, 0, 20_000).expect("fallocate")));
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    changes(seen, "fallocate, keep size", watched, || ignore(fallocate(&own, keep, 0, 40_000).expect("fallocate")));
    let punch = libc::FALLOC_FL_PUNCH_HOLE | keep;
    changes(seen, "punch a hole", watched, || ignore(fallocate(&own, punch, 0, 4_096).expect("punch")));
    let zero = libc::FALLOC_FL_ZERO_RANGE;
    changes(seen, "zero a range", watched, || ignore(fallocate(&own, zero, 4_096, 4_096).expect("zero")));
    let target = file(&other, b"");
    changes_of(seen, "copy_file_range", "mc", &[&path, &other], || {
        ignore(copy(&own, 0, &target, 0, 9_000).expect("copy"));
    });
    changes(seen, "O_TRUNC", watched, || ignore(open(&path, libc::O_WRONLY | libc::O_TRUNC, 0).expect("open")));
    changes(seen, "O_TRUNC of nothing", watched, || {
        ignore(open(&path, libc::O_WRONLY | libc::O_TRUNC, 0).expect("open"))
    });
    changes(seen, "close of a writer that wrote nothing", watched, || drop(own));
    // What was told while the file was open is what stays.
    let mut own = File::options().append(true).open(&path).expect("open");
    own.write_all(b"x").expect("write");
    let told = times(&path);
    std::thread::sleep(TICK);
    own.sync_all().expect("fsync");
    drop(own);
    seen.is("fsync and close leave what the write did", told == times(&path));
}

fn attributes(seen: &mut Seen, folder: &Path) {
    let (path, directory, pointer) = (folder.join("file"), folder.join("directory"), folder.join("link"));
    ignore(file(&path, b"content"));
    mkdir(&directory, 0o755).expect("mkdir");
    symlink("file", &pointer).expect("symlink");
    for (what, path) in [("file", &path), ("directory", &directory)] {
        changes(seen, &format!("chmod, {what}"), &[path, folder], || ignore(chmod(path, 0o700).expect("chmod")));
        changes(seen, &format!("chmod, {what}, the same"), &[path], || ignore(chmod(path, 0o700).expect("chmod")));
        changes(seen, &format!("chown, {what}"), &[path, folder], || ignore(chown(path, 1, 2).expect("chown")));
        changes(seen, &format!("chown, {what}, the same"), &[path], || ignore(chown(path, 1, 2).expect("chown")));
        changes(seen, &format!("chown, {what}, of nothing"), &[path], || ignore(chown(path, -1, -1).expect("chown")));
        let set = |value: &[u8]| ignore(setxattr(path, "user.a", value, 0).expect("setxattr"));
        changes(seen, &format!("setxattr, {what}"), &[path, folder], || set(b"1"));
        changes(seen, &format!("setxattr, {what}, another value"), &[path], || set(b"22"));
        changes(seen, &format!("removexattr, {what}"), &[path, folder], || {
            ignore(removexattr(path, "user.a").expect("removexattr"));
        });
        changes(seen, &format!("removexattr, {what}, that fails"), &[path], || {
            assert!(removexattr(path, "user.a").is_err());
        });
    }
    changes(seen, "chown of a symlink", &[&pointer, &path], || ignore(chown(&pointer, 3, 3).expect("lchown")));
    changes(seen, "stat and access", &[&path, folder], || {
        assert!(fs::metadata(&path).is_ok() && super::sys::access(&path, libc::R_OK).is_ok());
    });
}

fn names(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    mkdir(at("from"), 0o755).expect("mkdir");
    mkdir(at("to"), 0o755).expect("mkdir");
    ignore(file(at("from/file"), b"content"));
    let watched = |names: &[&str]| names.iter().map(|name| at(name)).collect::<Vec<_>>();
    let mut step = |what: &str, names: &[&str], operation: &dyn Fn()| {
        let paths = watched(names);
        changes(seen, what, &paths.iter().map(std::path::PathBuf::as_path).collect::<Vec<_>>(), operation);
    };
    let moved = |from: &str, to: &str, flags: u32| ignore(rename(at(from), at(to), flags).expect("rename"));
    step("link", &["from/file", "from", "to"], &|| ignore(link(at("from/file"), at("to/other")).expect("link")));
    step("rename onto the same file", &["from/file", "from", "to"], &|| moved("from/file", "to/other", 0));
    step("unlink of another name", &["from/file", "from", "to"], &|| ignore(unlink(at("to/other")).expect("unlink")));
    step("rename within a folder, the folder", &["from"], &|| moved("from/file", "from/renamed", 0));
    ignore(file(at("to/victim"), b""));
    link(at("to/victim"), at("victim")).expect("link");
    link(at("from/renamed"), at("alias")).expect("link");
    step("rename of a file over another", &["alias", "victim", "from", "to"], &|| {
        moved("from/renamed", "to/victim", 0)
    });
    // Through descriptors, because the names change.
    mkdir(at("from/directory"), 0o755).expect("mkdir");
    let directory = File::open(at("from/directory")).expect("open");
    let held = |file: &File| std::path::PathBuf::from(format!("/proc/self/fd/{}/.", file.as_raw_fd()));
    let paths = [held(&directory), at("from"), at("to"), folder.to_owned()];
    let paths: Vec<&Path> = paths.iter().map(std::path::PathBuf::as_path).collect();
    changes(seen, "rename of a directory", &paths, || moved("from/directory", "to/directory", 0));
    changes(seen, "rename of a directory within its parent", &paths, || moved("to/directory", "to/again", 0));
    mkdir(at("to/empty"), 0o755).expect("mkdir");
    let victim = File::open(at("to/empty")).expect("open");
    changes(seen, "rename of a directory over another", &[&held(&directory), &at("to")], || {
        moved("to/again", "to/empty", 0);
    });
    drop(victim);
    mkdir(at("from/one"), 0o755).expect("mkdir");
    ignore(file(at("to/two"), b""));
    let one = File::open(at("from/one")).expect("open");
    changes(seen, "exchange of a directory and a file, the directory", &[&held(&one), &at("from"), &at("to")], || {
        moved("from/one", "to/two", libc::RENAME_EXCHANGE);
    });
    changes(
        seen,
        "exchange of a directory and a file, back, the file",
        &[&at("from"), &at("to"), &at("alias")],
        || {
            moved("to/two", "from/one", libc::RENAME_EXCHANGE);
        },
    );
    changes(seen, "mkdir and rmdir within", &[&at("from"), folder], || {
        mkdir(at("from/short"), 0o755).expect("mkdir");
        rmdir(at("from/short")).expect("rmdir");
    });
    mkdir(at("from/parent"), 0o755).expect("mkdir");
    changes(seen, "rmdir", &[&at("from"), folder], || ignore(rmdir(at("from/parent")).expect("rmdir")));
    changes(seen, "rmdir that fails", &[&at("from"), folder], || assert!(rmdir(at("from")).is_err()));
    let open = file(at("unlinked"), b"");
    let before = open.metadata().expect("fstat");
    std::thread::sleep(TICK);
    unlink(at("unlinked")).expect("unlink");
    let after = open.metadata().expect("fstat");
    let changed = (before.mtime_nsec() != after.mtime_nsec(), before.ctime_nsec() != after.ctime_nsec());
    seen.is("unlink of the last name: mtime, ctime", format!("{changed:?}"));
}

fn mapped(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    let own = file(&path, &[1; 8_192]);
    let mapping = super::mappings::Mapping::shared(&own, 8_192);
    changes_of(seen, "mmap", "mc", &[&path], || ignore(super::mappings::Mapping::shared(&own, 8_192)));
    changes_of(seen, "a store and msync", "mc", &[&path], || {
        mapping.store(10, 7);
        mapping.sync().expect("msync");
    });
    changes_of(seen, "a second store and msync", "mc", &[&path], || {
        mapping.store(11, 7);
        mapping.sync().expect("msync");
    });
    changes_of(seen, "msync without a store", "mc", &[&path], || ignore(mapping.sync().expect("msync")));
    changes_of(seen, "a store, munmap and close", "mc", &[&path], || {
        mapping.store(12, 7);
        drop(mapping);
        own.sync_all().expect("fsync");
        drop(own);
    });
    seen.is("what the stores left", format!("{:?}", &fs::read(&path).expect("read")[9..14]));
}

fn set(seen: &mut Seen, folder: &Path) {
    let (path, directory, pointer) = (folder.join("file"), folder.join("directory"), folder.join("link"));
    ignore(file(&path, b"content"));
    mkdir(&directory, 0o755).expect("mkdir");
    symlink("nowhere", &pointer).expect("symlink");
    for (what, path) in [("file", &path), ("directory", &directory), ("symlink", &pointer)] {
        let mut step = |how: &str, a, m| {
            changes(seen, &format!("{what}: {how}"), &[path, folder], || ignore(utimens(path, a, m).expect("utimens")));
        };
        step("both now", NOW, NOW);
        step("neither", OMIT, OMIT);
        step("atime now", NOW, OMIT);
        step("mtime now", OMIT, NOW);
        step("atime", (1_000, 1), OMIT);
        step("mtime", OMIT, (2_000, 2));
        step("both", (3_000, 3), (4_000, 4));
        step("both again", (3_000, 3), (4_000, 4));
        let [a, m, _] = times(path).expect("there");
        seen.is(format!("{what}: kept"), format!("{a:?} {m:?}"));
    }
    let own = file(&path, b"content");
    own.sync_all().expect("fsync");
    utimens(&path, (9, 9), (9, 9)).expect("utimens");
    let told = times(&path);
    std::thread::sleep(TICK);
    own.sync_all().expect("fsync");
    seen.is("what was told stays behind fsync", told == times(&path));
    // While it is written.
    let own = file(&path, b"more");
    utimens(&path, (5, 5), (6, 6)).expect("utimens");
    let told = times(&path);
    own.sync_all().expect("fsync");
    drop(own);
    seen.is("what was told behind a write stays behind fsync", told == times(&path));
    seen.is("set behind a write", format!("{:?}", told.map(|[a, m, _]| (a, m))));
    let own = file(&path, b"and more");
    let told = times(&path);
    std::thread::sleep(TICK);
    own.sync_all().expect("fsync");
    seen.is("what a write told stays behind fsync", told == times(&path));
    let own = open(&path, libc::O_RDWR, 0).expect("open");
    let times_of = [libc::timespec { tv_sec: 7, tv_nsec: 7 }, libc::timespec { tv_sec: 8, tv_nsec: 8 }];
    // SAFETY: the times live.
    seen.code("futimens", super::sys::done(unsafe { libc::futimens(own.as_raw_fd(), times_of.as_ptr()) }));
    seen.is("futimens: kept", format!("{:?}", times(&path).map(|[a, m, _]| (a, m))));
    pwrite(&own, b"x", 0).expect("write");
    drop(own);
    seen.is("a write behind it: atime kept, mtime not", format!("{:?}", times(&path).map(|[a, m, _]| (a, m.0 > 8))));
}

fn far(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    ignore(file(&path, b""));
    let years = [
        ("the first nanosecond", (0, 1)),
        ("the last nanosecond of a second", (1_000_000_000, 999_999_999)),
        ("before 1970", (-1, 500_000_000)),
        ("1901", (-(1 << 31), 0)),
        ("2038", (1 << 31, 1)),
        ("2106", (1 << 32, 999_999_999)),
        ("2446", ((1 << 34) - (1 << 31) - 1, 7)),
        ("after 2446", (1 << 35, 7)),
        ("before 1901", (-(1 << 33), 7)),
    ];
    for (what, time) in years {
        seen.code(what, utimens(&path, time, time));
        seen.is(format!("{what}, kept"), format!("{:?}", times(&path).map(|[a, m, _]| (a, m))));
    }
    seen.code("a whole second of nanoseconds", utimens(&path, (1, 1_000_000_000), OMIT));
    seen.code("negative nanoseconds", utimens(&path, (1, -1), OMIT));
    utimens(&path, (1 << 32, 5), (-5, 5)).expect("utimens");
    cairn_cluster_tests::harness::drop_caches();
    seen.is("without caches", format!("{:?}", times(&path).map(|[a, m, _]| (a, m))));
}

fn permission(seen: &mut Seen, folder: &Path) {
    ignore(file(folder.join("writable"), b""));
    ignore(file(folder.join("readable"), b""));
    ignore(file(folder.join("own"), b""));
    chmod(folder.join("writable"), 0o666).expect("chmod");
    chmod(folder.join("own"), 0o000).expect("chmod");
    chown(folder.join("own"), i64::from(ALICE.uid), i64::from(ALICE.gid)).expect("chown");
    as_user(seen, folder, ALICE, |seen| {
        for name in ["writable", "readable", "own"] {
            seen.code(format!("{name}: now"), utimens(name, NOW, NOW));
            seen.code(format!("{name}: one of both now"), utimens(name, NOW, OMIT));
            seen.code(format!("{name}: some time"), utimens(name, (1, 1), (1, 1)));
            seen.code(format!("{name}: neither"), utimens(name, OMIT, OMIT));
        }
    });
}

/// On its own: whether reads change the access time is decided apart from this.
fn reads(seen: &mut Seen, folder: &Path) {
    let (path, directory, pointer) = (folder.join("file"), folder.join("directory"), folder.join("link"));
    ignore(file(&path, &[1; 5_000]));
    mkdir(&directory, 0o755).expect("mkdir");
    ignore(file(directory.join("entry"), b""));
    symlink("file", &pointer).expect("symlink");
    let old = || [&path, &directory, &pointer].map(|path| utimens(path, (1_000, 1), (2_000, 2)).expect("utimens"));
    old();
    changes_of(seen, "read", "a", &[&path], || {
        let mut text = Vec::new();
        File::open(&path).expect("open").read_to_end(&mut text).expect("read");
    });
    changes_of(seen, "a second read", "a", &[&path], || ignore(fs::read(&path).expect("read")));
    old();
    changes_of(seen, "pread at the end", "a", &[&path], || {
        ignore(File::open(&path).expect("open").read_at(&mut [0; 10], 5_000).expect("read"));
    });
    changes_of(seen, "open without a read", "a", &[&path], || ignore(File::open(&path).expect("open")));
    changes_of(seen, "listing", "a", &[&directory], || ignore(fs::read_dir(&directory).expect("readdir").count()));
    changes_of(seen, "readlink", "a", &[&pointer], || ignore(fs::read_link(&pointer).expect("readlink")));
    old();
    changes_of(seen, "O_NOATIME", "a", &[&path], || {
        ignore(open(&path, libc::O_RDONLY | libc::O_NOATIME, 0).expect("open").read(&mut [0; 10]).expect("read"));
    });
    let (own, target) = (File::open(&path).expect("open"), file(folder.join("copy"), b""));
    old();
    changes_of(seen, "copy_file_range, the source", "a", &[&path], || {
        ignore(copy(&own, 0, &target, 0, 5_000).expect("copy"))
    });
}
