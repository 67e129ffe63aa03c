//! Answers that made an inode, whose attributes the kernel may believe and may not have read yet. It
//! takes these in whatever it was told meanwhile, so a recall of the inode must wait until they are
//! read. Who makes something holds the directory's lock until then: whatever request shows that the lock
//! was free since, or that the inode is known, shows it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_common::ids::InodeId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Such answers.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// By the new inode: the directory it was made in.
    unread: Mutex<HashMap<InodeId, InodeId>>,
    /// Whether there may be any: looked at by every request.
    any: AtomicBool,
    changed: Notify,
}

impl Made {
    /// Before the answer's lifetime is looked up: from here on it counts as not read.
    pub(super) fn begin(&self, directory: InodeId, inode: InodeId) {
        let mut unread = self.unread.lock();
        unread.insert(inode, directory);
        self.any.store(true, Ordering::Release);
    }

    /// The kernel knows the inode, or was told nothing to believe.
    pub(super) fn read(&self, inode: InodeId) {
        // A request that shows something comes after the answer, and so after its begin.
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut unread = self.unread.lock();
        let was_there = unread.remove(&inode).is_some();
        self.any.store(!unread.is_empty(), Ordering::Release);
        drop(unread);
        if was_there {
            self.changed.notify_waiters();
        }
    }

    /// A request came whose sender has the lock of the directory.
    pub(super) fn all_read(&self, directory: InodeId) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut unread = self.unread.lock();
        let before = unread.len();
        unread.retain(|_, of| *of != directory);
        let after = unread.len();
        self.any.store(after > 0, Ordering::Release);
        drop(unread);
        if after < before {
            self.changed.notify_waiters();
        }
    }

    /// The directory in which an inode was made, if the answer may not be read.
    pub(super) fn directory_of_unread(&self, inode: InodeId) -> Option<InodeId> {
        self.unread.lock().get(&inode).copied()
    }

    /// Until the answer is read.
    pub(super) async fn until_read(&self, inode: InodeId) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.directory_of_unread(inode).is_none() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_unread_until_a_request_shows_that_it_was_read() {
        let (directory, other, inode) = (InodeId(7), InodeId(8), InodeId(9));
        let made = Arc::new(Made::default());
        made.until_read(inode).await;
        made.begin(directory, inode);
        made.begin(other, InodeId(10));
        let waiting = tokio::spawn({
            let made = made.clone();
            async move { made.until_read(inode).await }
        });
        made.all_read(other);
        made.read(InodeId(11));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished(), "nothing has shown it");
        made.all_read(directory);
        waiting.await.unwrap();
        made.begin(directory, inode);
        assert_eq!(made.directory_of_unread(inode), Some(directory));
        made.read(inode);
        assert_eq!(made.directory_of_unread(inode), None);
    }
}
