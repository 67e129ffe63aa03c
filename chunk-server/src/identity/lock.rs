//! A lock on a folder: a file `lock` in it under flock(2), so that it ends with the process, however
//! that ends.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::FolderError;

/// A process that was just killed needs a moment to let go.
const WAIT: Duration = Duration::from_millis(500);
/// The lock is tried this often.
const PAUSE: Duration = Duration::from_millis(20);

/// Held as long as it lives.
#[derive(Debug)]
pub(super) struct FolderLock(#[allow(dead_code, reason = "the descriptor holds the lock")] File);

impl FolderLock {
    /// Takes the lock of an existing folder, or says that another process has it.
    pub(super) fn take(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join("lock");
        let io = |error| FolderError::Io { action: "lock", path: path.clone(), error };
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let began = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < WAIT => std::thread::sleep(PAUSE),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(FolderError::Locked { path: folder.to_path_buf() });
                }
                Err(error) => return Err(io(error.into())),
            }
        }
    }
}
