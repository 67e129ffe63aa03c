//! Device nodes, FIFOs and sockets.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use super::Case;
use super::seen::Seen;
use super::sys::{
    ALICE, as_user, child, chmod, chown, ignore, lseek, mknod, mode, open, owner, rename, setxattr, truncate, unlink,
};

pub(super) const CASES: &[(&str, Case)] = &[
    ("device nodes", devices),
    ("device numbers", numbers),
    ("mknod of all kinds", all_kinds),
    ("FIFOs", fifos),
    ("sockets", sockets),
    ("attributes of special files", attributes),
];

fn devices(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    mknod(at("null"), libc::S_IFCHR | 0o666, libc::makedev(1, 3)).expect("mknod");
    mknod(at("zero"), libc::S_IFCHR | 0o666, libc::makedev(1, 5)).expect("mknod");
    mknod(at("full"), libc::S_IFCHR | 0o666, libc::makedev(1, 7)).expect("mknod");
    mknod(at("nothing"), libc::S_IFCHR | 0o666, libc::makedev(4_000, 3)).expect("mknod");
    mknod(at("block"), libc::S_IFBLK | 0o666, libc::makedev(4_000, 3)).expect("mknod");
    let mut bytes = [9; 4];
    seen.got("read of null", open(at("null"), libc::O_RDWR, 0).and_then(|mut file| file.read(&mut bytes)));
    seen.got("read of zero", open(at("zero"), libc::O_RDWR, 0).and_then(|mut file| file.read(&mut bytes)));
    seen.is("zeros", format!("{bytes:?}"));
    seen.got("write to null", open(at("null"), libc::O_RDWR, 0).and_then(|mut file| file.write(b"xyz")));
    seen.got("write to full", open(at("full"), libc::O_RDWR, 0).and_then(|mut file| file.write(b"xyz")));
    seen.code("a character device that nobody has", open(at("nothing"), libc::O_RDWR, 0));
    seen.code("a block device that nobody has", open(at("block"), libc::O_RDWR, 0));
    seen.code("O_TRUNC", open(at("null"), libc::O_RDWR | libc::O_TRUNC, 0));
    seen.code("truncate", truncate(at("null"), 5));
    chmod(at("null"), 0o600).expect("chmod");
    as_user(seen, folder, ALICE, |seen| {
        seen.code("open without permission", open("null", libc::O_RDWR, 0));
        seen.code("open with permission", open("zero", libc::O_RDWR, 0));
        seen.code("mknod of a character device", mknod("new", libc::S_IFCHR | 0o600, libc::makedev(1, 3)));
        seen.code("mknod of a block device", mknod("new", libc::S_IFBLK | 0o600, libc::makedev(7, 3)));
    });
}

fn numbers(seen: &mut Seen, folder: &Path) {
    for (major, minor) in [(0, 0), (1, 3), (255, 255), (256, 256), (259, 65_537), (511, 1_048_575), (4_095, 1_048_575)]
    {
        for (what, kind) in [("character", libc::S_IFCHR), ("block", libc::S_IFBLK)] {
            let path = folder.join(format!("{what} {major} {minor}"));
            seen.code(format!("{what} {major}:{minor}"), mknod(&path, kind | 0o640, libc::makedev(major, minor)));
            let found = fs::metadata(&path).expect("stat");
            let told = (libc::major(found.rdev()), libc::minor(found.rdev()), found.len(), found.blocks());
            seen.is(format!("{what} {major}:{minor} is"), format!("{told:?} {}", mode(&path)));
        }
    }
    // Not from the mount's memory either.
    cairn_cluster_tests::harness::drop_caches();
    let found = fs::metadata(folder.join("block 511 1048575")).expect("stat");
    seen.is("without caches", format!("{}:{}", libc::major(found.rdev()), libc::minor(found.rdev())));
}

