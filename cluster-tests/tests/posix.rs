//! What ordinary programs do, on one mount or two: appending from both, truncating, mapping, hard
//! links, renames of every kind, sparse files, files without a name, big directories, attributes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use cairn_cluster_tests::harness::{DevCluster, drop_caches, size};
use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with};

/// A case, given the two mounts.
type Case = fn(&Path, &Path);

/// One cluster with two mounts for all of them: starting one takes longer than they do.
#[test]
fn ordinary_programs_work() {
    let cluster = DevCluster::start();
    let (one, two) = (cluster.mount(1), cluster.add_mount());
    let cases: &[(&str, Case)] = &[
        ("appends from two mounts", appends_from_two_mounts),
        ("truncation and overwriting", truncation_and_overwriting),
        ("mapped writes", mapped_writes),
        ("renames", renames),
        ("hard links", hard_links),
        ("sparse files", sparse_files),
        ("files without a name", files_without_a_name),
        ("open file replaced by the other mount", open_file_replaced),
        ("xattrs", xattrs),
        ("symlinks and nodes", symlinks_and_nodes),
        ("names", names),
        ("times and modes", times_and_modes),
        ("statfs", statfs),
        ("large file", large_file),
        ("big directory", big_directory),
    ];
    for (number, (what, case)) in cases.iter().enumerate() {
        let start = std::time::Instant::now();
        let name = format!("case{number}");
        fs::create_dir(one.join(&name)).expect("mkdir");
        case(&one.join(&name), &two.join(&name));
        eprintln!("{what}: {:?}", start.elapsed());
    }
}

fn appends_from_two_mounts(one: &Path, two: &Path) {
    let name = "log";
    File::create(one.join(name)).expect("create");
    std::thread::scope(|scope| {
        for (writer, folder) in [one, two, one, two].into_iter().enumerate() {
            scope.spawn(move || {
                let mut file = File::options().append(true).open(folder.join(name)).expect("open");
                for number in 0..50 {
                    file.write_all(format!("{writer} {number:03}\n").as_bytes()).expect("append");
                }
            });
        }
    });
    let text = fs::read_to_string(one.join(name)).expect("read");
    assert_eq!(text, fs::read_to_string(two.join(name)).expect("read"));
    let lines: BTreeSet<&str> = text.lines().collect();
    assert_eq!((text.lines().count(), lines.len()), (200, 200), "an append is lost, doubled or torn");
    for writer in 0..4 {
        let own: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("{writer} "))).collect();
        assert!(own.is_sorted(), "appends of one writer are out of order");
    }
}

fn truncation_and_overwriting(one: &Path, two: &Path) {
    let file = File::options().read(true).write(true).create_new(true).open(one.join("file")).expect("create");
    file.write_all_at(&[1; 100_000], 0).expect("write");
    file.write_all_at(&[2; 10_000], 45_000).expect("overwrite");
    file.set_len(50_000).expect("truncate");
    file.set_len(60_000).expect("extend");
    let expected = [[1; 45_000].as_slice(), &[2; 5_000], &[0; 10_000]].concat();
    assert!(fs::read(two.join("file")).expect("read") == expected, "seen while it is open for writing");
    drop(file);
    assert!(fs::read(one.join("file")).expect("read") == expected);
    fs::write(two.join("file"), b"short").expect("O_TRUNC");
    assert_eq!(fs::read(one.join("file")).expect("read"), b"short");
    assert_eq!(fs::metadata(one.join("file")).expect("stat").len(), 5);
}

fn mapped_writes(one: &Path, two: &Path) {
    const BYTES: usize = 40_000;
    let path = one.join("mapped");
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("create");
    file.write_all_at(&[5; BYTES], 0).expect("write");
    // SAFETY: the mapping is used only here and is as long as the file.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let start = libc::mmap(std::ptr::null_mut(), BYTES, protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        let bytes = std::slice::from_raw_parts_mut(start.cast::<u8>(), BYTES);
        assert!(bytes.iter().all(|byte| *byte == 5));
        bytes[10_000..20_000].fill(6);
        assert_eq!(libc::msync(start, BYTES, libc::MS_SYNC), 0);
        let expected = [[5; 10_000].as_slice(), &[6; 10_000], &[5; 20_000]].concat();
        assert!(fs::read(two.join("mapped")).expect("read") == expected, "seen after msync");
        bytes[0] = 7;
        libc::munmap(start, BYTES);
    }
    drop(file);
    assert_eq!(fs::read(two.join("mapped")).expect("read")[0], 7, "seen after munmap and close");
}

