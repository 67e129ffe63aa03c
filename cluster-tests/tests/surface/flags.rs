//! Flags of open(2), what a descriptor allows, and small calls beside them.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use super::Case;
use super::seen::{Seen, code};
use super::sys::{
    ALICE, as_user, c, chmod, chown, done, fallocate, file, ftruncate, ignore, linkat, lseek, mkdir, open, pwrite,
    symlink, truncate, unlink,
};

pub(super) const CASES: &[(&str, Case)] = &[
    ("open flags", opens),
    ("appends", appends),
    ("direct IO", direct),
    ("what a descriptor allows", allowed),
    ("O_PATH", paths),
    ("running programs", running),
    ("openat2", openat2),
    ("statx", statx),
    ("splices and vectors", splices),
    ("ioctls and advice", ioctls),
];

fn opens(seen: &mut Seen, folder: &Path) {
    use libc::{
        O_APPEND, O_CREAT, O_DIRECTORY, O_DSYNC, O_EXCL, O_NOATIME, O_NOFOLLOW, O_RDONLY, O_RDWR, O_SYNC, O_TMPFILE,
        O_TRUNC, O_WRONLY,
    };
    let at = |name: &str| folder.join(name);
    mkdir(at("directory"), 0o755).expect("mkdir");
    symlink("file", at("link")).expect("symlink");
    symlink("nowhere", at("dangling")).expect("symlink");
    symlink("directory", at("way")).expect("symlink");
    let flags = [
        ("O_RDONLY", O_RDONLY),
        ("O_WRONLY", O_WRONLY),
        ("O_RDWR", O_RDWR),
        ("3", 3),
        ("O_CREAT", O_RDWR | O_CREAT),
        ("O_CREAT, for reading", O_RDONLY | O_CREAT),
        ("O_EXCL", O_RDWR | O_CREAT | O_EXCL),
        ("O_EXCL alone", O_RDWR | O_EXCL),
        ("O_TRUNC", O_RDWR | O_TRUNC),
        ("O_TRUNC, for reading", O_RDONLY | O_TRUNC),
        ("O_CREAT, O_TRUNC", O_RDWR | O_CREAT | O_TRUNC),
        ("O_APPEND, O_TRUNC", O_RDWR | O_APPEND | O_TRUNC),
        ("O_NOFOLLOW", O_RDWR | O_NOFOLLOW),
        ("O_NOFOLLOW, O_CREAT", O_RDWR | O_NOFOLLOW | O_CREAT),
        ("O_DIRECTORY", O_RDONLY | O_DIRECTORY),
        ("O_DIRECTORY, for writing", O_RDWR | O_DIRECTORY),
        ("O_DIRECTORY, O_CREAT", O_RDWR | O_DIRECTORY | O_CREAT),
        ("O_DIRECTORY, O_NOFOLLOW", O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
        ("O_SYNC", O_RDWR | O_SYNC),
        ("O_DSYNC", O_RDWR | O_DSYNC),
        ("O_NOATIME", O_RDWR | O_NOATIME),
    ];
    for (what, flags) in flags {
        for name in ["file", "directory", "link", "dangling", "way", "new", "file/", "way/"] {
            ignore(file(at("file"), b"content"));
            let opened = open(at(name), flags, 0o640);
            let shown = opened.as_ref().ok().map(|own| {
                // SAFETY: the descriptor is open.
                let told = unsafe { libc::fcntl(own.as_raw_fd(), libc::F_GETFL) };
                format!(
                    " {told:o} {} {:o}",
                    own.metadata().expect("stat").len().min(100),
                    own.metadata().expect("stat").mode()
                )
            });
            // What a directory's size is differs by file system.
            let shown = if name == "directory" || name.starts_with("way") { None } else { shown };
            seen.is(format!("{what}: {name}"), format!("{}{}", code(opened), shown.unwrap_or_default()));
            let _ = unlink(at("new"));
            let _ = unlink(at("nowhere"));
        }
    }
    seen.code("O_TMPFILE", open(folder, O_RDWR | O_TMPFILE, 0o600));
    seen.code("O_TMPFILE, for reading", open(folder, O_RDONLY | O_TMPFILE, 0o600));
    seen.code("O_TMPFILE in a file", open(at("file"), O_RDWR | O_TMPFILE, 0o600));
    chmod(at("file"), 0o666).expect("chmod");
    as_user(seen, folder, ALICE, |seen| {
        seen.code("O_NOATIME by another", open("file", O_RDONLY | O_NOATIME, 0));
        let own = open("file", O_RDONLY, 0).expect("open");
        // SAFETY: the descriptor is open.
        seen.code("O_NOATIME later", unsafe { done(libc::fcntl(own.as_raw_fd(), libc::F_SETFL, O_NOATIME)) });
        seen.code("O_CREAT of what is there", open("file", O_RDWR | O_CREAT, 0o600));
        ignore(open("alices", O_RDWR | O_CREAT, 0o444).expect("create"));
        seen.code("a second O_CREAT of what may not be written", open("alices", O_RDWR | O_CREAT, 0o444));
        seen.code("O_TRUNC of what may not be written", open("alices", O_RDONLY | O_TRUNC, 0));
    });
}

fn write(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    file.write(bytes)
}

fn appends(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    ignore(file(&path, b"start "));
    let own = open(&path, libc::O_RDWR | libc::O_APPEND, 0).expect("open");
    seen.got("append", write(&own, b"one "));
    seen.got("position", lseek(&own, 0, libc::SEEK_CUR));
    lseek(&own, 0, libc::SEEK_SET).expect("seek");
    seen.got("append after a seek", write(&own, b"two "));
    seen.got("position", lseek(&own, 0, libc::SEEK_CUR));
    // As on every Linux, pwrite does not go where it says.
    seen.got("pwrite", pwrite(&own, b"three ", 0));
    seen.got("position", lseek(&own, 0, libc::SEEK_CUR));
    let plain = open(&path, libc::O_RDWR, 0).expect("open");
    pwrite(&plain, b"S", 0).expect("write");
    lseek(&plain, 0, libc::SEEK_END).expect("seek");
    write(&plain, b"four ").expect("write");
    seen.got("append behind another's write", write(&own, b"five "));
    seen.got("content", fs::read_to_string(&path));
    ftruncate(&own, 3).expect("truncate");
    seen.got("append after a cut", write(&own, b"six "));
    // SAFETY: the descriptor is open.
    let set = |flags: i32| unsafe { done(libc::fcntl(own.as_raw_fd(), libc::F_SETFL, flags)) };
    seen.code("O_APPEND off", set(0));
    seen.got("pwrite without it", pwrite(&own, b"X", 0));
    seen.got("content", fs::read_to_string(&path));
    // SAFETY: the descriptor is open.
    seen.code("O_APPEND on", unsafe { done(libc::fcntl(plain.as_raw_fd(), libc::F_SETFL, libc::O_APPEND)) });
    lseek(&plain, 0, libc::SEEK_SET).expect("seek");
    seen.got("append then", write(&plain, b"seven "));
    seen.got("pwrite then", pwrite(&plain, b"eight", 1));
    drop((own, plain));
    seen.got("content", fs::read_to_string(&path));
    let direct = open(&path, libc::O_RDWR | libc::O_APPEND | libc::O_SYNC, 0).expect("open");
    seen.got("append, synchronous", write(&direct, b" nine"));
    seen.got("content", fs::read_to_string(&path));
}

/// A page of memory, for direct IO.
pub(super) fn aligned_page() -> impl AsRef<[u8]> {
    Aligned::new(4_096)
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + 4_096]
    }
}

