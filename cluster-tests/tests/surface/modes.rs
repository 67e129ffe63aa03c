//! Mode bits, owners and groups: who may do what, and which bits an operation takes away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::Case;
use super::seen::Seen;
use super::sys::{
    ALICE, ALICE_OF_CLUB, BOB, CLUB, User, access, as_user, chmod, chown, copy, done, fallocate, file, ftruncate,
    ignore, link, mkdir, mknod, mode, open, owner, pwrite, rename, rmdir, setxattr, symlink, truncate, unlink,
};

pub(super) const CASES: &[(&str, Case)] = &[
    ("suid and sgid are taken away", bits_go),
    ("suid and sgid and chown", bits_and_chown),
    ("sticky directories", sticky),
    ("setgid directories", setgid_directories),
    ("umask", umask),
    ("supplementary groups", supplementary),
    ("chmod and chown by others", others),
    ("permissions", permissions),
    ("links to what belongs to others", protected_links),
    ("programs that run as their owner", suid_program),
];

fn give(path: impl AsRef<Path>, user: User) {
    chown(path, i64::from(user.uid), i64::from(user.gid)).expect("chown");
}

const MODES: [u32; 5] = [0o6777, 0o6767, 0o2777, 0o2767, 0o4777];

fn bits_go(seen: &mut Seen, folder: &Path) {
    ignore(file(folder.join("source"), &[2; 100]));
    chmod(folder.join("source"), 0o644).expect("chmod");
    let file_of = |mode: u32| format!("file{mode:o}");
    type Operation = fn(&Path);
    let operations: &[(&str, Operation)] = &[
        ("write", |path| ignore(pwrite(&opened(path), b"x", 0).expect("write"))),
        ("append", |path| ignore(pwrite(&open(path, libc::O_WRONLY | libc::O_APPEND, 0).expect("open"), b"x", 0))),
        ("write and fsync", |path| {
            let own = opened(path);
            ignore(pwrite(&own, b"x", 0).expect("write"));
            own.sync_all().expect("fsync");
        }),
        ("direct write", |path| {
            let own = open(path, libc::O_WRONLY | libc::O_DIRECT, 0).expect("open");
            let memory = super::flags::aligned_page();
            ignore(pwrite(&own, memory.as_ref(), 0).expect("write"));
        }),
        ("write of nothing", |path| ignore(pwrite(&opened(path), b"", 0).expect("write"))),
        ("truncate", |path| ignore(truncate(path, 50).expect("truncate"))),
        ("truncate to the same size", |path| ignore(truncate(path, 100).expect("truncate"))),
        ("ftruncate", |path| ignore(ftruncate(&opened(path), 50).expect("ftruncate"))),
        ("O_TRUNC", |path| ignore(open(path, libc::O_RDWR | libc::O_TRUNC, 0).expect("open"))),
        ("fallocate", |path| ignore(fallocate(&opened(path), 0, 0, 8_192).expect("fallocate"))),
        ("punch", |path| {
            let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            ignore(fallocate(&opened(path), punch, 0, 50).expect("punch"));
        }),
        ("copy", |path| {
            let source = open("source", libc::O_RDONLY, 0).expect("open");
            ignore(copy(&source, 0, &opened(path), 0, 100).expect("copy"));
        }),
        ("open", |path| ignore(opened(path))),
    ];
    let root = User { uid: 0, gid: 0, groups: &[] };
    for (who, user) in [("root", root), ("the owner", ALICE), ("another", BOB), ("the club", ALICE_OF_CLUB)] {
        for (what, operation) in operations {
            for bits in MODES {
                let path = folder.join(file_of(bits));
                ignore(file(&path, &[1; 100]));
                chown(&path, i64::from(ALICE.uid), i64::from(CLUB)).expect("chown");
                chmod(&path, bits).expect("chmod");
            }
            as_user(seen, folder, user, |_| MODES.iter().for_each(|bits| operation(Path::new(&file_of(*bits)))));
            for bits in MODES {
                seen.is(format!("{what} by {who}, {bits:o}"), mode(folder.join(file_of(bits))));
                unlink(folder.join(file_of(bits))).expect("unlink");
            }
        }
    }
    // What the writer is told while it has the file open, and after it.
    let path = folder.join("open");
    ignore(file(&path, b"x"));
    chmod(&path, 0o6777).expect("chmod");
    as_user(seen, folder, BOB, |seen| {
        let own = opened(Path::new("open"));
        pwrite(&own, b"y", 0).expect("write");
        seen.is("by the writer before its close", mode("open"));
        own.sync_all().expect("fsync");
        seen.is("after fsync", mode("open"));
    });
    seen.is("after its close", mode(&path));
}

fn opened(path: &Path) -> fs::File {
    open(path, libc::O_RDWR, 0).expect("open")
}

