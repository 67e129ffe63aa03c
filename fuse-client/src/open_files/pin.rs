//! Which files are in use. A [`Pin`] keeps a file and its registration; when the last one of a mode is
//! gone, the releaser may give the registration back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use cairn_common::ids::InodeId;
use cairn_common::protocol::metadata::OpenMode;
use parking_lot::Mutex;

use super::file_state::FileState;
use crate::lease_book::LeaseBook;

/// Files in use or lately so.
#[derive(Debug)]
pub struct OpenFiles {
    leases: Arc<LeaseBook>,
    files: Mutex<HashMap<InodeId, Arc<FileState>>>,
    idle: Mutex<Vec<(Arc<FileState>, OpenMode)>>,
    dirty: Mutex<HashMap<InodeId, Arc<FileState>>>,
}

/// Keeps a file in use in one mode.
#[derive(Debug)]
pub struct Pin {
    files: Arc<OpenFiles>,
    file: Arc<FileState>,
    mode: OpenMode,
}

impl OpenFiles {
    /// No files. Leases of those in use are kept in the book.
    pub fn new(leases: Arc<LeaseBook>) -> Self {
        Self { leases, files: Mutex::default(), idle: Mutex::default(), dirty: Mutex::default() }
    }

    /// Pins a file.
    pub fn pin(self: &Arc<Self>, inode: InodeId, mode: OpenMode) -> Pin {
        let mut files = self.files.lock();
        let file = files.entry(inode).or_insert_with(|| Arc::new(FileState::new(inode))).clone();
        {
            let mut inner = file.lock();
            let registration = inner.registration(mode);
            registration.pins += 1;
            registration.idle_since = None;
            self.leases.lock().pin(inode);
        }
        Pin { files: self.clone(), file, mode }
    }

    /// The state of a file in use.
    pub fn get(&self, inode: InodeId) -> Option<Arc<FileState>> {
        self.files.lock().get(&inode).cloned()
    }

    /// Whether the file is in use, or was lately.
    pub fn is_in_use(&self, inode: InodeId) -> bool {
        self.files.lock().contains_key(&inode)
    }

    /// Places of those of the inodes that are files in use.
    pub fn which_are_in_use(&self, inodes: impl Iterator<Item = InodeId>) -> Vec<usize> {
        let files = self.files.lock();
        if files.is_empty() {
            return Vec::new();
        }
        inodes.enumerate().filter(|(_, inode)| files.contains_key(inode)).map(|(place, _)| place).collect()
    }

    /// Drops the state of a file that nobody uses.
    pub fn forget_if_idle(&self, file: &Arc<FileState>) {
        let mut files = self.files.lock();
        // Somebody may hold a state that was forgotten before: the one in use now is another.
        let is_current = files.get(&file.inode).is_some_and(|current| Arc::ptr_eq(current, file));
        if is_current && file.lock().is_idle() {
            files.remove(&file.inode);
        }
    }

    /// Registrations that may be released.
    pub fn take_idle(&self) -> Vec<(Arc<FileState>, OpenMode)> {
        std::mem::take(&mut *self.idle.lock())
    }

    /// Puts back what could not be released yet.
    pub fn put_back_idle(&self, more: Vec<(Arc<FileState>, OpenMode)>) {
        self.idle.lock().extend(more);
    }

    /// Notes that a file has dirty bytes.
    pub fn mark_dirty(&self, file: &Arc<FileState>) {
        self.dirty.lock().entry(file.inode).or_insert_with(|| file.clone());
    }

    /// Takes a file off the list of dirty ones if it has nothing dirty any more.
    pub fn unmark_if_clean(&self, file: &Arc<FileState>) {
        let mut dirty = self.dirty.lock();
        if !file.is_dirty() {
            dirty.remove(&file.inode);
        }
    }

    /// Files with dirty bytes.
    pub fn dirty_files(&self) -> Vec<Arc<FileState>> {
        self.dirty.lock().values().cloned().collect()
    }

    /// Files that programs have open.
    pub fn open_files(&self) -> Vec<Arc<FileState>> {
        self.files.lock().values().filter(|file| file.is_open()).cloned().collect()
    }

    /// Whether any file has dirty bytes.
    pub fn any_dirty(&self) -> bool {
        !self.dirty.lock().is_empty()
    }
}

impl Pin {
    /// The file.
    pub fn file(&self) -> &Arc<FileState> {
        &self.file
    }

    /// The mode it is kept in.
    pub fn mode(&self) -> OpenMode {
        self.mode
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let (unregistered, queue) = {
            let mut inner = self.file.lock();
            let registration = inner.registration(self.mode);
            registration.pins -= 1;
            self.files.leases.lock().unpin(self.file.inode);
            let unused = registration.pins == 0;
            if unused {
                registration.idle_since = Some(Instant::now());
            }
            let unregistered = unused && !registration.registered;
            (unregistered, unused && !unregistered && !std::mem::replace(&mut registration.queued, true))
        };
        if unregistered {
            // Nothing has to be given back: it goes here, and not on the releaser's thread.
            self.files.forget_if_idle(&self.file);
        }
        if queue {
            self.files.idle.lock().push((self.file.clone(), self.mode));
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_common::client::lease_clock::LeaseClock;
    use cairn_common::clock::SystemClock;

    use super::*;
    use crate::settings::MountSettings;

    /// Two states of one file would not see each other's dirty bytes.
    #[test]
    fn a_state_that_was_forgotten_does_not_take_its_successor_with_it() {
        let clock = Arc::new(LeaseClock::new(Arc::new(SystemClock)));
        let files = Arc::new(OpenFiles::new(Arc::new(LeaseBook::new(clock, MountSettings::default().cache))));
        let old = files.pin(InodeId(7), OpenMode::Write).file().clone();
        assert!(files.get(InodeId(7)).is_none(), "nobody uses it, and the cluster does not know of it");
        let pin = files.pin(InodeId(7), OpenMode::Read);
        files.forget_if_idle(&old);
        assert!(Arc::ptr_eq(&files.get(InodeId(7)).unwrap(), pin.file()), "it was another one that was forgotten");
    }
}