/// Memory that starts at a page.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new(length: usize) -> Self {
        let bytes = vec![0; length + 8_192];
        let start = bytes.as_ptr().align_offset(4_096);
        Self { bytes, start }
    }

    fn part(&mut self, from: usize, length: usize) -> &mut [u8] {
        &mut self.bytes[self.start + from..self.start + from + length]
    }
}

fn direct(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    let mut memory = Aligned::new(65_536);
    let own = open(&path, libc::O_RDWR | libc::O_CREAT | libc::O_DIRECT, 0o644).expect("open");
    memory.part(0, 65_536).fill(7);
    seen.got("aligned write", pwrite(&own, memory.part(0, 65_536), 0));
    seen.got("aligned write behind a hole", pwrite(&own, memory.part(0, 4_096), 131_072));
    memory.part(0, 65_536).fill(0);
    seen.got("aligned read", own.read_at(memory.part(0, 8_192), 4_096));
    seen.is("its bytes", memory.part(0, 8_192).iter().all(|byte| *byte == 7));
    seen.got("read over the end", own.read_at(memory.part(0, 65_536), 131_072));
    seen.got("read behind the end", own.read_at(memory.part(0, 4_096), 1 << 20));
    seen.got("write at an odd offset", pwrite(&own, memory.part(0, 4_096), 100));
    seen.got("write of an odd length", pwrite(&own, memory.part(0, 100), 0));
    seen.got("write from odd memory", pwrite(&own, memory.part(1, 4_096), 0));
    seen.got("read at an odd offset", own.read_at(memory.part(0, 4_096), 100));
    seen.got("size", own.metadata().map(|found| found.len()));
    // With a neighbour that uses the kernel's pages.
    let cached = open(&path, libc::O_RDWR, 0).expect("open");
    cached.read_at(&mut [0; 4_096], 0).expect("read");
    memory.part(0, 4_096).fill(8);
    seen.got("write below a neighbour's pages", pwrite(&own, memory.part(0, 4_096), 0));
    let mut bytes = [0; 4];
    cached.read_at(&mut bytes, 0).expect("read");
    seen.is("the neighbour reads it", format!("{bytes:?}"));
    pwrite(&cached, &[9; 4_096], 4_096).expect("write");
    own.read_at(memory.part(0, 4_096), 4_096).expect("read");
    seen.is("and is read", memory.part(0, 4_096).iter().all(|byte| *byte == 9));
    // SAFETY: the descriptor is open.
    seen.code("switched on later", unsafe { done(libc::fcntl(cached.as_raw_fd(), libc::F_SETFL, libc::O_DIRECT)) });
    seen.got("then read", cached.read_at(memory.part(0, 4_096), 4_096));
    // What is cut off in the middle of a sector can be read directly.
    ftruncate(&own, 5_000).expect("truncate");
    seen.got("read of an odd end", own.read_at(memory.part(0, 8_192), 0));
}

