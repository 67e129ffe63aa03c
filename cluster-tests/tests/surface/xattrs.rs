//! Extended attributes: names, sizes, namespaces, and who may use them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::Case;
use super::seen::Seen;
use super::sys::{
    ALICE, as_user, c, chmod, chown, done, file, getxattr, ignore, mkdir, mknod, pwrite, removexattr, setxattr, symlink,
};

pub(super) const CASES: &[(&str, Case)] = &[
    ("attribute values", values),
    ("attribute names", names),
    ("attribute sizes", sizes),
    ("attributes by kind of file", kinds),
    ("attributes by user", users),
    ("many attributes", many),
    ("capabilities of programs", capabilities),
];

const CREATE: i32 = libc::XATTR_CREATE;
const REPLACE: i32 = libc::XATTR_REPLACE;

/// listxattr(2): names in order. What the machine's security modules add is left out.
fn list(path: &Path) -> io::Result<Vec<String>> {
    let mut bytes = vec![0_u8; 65_536];
    // SAFETY: the buffer has that length.
    let length = unsafe { done(libc::llistxattr(c(path).as_ptr(), bytes.as_mut_ptr().cast(), bytes.len()) as i64)? };
    let names = bytes[..length as usize].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}

fn text(result: io::Result<Vec<u8>>) -> io::Result<String> {
    result.map(|value| value.escape_ascii().to_string())
}

fn values(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    let own = file(&path, b"content");
    seen.got("none", text(getxattr(&path, "user.a")));
    seen.code("replace of nothing", setxattr(&path, "user.a", b"0", REPLACE));
    seen.code("create", setxattr(&path, "user.a", b"one", CREATE));
    seen.code("create again", setxattr(&path, "user.a", b"two", CREATE));
    seen.code("replace", setxattr(&path, "user.a", b"three", REPLACE));
    seen.code("both flags", setxattr(&path, "user.a", b"three", REPLACE | CREATE));
    seen.code("both flags, new", setxattr(&path, "user.new", b"three", REPLACE | CREATE));
    seen.code("an unknown flag", setxattr(&path, "user.a", b"four", 4));
    seen.got("value", text(getxattr(&path, "user.a")));
    seen.code("empty value", setxattr(&path, "user.empty", b"", 0));
    seen.got("its value", text(getxattr(&path, "user.empty")));
    let binary: Vec<u8> = (0..=255).collect();
    seen.code("binary value", setxattr(&path, "user.binary", &binary, 0));
    seen.is("all of it", getxattr(&path, "user.binary").is_ok_and(|value| value == binary));
    seen.is("list", format!("{:?}", list(&path)));
    for room in [0_usize, 1, 4, 5, 6, 100] {
        let mut value = vec![0_u8; room];
        // SAFETY: the buffer has that length.
        let (got, listed) = unsafe {
            let got = libc::fgetxattr(own.as_raw_fd(), c"user.a".as_ptr(), value.as_mut_ptr().cast(), room);
            let got = done(got as i64);
            (got, done(libc::flistxattr(own.as_raw_fd(), value.as_mut_ptr().cast(), room) as i64))
        };
        seen.got(format!("value into {room} bytes"), got);
        seen.got(format!("list into {room} bytes"), listed);
    }
    seen.code("remove", removexattr(&path, "user.a"));
    seen.code("remove again", removexattr(&path, "user.a"));
    seen.got("after it", text(getxattr(&path, "user.a")));
    seen.code("set on nothing", setxattr(folder.join("nothing"), "user.a", b"1", 0));
    seen.code("list of nothing", list(&folder.join("nothing")));
    super::sys::rename(&path, folder.join("renamed"), 0).expect("rename");
    seen.is("list under a new name", format!("{:?}", list(&folder.join("renamed"))));
    super::sys::link(folder.join("renamed"), folder.join("linked")).expect("link");
    seen.is("list under another name", format!("{:?}", list(&folder.join("linked"))));
}

fn names(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    ignore(file(&path, b""));
    for name in [
        "",
        "a",
        "user",
        "user.",
        ".a",
        "nothing.a",
        "system.a",
        "trusted.",
        "security.",
        "User.a",
        "user.a b\u{e9}",
        "os2.a",
    ] {
        seen.code(format!("set {name:?}"), setxattr(&path, name, b"1", 0));
        seen.got(format!("get {name:?}"), text(getxattr(&path, name)));
        seen.code(format!("remove {name:?}"), removexattr(&path, name));
    }
    for length in [250, 254, 255, 256, 1_000] {
        let name = format!("user.{}", "n".repeat(length - 5));
        seen.code(format!("set a name of {length} bytes"), setxattr(&path, &name, b"1", 0));
        seen.got(format!("get a name of {length} bytes"), text(getxattr(&path, &name)));
        seen.code(format!("remove a name of {length} bytes"), removexattr(&path, &name));
    }
}

fn sizes(seen: &mut Seen, folder: &Path) {
    for length in [100, 1_000, 3_000, 4_000, 5_000, 60_000, 65_535, 65_536, 65_537, 100_000] {
        let path = folder.join(format!("file{length}"));
        ignore(file(&path, b""));
        let value = vec![7; length];
        seen.code(format!("a value of {length} bytes"), setxattr(&path, "user.a", &value, 0));
        seen.got(format!("the value of {length} bytes"), getxattr(&path, "user.a").map(|found| found == value));
    }
}

