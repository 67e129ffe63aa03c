//! Numbers that the kernel holds for open files and directories.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_common::client::ClientError;
use cairn_common::protocol::FsError;
use parking_lot::{Mutex, RwLock};

use super::file_state::FileState;
use super::pin::Pin;
use crate::read_path::read_pattern::ReadPattern;

/// An open file of a program.
#[derive(Debug)]
pub struct FileHandle {
    pin: Pin,
    /// Opened with O_APPEND: each write goes to the file's true end.
    pub append: bool,
    /// The kernel caches nothing for it and asks for no attributes before a read.
    pub direct: bool,
    /// Opened for writing: its close flushes.
    pub writable: bool,
    /// What it reads, to read ahead.
    pub pattern: Mutex<ReadPattern>,
    reported_failures: AtomicU64,
}

impl FileHandle {
    /// A handle that reports failures from now on.
    pub fn new(pin: Pin, append: bool, direct: bool, writable: bool) -> Self {
        let failures = pin.file().lock().failures;
        Self { pin, append, direct, writable, pattern: Mutex::default(), reported_failures: AtomicU64::new(failures) }
    }

    /// The file.
    pub fn file(&self) -> &Arc<FileState> {
        self.pin.file()
    }

    /// A failure that this handle has not reported yet; each is answered once.
    pub fn unreported_failure(&self) -> Option<ClientError> {
        let (failures, last) = {
            let inner = self.file().lock();
            (inner.failures, inner.last_failure.clone())
        };
        let reported = self.reported_failures.swap(failures, Ordering::AcqRel);
        last.filter(|_| failures > reported)
    }
}

/// Handles by number. Numbers are never reused.
#[derive(Debug)]
pub struct HandleTable<T> {
    handles: RwLock<HashMap<u64, Arc<T>>>,
    next: AtomicU64,
}

impl<T> Default for HandleTable<T> {
    fn default() -> Self {
        Self { handles: RwLock::default(), next: AtomicU64::new(1) }
    }
}

impl<T> HandleTable<T> {
    /// Adds a handle; answers its number.
    pub fn insert(&self, handle: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.handles.write().insert(number, Arc::new(handle));
        number
    }

    /// The handle of a number.
    pub fn get(&self, number: u64) -> Result<Arc<T>, ClientError> {
        self.handles.read().get(&number).cloned().ok_or(ClientError::Fs(FsError::Stale))
    }

    /// Handles in use.
    pub fn count(&self) -> usize {
        self.handles.read().len()
    }

    /// Takes a handle out.
    pub fn remove(&self, number: u64) -> Option<Arc<T>> {
        self.handles.write().remove(&number)
    }
}