fn allowed(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    ignore(file(&path, b"content"));
    let directory = File::open(folder).expect("open");
    for (what, flags) in
        [("reading", libc::O_RDONLY), ("writing", libc::O_WRONLY), ("both", libc::O_RDWR), ("neither", 3)]
    {
        let own = open(&path, flags, 0).expect("open");
        let mut is = |call: &str, text: String| seen.is(format!("for {what}: {call}"), text);
        is("read", code((&own).read(&mut [0; 3])));
        is("write", code(write(&own, b"x")));
        is("ftruncate", code(ftruncate(&own, 7)));
        is("fallocate", code(fallocate(&own, 0, 0, 10)));
        is("fsync", code(own.sync_all()));
        is("fdatasync", code(own.sync_data()));
        is("fchmod", code(own.set_permissions(fs::Permissions::from_mode(0o644))));
        is("copy to itself", code(super::sys::copy(&own, 0, &own, 20, 3)));
        for (how, protection, kind) in [
            ("shared, to read", libc::PROT_READ, libc::MAP_SHARED),
            ("shared, to write", libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED),
            ("private, to write", libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE),
        ] {
            // SAFETY: a new mapping, which is not used.
            let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 4_096, protection, kind, own.as_raw_fd(), 0) };
            is(
                how,
                if mapped == libc::MAP_FAILED { code::<(), _>(Err(io::Error::last_os_error())) } else { "ok".into() },
            );
        }
        // SAFETY: the descriptor is open.
        let dup = unsafe { done(libc::fcntl(own.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100)) };
        is("dup", code(dup));
    }
    seen.code("read of a directory", (&directory).read(&mut [0; 3]));
    seen.code("pread of a directory", directory.read_at(&mut [0; 3], 0));
    seen.code("write to a directory", write(&directory, b"x"));
    seen.code("ftruncate of a directory", ftruncate(&directory, 0));
    seen.code("fsync of a directory", directory.sync_all());
    seen.code("fallocate of a directory", fallocate(&directory, 0, 0, 10));
    seen.code("truncate of a directory", truncate(folder, 0));
    seen.code(
        "copy from a directory",
        super::sys::copy(&directory, 0, &open(&path, libc::O_RDWR, 0).expect("open"), 0, 9),
    );
    // What was allowed at open stays so.
    chmod(&path, 0o666).expect("chmod");
    as_user(seen, folder, ALICE, |seen| {
        let own = open("file", libc::O_RDWR, 0).expect("open");
        assert!(seen.len() < 1_000);
        // The folder is everybody's, so the file can be replaced but not changed by this user.
        fs::rename("file", "moved").expect("rename");
        seen.code("write after a rename", write(&own, b"y"));
        fs::rename("moved", "file").expect("rename");
    });
    chown(&path, i64::from(ALICE.uid), -1).expect("chown");
    as_user(seen, folder, ALICE, |seen| {
        let own = open("file", libc::O_RDWR, 0).expect("open");
        chmod("file", 0).expect("chmod");
        seen.code("write after chmod 0", write(&own, b"y"));
        seen.code("read after chmod 0", (&own).read(&mut [0; 2]));
        seen.code("ftruncate after chmod 0", ftruncate(&own, 2));
        seen.code("truncate after chmod 0", truncate("file", 3));
        seen.code("a new open", open("file", libc::O_RDONLY, 0));
        seen.code("a new open through the old", fs::read(format!("/proc/self/fd/{}", own.as_raw_fd())));
        seen.code("fsync", own.sync_all());
    });
}

