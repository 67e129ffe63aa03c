//! Names and paths: what may be one, how they are followed, and what a rename does to them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Case;
use super::seen::{Seen, code};
use super::sys::{
    ALICE, as_user, child, chmod, chown, file, ignore, link, linkat, mkdir, mknod, open, rename, rmdir, symlink,
    truncate, unlink,
};

pub(super) const CASES: &[(&str, Case)] = &[
    ("bytes of names", bytes),
    ("lengths of names", lengths),
    ("long paths", long_paths),
    ("symlinks", symlinks),
    ("slashes and dots", slashes),
    ("renames", renames),
    ("rename flags", rename_flags),
    ("calls on the wrong kind", wrong_kinds),
    ("other file systems", elsewhere),
    ("permission to rename", rename_permission),
];

fn listed(folder: &Path) -> String {
    let mut names: Vec<Vec<u8>> =
        fs::read_dir(folder).expect("readdir").map(|entry| entry.expect("entry").file_name().into_vec()).collect();
    names.sort();
    names.iter().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

fn bytes(seen: &mut Seen, folder: &Path) {
    let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let longest: Vec<u8> = (0..255).map(|at| 255 - at % 128).map(|byte| byte as u8).collect();
    for name in [&all[..], &longest, b"\xff\xfe", b"\xc3", b"new\nline", b" ", b"...", b"..a", b"\\", b"-rf", b"\x7f"] {
        let path = folder.join(OsStr::from_bytes(name));
        let shown = name.escape_ascii().to_string();
        seen.code(format!("create {shown}"), fs::write(&path, name));
        seen.code(format!("rename {shown}"), rename(&path, folder.join("between"), 0));
        seen.code(format!("rename back {shown}"), rename(folder.join("between"), &path, 0));
        seen.is(format!("content {shown}"), fs::read(&path).is_ok_and(|content| content == name));
        seen.code(format!("symlink to {shown}"), symlink(OsStr::from_bytes(name), folder.join("pointer")));
        let target = fs::read_link(folder.join("pointer")).expect("readlink");
        seen.is(format!("target {shown}"), target.as_os_str().as_bytes() == name);
        unlink(folder.join("pointer")).expect("unlink");
    }
    // Names that differ in case or in their composition only are others.
    for name in ["case", "CASE", "e\u{301}", "\u{e9}"] {
        seen.code(format!("create {name:?}"), mkdir(folder.join(name), 0o755));
    }
    seen.is("listing", listed(folder));
}

fn lengths(seen: &mut Seen, folder: &Path) {
    ignore(file(folder.join("file"), b""));
    for length in [254, 255, 256, 1_000, 4_000, 5_000] {
        let path = folder.join("n".repeat(length));
        let mut is = |what: &str, text: String| seen.is(format!("{what}, {length} bytes"), text);
        is("lookup", code(fs::metadata(&path)));
        is("create", code(open(&path, libc::O_RDWR | libc::O_CREAT, 0o644)));
        is("unlink", code(unlink(&path)));
        is("mkdir", code(mkdir(&path, 0o755)));
        is("rmdir", code(rmdir(&path)));
        is("symlink", code(symlink("file", &path)));
        let _ = unlink(&path);
        is("link", code(link(folder.join("file"), &path)));
        let _ = unlink(&path);
        is("mknod", code(mknod(&path, libc::S_IFIFO | 0o600, 0)));
        is("rename from", code(rename(&path, folder.join("other"), 0)));
        is("rename to", code(rename(folder.join("file"), &path, 0)));
        let _ = rename(&path, folder.join("file"), 0);
        let _ = unlink(folder.join("other"));
    }
    seen.code("no name", open("", libc::O_RDONLY, 0));
    seen.code("mkdir of no name", mkdir("", 0o755));
    seen.is("listing", listed(folder));
}

fn long_paths(seen: &mut Seen, folder: &Path) {
    let end = child(seen, folder, None, |seen| {
        let mut path = String::new();
        while path.len() + 202 < 4_090 {
            path.push_str(&"d".repeat(200));
            seen.code(format!("mkdir of {} bytes", path.len()), mkdir(&path, 0o755));
            path.push('/');
        }
        for total in [4_094, 4_095, 4_096, 4_097, 10_000] {
            let mut full = format!("{path}f");
            while full.len() + 2 <= total {
                full.insert_str(0, "./");
            }
            full.push_str(&"f".repeat(total - full.len()));
            seen.code(format!("create, {total}: {}", full.len()), open(&full, libc::O_RDWR | libc::O_CREAT, 0o644));
            seen.code(format!("unlink, {total}"), unlink(&full));
        }
        // Deeper than any path can say.
        for depth in 0..40 {
            let name = "e".repeat(250);
            mkdir(&name, 0o755).unwrap_or_else(|error| panic!("mkdir {depth}: {error}"));
            std::env::set_current_dir(&name).expect("chdir");
        }
        seen.code("create far below", open("file", libc::O_RDWR | libc::O_CREAT, 0o644));
        seen.code("working directory far below", std::env::current_dir());
        for _ in 0..40 {
            std::env::set_current_dir("..").expect("chdir");
        }
    });
    seen.is("the end", end);
    seen.code("rm -r", fs::remove_dir_all(folder.join("e".repeat(250))));
}

fn symlinks(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    for length in [0, 1, 59, 60, 61, 4_000, 4_094, 4_095, 4_096, 5_000] {
        let (target, path) = ("t".repeat(length), at(&format!("link{length}")));
        seen.code(format!("symlink of {length} bytes"), symlink(&target, &path));
        seen.got(format!("target of {length} bytes"), fs::read_link(&path).map(|found| found == Path::new(&target)));
        seen.got(format!("size of a symlink of {length} bytes"), fs::symlink_metadata(&path).map(|found| found.len()));
        seen.code(format!("follow {length} bytes"), fs::metadata(&path));
    }
    ignore(file(at("file"), b"content"));
    mkdir(at("directory"), 0o755).expect("mkdir");
    let pointers = [
        ("a", "b"),
        ("b", "a"),
        ("self", "self"),
        ("nowhere", "dangling"),
        ("file", "good"),
        ("directory", "to directory"),
        ("file/", "file with slash"),
        ("directory/", "directory with slash"),
        ("directory/../file", "around"),
    ];
    for (target, name) in pointers {
        symlink(target, at(name)).expect("symlink");
    }
    for (_, name) in pointers {
        seen.code(format!("{name}: open"), open(at(name), libc::O_RDONLY, 0));
        seen.code(format!("{name}: stat"), fs::metadata(at(name)));
        seen.code(format!("{name}: below"), fs::metadata(at(name).join("below")));
        seen.code(format!("{name}: O_CREAT"), open(at(name), libc::O_RDWR | libc::O_CREAT, 0o644));
        seen.code(format!("{name}: O_EXCL"), open(at(name), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o644));
        seen.code(format!("{name}: mkdir"), mkdir(at(name), 0o755));
        seen.code(format!("{name}: rmdir"), rmdir(at(name)));
        seen.code(format!("{name}: truncate"), truncate(at(name), 3));
        seen.code(format!("{name}: link"), link(at(name), at(&format!("{name} linked"))));
        seen.code(
            format!("{name}: link, followed"),
            linkat(at(name), at(&format!("{name} followed")), libc::AT_SYMLINK_FOLLOW),
        );
    }
    // As many as Linux follows, and one more.
    symlink("file", at("chain0")).expect("symlink");
    for number in 1..=41 {
        symlink(format!("chain{}", number - 1), at(&format!("chain{number}"))).expect("symlink");
    }
    for number in [38, 39, 40, 41] {
        seen.code(format!("a chain of {} links", number + 1), fs::read(at(&format!("chain{number}"))));
    }
    seen.code("unlink of a symlink with a slash", unlink(at("to directory/")));
    seen.code("rmdir of a symlink to a directory", rmdir(at("to directory")));
    seen.code("readlink of a file", fs::read_link(at("file")));
    seen.is("listing", listed(folder));
}

fn slashes(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| PathBuf::from(format!("{}/{name}", folder.display()));
    ignore(file(at("file"), b"content"));
    mkdir(at("directory"), 0o755).expect("mkdir");
    mkdir(at("directory/inner"), 0o755).expect("mkdir");
    let paths =
        ["file/", "file/.", "file/..", "directory/", "directory//inner", "directory/.", "directory/..", ".", ".."];
    for name in paths.into_iter().chain([
        "directory/inner/../../file",
        "nothing/",
        "nothing/..",
        "./file",
        "directory/./inner/.",
    ]) {
        let path = at(name);
        seen.code(format!("{name}: stat"), fs::metadata(&path));
        seen.code(format!("{name}: open"), open(&path, libc::O_RDONLY, 0));
        seen.code(format!("{name}: truncate"), truncate(&path, 7));
        seen.code(format!("{name}: mkdir"), mkdir(&path, 0o755));
        let _ = rmdir(at("nothing"));
        seen.code(format!("{name}: create"), open(&path, libc::O_RDWR | libc::O_CREAT, 0o644));
        seen.code(format!("{name}: symlink"), symlink("target", &path));
        seen.code(format!("{name}: mkfifo"), mknod(&path, libc::S_IFIFO | 0o600, 0));
        seen.code(format!("{name}: link from"), link(&path, at("linked")));
        seen.code(format!("{name}: link to"), link(at("file"), &path));
        if name != ".." {
            seen.code(format!("{name}: rename to"), rename(at("directory/inner"), &path, libc::RENAME_NOREPLACE));
            let _ = rename(&path, at("directory/inner"), libc::RENAME_NOREPLACE);
            seen.code(format!("{name}: unlink"), unlink(&path));
            let _ = open(at("file"), libc::O_RDWR | libc::O_CREAT, 0o644);
            seen.code(format!("{name}: rmdir"), rmdir(&path));
            let _ = mkdir(at("directory/inner"), 0o755);
        }
    }
    seen.code("rename of a file to a name with a slash", rename(at("file"), at("renamed/"), 0));
    seen.code("rename of a directory to a name with a slash", rename(at("directory"), at("renamed/"), 0));
    seen.is("listing", listed(folder));
    let inode = |path: PathBuf| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("stat"));
    seen.is("dot", inode(at("renamed/.")) == inode(at("renamed")));
    seen.is("dot dot", inode(at("renamed/..")) == inode(at(".")));
}

