//! Listings while entries come and go, positions in them, link counts, and directories without a name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use cairn_cluster_tests::harness::size;

use super::Case;
use super::seen::{Seen, code};
use super::sys::{c, done, file, ignore, link, lseek, mkdir, open, rename, rmdir, unlink};

pub(super) const CASES: &[(&str, Case)] = &[
    ("listings while entries come and go", comings_and_goings),
    ("rewinds", rewinds),
    ("kinds and numbers in listings", kinds),
    ("directories without a name", removed),
    ("links of directories", link_counts),
    ("hard links", hard_links),
];

/// Room for about twenty entries of these tests.
const SMALL: usize = 640;
/// Passes over a directory.
const ROUNDS: usize = 3;
/// Changes between reads of one pass, in this many places.
const PLACES: usize = 60;

/// An entry: its name, the position behind it, its kind and its inode.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    behind: i64,
    kind: u8,
    inode: u64,
}

/// getdents64(2), once; nothing at the end.
fn read_some(directory: &File, room: usize) -> io::Result<Vec<Entry>> {
    let mut buffer = vec![0_u8; room];
    // SAFETY: the buffer has that length.
    let filled = unsafe {
        done(libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()))? as usize
    };
    let (mut entries, mut at) = (Vec::new(), 0);
    while at < filled {
        let number = |from: usize| u64::from_ne_bytes(buffer[at + from..at + from + 8].try_into().expect("eight"));
        let length = usize::from(u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]));
        let name = &buffer[at + 19..at + length];
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        entries.push(Entry {
            name: String::from_utf8_lossy(name).into_owned(),
            behind: number(8) as i64,
            kind: buffer[at + 18],
            inode: number(0),
        });
        at += length;
    }
    Ok(entries)
}

fn comings_and_goings(seen: &mut Seen, folder: &Path) {
    let entries = size("CAIRN_SURFACE_ENTRIES", 1_500);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                for number in (part..entries).step_by(8) {
                    File::create(folder.join(format!("stays{number:07}"))).expect("create");
                }
            });
        }
    });
    let made = begun.elapsed();
    let begun = Instant::now();
    seen.is("entries", fs::read_dir(folder).expect("readdir").count());
    eprintln!("{entries} entries made in {made:?}, listed in {:?}", begun.elapsed());
    // What leaves in each round.
    for number in 0..ROUNDS * PLACES {
        File::create(folder.join(format!("leaves{number:06}"))).expect("create");
    }
    let reads_between = (entries / 20 / PLACES).max(1);
    for round in 0..ROUNDS {
        let directory = File::open(folder).expect("open");
        let (mut found, mut positions, mut reads) = (BTreeMap::<String, u32>::new(), Vec::new(), 0);
        let mut order = Vec::new();
        loop {
            let some = read_some(&directory, SMALL).expect("getdents64");
            let Some(last) = some.last() else { break };
            let behind = last.behind;
            for entry in some.iter().filter(|entry| entry.name.starts_with("stays")) {
                *found.entry(entry.name.clone()).or_default() += 1;
                order.push(entry.name.clone());
            }
            if reads % reads_between == 0 {
                positions.push((behind, order.len()));
                change(folder, round, reads / reads_between);
            }
            // Back to what was read before, and forth again.
            if reads % (16 * reads_between) == 16 * reads_between - 1 {
                let (position, known) = positions[positions.len() - positions.len().min(8)];
                let ahead = order[known..].to_vec();
                let again = read_again(&directory, position, ahead.len());
                seen.is(
                    format!("round {round}: what follows a position is the same after it was sought"),
                    again == ahead,
                );
                lseek(&directory, behind, libc::SEEK_SET).expect("seek");
            }
            reads += 1;
        }
        let all = found.len() == entries && found.values().all(|times| *times == 1);
        seen.is(format!("round {round}: each entry that stays, once"), all);
        seen.is(
            format!("round {round}: the end stays the end"),
            read_some(&directory, SMALL).map_or(1, |some| some.len()),
        );
        // From every position that was told, to the end.
        let total = order.len();
        for (position, known) in positions.iter().step_by(positions.len().div_ceil(6).max(1)) {
            let rest = read_again(&directory, *position, usize::MAX);
            seen.is(format!("round {round}: the rest from a position"), rest == order[*known..total]);
        }
    }
    let names: BTreeSet<String> = fs::read_dir(folder)
        .expect("readdir")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("stays") && !name.starts_with("comes"))
        .collect();
    seen.is("what else there is in the end", format!("{names:?}"));
}