fn renames(one: &Path, two: &Path) {
    let read = |folder: &Path, name: &str| fs::read_to_string(folder.join(name)).map_err(|e| e.kind());
    fs::write(one.join("a"), "a").expect("write");
    fs::write(one.join("b"), "b").expect("write");
    fs::rename(one.join("a"), one.join("b")).expect("replace");
    assert_eq!((read(two, "a"), read(two, "b")), (Err(io::ErrorKind::NotFound), Ok("a".into())));
    fs::write(two.join("c"), "c").expect("write");
    let rename = |flags| renameat_with(CWD, one.join("b"), CWD, one.join("c"), flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(rustix::io::Errno::EXIST));
    rename(RenameFlags::EXCHANGE).expect("exchange");
    assert_eq!((read(two, "b"), read(two, "c")), (Ok("c".into()), Ok("a".into())));
    fs::create_dir_all(one.join("d/e")).expect("mkdir");
    fs::create_dir(one.join("full")).expect("mkdir");
    fs::write(one.join("full/x"), "x").expect("write");
    let code = |result: io::Result<()>| result.expect_err("refused").raw_os_error();
    assert_eq!(code(fs::rename(one.join("d"), one.join("d/e/f"))), Some(libc::EINVAL), "into itself");
    assert_eq!(code(fs::rename(one.join("d"), one.join("full"))), Some(libc::ENOTEMPTY));
    assert_eq!(code(fs::rename(one.join("d"), one.join("b"))), Some(libc::ENOTDIR));
    assert_eq!(code(fs::rename(one.join("b"), one.join("d"))), Some(libc::EISDIR));
    fs::rename(one.join("full"), one.join("d/e")).expect("over an empty directory");
    assert_eq!(read(two, "d/e/x"), Ok("x".into()));
    assert_eq!(fs::metadata(two.join("d")).expect("stat").nlink(), 3);
}

fn hard_links(one: &Path, two: &Path) {
    fs::write(one.join("a"), "first").expect("write");
    fs::hard_link(one.join("a"), one.join("b")).expect("link");
    fs::write(two.join("b"), "second").expect("write through the other name");
    assert_eq!(fs::read_to_string(one.join("a")).expect("read"), "second");
    let (a, b) = (fs::metadata(two.join("a")).expect("stat"), fs::metadata(two.join("b")).expect("stat"));
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    fs::remove_file(one.join("a")).expect("unlink");
    assert_eq!(fs::metadata(two.join("b")).expect("stat").nlink(), 1);
    assert_eq!(fs::read_to_string(two.join("b")).expect("read"), "second");
}

fn sparse_files(one: &Path, two: &Path) {
    let file = File::create_new(one.join("sparse")).expect("create");
    file.write_all_at(b"end", (1 << 40) - 3).expect("write at 1 TiB");
    file.write_all_at(b"middle", 5_000_000).expect("write");
    drop(file);
    let metadata = fs::metadata(two.join("sparse")).expect("stat");
    assert_eq!(metadata.len(), 1 << 40);
    assert!(metadata.blocks() < 10_000, "holes take no space: {} blocks", metadata.blocks());
    let file = File::open(two.join("sparse")).expect("open");
    let mut bytes = [9; 20];
    file.read_exact_at(&mut bytes, 4_999_993).expect("read");
    assert_eq!(&bytes, b"\0\0\0\0\0\0\0middle\0\0\0\0\0\0\0");
    file.read_exact_at(&mut bytes, (1 << 40) - 20).expect("read");
    assert_eq!(&bytes, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0end");
    // As far as Linux allows, and no search walks through the nothing before it.
    let far = File::options().read(true).write(true).create_new(true).open(one.join("far")).expect("create");
    let last = i64::MAX as u64 - 1;
    far.write_all_at(b"x", last).expect("write at the largest offset");
    let begun = std::time::Instant::now();
    assert_eq!(rustix::fs::seek(&far, rustix::fs::SeekFrom::Data(0)), Ok(last));
    assert_eq!(rustix::fs::seek(&far, rustix::fs::SeekFrom::Hole(1)), Ok(1));
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "a search of {:?}", begun.elapsed());
}

