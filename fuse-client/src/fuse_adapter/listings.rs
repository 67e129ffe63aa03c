//! Listings whose names the kernel may believe and may not have read yet. It counts such names to the
//! epoch in which it reads them, so a recall of names must know of them (see the notifier).

use std::collections::{HashMap, HashSet};

use cairn_common::ids::InodeId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Answers to READDIRPLUS, by directory and by the handle that was listed.
#[derive(Debug, Default)]
pub(super) struct Listings {
    unread: Mutex<HashMap<InodeId, HashSet<u64>>>,
    changed: Notify,
}

impl Listings {
    /// Before the first name is given to a listing: from here on it counts as not read.
    pub(super) fn begin(&self, directory: InodeId, handle: u64) {
        self.unread.lock().entry(directory).or_default().insert(handle);
    }

    /// The kernel listed on, or closed: it has read the last answer to this handle. Or there was none.
    pub(super) fn read(&self, directory: InodeId, handle: u64) {
        let mut unread = self.unread.lock();
        let Some(handles) = unread.get_mut(&directory) else { return };
        handles.remove(&handle);
        if handles.is_empty() {
            unread.remove(&directory);
            drop(unread);
            self.changed.notify_waiters();
        }
    }

    /// A request came that changes the directory: its sender holds the lock that a listing holds, too,
    /// until it is read.
    pub(super) fn all_read(&self, directory: InodeId) {
        if self.unread.lock().remove(&directory).is_some() {
            self.changed.notify_waiters();
        }
    }

    /// Whether one is not read.
    pub(super) fn are_unread(&self, directory: InodeId) -> bool {
        self.unread.lock().contains_key(&directory)
    }

    /// Until none is.
    pub(super) async fn until_read(&self, directory: InodeId) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if !self.are_unread(directory) {
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

    const DIRECTORY: InodeId = InodeId(7);

    #[tokio::test]
    async fn a_listing_is_unread_until_the_kernel_shows_that_it_was_read() {
        let listings = Arc::new(Listings::default());
        listings.until_read(DIRECTORY).await;
        listings.begin(DIRECTORY, 1);
        listings.begin(DIRECTORY, 2);
        let waiting = tokio::spawn({
            let listings = listings.clone();
            async move { listings.until_read(DIRECTORY).await }
        });
        listings.read(DIRECTORY, 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished(), "the other one is not read");
        listings.read(DIRECTORY, 2);
        waiting.await.unwrap();
        listings.begin(DIRECTORY, 3);
        listings.all_read(DIRECTORY);
        assert!(!listings.are_unread(DIRECTORY));
    }
}
