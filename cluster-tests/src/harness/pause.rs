//! Measures how long a program is kept waiting: a thread does small operations without rest, and
//! the longest one is the pause. An error of any of them is a fault of the cluster.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Rest between two operations, so that the meter is no load.
const REST: Duration = Duration::from_millis(5);

/// Measures until it is stopped.
pub struct PauseMeter {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Pauses, String>>,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    /// Operations done.
    pub operations: u64,
    /// The longest one.
    pub longest: Duration,
    /// Which it was.
    pub longest_was: &'static str,
}

impl PauseMeter {
    /// Begins, in a folder of its own made at `folder`.
    pub fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("folder of the pause meter");
        let (stop, folder) = (Arc::new(AtomicBool::new(false)), folder.to_owned());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || measure(&folder, &stopped));
        Self { stop, thread }
    }

    /// Ends it.
    ///
    /// # Panics
    /// If an operation failed: a program would have seen an error.
    pub fn stop(self) -> Pauses {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join().expect("the meter does not panic") {
            Ok(pauses) => pauses,
            Err(error) => panic!("a program saw an error: {error}"),
        }
    }
}

/// One kind of operation on a file.
type Operation = (&'static str, fn(&Path) -> io::Result<()>);

const OPERATIONS: &[Operation] = &[
    ("create and write", |path| fs::write(path, b"0123456789".repeat(1_000))),
    ("stat", |path| fs::metadata(path).map(|_| ())),
    ("read", |path| {
        let right = fs::read(path)? == b"0123456789".repeat(1_000);
        if right { Ok(()) } else { Err(io::Error::other("other bytes than written")) }
    }),
    ("append and fsync", |path| {
        let mut file = fs::File::options().append(true).open(path)?;
        file.write_all(b"more")?;
        file.sync_all()
    }),
    ("rename", |path| fs::rename(path, other(path))),
    ("unlink", |path| fs::remove_file(other(path))),
];

fn other(path: &Path) -> PathBuf {
    path.with_extension("renamed")
}

fn measure(folder: &Path, stop: &AtomicBool) -> Result<Pauses, String> {
    let mut pauses = Pauses::default();
    for round in 0_u64.. {
        let path = folder.join(format!("pause{}", round % 50));
        for (what, operation) in OPERATIONS {
            if stop.load(Ordering::Relaxed) && *what == "create and write" {
                return Ok(pauses);
            }
            let start = Instant::now();
            operation(&path).map_err(|error| format!("{what} of {}: {error}", path.display()))?;
            let took = start.elapsed();
            pauses.operations += 1;
            if took > pauses.longest {
                (pauses.longest, pauses.longest_was) = (took, what);
            }
            std::thread::sleep(REST);
        }
    }
    Ok(pauses)
}