fn paths(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    ignore(file(at("file"), b"content"));
    mkdir(at("directory"), 0o755).expect("mkdir");
    ignore(file(at("directory/inner"), b"inner"));
    symlink("file", at("link")).expect("symlink");
    let own = open(at("file"), libc::O_PATH, 0).expect("open");
    let number = own.as_raw_fd();
    seen.code("read", (&own).read(&mut [0; 3]));
    seen.code("write", write(&own, b"x"));
    seen.code("ftruncate", ftruncate(&own, 3));
    seen.code("fsync", own.sync_all());
    seen.code("seek", lseek(&own, 0, libc::SEEK_SET));
    seen.code("fchmod", own.set_permissions(fs::Permissions::from_mode(0o600)));
    seen.got("fstat", own.metadata().map(|found| found.len()));
    // SAFETY: path and descriptor live.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        seen.code("fstatat", done(libc::fstatat(number, c"".as_ptr(), &mut stat, libc::AT_EMPTY_PATH)));
        seen.is("its size", stat.st_size);
        let linked = c(at("by empty path"));
        let done_so = done(libc::linkat(number, c"".as_ptr(), libc::AT_FDCWD, linked.as_ptr(), libc::AT_EMPTY_PATH));
        seen.code("linkat of it", done_so);
    }
    let proc = format!("/proc/self/fd/{number}");
    seen.code("linkat through /proc", linkat(&proc, at("by proc"), libc::AT_SYMLINK_FOLLOW));
    seen.code("chmod through /proc", chmod(&proc, 0o640));
    seen.got("read through /proc", fs::read_to_string(&proc));
    seen.got("links", own.metadata().map(|found| format!("{} {:o}", found.nlink(), found.mode())));
    let directory = open(at("directory"), libc::O_PATH | libc::O_DIRECTORY, 0).expect("open");
    let within = |name: &CStr, flags| {
        // SAFETY: name and descriptor live.
        let opened = unsafe { done(libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, 0o644)) };
        code(opened.map(|fd| unsafe { libc::close(fd as i32) }))
    };
    seen.is("openat in it", within(c"inner", libc::O_RDONLY));
    seen.is("create in it", within(c"new", libc::O_RDWR | libc::O_CREAT));
    seen.is("listing", within(c".", libc::O_RDONLY | libc::O_DIRECTORY));
    // SAFETY: the descriptor is open.
    seen.code("getdents64", unsafe {
        done(libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), [0_u8; 99].as_mut_ptr(), 99))
    });
    let link = open(at("link"), libc::O_PATH | libc::O_NOFOLLOW, 0).expect("open");
    seen.got("a symlink itself", link.metadata().map(|found| found.file_type().is_symlink()));
    let mut target = [0_u8; 100];
    // SAFETY: the buffer has that length.
    let length = unsafe {
        done(libc::readlinkat(link.as_raw_fd(), c"".as_ptr(), target.as_mut_ptr().cast(), target.len()) as i64)
    };
    seen.got("its target", length.map(|length| String::from_utf8_lossy(&target[..length as usize]).into_owned()));
    unlink(at("file")).expect("unlink");
    seen.got("read through /proc under another name", fs::read_to_string(&proc));
    for name in ["by proc", "by empty path"] {
        let _ = unlink(at(name));
    }
    seen.got("links in the end", own.metadata().map(|found| found.nlink()));
    seen.got("read through /proc without a name", fs::read_to_string(&proc));
    seen.code("linkat through /proc without a name", linkat(&proc, at("again"), libc::AT_SYMLINK_FOLLOW));
}

