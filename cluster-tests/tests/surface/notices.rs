//! What inotify tells of changes by programs of the same mount, and handles of files.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Case;
use super::seen::Seen;
use super::sys::{
    c, chmod, done, file, ftruncate, ignore, link, mkdir, open, pwrite, rename, rmdir, setxattr, symlink, truncate,
    unlink, utimens,
};

pub(super) const CASES: &[(&str, Case)] =
    &[("inotify of a directory", of_a_directory), ("inotify of a file", of_a_file), ("file handles", handles)];

/// A watch, and where its events come.
struct Watch {
    events: File,
}

impl Watch {
    fn new(path: &Path) -> Self {
        // SAFETY: a new descriptor, and a path that lives.
        let events = unsafe {
            let fd = done(libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC)).expect("inotify") as i32;
            done(libc::inotify_add_watch(fd, c(path).as_ptr(), libc::IN_ALL_EVENTS)).expect("watch");
            File::from_raw_fd(fd)
        };
        Self { events }
    }

    /// Events since the last question.
    fn told(&mut self) -> String {
        const NAMES: [(u32, &str); 14] = [
            (libc::IN_ACCESS, "access"),
            (libc::IN_MODIFY, "modify"),
            (libc::IN_ATTRIB, "attrib"),
            (libc::IN_CLOSE_WRITE, "close-write"),
            (libc::IN_CLOSE_NOWRITE, "close"),
            (libc::IN_OPEN, "open"),
            (libc::IN_MOVED_FROM, "from"),
            (libc::IN_MOVED_TO, "to"),
            (libc::IN_CREATE, "create"),
            (libc::IN_DELETE, "delete"),
            (libc::IN_DELETE_SELF, "delete-self"),
            (libc::IN_MOVE_SELF, "move-self"),
            (libc::IN_IGNORED, "ignored"),
            (libc::IN_ISDIR, "directory"),
        ];
        let (mut buffer, mut text) = (vec![0; 65_536], Vec::new());
        let length = self.events.read(&mut buffer).unwrap_or(0);
        let mut at = 0;
        while at < length {
            let number = |from: usize| u32::from_ne_bytes(buffer[at + from..at + from + 4].try_into().expect("four"));
            let (mask, name_length) = (number(4), number(12) as usize);
            let name = buffer[at + 16..at + 16 + name_length].split(|byte| *byte == 0).next().unwrap_or_default();
            let kinds: Vec<&str> = NAMES.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name).collect();
            text.push(format!("{}({})", kinds.join("+"), String::from_utf8_lossy(name)));
            at += 16 + name_length;
        }
        text.join(" ")
    }
}

fn of_a_directory(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join("watched").join(name);
    mkdir(folder.join("watched"), 0o755).expect("mkdir");
    mkdir(folder.join("outside"), 0o755).expect("mkdir");
    let mut watch = Watch::new(&folder.join("watched"));
    let mut step = |what: &str, work: &dyn Fn()| {
        work();
        seen.is(what, watch.told());
    };
    step("create, write, close", &|| ignore(file(at("file"), b"content")));
    step("open, read, close", &|| ignore(std::fs::read(at("file")).expect("read")));
    step("write of nothing", &|| ignore(pwrite(&open(at("file"), libc::O_RDWR, 0).expect("open"), b"", 0)));
    step("overwrite", &|| ignore(pwrite(&open(at("file"), libc::O_RDWR, 0).expect("open"), b"C", 0)));
    step("truncate", &|| ignore(truncate(at("file"), 3)));
    step("ftruncate", &|| ignore(ftruncate(&open(at("file"), libc::O_RDWR, 0).expect("open"), 5)));
    step("O_TRUNC", &|| ignore(open(at("file"), libc::O_RDWR | libc::O_TRUNC, 0)));
    step("fallocate", &|| {
        ignore(super::sys::fallocate(&open(at("file"), libc::O_RDWR, 0).expect("open"), 0, 0, 5_000));
    });
    step("chmod", &|| ignore(chmod(at("file"), 0o600)));
    step("chown", &|| ignore(super::sys::chown(at("file"), 1, 1)));
    step("times", &|| ignore(utimens(at("file"), (1, 1), (1, 1))));
    step("setxattr", &|| ignore(setxattr(at("file"), "user.a", b"1", 0)));
    step("removexattr", &|| ignore(super::sys::removexattr(at("file"), "user.a")));
    step("link", &|| ignore(link(at("file"), at("linked"))));
    step("rename within", &|| ignore(rename(at("file"), at("renamed"), 0)));
    step("rename over", &|| {
        ignore(file(at("victim"), b""));
        ignore(rename(at("renamed"), at("victim"), 0));
    });
    step("rename out", &|| ignore(rename(at("victim"), folder.join("outside/file"), 0)));
    step("rename in", &|| ignore(rename(folder.join("outside/file"), at("file"), 0)));
    step("exchange", &|| {
        ignore(file(folder.join("outside/other"), b""));
        ignore(rename(at("file"), folder.join("outside/other"), libc::RENAME_EXCHANGE));
    });
    step("unlink", &|| ignore(unlink(at("file"))));
    step("unlink of the last name", &|| ignore(unlink(at("linked"))));
    step("mkdir", &|| ignore(mkdir(at("directory"), 0o755)));
    step("create in it", &|| ignore(file(at("directory/file"), b"")));
    step("listing of it", &|| ignore(std::fs::read_dir(at("directory")).expect("readdir").count()));
    step("listing of the watched", &|| ignore(std::fs::read_dir(folder.join("watched")).expect("readdir").count()));
    step("rmdir", &|| {
        unlink(at("directory/file")).expect("unlink");
        ignore(rmdir(at("directory")));
    });
    step("symlink", &|| ignore(symlink("x", at("symlink"))));
    step("readlink", &|| ignore(std::fs::read_link(at("symlink"))));
    step("mkfifo", &|| ignore(super::sys::mknod(at("fifo"), libc::S_IFIFO | 0o600, 0)));
    step("unlink while open", &|| {
        let own = file(at("open"), b"");
        unlink(at("open")).expect("unlink");
        pwrite(&own, b"x", 0).expect("write");
    });
    step("what fails", &|| {
        assert!(mkdir(at("symlink"), 0o755).is_err());
        assert!(unlink(at("nothing")).is_err());
    });
    step("move of the watched", &|| ignore(rename(folder.join("watched"), folder.join("moved"), 0)));
    step("its removal", &|| ignore(std::fs::remove_dir_all(folder.join("moved"))));
}

