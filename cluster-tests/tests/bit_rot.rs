//! Shown by 4: flipped bytes on the disk of each chunk server in turn. Whole, partial and mapped
//! reads give the right bytes; status shows the damage; repair makes the replicas whole.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_cluster_tests::harness::{DevCluster, Flipper, Seed, drop_caches, wait_for};
use rand::rngs::StdRng;
use rand::{Rng, RngCore};

/// One flipped byte in about so many.
const STEP: u64 = 20_000;

#[test]
fn flipped_bytes_are_read_around_shown_and_repaired() {
    let seed = Seed::new("bit_rot");
    let mut rng = seed.rng(0);
    let cluster = DevCluster::start();
    let mount = cluster.mount(1);
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for (number, size) in [(13 << 20) + 7, 5 << 20, 300 << 10, 40_000, 16_385].into_iter().cycle().take(25).enumerate()
    {
        let mut bytes = vec![0; size];
        rng.fill_bytes(&mut bytes);
        let path = mount.join(format!("file{number}"));
        fs::write(&path, &bytes).expect("write");
        File::open(&path).and_then(|file| file.sync_all()).expect("fsync");
        files.push((path, bytes));
    }
    cluster.wait_healthy();
    for number in 1..=3 {
        let name = format!("chunk{number}");
        let flipper = Flipper::flip(&cluster.data().join(&name), STEP, &mut rng).expect("flip");
        eprintln!("{name}: {} bytes flipped", flipper.count());
        assert!(flipper.count() > 500, "{name}: nothing to flip was found");
        drop_caches();
        for (path, bytes) in &files {
            check(path, bytes, &name, &mut rng);
        }
        // Damage is found by reads; status shows it until it is repaired.
        let shown = wait_for(&format!("status to show damage on {name}"), Duration::from_secs(30), || {
            for (path, bytes) in &files {
                check_random_part(path, bytes, &name, &mut rng);
            }
            let status = cluster.status();
            let node = status.nodes.iter().find(|node| node.name == name)?;
            let damaged: u64 = node.disks.iter().map(|disk| disk.damaged_blocks).sum();
            (damaged > 0 || node.state == "degraded" || status.under_replicated != Some(0)).then(|| {
                format!("{} with {damaged} damaged, {:?} under-replicated", node.state, status.under_replicated)
            })
        });
        eprintln!("{name}: {shown}");
        wait_for("repair", Duration::from_secs(60), || {
            let status = cluster.status();
            (status.under_replicated == Some(0) && status.damaged_blocks() == 0).then_some(())
        });
        // What no read has met is still wrong; it must not meet the next server's damage.
        flipper.undo().expect("undo");
        cluster.wait_healthy();
    }
    drop_caches();
    for (path, bytes) in &files {
        check(path, bytes, "at the end", &mut rng);
    }
}

fn check(path: &Path, bytes: &[u8], when: &str, rng: &mut StdRng) {
    let found = fs::read(path).unwrap_or_else(|error| panic!("{when}: {}: {error}", path.display()));
    assert!(found == bytes, "{when}: {}: a whole read gives other bytes", path.display());
    check_random_part(path, bytes, when, rng);
    check_mapped(path, bytes, when);
}

fn check_random_part(path: &Path, bytes: &[u8], when: &str, rng: &mut StdRng) {
    let file = File::open(path).expect("open");
    // Not through the page cache, which holds what was read before.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("fadvise");
    for _ in 0..4 {
        let start = rng.random_range(0..bytes.len());
        let end = (start + rng.random_range(1..100_000)).min(bytes.len());
        let mut part = vec![0; end - start];
        file.read_exact_at(&mut part, start as u64).unwrap_or_else(|e| panic!("{when}: {}: {e}", path.display()));
        assert!(part == bytes[start..end], "{when}: {}: {start}..{end} gives other bytes", path.display());
    }
}

fn check_mapped(path: &Path, bytes: &[u8], when: &str) {
    let file = File::open(path).expect("open");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("fadvise");
    // SAFETY: the mapping is private to this function, read only, and as long as the file, which
    // nobody changes.
    let same = unsafe {
        let start =
            libc::mmap(std::ptr::null_mut(), bytes.len(), libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert!(start != libc::MAP_FAILED, "mmap");
        let same = std::slice::from_raw_parts(start.cast::<u8>(), bytes.len()) == bytes;
        libc::munmap(start, bytes.len());
        same
    };
    assert!(same, "{when}: {}: mapped bytes are wrong", path.display());
}
