//! Files and directories that have lost their last name while somebody uses them, on one mount and on two.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use cairn_cluster_tests::harness::{DevCluster, drop_caches};

use super::seen::Seen;
use super::sys::{
    c, child, chmod, copy, done, fallocate, file, ftruncate, getxattr, ignore, link, linkat, mkdir, open, pwrite,
    rename, rmdir, setxattr, unlink, utimens,
};
use super::{Case, Case2};

pub(super) const CASES: &[(&str, Case)] = &[
    ("unlinked and open", unlinked),
    ("replaced and open", replaced),
    ("unlinked and run or mapped", mapped),
    ("working directories that are removed", working_directory),
];
pub(super) const CASES_OF_TWO: &[(&str, Case2)] =
    &[("unlinked on one mount, open on both", on_two), ("removed on one mount, used on the other", directories_on_two)];

fn unlinked(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    let own = file(&path, &[1; 20_000]);
    let second = open(&path, libc::O_RDONLY, 0).expect("open");
    setxattr(&path, "user.a", b"kept", 0).expect("setxattr");
    unlink(&path).expect("unlink");
    seen.code("its name", fs::metadata(&path));
    seen.got("links", own.metadata().map(|found| found.nlink()));
    seen.got("write", pwrite(&own, &[2; 5_000], 18_000));
    seen.got("size to another descriptor", second.metadata().map(|found| found.len()));
    let mut bytes = vec![0; 5_000];
    seen.got("read by another descriptor", second.read_at(&mut bytes, 18_000));
    seen.is("its bytes", bytes.iter().all(|byte| *byte == 2));
    seen.code("fsync", own.sync_all());
    seen.code("ftruncate", ftruncate(&own, 100_000));
    seen.code("fallocate", fallocate(&own, 0, 0, 200_000));
    let proc = format!("/proc/self/fd/{}", own.as_raw_fd());
    seen.code("fchmod", chmod(&proc, 0o600));
    let mut value = [0; 10];
    // SAFETY: the value has that length.
    let length =
        unsafe { libc::fgetxattr(own.as_raw_fd(), c"user.a".as_ptr(), value.as_mut_ptr().cast(), value.len()) as i64 };
    seen.got("its attribute", done(length));
    // SAFETY: name and value live.
    let set = unsafe { libc::fsetxattr(own.as_raw_fd(), c"user.b".as_ptr(), b"1".as_ptr().cast(), 1, 0) };
    seen.code("another attribute", done(set));
    seen.code("a link to it", linkat(&proc, folder.join("again"), libc::AT_SYMLINK_FOLLOW));
    seen.code("a new open", open(&proc, libc::O_RDWR, 0));
    let target = file(folder.join("target"), b"");
    seen.got("copy from it", copy(&own, 0, &target, 0, 20_000));
    let times = [libc::timespec { tv_sec: 5, tv_nsec: 5 }; 2];
    // SAFETY: the times live.
    seen.code("times", done(unsafe { libc::futimens(own.as_raw_fd(), times.as_ptr()) }));
    drop_caches();
    let mut all = Vec::new();
    seen.got("read without caches", (&second).read_to_end(&mut all));
    seen.is("its sum", all.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    let found = own.metadata().expect("fstat");
    seen.is("after all", format!("{} {:o} {} {}", found.len(), found.mode(), found.mtime(), found.nlink()));
    // Another file of the name is another.
    ignore(file(&path, b"new"));
    seen.is("another inode", fs::metadata(&path).expect("stat").ino() != found.ino());
    seen.got("the old size", own.metadata().map(|found| found.len()));
    // Of many names the last counts.
    let own = file(folder.join("one"), b"content");
    link(folder.join("one"), folder.join("two")).expect("link");
    unlink(folder.join("one")).expect("unlink");
    seen.got("one name left", own.metadata().map(|found| found.nlink()));
    let proc = format!("/proc/self/fd/{}", own.as_raw_fd());
    seen.code("a link to what has a name", linkat(&proc, folder.join("three"), libc::AT_SYMLINK_FOLLOW));
    // Created and unlinked in one go, many times, as temporary files are.
    let mut held = Vec::new();
    for number in 0..20_u8 {
        let own = file(folder.join("temporary"), &[number; 1_000]);
        unlink(folder.join("temporary")).expect("unlink");
        held.push(own);
    }
    let right = held.iter().enumerate().all(|(number, own)| {
        let mut bytes = [0; 1_000];
        own.read_exact_at(&mut bytes, 0).is_ok() && bytes == [number as u8; 1_000]
    });
    seen.is("all of them have their bytes", right);
}

fn replaced(seen: &mut Seen, folder: &Path) {
    let (path, new) = (folder.join("file"), folder.join("new"));
    let own = file(&path, b"old content");
    ignore(file(&new, b"new content"));
    rename(&new, &path, 0).expect("rename");
    seen.got("by name", fs::read_to_string(&path));
    let mut bytes = [0; 11];
    own.read_exact_at(&mut bytes, 0).expect("read");
    seen.is("by descriptor", String::from_utf8_lossy(&bytes));
    seen.got("write to the old", pwrite(&own, b"OLD", 0));
    seen.got("links", own.metadata().map(|found| found.nlink()));
    seen.got("by name", fs::read_to_string(&path));
    drop(own);
    seen.got("by name in the end", fs::read_to_string(&path));
}

fn mapped(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    let own = file(&path, &[4; 8_192]);
    let mapping = super::mappings::Mapping::shared(&own, 8_192);
    drop(own);
    unlink(&path).expect("unlink");
    drop_caches();
    seen.is("read of a mapping without name and descriptor", mapping.load(5_000));
    mapping.store(5_000, 7);
    seen.code("msync", mapping.sync());
    seen.is("read of it again", mapping.load(5_000));
    fs::copy("/usr/bin/sleep", folder.join("sleep")).expect("copy");
    let mut running = std::process::Command::new(folder.join("sleep")).arg("0.3").spawn().expect("starts");
    unlink(folder.join("sleep")).expect("unlink");
    drop_caches();
    seen.got("a program without a name ends", running.wait().map(|status| status.to_string()));
}

fn working_directory(seen: &mut Seen, folder: &Path) {
    mkdir(folder.join("gone"), 0o755).expect("mkdir");
    mkdir(folder.join("gone/inner"), 0o755).expect("mkdir");
    let end = child(seen, &folder.join("gone/inner"), None, |seen| {
        rmdir("../inner").expect("rmdir");
        used(seen, "removed");
        seen.code("rmdir of the parent", rmdir("../../gone"));
    });
    seen.is("the end", end);
    seen.code("gone is empty", rmdir(folder.join("gone")));
}

/// What can be done in a working directory without a name.
fn used(seen: &mut Seen, what: &str) {
    seen.code(format!("{what}: its path"), std::env::current_dir());
    seen.code(format!("{what}: listing"), fs::read_dir(".").and_then(|mut entries| entries.next().transpose()));
    seen.code(format!("{what}: create"), open("new", libc::O_CREAT | libc::O_RDWR, 0o644));
    seen.code(format!("{what}: mkdir"), mkdir("new", 0o755));
    seen.code(format!("{what}: symlink"), super::sys::symlink("x", "new"));
    seen.code(format!("{what}: link into it"), link("/proc/version", "new"));
    seen.got(format!("{what}: links"), fs::metadata(".").map(|found| found.nlink()));
    seen.code(format!("{what}: dot dot"), fs::metadata(".."));
    seen.code(format!("{what}: chmod"), chmod(".", 0o700));
    seen.code(format!("{what}: times"), utimens(".", (1, 1), (1, 1)));
    seen.code(format!("{what}: out of it"), std::env::set_current_dir(".."));
}

fn on_two(seen: &mut Seen, one: &Path, two: &Path) {
    let (here, there) = (one.join("file"), two.join("file"));
    ignore(file(&here, &[1; 100_000]));
    let (mine, theirs) = (open(&here, libc::O_RDWR, 0).expect("open"), open(&there, libc::O_RDWR, 0).expect("open"));
    unlink(&here).expect("unlink");
    seen.code("its name there", fs::metadata(&there));
    seen.got("links there", theirs.metadata().map(|found| found.nlink()));
    seen.got("links here", mine.metadata().map(|found| found.nlink()));
    let mut bytes = vec![0; 100_000];
    seen.code("read there", theirs.read_exact_at(&mut bytes, 0));
    seen.is("bytes there", bytes.iter().all(|byte| *byte == 1));
    seen.got("write there", pwrite(&theirs, &[2; 10], 5));
    seen.code("read here", mine.read_exact_at(&mut bytes[..20], 0));
    seen.is("bytes here", format!("{:?}", &bytes[..20]));
    seen.got("write here", pwrite(&mine, &[3; 10], 200_000));
    seen.got("size there", theirs.metadata().map(|found| found.len()));
    seen.code("ftruncate there", ftruncate(&theirs, 12));
    seen.got("size here", mine.metadata().map(|found| found.len()));
    drop(mine);
    drop_caches();
    seen.code("read there without caches", theirs.read_exact_at(&mut bytes[..12], 0));
    seen.is("bytes there without caches", format!("{:?}", &bytes[..12]));
    seen.code("fsync there", theirs.sync_all());
    drop(theirs);
    // Opened there for reading only, replaced here.
    ignore(file(&here, b"old"));
    let mut theirs = open(&there, libc::O_RDONLY, 0).expect("open");
    ignore(file(one.join("new"), b"new"));
    rename(one.join("new"), &here, 0).expect("rename");
    let mut text = String::new();
    seen.code("the replaced one there", theirs.read_to_string(&mut text));
    seen.is("its text", text);
    seen.got("the new one there", fs::read_to_string(&there));
    // A mapping keeps it, too.
    ignore(file(&here, &[6; 8_192]));
    let own = open(&there, libc::O_RDWR, 0).expect("open");
    let mapping = super::mappings::Mapping::shared(&own, 8_192);
    drop(own);
    unlink(&here).expect("unlink");
    drop_caches();
    seen.is("a mapping there", mapping.load(5_000));
    // Appended there after it has lost its name here.
    ignore(file(&here, b"start"));
    let mut theirs = File::options().append(true).read(true).open(&there).expect("open");
    unlink(&here).expect("unlink");
    seen.code("append there", theirs.write_all(b" end"));
    let mut bytes = [0; 9];
    seen.code("read of the append", theirs.read_exact_at(&mut bytes, 0));
    seen.is("text of the append", String::from_utf8_lossy(&bytes));
    seen.code("an attribute of what has no name", getxattr(&there, "user.a"));
}

fn directories_on_two(seen: &mut Seen, one: &Path, two: &Path) {
    mkdir(one.join("directory"), 0o755).expect("mkdir");
    let held = File::open(two.join("directory")).expect("open");
    let end = child(seen, &two.join("directory"), None, |seen| {
        rmdir(one.join("directory")).expect("rmdir");
        seen.code("create", open("new", libc::O_CREAT | libc::O_RDWR, 0o644));
        seen.code("mkdir", mkdir("new", 0o755));
        seen.got("links", held.metadata().map(|found| found.nlink()));
        seen.code("out of it", std::env::set_current_dir(".."));
        seen.code("its name", fs::metadata("directory"));
    });
    seen.is("the end", end);
    // SAFETY: the name lives.
    let opened = unsafe { done(libc::openat(held.as_raw_fd(), c("x").as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o644)) };
    seen.code("create through a descriptor", opened);
}

/// The mount that has unlinked a file dies; another that has it open still has all of it, and can write.
pub(super) fn kill_of_the_mount_that_unlinked(cluster: &DevCluster) {
    let (one, two) = (cluster.mount(1), cluster.mount(2));
    fs::write(two.join("shared"), vec![5; 3_000_000]).expect("write");
    let kept = File::options().read(true).write(true).open(one.join("shared")).expect("open");
    let lost = File::options().read(true).write(true).open(two.join("shared")).expect("open");
    pwrite(&lost, b"by the dead", 1_000).expect("write");
    lost.sync_all().expect("fsync");
    fs::remove_file(two.join("shared")).expect("unlink");
    cluster.kill9("mount2");
    drop(lost);
    let check = |what: &str| {
        drop_caches();
        let mut bytes = vec![0; 3_000_000];
        kept.read_exact_at(&mut bytes, 0).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(&bytes[1_000..1_011], b"by the dead", "{what}");
        assert!(bytes[1_011..].iter().all(|byte| *byte == 5), "{what}");
        assert_eq!(kept.metadata().expect("fstat").nlink(), 0, "{what}");
    };
    check("after the kill");
    pwrite(&kept, &[6; 1_000_000], 3_000_000).expect("write");
    kept.sync_all().expect("fsync");
    assert_eq!(kept.metadata().expect("fstat").len(), 4_000_000);
    check("after a write");
    assert!(!one.join("shared").exists());
}