fn bits_and_chown(seen: &mut Seen, folder: &Path) {
    for bits in MODES {
        for (what, uid, gid) in [("user", 1, -1), ("group", -1, 1), ("nothing", -1, -1), ("both", 1, 1)] {
            let (path, directory) = (folder.join("file"), folder.join("directory"));
            ignore(file(&path, b""));
            mkdir(&directory, 0o755).expect("mkdir");
            for (kind, path) in [("file", &path), ("directory", &directory)] {
                chown(path, i64::from(ALICE.uid), i64::from(ALICE.gid)).expect("chown");
                chmod(path, bits).expect("chmod");
                seen.code(format!("chown of {what}, {kind}, {bits:o}"), chown(path, uid, gid));
                seen.is(format!("after chown of {what}, {kind}, {bits:o}"), owner(path));
            }
            unlink(&path).expect("unlink");
            rmdir(&directory).expect("rmdir");
        }
        ignore(file(folder.join("club"), b""));
        give(folder.join("club"), ALICE);
        chmod(folder.join("club"), bits).expect("chmod");
        as_user(seen, folder, ALICE_OF_CLUB, |seen| {
            seen.code(format!("chgrp by the owner, {bits:o}"), chown("club", -1, i64::from(CLUB)));
            seen.is(format!("after chgrp by the owner, {bits:o}"), owner("club"));
        });
    }
}

fn sticky(seen: &mut Seen, folder: &Path) {
    for (name, bits) in [("sticky", 0o1777), ("plain", 0o777)] {
        mkdir(folder.join(name), 0o755).expect("mkdir");
        chmod(folder.join(name), bits).expect("chmod");
        let at = |what: &str| folder.join(name).join(what);
        for what in ["file", "moved", "victim", "exchanged"] {
            ignore(file(at(what), b""));
            give(at(what), ALICE);
            chmod(at(what), 0o666).expect("chmod");
        }
        mkdir(at("directory"), 0o777).expect("mkdir");
        give(at("directory"), ALICE);
        as_user(seen, &folder.join(name), BOB, |seen| {
            ignore(file("bobs", b""));
            ignore(file("bobs too", b""));
            let mut is = |what: &str, result| seen.code(format!("{name}: {what}"), result);
            is("unlink by another", unlink("file"));
            is("rename by another", rename("moved", "elsewhere", 0));
            is("rename over another's", rename("bobs", "victim", 0));
            is("exchange with another's", rename("bobs too", "exchanged", libc::RENAME_EXCHANGE));
            is("rmdir by another", rmdir("directory"));
            is("write by another", truncate("exchanged", 3));
        });
        as_user(seen, &folder.join(name), ALICE, |seen| {
            seen.code(format!("{name}: unlink by the owner"), unlink("file"));
            seen.code(format!("{name}: rename by the owner"), rename("moved", "elsewhere", 0));
        });
        ignore(file(at("last"), b""));
        give(at("last"), ALICE);
        give(folder.join(name), BOB);
        as_user(seen, &folder.join(name), BOB, |seen| {
            seen.code(format!("{name}: unlink by the directory's owner"), unlink("last"));
        });
        seen.is(format!("{name}: mode"), mode(folder.join(name)));
    }
}

fn setgid_directories(seen: &mut Seen, folder: &Path) {
    let shared = folder.join("shared");
    mkdir(&shared, 0o755).expect("mkdir");
    chown(&shared, 0, i64::from(CLUB)).expect("chown");
    chmod(&shared, 0o2777).expect("chmod");
    let root = User { uid: 0, gid: 0, groups: &[] };
    for (who, user) in [("root", root), ("a member", ALICE_OF_CLUB), ("another", BOB)] {
        as_user(seen, &shared, user, |seen| {
            // SAFETY: of this process only.
            unsafe { libc::umask(0) };
            let name = |what: &str| format!("{what} by {who}");
            let make = |what: &str, mode| ignore(open(name(what), libc::O_RDWR | libc::O_CREAT, mode).expect("create"));
            make("file 666", 0o666);
            make("file 2777", 0o2777);
            make("file 2767", 0o2767);
            make("file 6777", 0o6777);
            mkdir(name("directory"), 0o755).expect("mkdir");
            mkdir(name("directory 2755"), 0o2755).expect("mkdir");
            mkdir(name("directory 1777"), 0o1777).expect("mkdir");
            mknod(name("fifo"), libc::S_IFIFO | 0o2777, 0).expect("mkfifo");
            mknod(name("node"), libc::S_IFREG | 0o2777, 0).expect("mknod");
            symlink("target", name("symlink")).expect("symlink");
            let all = ["file 666", "file 2777", "file 2767", "file 6777", "directory", "directory 2755"];
            for what in all.iter().chain(&["directory 1777", "fifo", "node", "symlink"]) {
                seen.is(name(what), owner(name(what)));
            }
            mkdir(format!("{}/deeper", name("directory")), 0o700).expect("mkdir");
            seen.is(name("deeper"), owner(format!("{}/deeper", name("directory"))));
            // chmod takes the bit from one who is no member.
            seen.code(name("chmod 2755"), chmod(name("file 666"), 0o2755));
            seen.is(name("after chmod 2755"), owner(name("file 666")));
            seen.code(name("chmod 2755 of a directory"), chmod(name("directory"), 0o2755));
            seen.is(name("after chmod 2755 of a directory"), owner(name("directory")));
            // A directory moved in keeps its group.
            mkdir("outside", 0o755).expect("mkdir");
            chmod("outside", 0o755).expect("chmod");
            seen.is(name("chmod 755 of a setgid directory"), owner("outside"));
            rmdir("outside").expect("rmdir");
        });
    }
}

