//! The disks fill up while two mounts write: whatever a write, an fsync or a close said, stays true. What
//! returned success is there, on the other mount, too; what was refused with ENOSPC changed nothing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cairn_cluster_tests::harness::{DevCluster, Seed, Shape, wait_for};
use rand::Rng;
use rand::rngs::StdRng;

/// Size of each chunk server's file system: a reserve of 40 MiB, so 20 MiB of grants.
const DISK_MIB: u32 = 160;
/// Refused writes of each writer before it ends.
const REFUSALS: usize = 25;
/// Longest time that the writers take.
const BOUND: Duration = Duration::from_secs(25);
const WRITERS_PER_MOUNT: u64 = 2;

/// A file, and what must be in it.
struct Model {
    path: PathBuf,
    file: File,
    bytes: Vec<u8>,
}

/// What one writer did.
struct Written {
    files: Vec<Model>,
    refused: usize,
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull
}

impl Model {
    /// Writes at random, once; what was refused must have changed nothing. Answers whether it was.
    fn write(&mut self, rng: &mut StdRng, at: u64, length: usize) -> bool {
        let mut data = vec![0; length];
        rng.fill(&mut data[..]);
        match self.file.write_at(&data, at) {
            Ok(written) => {
                let end = at as usize + written;
                self.bytes.resize(self.bytes.len().max(end), 0);
                self.bytes[at as usize..end].copy_from_slice(&data[..written]);
                false
            }
            Err(error) => {
                assert!(is_full(&error), "{}: {error}", self.path.display());
                let size = self.file.metadata().expect("stat").len();
                assert_eq!(size, self.bytes.len() as u64, "size of {} after ENOSPC", self.path.display());
                self.check(&self.path, "after ENOSPC");
                true
            }
        }
    }

    fn check(&self, path: &Path, when: &str) {
        let found = fs::read(path).unwrap_or_else(|error| panic!("{when}: {}: {error}", path.display()));
        let differs = found.iter().zip(&self.bytes).position(|(a, b)| a != b);
        assert!(
            found == self.bytes,
            "{when}: {} has {} bytes and not {}; first difference: {differs:?}",
            path.display(),
            found.len(),
            self.bytes.len()
        );
    }
}

/// Makes files of random sizes and writes over some, until it was refused often enough.
fn fill(folder: &Path, mut rng: StdRng) -> Written {
    fs::create_dir(folder).expect("mkdir");
    let (mut files, mut refused, begun) = (Vec::<Model>::new(), 0, Instant::now());
    while refused < REFUSALS && begun.elapsed() < BOUND {
        let old = !files.is_empty() && rng.random_bool(if refused > 0 { 0.7 } else { 0.3 });
        let index = if old { rng.random_range(0..files.len()) } else { files.len() };
        if !old {
            let path = folder.join(format!("f{index}"));
            let file = File::options().read(true).write(true).create_new(true).open(&path).expect("create");
            files.push(Model { path, file, bytes: Vec::new() });
        }
        let model = &mut files[index];
        let at = if old { rng.random_range(0..=model.bytes.len() as u64) } else { 0 };
        let length = match rng.random_range(0..10) {
            0 => rng.random_range(1..4096),
            1 => rng.random_range(1 << 20..3 << 20),
            _ => rng.random_range(4097..300_000),
        };
        refused += usize::from(model.write(&mut rng, at, length));
        if rng.random_bool(0.1) {
            model.file.sync_all().unwrap_or_else(|error| panic!("fsync of {}: {error}", model.path.display()));
        }
    }
    Written { files, refused }
}

/// cp(1) looks at every write and at close: if it is content, the copy is whole.
fn copies(from: &Path, to: &Path, other: &Path) {
    let source = fs::read(from).expect("source");
    for number in 0..5 {
        let name = format!("copy{number}");
        let copied = Command::new("cp").arg(from).arg(to.join(&name)).output().expect("cp starts");
        let found = fs::read(other.join(&name)).unwrap_or_default();
        if copied.status.success() {
            assert!(found == source, "a copy that cp was content with");
        } else {
            assert!(source.starts_with(&found), "a copy that was refused: bytes that nobody wrote");
        }
    }
}

#[test]
fn no_acknowledged_write_is_lost_when_the_disks_fill_up() {
    let seed = Seed::new("full_disk");
    let cluster = DevCluster::with_shape(Shape { meta: 1, disk_mib: Some(DISK_MIB), ..Shape::STANDARD });
    let mounts = [cluster.mount(1), cluster.add_mount()];
    let written: Vec<(usize, Written)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2 * WRITERS_PER_MOUNT)
            .map(|writer| {
                let mount = (writer % 2) as usize;
                let folder = mounts[mount].join(format!("writer{writer}"));
                scope.spawn(move || (mount, fill(&folder, seed.rng(writer))))
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
    });
    let refused: Vec<usize> = written.iter().map(|(_, written)| written.refused).collect();
    let bytes: usize = written.iter().flat_map(|(_, w)| &w.files).map(|model| model.bytes.len()).sum();
    eprintln!("{} MiB in files, refused writes: {refused:?}", bytes >> 20);
    assert!(refused.iter().all(|refused| *refused >= REFUSALS), "the disks were never full: {refused:?}");
    wait_for("the leader to say that the disks are full", Duration::from_secs(10), || {
        cluster.status().write_reserve.is_some_and(|reserve| reserve.full).then_some(())
    });
    let source = cluster.outside().join("source");
    fs::write(&source, vec![7; 700_000]).expect("source");
    copies(&source, &mounts[0], &mounts[1]);
    for (mount, written) in &written {
        for model in &written.files {
            model.file.sync_all().unwrap_or_else(|error| panic!("fsync of {}: {error}", model.path.display()));
            let name = model.path.strip_prefix(&mounts[*mount]).expect("written there");
            model.check(&mounts[1 - mount].join(name), "on the other mount");
        }
    }
    assert!(
        !cluster.log("mount1").contains("is lost") && !cluster.log("mount2").contains("is lost"),
        "nothing is lost"
    );
    drop(written);
}
