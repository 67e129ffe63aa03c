//! Numbers that the kernel holds for open files and directories.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_common::client::ClientError;
use cairn_common::protocol::FsError;
use parking_lot::{Mutex, RwLock};

use super::file_state::FileState;
use super::pin::Pin;
use crate::filesystem::files::OpenOptions;
use crate::read_path::read_pattern::ReadPattern;

/// How the kernel's pages of a file are used by what is read and written through a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelPages {
    /// Those that it has are good.
    Keep,
    /// It drops those that it has, and caches new ones.
    Renew,
    /// Every read and write comes here (mappings still have pages). No lease covers the file when it is
    /// opened, or one was recalled a moment ago: another mount uses it, too. Through its pages the kernel would read up to a length that it
    /// asks for first, and whose answer it throws away when it is told of a change meanwhile; and a
    /// WRITE that waits for the other mount would hold pages that the other mount waits for.
    Bypass,
}

/// An open file of a program.
#[derive(Debug)]
pub struct FileHandle {
    pin: Pin,
    opened_to_append: bool,
    append: AtomicBool,
    /// What the kernel does with pages for it.
    pub pages: KernelPages,
    /// Opened for writing: its close flushes.
    pub writable: bool,
    /// What is read through it changes the access time: opened without O_NOATIME.
    pub counts_accesses: bool,
    /// The kernel tells of every close of a descriptor, not only of the last: for writers, and for who opens
    /// a file that programs of this mount have locks on.
    pub tells_closes: bool,
    /// What it reads, to read ahead.
    pub pattern: Mutex<ReadPattern>,
    reported_failures: AtomicU64,
}

impl FileHandle {
    /// A handle that reports failures from now on.
    pub fn new(pin: Pin, options: OpenOptions, pages: KernelPages, tells_closes: bool) -> Self {
        let reported_failures = AtomicU64::new(pin.file().lock().failures);
        Self {
            pin,
            opened_to_append: options.append,
            append: AtomicBool::new(options.append),
            pages,
            writable: options.write,
            counts_accesses: !options.no_atime,
            tells_closes,
            pattern: Mutex::default(),
            reported_failures,
        }
    }

    /// Whether it was opened with O_APPEND.
    pub fn opened_to_append(&self) -> bool {
        self.opened_to_append
    }

    /// With O_APPEND: each write goes to the file's true end.
    pub fn appends(&self) -> bool {
        self.append.load(Ordering::Relaxed)
    }

    /// fcntl(2) has taken O_APPEND away, or given it back.
    pub fn set_appends(&self, appends: bool) {
        self.append.store(appends, Ordering::Relaxed);
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
    /// Adds a handle; answers its number, and the handle.
    pub fn insert(&self, handle: T) -> (u64, Arc<T>) {
        let (number, handle) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::new(handle));
        self.handles.write().insert(number, handle.clone());
        (number, handle)
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
