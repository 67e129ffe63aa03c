//! The locks that programs on this mount hold, as far as the cluster has given them: so that a close or
//! an unlock of nothing costs nothing, and what must go with a close is known. The cluster decides; an
//! owner's changes are sent one after another, so that this is what it will have decided.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_common::ids::InodeId;
use cairn_common::lock_spans::{self, LockSpan};
use cairn_common::protocol::locks::{LockOwner, LockRange, LockRequest};
use parking_lot::Mutex;

/// All locks of a mount.
#[derive(Debug, Default)]
pub struct LockBook {
    files: Mutex<HashMap<InodeId, HashMap<LockOwner, Arc<OwnedLocks>>>>,
    tickets: AtomicU64,
    /// Owners whose process is looked at.
    watched: Mutex<HashSet<(InodeId, LockOwner)>>,
}

/// The locks of one owner on one file.
#[derive(Debug, Default)]
pub struct OwnedLocks {
    /// Held while a change of them is under way, until its answer is definite.
    changing: Arc<tokio::sync::Mutex<()>>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    spans: Vec<LockSpan>,
    /// Open files through which they were taken.
    handles: BTreeSet<u64>,
    /// Calls that are at it.
    users: usize,
}

/// The locks of an owner while a call is at it; they are forgotten when nobody is and nothing is held.
#[derive(Debug)]
pub struct Using {
    book: Arc<LockBook>,
    inode: InodeId,
    owner: LockOwner,
    locks: Arc<OwnedLocks>,
}

impl LockBook {
    /// The locks of an owner, to change them.
    pub fn enter(self: &Arc<Self>, inode: InodeId, owner: LockOwner) -> Using {
        let mut files = self.files.lock();
        let locks = files.entry(inode).or_default().entry(owner).or_default().clone();
        locks.held.lock().users += 1;
        Using { book: self.clone(), inode, owner, locks }
    }

    /// The same, if the owner has any or is asking for some.
    pub fn find(self: &Arc<Self>, inode: InodeId, owner: LockOwner) -> Option<Using> {
        let files = self.files.lock();
        let locks = files.get(&inode)?.get(&owner)?.clone();
        locks.held.lock().users += 1;
        drop(files);
        Some(Using { book: self.clone(), inode, owner, locks })
    }

    /// Whether anybody has a lock on the file, or is asking for one.
    pub fn concerns(&self, inode: InodeId) -> bool {
        self.files.lock().contains_key(&inode)
    }

    /// The owner has a lock on the file, or is asking for one.
    pub fn has(&self, inode: InodeId, owner: LockOwner) -> bool {
        self.files.lock().get(&inode).is_some_and(|owners| owners.contains_key(&owner))
    }

    /// An open file is gone: owners that have taken their locks through it and through no other.
    pub fn handle_is_gone(&self, inode: InodeId, handle: u64) -> Vec<LockOwner> {
        let files = self.files.lock();
        let Some(owners) = files.get(&inode) else { return Vec::new() };
        let gone = owners.iter().filter(|(_, locks)| {
            let mut held = locks.held.lock();
            held.handles.remove(&handle) && held.handles.is_empty()
        });
        gone.map(|(owner, _)| *owner).collect()
    }

    /// Whether somebody has to begin to look at the owner's process: nobody does yet.
    pub fn begin_watch(&self, inode: InodeId, owner: LockOwner) -> bool {
        self.watched.lock().insert((inode, owner))
    }

    /// Whether to go on: the owner has locks on the file, or is asking for one. Else the watch is over.
    pub fn goes_on_watching(&self, inode: InodeId, owner: LockOwner) -> bool {
        // Who gets a lock from here on begins a watch of his own, or is seen here.
        let mut watched = self.watched.lock();
        let goes_on = self.has(inode, owner);
        if !goes_on {
            watched.remove(&(inode, owner));
        }
        goes_on
    }

