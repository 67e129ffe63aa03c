//! Far offsets, limits of size, holes and what they take.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::Case;
use super::seen::{Seen, code};
use super::sys::{
    ALICE, as_user, child, copy, done, fallocate, file, ftruncate, ignore, lseek, open, pwrite, truncate,
};

pub(super) const CASES: &[(&str, Case)] = &[
    ("far offsets", far),
    ("seeks", seeks),
    ("holes and data", holes),
    ("space of sparse files", space),
    ("limit of a process", limit),
    ("negative and odd sizes", odd),
    ("reads behind the end", behind_the_end),
];

fn far(seen: &mut Seen, folder: &Path) {
    const TIB: i64 = 1 << 40;
    let last = i64::MAX - 1;
    for (what, offset) in [
        ("2 GiB - 1", (2 << 30) - 1),
        ("2 GiB", 2 << 30),
        ("4 GiB - 1", (4 << 30) - 1),
        ("1 TiB", TIB),
        ("16 TiB - 8 KiB", 16 * TIB - 8_192),
        ("16 TiB", 16 * TIB),
        ("8 EiB - 4 KiB", i64::MAX - 4_096),
        ("8 EiB - 3", i64::MAX - 2),
        ("8 EiB - 2", last),
        ("8 EiB - 1", i64::MAX),
    ] {
        let path = folder.join("file");
        let own = file(&path, b"start");
        seen.got(format!("write at {what}"), pwrite(&own, b"x", offset));
        let size = own.metadata().expect("stat").len() as i64;
        seen.is(format!("size after {what}"), size == offset.checked_add(1).unwrap_or(-1));
        let mut bytes = [9; 3];
        seen.got(format!("read at {what}"), own.read_at(&mut bytes, offset as u64));
        seen.is(format!("bytes at {what}"), bytes[0]);
        drop(own);
        seen.code(format!("truncate to {what}"), truncate(&path, offset));
        let own = open(&path, libc::O_RDWR, 0).expect("open");
        seen.is(format!("size of {what}"), own.metadata().expect("stat").len() as i64 == offset);
        seen.code(format!("seek to {what}"), lseek(&own, offset, libc::SEEK_SET));
        seen.code(format!("fallocate behind {what}"), fallocate(&own, 0, offset, 1 << 40).map(|_| ()));
        drop(own);
        super::sys::unlink(&path).expect("unlink");
    }
    // A write that reaches over the end is cut there.
    let own = file(folder.join("cut"), b"");
    seen.got("a write over the last byte", pwrite(&own, &[1; 10], i64::MAX - 5));
    let appended = File::options().append(true).open(folder.join("cut")).expect("open");
    ftruncate(&own, 1 << 40).expect("truncate");
    seen.got("append far away", done(unsafe_write(&appended, b"yz")));
    seen.got("size after it", own.metadata().map(|found| found.len()));
}

fn unsafe_write(file: &File, bytes: &[u8]) -> i64 {
    use std::os::fd::AsRawFd;
    // SAFETY: the buffer has that length.
    unsafe { libc::write(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) as i64 }
}

fn seeks(seen: &mut Seen, folder: &Path) {
    let own = file(folder.join("file"), &[1; 1_000]);
    for (what, offset, whence) in [
        ("start", 10, libc::SEEK_SET),
        ("on", 5, libc::SEEK_CUR),
        ("back", -3, libc::SEEK_CUR),
        ("before the start", -100, libc::SEEK_CUR),
        ("the end", 0, libc::SEEK_END),
        ("behind the end", 10, libc::SEEK_END),
        ("before the end", -10, libc::SEEK_END),
        ("far before the end", -10_000, libc::SEEK_END),
        ("a negative offset", -1, libc::SEEK_SET),
        ("too far on", i64::MAX, libc::SEEK_CUR),
        ("nothing known", 0, 99),
        ("data before the start", -1, libc::SEEK_DATA),
        ("a hole before the start", -1, libc::SEEK_HOLE),
        ("data at the end", 1_000, libc::SEEK_DATA),
        ("a hole at the end", 1_000, libc::SEEK_HOLE),
        ("data behind the end", 2_000, libc::SEEK_DATA),
        ("a hole behind the end", 2_000, libc::SEEK_HOLE),
        ("the last byte's hole", 999, libc::SEEK_HOLE),
        ("the last byte's data", 999, libc::SEEK_DATA),
    ] {
        seen.got(what, lseek(&own, offset, whence));
    }
    let empty = file(folder.join("empty"), b"");
    seen.got("data of nothing", lseek(&empty, 0, libc::SEEK_DATA));
    seen.got("a hole in nothing", lseek(&empty, 0, libc::SEEK_HOLE));
    // The end moves with writes of another descriptor.
    pwrite(&open(folder.join("file"), libc::O_WRONLY, 0).expect("open"), b"x", 5_000).expect("write");
    seen.got("the new end", lseek(&own, 0, libc::SEEK_END));
}