fn renames(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    let fresh = || {
        fs::remove_dir_all(at("x")).ok();
        for name in ["x", "x/empty", "x/full", "x/full/inner", "x/other"] {
            mkdir(at(name), 0o755).expect("mkdir");
        }
        for name in ["x/file", "x/second", "x/full/file"] {
            ignore(file(at(name), name.as_bytes()));
        }
        link(at("x/file"), at("x/alias")).expect("link");
        symlink("file", at("x/link")).expect("symlink");
        symlink("full", at("x/way")).expect("symlink");
        mknod(at("x/fifo"), libc::S_IFIFO | 0o600, 0).expect("mkfifo");
    };
    let names = [
        "file",
        "alias",
        "second",
        "link",
        "way",
        "fifo",
        "empty",
        "full",
        "full/inner",
        "full/inner/new",
        "new",
        "nothing/new",
        "file/new",
        ".",
    ];
    fresh();
    for from in names {
        for to in names {
            let result = rename(at("x").join(from), at("x").join(to), 0);
            let done = result.is_ok();
            let after = format!("{} / {} / {}", code(result), listed(&at("x")), listed_if(&at("x/full")));
            seen.is(format!("{from} to {to}"), after);
            if done {
                fresh();
            }
        }
    }
    fresh();
    seen.is("a name twice in a row", {
        let first = code(rename(at("x/file"), at("x/moved"), 0));
        format!("{first} {}", code(rename(at("x/file"), at("x/moved"), 0)))
    });
}