    /// A number for a wait.
    pub fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Files on which there are locks, and their owners.
    pub fn count(&self) -> usize {
        self.files.lock().values().map(HashMap::len).sum()
    }
}

impl Using {
    /// Held while a change is under way.
    pub fn changing(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.changing.clone()
    }

    /// Whether any byte of a range is locked.
    pub fn holds_any(&self, range: LockRange) -> bool {
        lock_spans::holds_any(&self.locks.held.lock().spans, range)
    }

    /// A lock was given, through an open file.
    pub fn given(&self, lock: &LockRequest, handle: u64) {
        let mut held = self.locks.held.lock();
        held.spans = lock_spans::replace(&held.spans, lock.range, Some((lock.write, lock.pid)));
        held.handles.insert(handle);
    }

    /// A range was unlocked.
    pub fn gone(&self, range: LockRange) {
        let mut held = self.locks.held.lock();
        held.spans = lock_spans::replace(&held.spans, range, None);
        if held.spans.is_empty() {
            held.handles.clear();
        }
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        let mut files = self.book.files.lock();
        let is_over = {
            let mut held = self.locks.held.lock();
            held.users -= 1;
            held.users == 0 && held.spans.is_empty()
        };
        if is_over && let Some(owners) = files.get_mut(&self.inode) {
            owners.remove(&self.owner);
            if owners.is_empty() {
                files.remove(&self.inode);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_common::protocol::locks::LockKind;

    use super::*;

    const FILE: InodeId = InodeId(7);

    fn owner(id: u64) -> LockOwner {
        LockOwner { kind: LockKind::Posix, id }
    }

    fn lock(owner: LockOwner, start: u64, end: u64) -> LockRequest {
        LockRequest { inode: FILE, owner, range: LockRange { start, end }, write: true, pid: 1 }
    }

    #[test]
    fn an_owner_is_forgotten_when_it_has_nothing_and_nobody_asks() {
        let book = Arc::new(LockBook::default());
        let using = book.enter(FILE, owner(1));
        assert!(book.has(FILE, owner(1)), "it is asking");
        using.given(&lock(owner(1), 0, 9), 5);
        drop(using);
        assert!(book.concerns(FILE));
        let using = book.find(FILE, owner(1)).unwrap();
        assert!(using.holds_any(LockRange { start: 9, end: 20 }) && !using.holds_any(LockRange { start: 10, end: 20 }));
        using.gone(LockRange::WHOLE);
        assert!(book.concerns(FILE));
        drop(using);
        assert!(!book.concerns(FILE) && book.find(FILE, owner(1)).is_none());
    }

    #[test]
    fn an_owner_is_watched_once_and_until_it_has_nothing() {
        let book = Arc::new(LockBook::default());
        let using = book.enter(FILE, owner(1));
        using.given(&lock(owner(1), 0, 9), 5);
        assert!(book.begin_watch(FILE, owner(1)) && !book.begin_watch(FILE, owner(1)));
        assert!(book.begin_watch(FILE, owner(2)), "another one");
        assert!(book.goes_on_watching(FILE, owner(1)));
        using.gone(LockRange::WHOLE);
        drop(using);
        assert!(!book.goes_on_watching(FILE, owner(1)));
        assert!(book.begin_watch(FILE, owner(1)), "again");
    }

    /// The kernel tells of the end of an open file late: what was locked since through another stays.
    #[test]
    fn what_was_taken_through_another_open_file_stays() {
        let book = Arc::new(LockBook::default());
        let using = book.enter(FILE, owner(1));
        using.given(&lock(owner(1), 0, 9), 5);
        using.gone(LockRange::WHOLE);
        using.given(&lock(owner(1), 0, 9), 6);
        assert_eq!(book.handle_is_gone(FILE, 5), []);
        using.given(&lock(owner(1), 20, 29), 7);
        assert_eq!(book.handle_is_gone(FILE, 6), []);
        assert_eq!(book.handle_is_gone(FILE, 7), [owner(1)]);
    }
}