fn running(seen: &mut Seen, folder: &Path) {
    let path = folder.join("sleep");
    fs::copy("/usr/bin/sleep", &path).expect("copy");
    chmod(&path, 0o755).expect("chmod");
    let mut child = Command::new(&path).arg("30").spawn().expect("starts");
    seen.code("open for writing", open(&path, libc::O_RDWR, 0));
    seen.code("open for reading", open(&path, libc::O_RDONLY, 0));
    seen.code("O_TRUNC", open(&path, libc::O_RDONLY | libc::O_TRUNC, 0));
    seen.code("truncate", truncate(&path, 0));
    seen.code("rename", super::sys::rename(&path, folder.join("renamed"), 0));
    seen.code("unlink", unlink(folder.join("renamed")));
    seen.is("still runs", child.try_wait().expect("wait").is_none());
    child.kill().expect("kill");
    child.wait().expect("wait");
    fs::copy("/usr/bin/true", &path).expect("copy");
    chmod(&path, 0o755).expect("chmod");
    let writer = open(&path, libc::O_RDWR, 0).expect("open");
    seen.code("exec of what is open for writing", Command::new(&path).status());
    drop(writer);
    seen.got("exec after its close", Command::new(&path).status().map(|status| status.to_string()));
    fs::write(&path, "#!/bin/sh\nexit 3\n").expect("write");
    seen.got("exec of a script", Command::new(&path).status().map(|status| status.to_string()));
    fs::write(&path, "no program").expect("write");
    seen.code("exec of no program", Command::new(&path).status());
    seen.code("exec of a directory", Command::new(folder).status());
}

fn openat2(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    mkdir(at("directory"), 0o755).expect("mkdir");
    ignore(file(at("directory/file"), b""));
    ignore(file(at("outside"), b""));
    symlink("../outside", at("directory/up")).expect("symlink");
    symlink("file", at("directory/link")).expect("symlink");
    symlink("/etc/passwd", at("directory/absolute")).expect("symlink");
    let directory = File::open(at("directory")).expect("open");
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    for (what, how) in [
        ("NO_SYMLINKS", ResolveFlags::NO_SYMLINKS),
        ("BENEATH", ResolveFlags::BENEATH),
        ("IN_ROOT", ResolveFlags::IN_ROOT),
        ("NO_XDEV", ResolveFlags::NO_XDEV),
    ] {
        for name in ["file", "up", "link", "absolute", "../outside", "."] {
            seen.code(format!("{what}: {name}"), openat2(&directory, name, OFlags::RDONLY, Mode::empty(), how));
        }
    }
}

fn statx(seen: &mut Seen, folder: &Path) {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let own = file(folder.join("file"), &[1; 5_000]);
    own.sync_all().expect("fsync");
    let all = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    let found = statx(&own, "", AtFlags::EMPTY_PATH, all).expect("statx");
    seen.is("size", found.stx_size);
    seen.is("links", found.stx_nlink);
    seen.is("basic fields", found.stx_mask & StatxFlags::BASIC_STATS.bits() == StatxFlags::BASIC_STATS.bits());
    seen.is("birth time", found.stx_mask & StatxFlags::BTIME.bits() != 0);
    for (what, how) in [("DONT_SYNC", AtFlags::STATX_DONT_SYNC), ("FORCE_SYNC", AtFlags::STATX_FORCE_SYNC)] {
        let found = statx(&own, "", AtFlags::EMPTY_PATH | how, all);
        seen.got(what, found.map(|found| found.stx_size));
    }
    pwrite(&own, b"x", 9_999).expect("write");
    let found = statx(&own, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, all);
    seen.got("DONT_SYNC after a write", found.map(|found| found.stx_size));
}