fn all_kinds(seen: &mut Seen, folder: &Path) {
    let kinds = [
        ("nothing", 0),
        ("file", libc::S_IFREG),
        ("directory", libc::S_IFDIR),
        ("symlink", libc::S_IFLNK),
        ("fifo", libc::S_IFIFO),
        ("socket", libc::S_IFSOCK),
        ("an unknown kind", 0o050_000),
    ];
    for (what, kind) in kinds {
        for bits in [0o644, 0o7777] {
            let path = folder.join(format!("{what} {bits:o}"));
            seen.code(format!("{what} {bits:o}"), mknod(&path, kind | bits, 0x1234));
            let found = fs::symlink_metadata(&path).map(|found| format!("{} {}", found.rdev(), found.nlink()));
            seen.is(format!("{what} {bits:o} is"), format!("{} {}", mode(&path), found.unwrap_or_default()));
        }
    }
    as_user(seen, folder, ALICE, |seen| {
        for (what, kind) in kinds {
            let name = format!("alices {what}");
            seen.code(format!("{what} by a user"), mknod(&name, kind | 0o644, 0));
            seen.is(format!("{what} by a user is"), owner(&name));
        }
    });
}

fn fifos(seen: &mut Seen, folder: &Path) {
    let path = folder.join("fifo");
    mknod(&path, libc::S_IFIFO | 0o644, 0).expect("mkfifo");
    seen.is("is one", fs::metadata(&path).expect("stat").file_type().is_fifo());
    seen.code("a writer that does not wait, without a reader", open(&path, libc::O_WRONLY | libc::O_NONBLOCK, 0));
    let mut reader = open(&path, libc::O_RDONLY | libc::O_NONBLOCK, 0).expect("open");
    seen.got("no writer yet", reader.read(&mut [0; 5]));
    let mut writer = open(&path, libc::O_WRONLY | libc::O_NONBLOCK, 0).expect("open");
    seen.got("nothing there", reader.read(&mut [0; 5]));
    seen.got("write", writer.write(b"hello"));
    seen.is("size", fs::metadata(&path).expect("stat").len());
    seen.code("seek", lseek(&writer, 0, libc::SEEK_SET));
    seen.code("pread", std::os::unix::fs::FileExt::read_at(&reader, &mut [0; 5], 0));
    let mut bytes = [0; 10];
    seen.got("read", reader.read(&mut bytes));
    seen.is("bytes", String::from_utf8_lossy(&bytes[..5]));
    drop(writer);
    seen.got("the writer is gone", reader.read(&mut bytes));
    drop(reader);
    // Two processes, both of which wait for the other, under a new name.
    rename(&path, folder.join("renamed"), 0).expect("rename");
    let reader = std::thread::spawn({
        let path = folder.join("renamed");
        move || {
            let mut text = String::new();
            File::open(path).expect("open").read_to_string(&mut text).expect("read");
            text
        }
    });
    let end = child(seen, folder, None, |_| {
        let mut writer = open("renamed", libc::O_WRONLY, 0).expect("open");
        for number in 0..20_000 {
            writeln!(writer, "{number}").expect("write");
        }
    });
    let text = reader.join().expect("reader");
    seen.is("two processes", format!("{end}: {} bytes, {} lines", text.len(), text.lines().count()));
    // Without a name it still works.
    let both = open(folder.join("renamed"), libc::O_RDWR, 0).expect("open");
    unlink(folder.join("renamed")).expect("unlink");
    seen.got("write without a name", (&both).write(b"x"));
    seen.got("read without a name", (&both).read(&mut bytes));
    seen.got("links", both.metadata().map(|found| found.nlink()));
    // A reader without a writer is killed by what it wrote.
    mknod(&path, libc::S_IFIFO | 0o644, 0).expect("mkfifo");
    let end = child(seen, folder, None, |_| {
        let reader = open("fifo", libc::O_RDONLY | libc::O_NONBLOCK, 0).expect("open");
        let mut writer = open("fifo", libc::O_WRONLY, 0).expect("open");
        drop(reader);
        // SAFETY: the default of this process only; the runtime ignores the signal.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let _ = writer.write(b"x");
    });
    seen.is("SIGPIPE", end);
}