/// All holes and data of a file, as the kernel finds them.
fn map(own: &File) -> String {
    let (mut at, mut text) = (0, String::new());
    loop {
        let data = match lseek(own, at, libc::SEEK_DATA) {
            Ok(data) => data,
            Err(error) => return format!("{text}{}", code::<(), _>(Err(error))),
        };
        let Ok(end) = lseek(own, data, libc::SEEK_HOLE) else { return format!("{text}no hole behind {data}") };
        text.push_str(&format!("{data}-{end} "));
        at = end;
    }
}

fn holes(seen: &mut Seen, folder: &Path) {
    const K: i64 = 1 << 10;
    /// Its name, offsets and lengths of data, and the size.
    type Pattern = (&'static str, &'static [(i64, i64)], i64);
    let patterns: &[Pattern] = &[
        ("all data", &[(0, 256 * K)], 256 * K),
        ("nothing but a hole", &[], 256 * K),
        ("data at the end", &[(192 * K, 64 * K)], 256 * K),
        ("data at the start", &[(0, 64 * K)], 256 * K),
        ("data in the middle", &[(64 * K, 64 * K)], 256 * K),
        ("every second 64 KiB", &[(0, 64 * K), (128 * K, 64 * K), (256 * K, 64 * K)], 512 * K),
        ("over the ends of blocks", &[(4_032 * K, 128 * K), (8_192 * K, 64 * K)], 12_288 * K),
        ("pieces that touch", &[(64 * K, 64 * K), (128 * K, 64 * K)], 256 * K),
    ];
    for (number, (what, pieces, size)) in patterns.iter().enumerate() {
        let path = folder.join(format!("file{number}"));
        let own = file(&path, b"");
        for (at, length) in *pieces {
            pwrite(&own, &vec![7; *length as usize], *at).expect("write");
        }
        ftruncate(&own, *size).expect("truncate");
        seen.is(format!("{what}, not flushed"), map(&own));
        own.sync_all().expect("fsync");
        seen.is(format!("{what}, flushed"), map(&own));
        drop(own);
        let own = open(&path, libc::O_RDWR, 0).expect("open");
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        fallocate(&own, punch, 64 * K, 64 * K).expect("punch");
        seen.is(format!("{what}, punched"), map(&own));
        pwrite(&own, &[0; 65_536], 64 * K).expect("write");
        own.sync_all().expect("fsync");
        seen.is(format!("{what}, zeros written"), map(&own));
        ftruncate(&own, 128 * K).expect("truncate");
        ftruncate(&own, 512 * K).expect("truncate");
        seen.is(format!("{what}, cut and grown"), map(&own));
        let zeros = fs::read(&path).expect("read")[128 * K as usize..].iter().all(|byte| *byte == 0);
        seen.is(format!("{what}, what grew is zeros"), zeros);
    }
    let own = file(folder.join("odd"), b"");
    pwrite(&own, &[7; 100], 10_000).expect("write");
    own.sync_all().expect("fsync");
    seen.is("a piece within a page", map(&own));
}

fn space(seen: &mut Seen, folder: &Path) {
    let at = |name: &str| folder.join(name);
    let own = file(at("sparse"), b"");
    ftruncate(&own, 1 << 30).expect("truncate");
    let blocks = |name: &str| fs::metadata(at(name)).expect("stat").blocks();
    seen.is("a hole takes nothing", blocks("sparse"));
    pwrite(&own, &[1; 65_536], 512 << 20).expect("write");
    own.sync_all().expect("fsync");
    let taken = blocks("sparse");
    seen.is("data takes something", taken >= 128);
    seen.is("and less than the size", taken < 1_000);
    ftruncate(&own, 100 << 20).expect("truncate");
    seen.is("cut", blocks("sparse"));
    ignore(file(at("full"), &[1; 1 << 20]));
    File::open(at("full")).expect("open").sync_all().expect("fsync");
    seen.is("a full file takes its size", blocks("full") >= 2_048 && blocks("full") < 2_100);
    seen.is("block size", fs::metadata(at("full")).expect("stat").blksize() >= 4_096);
    ignore(file(at("empty"), b""));
    seen.is("an empty file takes nothing", blocks("empty"));
    let (from, to) = (open(at("full"), libc::O_RDONLY, 0).expect("open"), file(at("copy"), b""));
    copy(&from, 0, &to, 0, 1 << 20).expect("copy");
    to.sync_all().expect("fsync");
    seen.is("a copy counts in full", blocks("copy") >= 2_048 && blocks("copy") < 2_100);
}