fn splices(seen: &mut Seen, folder: &Path) {
    let (from, to) = (file(folder.join("from"), &[3; 100_000]), file(folder.join("to"), b""));
    let (mut at, length) = (10, 50_000);
    // SAFETY: descriptors are open, offsets live.
    unsafe {
        let sent = done(libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), &mut at, length) as i64);
        seen.got("sendfile", sent);
        seen.is("position", at);
        let (reader, writer) = io::pipe().expect("pipe");
        let (mut at, mut to_at) = (0_i64, 60_000_i64);
        let null = std::ptr::null_mut();
        seen.got(
            "splice in",
            done(libc::splice(from.as_raw_fd(), &mut at, writer.as_raw_fd(), null, 10_000, 0) as i64),
        );
        seen.got(
            "splice out",
            done(libc::splice(reader.as_raw_fd(), null, to.as_raw_fd(), &mut to_at, 10_000, 0) as i64),
        );
        let parts = [b"one".as_slice(), b"", b"three"];
        let vectors = parts.map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
        seen.got("pwritev", done(libc::pwritev(to.as_raw_fd(), vectors.as_ptr(), 3, 5) as i64));
        let append = libc::pwritev2(to.as_raw_fd(), vectors.as_ptr(), 3, 0, libc::RWF_APPEND);
        seen.got("pwritev2, RWF_APPEND", done(append as i64));
        let dsync = libc::pwritev2(to.as_raw_fd(), vectors.as_ptr(), 3, 100, libc::RWF_DSYNC);
        seen.got("pwritev2, RWF_DSYNC", done(dsync as i64));
        seen.code(
            "pwritev2, an unknown flag",
            done(libc::pwritev2(to.as_raw_fd(), vectors.as_ptr(), 3, 0, 1 << 20) as i64),
        );
        let mut bytes = [0_u8; 8];
        let vectors = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 8 }];
        seen.got("preadv", done(libc::preadv(to.as_raw_fd(), vectors.as_ptr(), 1, 5) as i64));
        seen.is("its bytes", String::from_utf8_lossy(&bytes));
        seen.code("a bad address", done(libc::pread(from.as_raw_fd(), 8 as *mut libc::c_void, 100, 0) as i64));
        seen.code(
            "a bad address to write",
            done(libc::pwrite(to.as_raw_fd(), 8 as *const libc::c_void, 100, 0) as i64),
        );
    }
    drop(to);
    let content = fs::read(folder.join("to")).expect("read");
    let sum: u64 = content.iter().enumerate().map(|(at, byte)| (at as u64 + 1) * u64::from(*byte)).sum();
    seen.is("content", format!("{} bytes, {sum}", content.len()));
}

fn ioctls(seen: &mut Seen, folder: &Path) {
    let own = file(folder.join("file"), &[3; 10_000]);
    own.sync_all().expect("fsync");
    let number = own.as_raw_fd();
    let mut value = 0_i32;
    // SAFETY: the descriptor is open; the value is as large as these calls want.
    unsafe {
        seen.code("isatty", done(libc::ioctl(number, libc::TCGETS, [0_u8; 256].as_mut_ptr())));
        seen.code("FIONREAD", done(libc::ioctl(number, libc::FIONREAD, &mut value)));
        seen.is("its value", value);
        seen.code("FIGETBSZ", done(libc::ioctl(number, 2, &mut value)));
        seen.code("FICLONE", done(libc::ioctl(number, libc::FICLONE, number)));
        seen.code("FS_IOC_GETFLAGS", done(libc::ioctl(number, libc::FS_IOC_GETFLAGS, &mut value)));
        for (what, advice) in
            [("WILLNEED", libc::POSIX_FADV_WILLNEED), ("DONTNEED", libc::POSIX_FADV_DONTNEED), ("99", 99)]
        {
            seen.is(format!("fadvise {what}"), libc::posix_fadvise(number, 0, 10_000, advice));
        }
        seen.code("readahead", done(libc::readahead(number, 0, 10_000) as i64));
        let range = libc::sync_file_range(number, 0, 10_000, libc::SYNC_FILE_RANGE_WRITE);
        seen.code("sync_file_range", done(range));
        seen.code("syncfs", done(libc::syncfs(number)));
        seen.got("pathconf of names", done(libc::fpathconf(number, libc::_PC_NAME_MAX)));
    }
}