fn listed_if(folder: &Path) -> String {
    if folder.is_dir() { listed(folder) } else { "-".to_owned() }
}

fn rename_flags(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    let flags = [
        ("NOREPLACE", libc::RENAME_NOREPLACE),
        ("EXCHANGE", libc::RENAME_EXCHANGE),
        ("NOREPLACE and EXCHANGE", libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE),
        ("WHITEOUT", libc::RENAME_WHITEOUT),
        ("WHITEOUT and EXCHANGE", libc::RENAME_WHITEOUT | libc::RENAME_EXCHANGE),
        ("an unknown flag", 1 << 10),
    ];
    for (what, flags) in flags {
        for to in ["second", "directory", "directory/inner", "new", "file", "alias"] {
            fs::remove_dir_all(at("x")).ok();
            mkdir(at("x"), 0o755).expect("mkdir");
            mkdir(at("x/directory"), 0o755).expect("mkdir");
            ignore(file(at("x/file"), b"first"));
            ignore(file(at("x/second"), b"second"));
            ignore(file(at("x/directory/inner"), b"inner"));
            link(at("x/file"), at("x/alias")).expect("link");
            let result = rename(at("x/file"), at("x").join(to), flags);
            let after = (code(result), listed(&at("x")), listed_if(&at("x/directory")));
            let content = |name: &str| fs::read_to_string(at("x").join(name)).unwrap_or_default();
            let content = format!("{}|{}|{}", content("file"), content("second"), content(to));
            seen.is(format!("{what}, to {to}"), format!("{after:?} {content}"));
        }
    }
    mkdir(at("one"), 0o755).expect("mkdir");
    mkdir(at("one/two"), 0o755).expect("mkdir");
    seen.code("exchange with one's own parent", rename(at("one"), at("one/two"), libc::RENAME_EXCHANGE));
    seen.code("exchange with one's own child", rename(at("one/two"), at("one"), libc::RENAME_EXCHANGE));
}

