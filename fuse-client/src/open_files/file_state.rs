//! One file on this mount: attributes as known, dirty bytes over them, extents of one version,
//! registrations with the cluster, failures to report. Shared by all handles of the inode.

use std::sync::Arc;
use std::time::Instant;

use cairn_common::client::ClientError;
use cairn_common::clock::Timestamp;
use cairn_common::ids::InodeId;
use cairn_common::protocol::metadata::{Attributes, OpenMode};
use parking_lot::{Mutex, MutexGuard};

use crate::read_path::extent_map::ExtentMap;
use crate::write_path::dirty_map::DirtyMap;

/// A file.
#[derive(Debug)]
pub struct FileState {
    /// Its inode.
    pub inode: InodeId,
    /// Held while a program's change of size or bytes is under way, until its answer is definite, so
    /// that later ones come later. Taken before `changing`. Not held for flushes that another mount
    /// waits for: two mounts that truncate one file would wait for each other.
    pub ordering: Arc<tokio::sync::Mutex<()>>,
    /// Held while bytes are committed, until the answer is definite: one commit at a time.
    pub changing: Arc<tokio::sync::Mutex<()>>,
    /// Held while a registration is made or released.
    pub registering: Arc<tokio::sync::Mutex<()>>,
    inner: Mutex<FileInner>,
}

/// The part of a file's state that changes under its lock. No lock is taken and nothing waits while
/// it is held.
#[derive(Debug)]
pub struct FileInner {
    /// Newest attributes seen.
    pub known: Option<Attributes>,
    /// Bytes that are not committed.
    pub dirty: DirtyMap,
    /// When the oldest of them was written.
    pub dirty_since: Option<Instant>,
    /// When the newest of them was written, as programs see it.
    pub local_mtime: Option<Timestamp>,
    /// Extents as of one data version.
    pub extents: ExtentMap,
    /// Whether a background task of the write path is at work on this file.
    pub flushing: bool,
    /// Failures that lost data, counted; each handle reports what it has not reported.
    pub failures: u64,
    /// The newest of them.
    pub last_failure: Option<ClientError>,
    /// `security.capability` is known not to exist, while registered for writing: the kernel asks
    /// for it before every write, and another mount that sets it makes us flush first.
    pub no_capability: bool,
    /// Counts the moments from which on `no_capability` may be untrue.
    pub capability_generation: u64,
    /// For reading and for writing.
    pub registrations: [Registration; 2],
}

/// How a file is registered with the cluster in one mode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registration {
    /// The cluster knows of it.
    pub registered: bool,
    /// Users: handles and opens under way.
    pub pins: u32,
    /// The releaser has it on its list.
    pub queued: bool,
    /// When the last user went.
    pub idle_since: Option<Instant>,
}

/// Index of a mode in [`FileInner::registrations`].
pub fn mode_index(mode: OpenMode) -> usize {
    match mode {
        OpenMode::Read => 0,
        OpenMode::Write => 1,
    }
}

impl FileState {
    /// A file of which nothing is known.
    pub fn new(inode: InodeId) -> Self {
        Self {
            inode,
            ordering: Arc::default(),
            changing: Arc::default(),
            registering: Arc::default(),
            inner: Mutex::new(FileInner {
                known: None,
                dirty: DirtyMap::default(),
                dirty_since: None,
                local_mtime: None,
                extents: ExtentMap::default(),
                flushing: false,
                failures: 0,
                last_failure: None,
                no_capability: false,
                capability_generation: 0,
                registrations: [Registration::default(); 2],
            }),
        }
    }

    /// Its changing part.
    pub fn lock(&self) -> MutexGuard<'_, FileInner> {
        self.inner.lock()
    }

    /// Takes in attributes from the cluster; answers what programs are to see.
    pub fn observe(&self, fresh: Attributes) -> Attributes {
        let mut inner = self.lock();
        inner.merge(fresh);
        inner.shown(fresh)
    }

    /// Whether bytes wait to be committed.
    pub fn is_dirty(&self) -> bool {
        !self.lock().dirty.is_empty()
    }
}

impl FileInner {
    /// Keeps the newer of what is known and `fresh`: an answer may have been overtaken by a commit.
    pub fn merge(&mut self, fresh: Attributes) {
        let order = |attributes: &Attributes| (attributes.data_version, attributes.ctime);
        if self.known.as_ref().is_none_or(|known| order(known) <= order(&fresh)) {
            self.known = Some(fresh);
        }
    }

    /// Length as the cluster has it.
    pub fn remote_size(&self) -> u64 {
        self.known.map_or(0, |known| known.size)
    }

    /// Length with the dirty bytes.
    pub fn size(&self) -> u64 {
        self.remote_size().max(self.dirty.end().unwrap_or(0))
    }

    /// Attributes with the dirty bytes; `fallback` if nothing is known.
    pub fn shown(&self, fallback: Attributes) -> Attributes {
        let mut shown = self.known.unwrap_or(fallback);
        if !self.dirty.is_empty() {
            shown.size = self.size();
            shown.allocated = shown.allocated.saturating_add(self.dirty.bytes());
            if let Some(written) = self.local_mtime {
                shown.mtime = written;
                shown.ctime = shown.ctime.max(written);
            }
        }
        shown
    }

    /// Bytes were lost.
    pub fn record_failure(&mut self, error: ClientError) {
        self.failures += 1;
        self.last_failure = Some(error);
    }

    /// The registration of a mode.
    pub fn registration(&mut self, mode: OpenMode) -> &mut Registration {
        &mut self.registrations[mode_index(mode)]
    }

    /// Nobody uses the file, nothing waits in it.
    pub fn is_idle(&self) -> bool {
        self.dirty.is_empty() && self.registrations.iter().all(|r| r.pins == 0 && !r.registered)
    }
}
