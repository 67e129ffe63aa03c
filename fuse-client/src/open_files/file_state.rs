//! One file on this mount: attributes as known, dirty bytes over them, extents of one version,
//! registrations with the cluster, failures to report. Shared by all handles of the inode.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::clock::Timestamp;
use cairn_common::ids::{DataVersion, InodeId};
use cairn_common::mode;
use cairn_common::protocol::metadata::{Attributes, OpenMode};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::lease::Exclusive;
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
    /// Held while a registration or the exclusive lease is asked for or given back.
    pub registering: Arc<tokio::sync::Mutex<()>>,
    /// Told when the exclusive lease has ended: writes that waited for that go on.
    pub exclusive_ended: Notify,
    inner: Mutex<FileInner>,
}

/// The part of a file's state that changes under its lock. No lock is taken and nothing waits while
/// it is held.
#[derive(Debug)]
pub struct FileInner {
    /// Newest attributes seen, as one answer told them.
    pub known: Option<Attributes>,
    /// Latest modification time that the kernel was told since the file is in use, or that was known then.
    told_mtime: Option<Timestamp>,
    /// Bytes newer than those, seen without the attributes that go with them: their version, and the
    /// file's length with them.
    newer_bytes: Option<(DataVersion, u64)>,
    /// An own change has made them old, and its answer did not tell the new ones.
    doubtful: bool,
    /// How often that has happened.
    doubts: u64,
    /// Bytes that are not committed.
    pub dirty: DirtyMap,
    /// Times that a program has set under the exclusive lease; sent behind the dirty bytes.
    pub pending_times: Option<PendingTimes>,
    /// The exclusive lease: whether `dirty` may wait, and all this be told.
    pub exclusive: Exclusive,
    /// When programs have read it, and attributes of before do not show it.
    accessed: Option<Timestamp>,
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
    /// `security.capability` is known not to exist, while the exclusive lease is held: the kernel asks
    /// for it before every write, and another mount that sets it recalls the lease first.
    pub no_capability: bool,
    /// Counts the moments from which on `no_capability` may be untrue.
    pub capability_generation: u64,
    /// For reading and for writing.
    pub registrations: [Registration; 2],
}

/// Times that a program has set and the cluster does not have yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingTimes {
    /// Access time.
    pub atime: Option<Timestamp>,
    /// Modification time.
    pub mtime: Option<Timestamp>,
    /// When they were set.
    pub ctime: Timestamp,
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
            exclusive_ended: Notify::new(),
            inner: Mutex::new(FileInner {
                known: None,
                told_mtime: None,
                newer_bytes: None,
                doubtful: false,
                doubts: 0,
                dirty: DirtyMap::default(),
                pending_times: None,
                exclusive: Exclusive::default(),
                accessed: None,
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

    /// The same of an answer to a question that was asked when there had been so many doubts.
    pub fn observe_answer(&self, fresh: Attributes, doubts: u64) -> Attributes {
        let mut inner = self.lock();
        inner.merge(fresh);
        if inner.doubts == doubts {
            inner.doubtful = false;
        }
        inner.shown(fresh)
    }

    /// Whether bytes or times wait to be committed.
    pub fn is_dirty(&self) -> bool {
        !self.lock().is_clean()
    }

    /// Whether programs on this mount have it open, or are opening it.
    pub fn is_open(&self) -> bool {
        self.lock().registrations.iter().any(|registration| registration.pins > 0)
    }

    /// Until the exclusive lease is not on its way out. Answers whether that took waiting.
    pub async fn wait_while_ending(&self) -> bool {
        let mut waited = false;
        loop {
            let ended = self.exclusive_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if !self.lock().exclusive.is_ending() {
                return waited;
            }
            waited = true;
            ended.await;
        }
    }
}

impl FileInner {
    /// Keeps the newer of what is known and `fresh`: an answer may have been overtaken by a commit.
    pub fn merge(&mut self, fresh: Attributes) {
        self.told_mtime.get_or_insert(fresh.mtime);
        let order = |attributes: &Attributes| (attributes.data_version, attributes.ctime);
        let known = self.known.as_ref().map(order);
        if known.is_none_or(|known| known <= order(&fresh)) {
            // A doubt stays: this may have been carried out before what the doubt is about, and only its
            // answer have come later.
            self.known = Some(fresh);
            self.newer_bytes = self.newer_bytes.filter(|(version, _)| *version > fresh.data_version);
        }
    }

    /// The kernel is told this modification time. Answers whether it is later than any before.
    pub fn tell_mtime(&mut self, mtime: Timestamp) -> bool {
        let is_later = self.told_mtime.is_some_and(|told| told < mtime);
        self.told_mtime = self.told_mtime.max(Some(mtime));
        is_later
    }

    /// An own change has made the attributes old, and did not tell the new ones.
    pub fn doubt(&mut self) {
        self.doubtful = true;
        self.doubts += 1;
    }

    /// What is known, if nothing newer than it can be.
    pub fn certain(&self) -> Option<Attributes> {
        self.known.filter(|_| !self.doubtful)
    }

    /// How often an own change has made the attributes old.
    pub fn doubts(&self) -> u64 {
        self.doubts
    }

    /// The file has bytes of this version now, and this length with them.
    pub fn saw_bytes(&mut self, version: DataVersion, size: u64) {
        if self.version().is_some_and(|seen| seen < version) {
            self.newer_bytes = Some((version, size));
        }
    }

    /// Version of the newest bytes seen.
    pub fn version(&self) -> Option<DataVersion> {
        let newer = self.newer_bytes.map(|(version, _)| version);
        newer.or_else(|| self.known.map(|known| known.data_version))
    }

    /// Length as the cluster has it.
    pub fn remote_size(&self) -> u64 {
        let newer = self.newer_bytes.map(|(_, size)| size);
        newer.or_else(|| self.known.map(|known| known.size)).unwrap_or(0)
    }

    /// Length with the dirty bytes.
    pub fn size(&self) -> u64 {
        self.remote_size().max(self.dirty.end().unwrap_or(0))
    }

    /// Length that programs see.
    pub fn shown_size(&self) -> u64 {
        if self.exclusive.owns_memory() { self.size() } else { self.remote_size() }
    }

    /// The dirty bytes that programs see within `[from, to)`. Without the exclusive lease there are none:
    /// a write is nobody's business before it is committed, or a program here would see it and one on
    /// another mount, later, would not.
    pub fn shown_bytes(&self, from: u64, to: u64) -> Vec<(u64, Bytes)> {
        if self.exclusive.owns_memory() { self.dirty.snapshot(from, to) } else { Vec::new() }
    }

    /// Nothing waits to be committed.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.pending_times.is_none()
    }

    /// Attributes with what programs see of the dirty bytes; `fallback` if nothing is known.
    pub fn shown(&self, fallback: Attributes) -> Attributes {
        let mut shown = self.known.unwrap_or(fallback);
        if let Some((version, size)) = self.newer_bytes {
            (shown.data_version, shown.size) = (version, size);
        }
        shown = shown.accessed(self.accessed);
        if !self.exclusive.owns_memory() {
            return shown;
        }
        if !self.dirty.is_empty() {
            shown.size = self.size();
            shown.allocated = shown.allocated.saturating_add(self.dirty.bytes());
            shown.mode = mode::after_write(shown.mode);
            if let Some(written) = self.local_mtime {
                shown.mtime = written;
                shown.ctime = shown.ctime.max(written);
            }
        }
        if let Some(times) = self.pending_times {
            shown.atime = times.atime.unwrap_or(shown.atime);
            shown.mtime = times.mtime.unwrap_or(shown.mtime);
            shown.ctime = shown.ctime.max(times.ctime);
        }
        shown
    }

    /// A program reads it. Answers whether that changes the access time, and the cluster is to be told.
    pub fn accessed(&mut self, at: Timestamp) -> bool {
        let Some(known) = self.known.filter(|known| self.shown(*known).access_is_due(at)) else { return false };
        match self.pending_times.as_mut().and_then(|times| times.atime.as_mut()) {
            // It is told with these.
            Some(pending) if self.exclusive.owns_memory() => {
                *pending = at;
                false
            }
            _ => {
                self.accessed = Some(at.max(known.atime));
                true
            }
        }
    }

    /// A program has set the access time: reads of before do not show any more.
    pub fn access_time_is_set(&mut self) {
        self.accessed = None;
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
        self.is_clean() && self.registrations.iter().all(|r| r.pins == 0 && !r.registered)
    }
}