fn wrong_kinds(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    ignore(file(at("file"), b"content"));
    mkdir(at("directory"), 0o755).expect("mkdir");
    mkdir(at("full"), 0o755).expect("mkdir");
    ignore(file(at("full/file"), b""));
    symlink("file", at("link")).expect("symlink");
    mknod(at("fifo"), libc::S_IFIFO | 0o600, 0).expect("mkfifo");
    for name in ["link", "fifo", "full", "directory", "file"] {
        let path = at(name);
        seen.code(format!("{name}: readdir"), fs::read_dir(&path));
        seen.code(format!("{name}: below"), open(path.join("x"), libc::O_RDWR | libc::O_CREAT, 0o644));
        let _ = unlink(path.join("x"));
        seen.code(format!("{name}: mkdir below"), mkdir(path.join("y"), 0o755));
        let _ = rmdir(path.join("y"));
        seen.code(format!("{name}: truncate"), truncate(&path, 3));
        seen.code(format!("{name}: link"), link(&path, at("linked")));
        let _ = unlink(at("linked"));
        seen.code(format!("{name}: mkdir over"), mkdir(&path, 0o755));
        seen.code(format!("{name}: link over"), link(at("file"), &path));
        seen.code(format!("{name}: symlink over"), symlink("x", &path));
        let end = child(seen, folder, None, |seen| {
            seen.code(format!("{name}: chdir"), std::env::set_current_dir(name));
        });
        assert_eq!(end, "exit 0");
        seen.code(format!("{name}: rmdir"), rmdir(&path));
        seen.code(format!("{name}: unlink"), unlink(&path));
    }
    seen.is("listing", listed(folder));
}

fn elsewhere(seen: &mut Seen, folder: &Path) {
    ignore(file(folder.join("file"), b""));
    seen.code("rename from another file system", rename("/proc/version", folder.join("version"), 0));
    seen.code("rename to another file system", rename(folder.join("file"), "/proc/file", 0));
    seen.code("link from another file system", link("/proc/version", folder.join("version")));
    seen.code("link to another file system", link(folder.join("file"), "/proc/file"));
}

fn rename_permission(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    for (name, bits) in [("closed", 0o755), ("open", 0o777)] {
        mkdir(at(name), 0o755).expect("mkdir");
        chmod(at(name), bits).expect("chmod");
        for directory in ["roots", "alices"] {
            mkdir(at(name).join(directory), 0o755).expect("mkdir");
        }
        chown(at(name).join("alices"), i64::from(ALICE.uid), -1).expect("chown");
        ignore(file(at(name).join("file"), b""));
    }
    as_user(seen, folder, ALICE, |seen| {
        // Another parent is a change of the directory itself.
        for (from, to) in [
            ("closed/file", "open/new"),
            ("open/file", "closed/new"),
            ("open/roots", "open/moved"),
            ("open/moved", "open/alices/moved"),
            ("open/alices", "open/still"),
            ("open/file", "open/still/file"),
            ("nothing", "closed/x"),
        ] {
            seen.code(format!("{from} to {to}"), rename(from, to, 0));
        }
        seen.code("mkdir", mkdir("closed/new", 0o755));
        seen.code("mkdir of what is there", mkdir("closed/file", 0o755));
        seen.code("unlink", unlink("closed/file"));
        seen.code("unlink of nothing", unlink("closed/nothing"));
        seen.code("rmdir", rmdir("closed/roots"));
        seen.code("create", open("closed/new", libc::O_CREAT | libc::O_RDWR, 0o644));
        seen.code("symlink", symlink("x", "closed/new"));
    });
}