fn umask(seen: &mut Seen, folder: &Path) {
    for mask in [0, 0o022, 0o027, 0o077, 0o777] {
        as_user(seen, folder, ALICE, |seen| {
            // SAFETY: of this process only.
            unsafe { libc::umask(mask) };
            let name = |what: &str| format!("{what} under {mask:o}");
            ignore(open(name("file"), libc::O_RDWR | libc::O_CREAT, 0o666).expect("create"));
            ignore(open(name("file 7777"), libc::O_RDWR | libc::O_CREAT, 0o7777).expect("create"));
            mkdir(name("directory"), 0o777).expect("mkdir");
            mkdir(name("directory 7777"), 0o7777).expect("mkdir");
            mknod(name("fifo"), libc::S_IFIFO | 0o666, 0).expect("mkfifo");
            symlink("target", name("symlink")).expect("symlink");
            for what in ["file", "file 7777", "directory", "directory 7777", "fifo", "symlink"] {
                seen.is(name(what), owner(name(what)));
            }
            // What is made without a permission can be written by who made it.
            let made = open(name("sealed"), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0).expect("create");
            seen.code(name("write to a new file without permissions"), pwrite(&made, b"x", 0));
            seen.code(name("its second open"), open(name("sealed"), libc::O_RDWR, 0));
        });
    }
}

fn supplementary(seen: &mut Seen, folder: &Path) {
    ignore(file(folder.join("club"), b"content"));
    chown(folder.join("club"), 0, i64::from(CLUB)).expect("chown");
    chmod(folder.join("club"), 0o060).expect("chmod");
    // For the group nothing, for all others all: the group counts first.
    ignore(file(folder.join("without club"), b"content"));
    chown(folder.join("without club"), 0, i64::from(CLUB)).expect("chown");
    chmod(folder.join("without club"), 0o606).expect("chmod");
    mkdir(folder.join("house"), 0o755).expect("mkdir");
    ignore(file(folder.join("house/inside"), b""));
    chown(folder.join("house"), 0, i64::from(CLUB)).expect("chown");
    chmod(folder.join("house"), 0o070).expect("chmod");
    for (who, user) in [("a member", ALICE_OF_CLUB), ("no member", ALICE)] {
        as_user(seen, folder, user, |seen| {
            let name = |what: &str| format!("{what} by {who}");
            seen.code(name("read"), fs::read("club"));
            seen.code(name("write"), open("club", libc::O_WRONLY, 0));
            seen.code(name("truncate"), truncate("club", 3));
            seen.code(name("access"), access("club", libc::R_OK | libc::W_OK));
            seen.code(name("access to execute"), access("club", libc::X_OK));
            seen.code(name("read where the group may not"), fs::read("without club"));
            seen.code(name("listing"), fs::read_dir("house"));
            seen.code(name("lookup"), fs::metadata("house/inside"));
            seen.code(name("create"), mkdir("house/new", 0o755));
            seen.code(name("rmdir"), rmdir("house/new"));
            seen.code(name("setxattr"), setxattr("club", "user.a", b"1", 0));
        });
    }
}