#[cfg(test)]
mod tests {
    use cairn_common::protocol::metadata::{NodeKind, XattrPresence};

    use super::*;

    fn attributes(version: u64, ctime: i64) -> Attributes {
        let time = |seconds| Timestamp { seconds, nanos: 0 };
        Attributes {
            inode: InodeId(7),
            kind: NodeKind::File,
            mode: 0o644,
            links: 1,
            uid: 0,
            gid: 0,
            device: 0,
            size: 10,
            allocated: 10,
            data_version: DataVersion(version),
            xattrs: XattrPresence::default(),
            atime: time(1),
            mtime: time(1),
            ctime: time(ctime),
            btime: time(1),
        }
    }

    #[test]
    fn after_an_own_change_only_answers_of_after_it_are_certain() {
        let file = FileState::new(InodeId(7));
        file.lock().merge(attributes(1, 10));
        assert!(file.lock().certain().is_some());
        file.lock().doubt();
        file.lock().merge(attributes(1, 10));
        assert_eq!(file.lock().certain(), None, "an answer to a question of before the change");
        file.lock().merge(attributes(2, 11));
        assert_eq!(file.lock().certain(), None, "a commit of before the change, answered after it");

        let opening = FileState::new(InodeId(7));
        let before = opening.lock().doubts();
        opening.lock().doubt();
        opening.lock().merge(attributes(1, 10));
        assert_eq!(opening.lock().certain(), None, "the open may have been carried out before the change");
        opening.observe_answer(attributes(1, 10), before);
        assert_eq!(opening.lock().certain(), None, "asked before it");
        let after = opening.lock().doubts();
        opening.observe_answer(attributes(1, 10), after);
        assert!(opening.lock().certain().is_some());
    }

    #[test]
    fn newer_bytes_do_not_make_the_other_attributes_newer() {
        let file = FileState::new(InodeId(7));
        file.lock().merge(attributes(1, 10));
        file.lock().saw_bytes(DataVersion(3), 99);
        let shown = file.observe(Attributes { mode: 0o600, ..attributes(2, 20) });
        assert_eq!((shown.mode, shown.size, shown.data_version), (0o600, 99, DataVersion(3)));
        let shown = file.observe(Attributes { size: 50, ..attributes(4, 30) });
        assert_eq!((shown.mode, shown.size, shown.data_version), (0o644, 50, DataVersion(4)));
    }
}