fn of_a_file(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    let own = file(&path, b"content");
    let mut watch = Watch::new(&path);
    let mut step = |what: &str, work: &dyn Fn()| {
        work();
        seen.is(what, watch.told());
    };
    step("write", &|| ignore(pwrite(&own, b"x", 0)));
    step("copy onto it", &|| {
        let source = file(folder.join("source"), b"source");
        ignore(super::sys::copy(&source, 0, &own, 0, 5));
    });
    step("link", &|| ignore(link(&path, folder.join("other"))));
    step("rename", &|| ignore(rename(&path, folder.join("renamed"), 0)));
    step("unlink of one name", &|| ignore(unlink(folder.join("other"))));
    step("unlink of the last", &|| ignore(unlink(folder.join("renamed"))));
    step("write without a name", &|| ignore(pwrite(&own, b"y", 0)));
    drop(own);
    seen.is("the last close, the end of the watch", told_within(&mut watch, "ignored"));
}

/// Waits a moment: the kernel tells of the end of an inode behind the close.
fn told_within(watch: &mut Watch, expected: &str) -> String {
    let begun = std::time::Instant::now();
    let mut text = String::new();
    while !text.contains(expected) && begun.elapsed().as_secs() < 2 {
        let more = watch.told();
        text = [text, more].concat();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    text
}

/// What name_to_handle_at(2) fills in.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

impl Handle {
    fn of(name: &CString, flags: i32) -> io::Result<Self> {
        let (mut handle, mut mount) = (Self { bytes: 128, kind: 0, data: [0; 128] }, 0_i32);
        // SAFETY: name, handle and number live.
        unsafe {
            done(libc::syscall(
                libc::SYS_name_to_handle_at,
                libc::AT_FDCWD,
                name.as_ptr(),
                &raw mut handle,
                &raw mut mount,
                flags,
            ))?;
        }
        Ok(handle)
    }

    fn open(&mut self, mount: &File, flags: i32) -> io::Result<File> {
        // SAFETY: the handle lives; the descriptor is nobody else's.
        unsafe {
            done(libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut *self, flags))
                .map(|fd| File::from_raw_fd(fd as i32))
        }
    }
}

fn handles(seen: &mut Seen, folder: &Path) {
    ignore(file(folder.join("file"), b"content"));
    mkdir(folder.join("directory"), 0o755).expect("mkdir");
    let mount = File::open(folder).expect("open");
    for name in ["file", "directory"] {
        let path = folder.join(name);
        let own = File::open(&path).expect("open");
        let found = Handle::of(&c(&path), 0);
        seen.code(format!("{name}: handle"), found.as_ref().map_err(clone));
        let Ok(mut handle) = found else { continue };
        let opened = handle.open(&mount, libc::O_RDONLY);
        let same =
            opened.and_then(|opened| opened.metadata()).map(|found| found.ino() == own.metadata().expect("stat").ino());
        seen.got(format!("{name}: opened while it is open"), same);
        super::sys::rename(&path, folder.join(format!("{name} renamed")), 0).expect("rename");
        seen.code(format!("{name}: opened after a rename"), handle.open(&mount, libc::O_RDONLY));
        drop(own);
        cairn_cluster_tests::harness::drop_caches();
        seen.code(format!("{name}: opened when nobody has it"), handle.open(&mount, libc::O_RDONLY));
        std::fs::remove_file(folder.join(format!("{name} renamed")))
            .or_else(|_| std::fs::remove_dir(folder.join(format!("{name} renamed"))))
            .expect("remove");
        seen.code(format!("{name}: opened when it is gone"), handle.open(&mount, libc::O_RDONLY));
    }
}

fn clone(error: &io::Error) -> io::Error {
    io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))
}