/// One name comes, one goes, one changes, and one that is always there is replaced.
fn change(folder: &Path, round: usize, place: usize) {
    let number = round * PLACES + place % PLACES;
    let _ = File::create(folder.join(format!("comes{number:06}")));
    let _ = unlink(folder.join(format!("leaves{number:06}")));
    if place > 0 {
        let before = round * PLACES + (place - 1) % PLACES;
        let _ = rename(folder.join(format!("comes{before:06}")), folder.join(format!("came{before:06}")), 0);
        let _ = rename(folder.join(format!("came{before:06}")), folder.join("always"), 0);
    }
}

/// The names that stay, behind a position, at most so many.
fn read_again(directory: &File, position: i64, most: usize) -> Vec<String> {
    lseek(directory, position, libc::SEEK_SET).expect("seek");
    let mut names = Vec::new();
    while names.len() < most {
        let some = read_some(directory, SMALL).expect("getdents64");
        if some.is_empty() {
            break;
        }
        names.extend(some.into_iter().map(|entry| entry.name).filter(|name| name.starts_with("stays")));
    }
    names.truncate(most);
    names
}

fn rewinds(seen: &mut Seen, folder: &Path) {
    for number in 0..50 {
        File::create(folder.join(format!("file{number}"))).expect("create");
    }
    // SAFETY: the stream is closed below and used only here.
    unsafe {
        let stream = libc::opendir(c(folder).as_ptr());
        assert!(!stream.is_null());
        let count = || {
            let mut count = 0;
            while !libc::readdir(stream).is_null() {
                count += 1;
            }
            count
        };
        seen.is("first", count());
        File::create(folder.join("later")).expect("create");
        unlink(folder.join("file7")).expect("unlink");
        unlink(folder.join("file8")).expect("unlink");
        libc::rewinddir(stream);
        seen.is("rewound", count());
        libc::rewinddir(stream);
        let first = libc::telldir(stream);
        libc::readdir(stream);
        libc::readdir(stream);
        let third = libc::telldir(stream);
        let name = |entry: *mut libc::dirent| std::ffi::CStr::from_ptr((*entry).d_name.as_ptr()).to_owned();
        let told = name(libc::readdir(stream));
        libc::seekdir(stream, third);
        seen.is("seekdir goes to where telldir was", name(libc::readdir(stream)) == told);
        libc::seekdir(stream, first);
        seen.is("from the first", count());
        libc::closedir(stream);
    }
    let directory = File::open(folder).expect("open");
    seen.got("dots and entries", read_some(&directory, 1 << 16).map(|some| some.len()));
    seen.got("at the end", read_some(&directory, 1 << 16).map(|some| some.len()));
    unlink(folder.join("file9")).expect("unlink");
    seen.code("back to the start", lseek(&directory, 0, libc::SEEK_SET));
    seen.got("again", read_some(&directory, 1 << 16).map(|some| some.len()));
    seen.code("negative", lseek(&directory, -1, libc::SEEK_SET));
    seen.code("too little room", read_some(&directory, 10).map(|some| some.len()));
    lseek(&directory, 0, libc::SEEK_SET).expect("seek");
    seen.code("too little room at the start", read_some(&directory, 10).map(|some| some.len()));
}

fn kinds(seen: &mut Seen, folder: &Path) {
    use super::sys::{mknod, symlink};
    ignore(file(folder.join("file"), b""));
    mkdir(folder.join("directory"), 0o755).expect("mkdir");
    symlink("file", folder.join("symlink")).expect("symlink");
    mknod(folder.join("fifo"), libc::S_IFIFO | 0o600, 0).expect("mknod");
    mknod(folder.join("socket"), libc::S_IFSOCK | 0o600, 0).expect("mknod");
    mknod(folder.join("character"), libc::S_IFCHR | 0o600, 0x103).expect("mknod");
    mknod(folder.join("block"), libc::S_IFBLK | 0o600, 0x700).expect("mknod");
    for _ in 0..2 {
        let mut entries = read_some(&File::open(folder).expect("open"), 1 << 16).expect("getdents64");
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let inode = fs::symlink_metadata(folder.join(&entry.name)).map(|found| found.ino() == entry.inode);
            let inode = if entry.name == ".." { "-".to_owned() } else { format!("{:?}", inode.ok()) };
            seen.is(&entry.name, format!("kind {} inode {inode}", entry.kind));
        }
    }
}