fn limit(seen: &mut Seen, folder: &Path) {
    let limited = |seen: &mut Seen, what: &str, ignore: bool, work: fn(&mut Seen)| {
        let end = child(seen, folder, None, |seen| {
            let limit = libc::rlimit { rlim_cur: 10_000, rlim_max: 10_000 };
            // SAFETY: of this process only.
            unsafe {
                done(libc::setrlimit(libc::RLIMIT_FSIZE, &limit)).expect("setrlimit");
                libc::signal(libc::SIGXFSZ, if ignore { libc::SIG_IGN } else { libc::SIG_DFL });
            }
            work(seen);
        });
        seen.is(what, end);
    };
    type Work = fn(&mut Seen);
    let killing: &[(&str, Work)] = &[
        ("write behind the limit", |_| ignore(pwrite(&file("a", b""), b"x", 10_000))),
        ("write at the limit", |_| ignore(pwrite(&file("a", b""), b"x", 9_999))),
        ("write over the limit", |_| ignore(pwrite(&file("a", b""), &[1; 100], 9_950))),
        ("truncate", |_| ignore(ftruncate(&file("a", b""), 10_001))),
        ("truncate to the limit", |_| ignore(ftruncate(&file("a", b""), 10_000))),
        ("fallocate", |_| ignore(fallocate(&file("a", b""), 0, 0, 20_000))),
        ("fallocate, keep size", |_| ignore(fallocate(&file("a", b""), libc::FALLOC_FL_KEEP_SIZE, 0, 20_000))),
    ];
    for (what, work) in killing {
        limited(seen, what, false, *work);
        seen.is(format!("size after {what}"), fs::metadata(folder.join("a")).map_or(0, |found| found.len()));
    }
    limited(seen, "ignored", true, |seen| {
        let own = file("b", b"");
        seen.got("a write over the limit is cut", pwrite(&own, &[1; 100], 9_950));
        seen.got("the next is refused", pwrite(&own, &[1; 100], 10_000));
        seen.code("truncate is refused", ftruncate(&own, 10_001));
        seen.code("fallocate is refused", fallocate(&own, 0, 0, 20_000));
        let appended = File::options().append(true).open("b").expect("open");
        seen.got("append is refused", done(unsafe_write(&appended, b"x")));
        let (source, target) = (open("b", libc::O_RDONLY, 0).expect("open"), file("c", b""));
        seen.got("a copy over the limit is cut", copy(&source, 0, &target, 9_990, 100));
        seen.got("a copy behind the limit is refused", copy(&source, 0, &target, 10_000, 100));
        let direct = open("b", libc::O_WRONLY | libc::O_SYNC, 0).expect("open");
        seen.got("a synchronous write is cut", pwrite(&direct, &[1; 100], 9_980));
        seen.got("sizes", own.metadata().map(|found| found.len()));
    });
}

fn odd(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    let own = file(&path, b"content");
    seen.code("negative truncate", truncate(&path, -1));
    seen.code("negative ftruncate", ftruncate(&own, -1));
    seen.code("negative write", pwrite(&own, b"x", -1));
    seen.code("negative fallocate", fallocate(&own, 0, -1, 10));
    seen.code("empty fallocate", fallocate(&own, 0, 0, 0));
    seen.code("fallocate of an overflow", fallocate(&own, 0, i64::MAX, 10));
    seen.code("punch that changes the size", fallocate(&own, libc::FALLOC_FL_PUNCH_HOLE, 0, 10));
    let both = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    seen.code("punch and zero", fallocate(&own, both, 0, 10));
    seen.code("an unknown mode", fallocate(&own, 1 << 20, 0, 10));
    let other = file(folder.join("other"), &[1; 20_480]);
    seen.code("collapse", fallocate(&other, libc::FALLOC_FL_COLLAPSE_RANGE, 0, 4_096));
    seen.code("insert", fallocate(&other, libc::FALLOC_FL_INSERT_RANGE, 0, 4_096));
    seen.code("truncate of nothing", truncate(folder.join("nothing"), 5));
    seen.code("copy onto itself", copy(&own, 0, &own, 2, 5));
    seen.code("copy within", copy(&own, 0, &own, 20, 5));
    seen.code("copy from behind the end", copy(&own, 1_000, &own, 5_000, 5));
    let readable = open(&path, libc::O_RDONLY, 0).expect("open");
    seen.code("copy to what is open for reading", copy(&own, 0, &readable, 0, 5));
    let appended = File::options().append(true).read(true).open(&path).expect("open");
    seen.code("copy to what is open for appending", copy(&own, 0, &appended, 0, 5));
    seen.code("copy to a directory", copy(&own, 0, &File::open(folder).expect("open"), 0, 5));
    seen.is("size in the end", own.metadata().expect("stat").len());
    as_user(seen, folder, ALICE, |seen| {
        seen.code("truncate without permission", truncate("file", 5));
    });
}

fn behind_the_end(seen: &mut Seen, folder: &Path) {
    let own = file(folder.join("file"), &[5; 5_000]);
    let mut bytes = [9; 100];
    for at in [4_950, 4_999, 5_000, 5_001, 1 << 40] {
        seen.got(format!("read at {at}"), own.read_at(&mut bytes, at));
    }
    // What lay behind a new end does not come back.
    ftruncate(&own, 100).expect("truncate");
    pwrite(&own, b"x", 5_000).expect("write");
    let content = fs::read(folder.join("file")).expect("read");
    seen.is("after cut and write", content[100..5_000].iter().all(|byte| *byte == 0));
    seen.is("size", content.len());
}