fn others(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    ignore(file(at("alices"), b""));
    give(at("alices"), ALICE);
    chmod(at("alices"), 0o666).expect("chmod");
    mkdir(at("directory"), 0o777).expect("mkdir");
    give(at("directory"), ALICE);
    symlink("alices", at("link")).expect("symlink");
    give(at("link"), ALICE);
    as_user(seen, folder, BOB, |seen| {
        for name in ["alices", "directory"] {
            seen.code(format!("{name}: chmod"), chmod(name, 0o600));
            seen.code(format!("{name}: chown to oneself"), chown(name, i64::from(BOB.uid), -1));
            seen.code(format!("{name}: chgrp to one's own"), chown(name, -1, i64::from(BOB.gid)));
            seen.code(format!("{name}: chown of nothing"), chown(name, -1, -1));
        }
        seen.code("link: chown", chown("link", -1, i64::from(BOB.gid)));
    });
    as_user(seen, folder, ALICE_OF_CLUB, |seen| {
        for name in ["alices", "directory", "link"] {
            seen.code(format!("{name}: chown to another"), chown(name, i64::from(BOB.uid), -1));
            seen.code(format!("{name}: chown to the same"), chown(name, i64::from(ALICE.uid), -1));
            seen.code(format!("{name}: chgrp to a group of one's own"), chown(name, -1, i64::from(CLUB)));
            seen.code(format!("{name}: chgrp to the second"), chown(name, i64::from(ALICE.uid), 12_901));
            seen.code(format!("{name}: chgrp to a group of others"), chown(name, -1, i64::from(BOB.gid)));
            seen.is(format!("{name}: after all"), owner(name));
        }
        seen.code("chmod of one's own", chmod("alices", 0o7751));
        seen.is("after it", owner("alices"));
    });
    // The owner of a file of a foreign group does not get its sgid.
    chown(at("alices"), i64::from(ALICE.uid), i64::from(BOB.gid)).expect("chown");
    as_user(seen, folder, ALICE, |seen| {
        for bits in [0o2755, 0o6755, 0o2644, 0o1777] {
            seen.code(format!("chmod {bits:o} in a foreign group"), chmod("alices", bits));
            seen.is(format!("after chmod {bits:o}"), owner("alices"));
        }
    });
    // SAFETY: paths live.
    let fchmodat2 = |flags: i32| unsafe {
        done(libc::syscall(libc::SYS_fchmodat2, libc::AT_FDCWD, super::sys::c(at("link")).as_ptr(), 0o600, flags))
    };
    seen.code("chmod of a symlink itself", fchmodat2(libc::AT_SYMLINK_NOFOLLOW));
    seen.is("and its mode", mode(at("link")));
}

fn permissions(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    for bits in [0o000, 0o007, 0o070, 0o700, 0o400, 0o200, 0o100, 0o755] {
        let (path, directory) = (at(&format!("file{bits:o}")), at(&format!("directory{bits:o}")));
        ignore(file(&path, b"content"));
        mkdir(&directory, 0o755).expect("mkdir");
        ignore(file(directory.join("inside"), b""));
        for path in [&path, &directory] {
            give(path, ALICE);
            chmod(path, bits).expect("chmod");
        }
        let root = User { uid: 0, gid: 0, groups: &[] };
        for (who, user) in [("root", root), ("the owner", ALICE), ("another", BOB)] {
            as_user(seen, folder, user, |seen| {
                let name = |what: &str| format!("{bits:o}: {what} by {who}");
                let (file, inside) = (format!("file{bits:o}"), format!("directory{bits:o}/inside"));
                seen.code(name("read"), open(&file, libc::O_RDONLY, 0));
                seen.code(name("write"), open(&file, libc::O_WRONLY, 0));
                seen.code(name("both"), open(&file, libc::O_RDWR, 0));
                let asked = [libc::R_OK, libc::W_OK, libc::X_OK].map(|how| super::seen::code(access(&file, how)));
                seen.is(name("access"), asked.join(" "));
                seen.code(name("listing"), fs::read_dir(format!("directory{bits:o}")));
                seen.code(name("lookup"), fs::metadata(&inside));
                seen.code(name("create within"), mkdir(format!("directory{bits:o}/new"), 0o755));
                let _ = rmdir(format!("directory{bits:o}/new"));
                seen.code(name("exec"), Command::new(format!("./{file}")).status().map(|_| ()));
            });
        }
    }
}

fn protected_links(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    for (name, bits) in [("plain", 0o644), ("open", 0o666), ("suid", 0o4777), ("sgid", 0o2777)] {
        ignore(file(at(name), b""));
        chmod(at(name), bits).expect("chmod");
    }
    as_user(seen, folder, BOB, |seen| {
        for name in ["plain", "open", "suid", "sgid"] {
            seen.code(format!("link to {name}"), link(name, format!("{name} linked")));
        }
    });
}

/// A program that has its owner's rights, and loses them with a write.
fn suid_program(seen: &mut Seen, folder: &Path) {
    fs::copy("/usr/bin/id", folder.join("id")).expect("copy");
    give(folder.join("id"), ALICE);
    fs::set_permissions(folder.join("id"), fs::Permissions::from_mode(0o6755)).expect("chmod");
    let told = |seen: &mut Seen, what: &str| {
        as_user(seen, folder, BOB, |seen| {
            let out = Command::new("./id").output().map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
            seen.got(what, out);
        });
    };
    told(seen, "with suid and sgid");
    fs::set_permissions(folder.join("id"), fs::Permissions::from_mode(0o755)).expect("chmod");
    told(seen, "without");
}