fn files_without_a_name(one: &Path, two: &Path) {
    let mut file = File::options().read(true).write(true).create_new(true).open(one.join("gone")).expect("create");
    file.write_all(&[3; 300_000]).expect("write");
    fs::remove_file(two.join("gone")).expect("unlink on the other mount");
    assert_eq!(fs::metadata(one.join("gone")).map_err(|e| e.kind()).err(), Some(io::ErrorKind::NotFound));
    file.seek(SeekFrom::End(0)).expect("seek");
    file.write_all(&[4; 10]).expect("a file without a name can be written");
    file.sync_all().expect("and synced");
    drop_caches();
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("seek");
    file.read_to_end(&mut bytes).expect("and read");
    assert!(bytes == [[3; 300_000].as_slice(), &[4; 10]].concat());
    assert_eq!(file.metadata().expect("fstat").nlink(), 0);
    // Reading on one mount while it is unlinked on the other.
    fs::write(one.join("read"), [5; 200_000]).expect("write");
    let reader = File::open(two.join("read")).expect("open");
    fs::remove_file(one.join("read")).expect("unlink");
    let mut bytes = vec![0; 200_000];
    reader.read_exact_at(&mut bytes, 0).expect("kept until the last close on any mount");
    assert!(bytes == [5; 200_000]);
}

fn open_file_replaced(one: &Path, two: &Path) {
    fs::write(one.join("config"), "old").expect("write");
    let old = File::open(one.join("config")).expect("open");
    fs::write(two.join("config.new"), "new").expect("write");
    fs::rename(two.join("config.new"), two.join("config")).expect("replace");
    assert_eq!(fs::read_to_string(one.join("config")).expect("read"), "new");
    let mut bytes = [0; 3];
    old.read_exact_at(&mut bytes, 0).expect("the old file is still open");
    assert_eq!(&bytes, b"old");
}

fn xattrs(one: &Path, two: &Path) {
    fs::write(one.join("file"), "x").expect("write");
    let (here, there) = (one.join("file"), two.join("file"));
    let get = |name: &str| {
        let mut value = vec![0; 70_000];
        rustix::fs::getxattr(&there, name, &mut value[..]).map(|length| value[..length].to_vec())
    };
    rustix::fs::setxattr(&here, "user.one", b"1", XattrFlags::empty()).expect("set");
    rustix::fs::setxattr(&here, "user.big", &[7; 60_000], XattrFlags::CREATE).expect("set");
    assert_eq!(get("user.one"), Ok(b"1".to_vec()));
    assert_eq!(get("user.big"), Ok(vec![7; 60_000]));
    let set = |flags| rustix::fs::setxattr(&there, "user.one", b"2", flags);
    assert_eq!(set(XattrFlags::CREATE), Err(rustix::io::Errno::EXIST));
    set(XattrFlags::REPLACE).expect("replace");
    assert_eq!(get("user.one"), Ok(b"2".to_vec()));
    let mut list = vec![0; 1_000];
    let length = rustix::fs::listxattr(&here, &mut list[..]).expect("list");
    let names: BTreeSet<&[u8]> = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    assert_eq!(names, BTreeSet::from([b"user.one".as_slice(), b"user.big"]));
    rustix::fs::removexattr(&here, "user.one").expect("remove");
    assert_eq!(get("user.one"), Err(rustix::io::Errno::NODATA));
    assert_eq!(rustix::fs::removexattr(&there, "user.one"), Err(rustix::io::Errno::NODATA));
    let refused = |name: &str| rustix::fs::setxattr(&here, name, b"1", XattrFlags::empty()).expect_err(name);
    assert_eq!(refused("nowhere.a"), rustix::io::Errno::OPNOTSUPP);
    assert_eq!(refused("user."), rustix::io::Errno::INVAL);
}