fn sockets(seen: &mut Seen, folder: &Path) {
    // Relative, because the path of a socket is short.
    let end = child(seen, folder, None, |seen| {
        // SAFETY: of this process only.
        unsafe { libc::umask(0o027) };
        let listener = UnixListener::bind("socket").expect("bind");
        seen.is("mode", mode("socket"));
        seen.code("bind to what is there", UnixListener::bind("socket"));
        seen.code("open", open("socket", libc::O_RDWR, 0));
        seen.code("O_PATH", open("socket", libc::O_PATH, 0));
        let talk = |seen: &mut Seen, what: &str, name: &str| {
            let mut near = match UnixStream::connect(name) {
                Ok(near) => near,
                Err(error) => return seen.code::<(), _>(what, Err(error)),
            };
            let (mut far, _) = listener.accept().expect("accept");
            near.write_all(b"hello").expect("write");
            let mut bytes = [0; 5];
            far.read_exact(&mut bytes).expect("read");
            seen.is(what, String::from_utf8_lossy(&bytes));
        };
        talk(seen, "connect", "socket");
        rename("socket", "renamed", 0).expect("rename");
        talk(seen, "connect by the old name", "socket");
        talk(seen, "connect by the new name", "renamed");
        super::sys::link("renamed", "linked").expect("link");
        talk(seen, "connect by another name", "linked");
        super::sys::symlink("renamed", "symlink").expect("symlink");
        talk(seen, "connect through a symlink", "symlink");
        drop(listener);
        seen.code("connect when nobody listens", UnixStream::connect("renamed"));
        unlink("renamed").expect("unlink");
        seen.code("connect to nothing", UnixStream::connect("renamed"));
        let datagrams = UnixDatagram::bind("datagrams").expect("bind");
        let sender = UnixDatagram::unbound().expect("socket");
        seen.got("send", sender.send_to(b"one", "datagrams"));
        let mut bytes = [0; 10];
        seen.got("receive", datagrams.recv(&mut bytes));
        seen.code("connect of the other kind", UnixStream::connect("datagrams"));
        ignore(super::sys::file("file", b""));
        seen.code("connect to a file", UnixStream::connect("file"));
        seen.code("bind below nothing", UnixListener::bind("nothing/socket"));
    });
    seen.is("the end", end);
    let listener = child(seen, folder, None, |seen| {
        let listener = UnixListener::bind("guarded").expect("bind");
        chown("guarded", 0, 0).expect("chown");
        for bits in [0o600, 0o644, 0o622] {
            chmod("guarded", bits).expect("chmod");
            as_user(seen, Path::new("."), ALICE, |seen| {
                seen.code(format!("connect by another, {bits:o}"), UnixStream::connect("guarded"));
            });
        }
        drop(listener);
    });
    seen.is("the second end", listener);
}

fn attributes(seen: &mut Seen, folder: &Path) {
    mknod(folder.join("fifo"), libc::S_IFIFO | 0o644, 0).expect("mkfifo");
    mknod(folder.join("device"), libc::S_IFCHR | 0o644, libc::makedev(1, 3)).expect("mknod");
    mknod(folder.join("socket"), libc::S_IFSOCK | 0o644, 0).expect("mknod");
    for name in ["fifo", "device", "socket"] {
        let path = folder.join(name);
        seen.code(format!("{name}: chmod"), chmod(&path, 0o4755));
        seen.code(format!("{name}: chown"), chown(&path, 5, 6));
        seen.is(format!("{name}: owner"), owner(&path));
        seen.code(format!("{name}: truncate"), truncate(&path, 3));
        seen.code(format!("{name}: user. attribute"), setxattr(&path, "user.a", b"1", 0));
        seen.code(format!("{name}: trusted. attribute"), setxattr(&path, "trusted.a", b"1", 0));
        seen.code(format!("{name}: times"), super::sys::utimens(&path, (1, 2), (3, 4)));
        let found = fs::metadata(&path).expect("stat");
        seen.is(format!("{name}: after all"), format!("{} {} {}", found.atime(), found.mtime_nsec(), found.nlink()));
        seen.code(format!("{name}: link"), super::sys::link(&path, folder.join(format!("{name} too"))));
        seen.code(format!("{name}: unlink"), unlink(&path));
        seen.is(format!("{name}: by its other name"), owner(folder.join(format!("{name} too"))));
    }
}
