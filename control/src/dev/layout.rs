//! Where a local cluster keeps what: `DIR/NAME` data, `DIR/run/NAME.pid`, `DIR/log/NAME.log`,
//! `DIR/config/NAME.toml`, `DIR/pki`, `DIR/cluster.toml`. The only place that knows these names.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::{ControlError, FileContext};

/// A command waits this long for another one on the same cluster.
const LOCK_WAIT: Duration = Duration::from_secs(120);

/// The folder of a local cluster.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
}

/// Held while a command changes the cluster; released when dropped or when the process ends.
pub(crate) struct LayoutLock {
    _file: File,
}

impl Layout {
    /// The folder of an existing cluster.
    pub(crate) fn open(dir: &Path) -> Result<Self, ControlError> {
        let missing = || ControlError::NoCluster { path: dir.to_owned() };
        let layout = Self { dir: fs::canonicalize(dir).map_err(|_| missing())? };
        if layout.cluster_file().exists() { Ok(layout) } else { Err(missing()) }
    }

    /// The folder of a cluster that may be new: makes the folder.
    pub(crate) fn create(dir: &Path) -> Result<Self, ControlError> {
        fs::create_dir_all(dir).doing("create", dir)?;
        let layout = Self { dir: fs::canonicalize(dir).doing("find", dir)? };
        for folder in [layout.dir.join("run"), layout.dir.join("log"), layout.dir.join("config")] {
            fs::create_dir_all(&folder).doing("create", folder)?;
        }
        Ok(layout)
    }

    /// The folder itself, absolute.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Settings of the cluster.
    pub(crate) fn cluster_file(&self) -> PathBuf {
        self.dir.join("cluster.toml")
    }

    /// Certificate authority and identities.
    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// A server's data.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A process's number.
    pub(crate) fn pid_file(&self, name: &str) -> PathBuf {
        self.dir.join("run").join(format!("{name}.pid"))
    }

    /// What a process wrote to its standard output and error.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    /// A process's configuration.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.dir.join("config").join(format!("{name}.toml"))
    }

    /// The first members of the metadata group.
    pub(crate) fn members(&self) -> PathBuf {
        self.dir.join("config").join("members.toml")
    }

    /// An empty member list, for a metadata server that joins later.
    pub(crate) fn no_members(&self) -> PathBuf {
        self.dir.join("config").join("no-members.toml")
    }

    /// Keeps other commands away from the cluster.
    pub(crate) fn lock(&self) -> Result<LayoutLock, ControlError> {
        let path = self.dir.join("run").join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).doing("open", &path)?;
        let start = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(LayoutLock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if start.elapsed() < LOCK_WAIT => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(ControlError::Locked { path: self.dir.clone(), waited: LOCK_WAIT });
                }
                Err(other) => return Err(io::Error::from(other)).doing("lock", path),
            }
        }
    }
}

/// Whether a folder is missing or holds nothing (but what a new ext4 brings along).
pub(crate) fn is_empty(dir: &Path) -> Result<bool, ControlError> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().all(|entry| entry.file_name() == "lost+found")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).doing("list", dir),
    }
}