fn symlinks_and_nodes(one: &Path, two: &Path) {
    fs::create_dir(one.join("dir")).expect("mkdir");
    fs::write(one.join("dir/file"), "through").expect("write");
    symlink("dir/file", one.join("link")).expect("symlink");
    symlink("x".repeat(4_000), one.join("long")).expect("a long target");
    assert_eq!(fs::read_to_string(two.join("link")).expect("read"), "through");
    assert_eq!(fs::read_link(two.join("long")).expect("readlink").as_os_str().len(), 4_000);
    assert_eq!(fs::symlink_metadata(two.join("link")).expect("lstat").len(), 8);
    rustix::fs::mknodat(CWD, one.join("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0).expect("mkfifo");
    let metadata = fs::metadata(two.join("fifo")).expect("stat");
    assert!(metadata.file_type().is_fifo());
    assert_eq!(metadata.mode() & 0o7777, 0o640);
}

fn names(one: &Path, two: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let longest = "n".repeat(255);
    for name in [longest.as_bytes(), b"\xff\xfe", b"new\nline", b" ", b"..."] {
        let name = std::ffi::OsStr::from_bytes(name);
        fs::write(one.join(name), "x").expect("create");
        assert!(two.join(name).exists(), "{name:?}");
    }
    let error = File::create(one.join("n".repeat(256))).expect_err("too long");
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    assert_eq!(fs::read_dir(two).expect("readdir").count(), 5);
    assert_eq!(fs::remove_dir(one).expect_err("not empty").raw_os_error(), Some(libc::ENOTEMPTY));
}

fn times_and_modes(one: &Path, two: &Path) {
    let file = File::create(one.join("file")).expect("create");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time)).expect("utimens");
    drop(file);
    assert_eq!(fs::metadata(two.join("file")).expect("stat").modified().expect("mtime"), time);
    fs::set_permissions(one.join("file"), fs::Permissions::from_mode(0o4755)).expect("chmod");
    std::os::unix::fs::chown(one.join("file"), Some(1_234), Some(4_321)).expect("chown");
    let metadata = fs::metadata(two.join("file")).expect("stat");
    assert_eq!((metadata.uid(), metadata.gid()), (1_234, 4_321));
    let before = fs::metadata(two).expect("stat").modified().expect("mtime");
    fs::write(one.join("another"), "x").expect("create");
    assert!(fs::metadata(two).expect("stat").modified().expect("mtime") > before, "a create changes the directory");
}

fn statfs(one: &Path, _: &Path) {
    let space = rustix::fs::statvfs(one).expect("statvfs");
    assert!(space.f_blocks > 0 && space.f_bavail > 0 && space.f_bavail <= space.f_blocks);
    assert_eq!(space.f_namemax, 255);
}

fn large_file(one: &Path, two: &Path) {
    let bytes: Vec<u8> = (0..(20 << 20) + 12_345_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(one.join("large"), &bytes).expect("write");
    drop_caches();
    assert!(fs::read(two.join("large")).expect("read") == bytes);
    let file = File::open(two.join("large")).expect("open");
    for start in [0, 4 << 20, (8 << 20) - 3, (20 << 20) + 12_340] {
        let mut part = vec![0; 5];
        file.read_exact_at(&mut part, start as u64).expect("read");
        assert_eq!(part, bytes[start..start + 5], "at {start}");
    }
}

/// Every entry that stays is listed exactly once, however many others come and go meanwhile.
fn big_directory(one: &Path, two: &Path) {
    let files = size("CAIRN_DIRECTORY_FILES", 3_000);
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for number in (part..files).step_by(4) {
                    File::create(one.join(format!("entry{number:06}"))).expect("create");
                }
            });
        }
    });
    assert_eq!(fs::read_dir(two).expect("readdir").count(), files);
    // Every second one goes while the other mount lists.
    let mut listed = Vec::new();
    let mut entries = fs::read_dir(two).expect("readdir");
    listed.extend(entries.by_ref().take(files / 10).map(|entry| entry.expect("entry").file_name()));
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for number in (1 + 2 * part..files).step_by(8) {
                    fs::remove_file(one.join(format!("entry{number:06}"))).expect("unlink");
                }
            });
        }
        listed.extend(entries.map(|entry| entry.expect("entry").file_name()));
    });
    let distinct: BTreeSet<_> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len(), "an entry is listed twice");
    for number in (0..files).step_by(2) {
        let name = format!("entry{number:06}");
        assert!(distinct.contains(&std::ffi::OsString::from(&name)), "{name} stays and is not listed");
    }
    assert_eq!(fs::read_dir(one).expect("readdir").count(), files.div_ceil(2));
    fs::remove_dir_all(one).expect("rm -r");
    assert!(!two.exists());
    fs::create_dir(one).expect("mkdir again");
}