fn kinds(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    ignore(file(at("file"), b""));
    mkdir(at("directory"), 0o755).expect("mkdir");
    mkdir(at("sticky"), 0o755).expect("mkdir");
    chmod(at("sticky"), 0o1777).expect("chmod");
    symlink("file", at("symlink")).expect("symlink");
    mknod(at("fifo"), libc::S_IFIFO | 0o666, 0).expect("mknod");
    mknod(at("device"), libc::S_IFCHR | 0o666, 0x103).expect("mknod");
    mknod(at("socket"), libc::S_IFSOCK | 0o666, 0).expect("mknod");
    for kind in ["file", "directory", "sticky", "symlink", "fifo", "device", "socket"] {
        for name in ["user.a", "trusted.a", "security.a"] {
            seen.code(format!("{kind}: set {name}"), setxattr(at(kind), name, b"1", 0));
            seen.got(format!("{kind}: get {name}"), text(getxattr(at(kind), name)));
        }
        seen.is(format!("{kind}: list"), format!("{:?}", list(&at(kind))));
        for name in ["user.a", "trusted.a", "security.a"] {
            seen.code(format!("{kind}: remove {name}"), removexattr(at(kind), name));
        }
    }
    let own = super::sys::open(at("file"), libc::O_PATH, 0).expect("open");
    // SAFETY: name and value live.
    let set = unsafe { libc::fsetxattr(own.as_raw_fd(), c"user.a".as_ptr(), b"1".as_ptr().cast(), 1, 0) };
    seen.code("through O_PATH", done(set));
    ignore(File::open(at("file")));
}

fn users(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    for (name, bits, owner) in
        [("own", 0o600, ALICE.uid), ("open", 0o666, 0), ("readable", 0o644, 0), ("closed", 0o600, 0)]
    {
        ignore(file(at(name), b""));
        for attribute in ["user.root", "trusted.root", "security.root"] {
            setxattr(at(name), attribute, b"1", 0).expect("setxattr");
        }
        chmod(at(name), bits).expect("chmod");
        chown(at(name), i64::from(owner), -1).expect("chown");
    }
    mkdir(at("sticky"), 0o755).expect("mkdir");
    chmod(at("sticky"), 0o1777).expect("chmod");
    as_user(seen, folder, ALICE, |seen| {
        for file in ["own", "open", "readable", "closed", "sticky"] {
            for name in ["user.", "trusted.", "security."] {
                seen.got(format!("{file}: get {name}root"), text(getxattr(file, &format!("{name}root"))));
                seen.code(format!("{file}: set {name}alice"), setxattr(file, &format!("{name}alice"), b"1", 0));
                seen.code(format!("{file}: remove {name}root"), removexattr(file, &format!("{name}root")));
                seen.code(format!("{file}: remove {name}nothing"), removexattr(file, &format!("{name}nothing")));
            }
            seen.is(
                format!("{file}: list"),
                format!("{:?}", list(Path::new(file)).map_err(|error| error.raw_os_error())),
            );
        }
    });
}

fn many(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    ignore(file(&path, b""));
    for number in 0..100 {
        setxattr(&path, &format!("user.attribute{number:03}"), b"1", 0).expect("setxattr");
    }
    let names = list(&path).expect("list");
    seen.is("names", format!("{} {:?} {:?}", names.len(), names.first(), names.last()));
    for number in (0..100).step_by(2) {
        removexattr(&path, &format!("user.attribute{number:03}")).expect("removexattr");
    }
    seen.is("half of them", list(&path).expect("list").len());
    cairn_cluster_tests::harness::drop_caches();
    seen.is("without caches", list(&path).expect("list").len());
}

/// A capability is an attribute that a write takes away.
fn capabilities(seen: &mut Seen, folder: &Path) {
    let path = folder.join("program");
    ignore(file(&path, b"program"));
    // CAP_NET_BIND_SERVICE, revision 2.
    let mut capability = [0_u8; 20];
    capability[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    capability[4..8].copy_from_slice(&(1_u32 << 10).to_le_bytes());
    let name = "security.capability";
    type Operation = fn(&Path);
    let operations: &[(&str, Operation)] = &[
        ("write", |path| ignore(pwrite(&super::sys::open(path, libc::O_RDWR, 0).expect("open"), b"x", 0))),
        ("truncate", |path| ignore(super::sys::truncate(path, 3))),
        ("chown", |path| ignore(chown(path, 1, 1))),
        ("chmod", |path| ignore(chmod(path, 0o700))),
        ("chown of nothing", |path| ignore(chown(path, -1, -1))),
        ("fallocate", |path| {
            ignore(super::sys::fallocate(&super::sys::open(path, libc::O_RDWR, 0).expect("open"), 0, 0, 9_000));
        }),
    ];
    for (what, operation) in operations {
        seen.code(format!("set before {what}"), setxattr(&path, name, &capability, 0));
        seen.got(format!("kept before {what}"), text(getxattr(&path, name)));
        operation(&path);
        seen.got(format!("kept after {what}"), text(getxattr(&path, name)));
    }
    seen.code("set nonsense", setxattr(&path, name, b"nonsense", 0));
    chown(&path, i64::from(ALICE.uid), -1).expect("chown");
    as_user(seen, folder, ALICE, |seen| seen.code("set by the owner", setxattr("program", name, &[1; 20], 0)));
}