fn removed(seen: &mut Seen, folder: &Path) {
    mkdir(folder.join("gone"), 0o755).expect("mkdir");
    let directory = File::open(folder.join("gone")).expect("open");
    seen.got("before", read_some(&directory, 1_000).map(|some| some.len()));
    rmdir(folder.join("gone")).expect("rmdir");
    seen.got("read on", read_some(&directory, 1_000).map(|some| some.len()));
    seen.code("rewind", lseek(&directory, 0, libc::SEEK_SET));
    seen.got("from the start", read_some(&directory, 1_000).map(|some| some.len()));
    seen.got("links", directory.metadata().map(|found| found.nlink()));
    // SAFETY: the names live.
    let within = |name: &str, flags| unsafe {
        done(libc::openat(directory.as_raw_fd(), c(name).as_ptr(), flags, 0o644))
            .map(|fd| ignore(libc::close(fd as i32)))
    };
    seen.code("create within", within("new", libc::O_CREAT | libc::O_RDWR));
    seen.code("lookup within", within("old", libc::O_RDONLY));
    seen.code("dot", within(".", libc::O_RDONLY));
    seen.code("dot dot", within("..", libc::O_RDONLY));
    // SAFETY: the names live.
    seen.code("mkdir within", unsafe { done(libc::mkdirat(directory.as_raw_fd(), c("new").as_ptr(), 0o755)) });
    seen.code("fsync", directory.sync_all());
    // SAFETY: the descriptor is open.
    seen.code("chmod", unsafe { done(libc::fchmod(directory.as_raw_fd(), 0o700)) });
    // A new one of the name is another.
    mkdir(folder.join("gone"), 0o755).expect("mkdir");
    seen.code("create within the old one", within("new", libc::O_CREAT | libc::O_RDWR));
    // Replaced by a rename.
    mkdir(folder.join("other"), 0o755).expect("mkdir");
    let replaced = File::open(folder.join("gone")).expect("open");
    rename(folder.join("other"), folder.join("gone"), 0).expect("rename");
    seen.got("links of a replaced one", replaced.metadata().map(|found| found.nlink()));
    seen.got("listing of a replaced one", read_some(&replaced, 1_000).map(|some| some.len()));
}

fn link_counts(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    let count = |name: &str| fs::metadata(at(name)).map_or(0, |found| found.nlink());
    seen.is("none", count("."));
    mkdir(at("one"), 0o755).expect("mkdir");
    mkdir(at("two"), 0o755).expect("mkdir");
    ignore(file(at("file"), b""));
    seen.is("two", count("."));
    seen.is("empty", count("one"));
    rename(at("one"), at("two/one"), 0).expect("rename");
    seen.is("moved", format!("{} {} {}", count("."), count("two"), count("two/one")));
    mkdir(at("two/other"), 0o755).expect("mkdir");
    rename(at("two/one"), at("two/other"), 0).expect("rename");
    seen.is("replaced", count("two"));
    rename(at("file"), at("two/other"), libc::RENAME_EXCHANGE).expect("exchange");
    seen.is("exchanged", format!("{} {}", count("."), count("two")));
    rmdir(at("file")).expect("rmdir");
    seen.is("removed", count("."));
}

fn hard_links(seen: &mut Seen, folder: &Path) {
    let links = size("CAIRN_SURFACE_LINKS", 500);
    ignore(file(folder.join("first"), b"content"));
    let mut refused = String::new();
    for number in 2..=links {
        if let Err(error) = link(folder.join("first"), folder.join(format!("link{number}"))) {
            refused = format!("{} at {number}", code::<(), _>(Err(error)));
            break;
        }
    }
    seen.is("refused", refused);
    let found = fs::metadata(folder.join("first")).expect("stat");
    seen.is("links", found.nlink());
    let last = open(folder.join(format!("link{}", found.nlink())), libc::O_RDWR, 0).expect("open");
    seen.is("one inode", last.metadata().expect("stat").ino() == found.ino());
    super::sys::pwrite(&last, b"written", 0).expect("write");
    seen.got("content", fs::read_to_string(folder.join("link2")));
    for number in (1..=found.nlink()).filter(|number| number % 2 == 0) {
        unlink(folder.join(format!("link{number}"))).expect("unlink");
    }
    seen.got("half of them", last.metadata().map(|found| found.nlink()));
    seen.is("entries", fs::read_dir(folder).expect("readdir").count());
    unlink(folder.join("first")).expect("unlink");
    seen.got("content without the first", last.metadata().map(|found| found.len()));
}
