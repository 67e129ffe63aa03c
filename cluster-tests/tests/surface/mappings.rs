//! Mapped files: what read(2) sees of stores and mappings of writes, here and on another mount.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::seen::Seen;
use super::sys::{child, done, fallocate, file, ftruncate, ignore, open, pwrite, truncate};
use super::{Case, Case2};

pub(super) const CASES: &[(&str, Case)] = &[
    ("shared mappings", shared),
    ("private mappings", private),
    ("mappings and the end of the file", end),
    ("mappings across processes", processes),
    ("locked and advised mappings", advised),
];
pub(super) const CASES_OF_TWO: &[(&str, Case2)] = &[("mappings on two mounts", on_two)];

/// A mapping, until it is dropped.
pub(super) struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    /// One whose stores reach the file.
    pub(super) fn shared(own: &File, length: usize) -> Self {
        Self::new(own, length, libc::MAP_SHARED)
    }

    fn new(own: &File, length: usize, kind: i32) -> Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, used through this type only.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, kind, own.as_raw_fd(), 0) };
        assert!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        Self { start: start.cast(), length }
    }

    /// A byte.
    pub(super) fn load(&self, at: usize) -> u8 {
        assert!(at < self.length);
        // SAFETY: within the mapping.
        unsafe { self.start.add(at).read_volatile() }
    }

    /// Stores a byte.
    pub(super) fn store(&self, at: usize, byte: u8) {
        assert!(at < self.length);
        // SAFETY: within the mapping.
        unsafe { self.start.add(at).write_volatile(byte) }
    }

    /// msync(2), waiting.
    pub(super) fn sync(&self) -> io::Result<i64> {
        // SAFETY: the mapping is there.
        unsafe { done(libc::msync(self.start.cast(), self.length, libc::MS_SYNC)) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

fn byte(own: &File, at: u64) -> u8 {
    let mut bytes = [0];
    own.read_exact_at(&mut bytes, at).map_or(255, |()| bytes[0])
}

fn shared(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    let own = file(&path, &[1; 40_000]);
    let mapping = Mapping::shared(&own, 40_000);
    mapping.store(10_000, 2);
    seen.is("a store, read at once", byte(&own, 10_000));
    let second = open(&path, libc::O_RDWR, 0).expect("open");
    seen.is("a store, read by another descriptor", byte(&second, 10_000));
    pwrite(&second, &[3; 5], 20_000).expect("write");
    seen.is("a write, loaded at once", mapping.load(20_004));
    let other = Mapping::shared(&second, 40_000);
    other.store(30_000, 4);
    seen.is("a store through another mapping", mapping.load(30_000));
    seen.code("msync", mapping.sync());
    seen.is("after msync", byte(&own, 30_000));
    drop(own);
    mapping.store(1, 5);
    drop(second);
    mapping.store(2, 6);
    drop(mapping);
    other.store(3, 7);
    drop(other);
    let content = fs::read(&path).expect("read");
    seen.is(
        "after all closes",
        format!("{:?} {} {} {}", &content[..5], content[10_000], content[20_000], content[30_000]),
    );
    cairn_cluster_tests::harness::drop_caches();
    seen.is("without caches", fs::read(&path).expect("read") == content);
    // The rest of the last page is not the file's.
    let own = file(&path, &[1; 5_000]);
    let mapping = Mapping::shared(&own, 8_192);
    seen.is("behind the end, in the page", mapping.load(6_000));
    mapping.store(6_000, 9);
    mapping.sync().expect("msync");
    seen.is("size after a store behind the end", fs::metadata(&path).expect("stat").len());
    ftruncate(&own, 8_192).expect("truncate");
    seen.is("what was stored behind the end", byte(&own, 6_000));
    // A hole becomes data by a store.
    ftruncate(&own, 1 << 20).expect("truncate");
    let mapping = Mapping::shared(&own, 1 << 20);
    seen.is("a hole", mapping.load(500_000));
    mapping.store(500_000, 8);
    mapping.sync().expect("msync");
    seen.is("no hole any more", byte(&own, 500_000));
    // Punched under a mapping.
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(&own, punch, 491_520, 16_384).expect("punch");
    seen.is("punched", format!("{} {}", mapping.load(500_000), byte(&own, 500_000)));
    mapping.store(500_001, 7);
    seen.is("stored again", byte(&own, 500_001));
    // Direct reads see it, too.
    let source = open(&path, libc::O_RDONLY, 0).expect("open");
    let target = file(folder.join("copy"), b"");
    super::sys::copy(&source, 499_712, &target, 0, 4_096).expect("copy");
    seen.is("copied", byte(&target, 500_001 - 499_712));
}

fn private(seen: &mut Seen, folder: &Path) {
    let path = folder.join("file");
    let own = file(&path, &[1; 10_000]);
    let mapping = Mapping::new(&own, 10_000, libc::MAP_PRIVATE);
    mapping.store(100, 2);
    seen.is("own store", mapping.load(100));
    seen.is("not in the file", byte(&own, 100));
    seen.code("msync", mapping.sync());
    drop(mapping);
    seen.is("nor after munmap", byte(&own, 100));
    let readable = open(&path, libc::O_RDONLY, 0).expect("open");
    let mapping = Mapping::new(&readable, 10_000, libc::MAP_PRIVATE);
    mapping.store(0, 3);
    seen.is("of what is open for reading", format!("{} {}", mapping.load(0), byte(&own, 0)));
}

fn end(seen: &mut Seen, folder: &Path) {
    type Work = fn(&File, &Mapping);
    let cases: &[(&str, Work)] = &[
        ("load behind the end", |_, mapping| ignore(mapping.load(8_192))),
        ("store behind the end", |_, mapping| mapping.store(12_000, 1)),
        ("load of the last page", |_, mapping| ignore(mapping.load(8_191))),
        ("load after a cut", |own, mapping| {
            mapping.load(5_000);
            ftruncate(own, 100).expect("truncate");
            mapping.load(5_000);
        }),
        ("store after a cut", |own, mapping| {
            mapping.store(5_000, 1);
            ftruncate(own, 100).expect("truncate");
            mapping.store(5_000, 1);
        }),
        ("load within the page of the cut", |own, mapping| {
            ftruncate(own, 100).expect("truncate");
            assert_eq!(mapping.load(200), 0);
            assert_eq!(mapping.load(99), 1);
        }),
        ("load after it has grown", |own, mapping| {
            ftruncate(own, 20_000).expect("truncate");
            assert_eq!(mapping.load(15_000), 0);
        }),
        ("load after cut and growth", |own, mapping| {
            mapping.store(5_000, 7);
            ftruncate(own, 100).expect("truncate");
            ftruncate(own, 8_000).expect("truncate");
            assert_eq!(mapping.load(5_000), 0);
        }),
        ("cut by its name", |_, mapping| {
            mapping.load(5_000);
            truncate("file", 0).expect("truncate");
            mapping.load(0);
        }),
        ("cut by O_TRUNC", |_, mapping| {
            mapping.load(0);
            ignore(open("file", libc::O_RDWR | libc::O_TRUNC, 0).expect("open"));
            mapping.load(0);
        }),
    ];
    for (what, work) in cases {
        let end = child(seen, folder, None, |_| {
            let own = file("file", &[1; 8_000]);
            let mapping = Mapping::shared(&own, 16_384);
            work(&own, &mapping);
        });
        seen.is(*what, end);
    }
}

fn processes(seen: &mut Seen, folder: &Path) {
    let own = file(folder.join("file"), &[0; 8_192]);
    let mapping = Mapping::shared(&own, 8_192);
    let end = child(seen, folder, None, |_| {
        let own = open("file", libc::O_RDWR, 0).expect("open");
        let mapping = Mapping::shared(&own, 8_192);
        mapping.store(1, 5);
        pwrite(&own, &[6], 2).expect("write");
    });
    seen.is("the end", end);
    seen.is("of another process", format!("{} {}", mapping.load(1), mapping.load(2)));
    let end = child(seen, folder, None, |seen| {
        mapping.store(3, 7);
        seen.is("inherited", mapping.load(1));
    });
    seen.is("the second end", end);
    seen.is("of a child", mapping.load(3));
}

fn advised(seen: &mut Seen, folder: &Path) {
    let own = file(folder.join("file"), &[1; 40_960]);
    let mapping = Mapping::shared(&own, 40_960);
    let start: *mut libc::c_void = mapping.start.cast();
    mapping.store(5, 9);
    // SAFETY: the mapping is there; nothing of it is used but through the type.
    unsafe {
        seen.code("mlock", done(libc::mlock(start, 40_960)));
        seen.code("munlock", done(libc::munlock(start, 40_960)));
        seen.code("DONTNEED", done(libc::madvise(start, 40_960, libc::MADV_DONTNEED)));
        seen.is("a store after it", mapping.load(5));
        seen.code("REMOVE", done(libc::madvise(start, 4_096, libc::MADV_REMOVE)));
        seen.is("removed", format!("{} {}", mapping.load(5), byte(&own, 5)));
        seen.code("msync, later", done(libc::msync(start, 40_960, libc::MS_ASYNC)));
        seen.code("msync, invalidate", done(libc::msync(start, 40_960, libc::MS_INVALIDATE | libc::MS_SYNC)));
        seen.code("mprotect", done(libc::mprotect(start, 4_096, libc::PROT_READ)));
        let mut resident = [0_u8; 10];
        seen.code("mincore", done(libc::mincore(start, 40_960, resident.as_mut_ptr())));
    }
}

fn on_two(seen: &mut Seen, one: &Path, two: &Path) {
    let (here, there) = (one.join("file"), two.join("file"));
    let own = file(&here, &[1; 40_000]);
    let mapping = Mapping::shared(&own, 40_000);
    mapping.store(10_000, 2);
    seen.code("msync", mapping.sync());
    let theirs = open(&there, libc::O_RDWR, 0).expect("open");
    seen.is("read there after msync", byte(&theirs, 10_000));
    mapping.store(10_001, 3);
    mapping.sync().expect("msync");
    seen.is("and again", byte(&theirs, 10_001));
    let other = Mapping::shared(&theirs, 40_000);
    seen.is("loaded there", other.load(10_001));
    other.store(30_000, 4);
    other.sync().expect("msync");
    seen.is("read here after msync there", byte(&own, 30_000));
    pwrite(&own, &[5], 20_000).expect("write");
    seen.is("a write here, read there", byte(&theirs, 20_000));
    mapping.store(1, 6);
    drop((mapping, own));
    seen.is("read there after munmap and close", byte(&theirs, 1));
    drop((other, theirs));
    seen.is("in the end", fs::read(&here).expect("read") == fs::read(&there).expect("read"));
    truncate(&there, 100).expect("truncate");
    let end = child(seen, one, None, |seen| {
        let own = open("file", libc::O_RDWR, 0).expect("open");
        let mapping = Mapping::shared(&own, 8_192);
        seen.is("the page of a cut", mapping.load(200));
    });
    seen.is("the end", end);
}
