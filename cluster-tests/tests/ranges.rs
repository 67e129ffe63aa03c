//! fallocate and copy_file_range on two mounts: what the one allocates, empties or copies the other sees
//! in its next call, space is told truly, and a copy moves no bytes.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Instant;

use cairn_cluster_tests::harness::{DevCluster, size};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

const MIB: u64 = 1 << 20;

fn open(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).expect("open")
}

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).expect("stat").blocks() * 512
}

fn bytes(seed: u64, count: u64) -> Vec<u8> {
    (0..count).map(|at| (at.wrapping_mul(31) ^ (at >> 9) ^ seed) as u8).collect()
}

#[test]
fn ranges_change_for_both_mounts() {
    let cluster = DevCluster::start();
    let (one, two) = (cluster.mount(1), cluster.add_mount());
    allocation(&one.join("allocated"), &two.join("allocated"));
    holes(&one.join("holes"), &two.join("holes"));
    copies(&one, &two);
}

fn allocation(here: &Path, there: &Path) {
    let file = open(here);
    file.write_all_at(b"begin", 0).expect("write");
    fallocate(&file, FallocateFlags::empty(), 0, 3 * MIB).expect("fallocate");
    assert_eq!((fs::metadata(there).unwrap().len(), allocated(there)), (3 * MIB, 3 * MIB));
    let mut expected = vec![0; 3 << 20];
    expected[..5].copy_from_slice(b"begin");
    assert!(fs::read(there).unwrap() == expected, "bytes stay, and the rest is zeros");
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 4 * MIB).expect("fallocate");
    assert_eq!(fs::metadata(there).unwrap().len(), 3 * MIB);
    assert_eq!(fallocate(&file, FallocateFlags::empty(), 0, 1 << 50), Err(Errno::NOSPC), "nobody has a PiB");
    assert_eq!(fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096), Err(Errno::OPNOTSUPP));
    assert_eq!(fs::metadata(there).unwrap().len(), 3 * MIB, "what was refused changed nothing");
}

fn holes(here: &Path, there: &Path) {
    let (file, mut expected) = (open(here), bytes(1, 9 * MIB));
    file.write_all_at(&expected, 0).expect("write");
    assert!(fs::read(there).unwrap() == expected, "the other mount has read it before");
    // Within a page, over the ends of blocks, and up to the end.
    for (offset, length) in [(100, 50), (3 * MIB + 5, 2 * MIB), (8 * MIB + 1, 3 * MIB)] {
        fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length).expect("punch");
        let end = (offset + length).min(9 * MIB);
        expected[offset as usize..end as usize].fill(0);
        assert!(fs::read(there).unwrap() == expected, "the other mount sees the hole at {offset}");
        assert!(fs::read(here).unwrap() == expected, "and so does this one");
    }
    // In units of 512 bytes.
    assert_eq!(allocated(there), (9 * MIB - 50 - 2 * MIB - (MIB - 1)).next_multiple_of(512));
    assert_eq!(seek(&file, SeekFrom::Hole(4096)), Ok(3 * MIB + 5));
    assert_eq!(seek(&file, SeekFrom::Data(3 * MIB + 5)), Ok(5 * MIB + 5));
    fallocate(&file, FallocateFlags::ZERO_RANGE, 5 * MIB, 6 * MIB).expect("zero");
    expected.resize(11 << 20, 0);
    expected[5 << 20..].fill(0);
    assert!(fs::read(there).unwrap() == expected, "zeros up to a new end");
}

fn copies(one: &Path, two: &Path) {
    let length = size("CAIRN_COPY_MIB", 64) as u64 * MIB;
    let (from, to) = (open(&one.join("from")), open(&one.join("to")));
    let chunk = bytes(7, 8 * MIB);
    for offset in (0..length).step_by(8 << 20) {
        from.write_all_at(&chunk, offset).expect("write");
    }
    from.sync_all().expect("fsync");
    let begun = Instant::now();
    copy(&from, &to, length);
    eprintln!("copied {} MiB in {:?}", length / MIB, begun.elapsed());
    let copied = File::open(two.join("to")).expect("open");
    let mut found = vec![0; 8 << 20];
    for offset in (0..length).step_by(8 << 20) {
        copied.read_exact_at(&mut found, offset).expect("read");
        assert!(found == chunk, "the copy differs at {offset}");
    }
    // The copy is a file of its own, and takes in what the other mount had not committed yet.
    let source = open(&two.join("from"));
    source.write_all_at(b"later", 10).expect("write");
    copied.read_exact_at(&mut found, 0).expect("read");
    assert!(found == chunk, "a change of the source does not show in the copy");
    copy(&from, &to, 4096);
    copied.read_exact_at(&mut found[..15], 0).expect("read");
    assert_eq!(&found[10..15], b"later", "unflushed bytes of another mount are copied");
}

fn copy(from: &File, to: &File, length: u64) {
    let (mut from_at, mut to_at) = (0, 0);
    while to_at < length {
        let left = (length - to_at) as usize;
        let copied = rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), left).expect("copy");
        assert!(copied > 0, "the copy ended after {to_at} bytes");
    }
}
