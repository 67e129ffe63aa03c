//! Reads change access times, as relatime has it: shown at once, told to the cluster a little later and many
//! at once. What the kernel reads out of its own pages it does not tell, so who opens a file of which it has
//! pages, for reading only, counts as having read it.

use std::time::Duration;

use cairn_common::clock::{Clock, SystemClock};
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::limits::MAX_LEASES_PER_MESSAGE;
use cairn_common::protocol::metadata::Mutation;

use super::Filesystem;
use crate::open_files::FileHandle;

impl Filesystem {
    /// A program reads through a handle. Answers whether that changes the access time, which the kernel
    /// knows where it is its own READ.
    pub(crate) fn handle_accessed(&self, handle: &FileHandle) -> bool {
        let file = handle.file();
        if !self.settings.relatime || !handle.counts_accesses {
            return false;
        }
        let at = SystemClock.wall();
        let is_news = file.lock().accessed(at);
        if is_news {
            self.leases.lock().note_access(file.inode, at);
            self.access_times.note();
        }
        is_news
    }

    /// A program is about to read what the kernel has of a file.
    pub(crate) fn opened_to_read(&self, handle: &FileHandle) {
        if self.handle_accessed(handle) {
            let (kernel, inode) = (self.kernel(), handle.file().inode);
            self.runtime.spawn(async move { kernel.attributes(inode).await });
        }
    }

    /// A program reads a directory or a symlink.
    pub(crate) fn accessed(&self, inode: InodeId) {
        if self.settings.relatime && self.leases.lock().accessed(inode, SystemClock.wall()) {
            self.access_times.note();
        }
    }

    /// Tells the cluster, if some wait for as long as `delay`, or many.
    pub(crate) async fn tell_accesses(&self, delay: Duration) {
        let untold = self.leases.lock().accesses().len();
        if !self.access_times.is_due(untold, delay) {
            return;
        }
        let _telling = self.access_times.telling.lock().await;
        self.access_times.begin_anew();
        loop {
            let accesses = self.leases.lock().accesses().first(MAX_LEASES_PER_MESSAGE);
            if accesses.is_empty() {
                return;
            }
            match self.submit(RequestId::random(), Mutation::Accessed { accesses: accesses.clone() }).await {
                Ok(_) => self.leases.lock().accesses().told(&accesses),
                Err(error) => {
                    tracing::debug!(%error, "access times are told later, if ever");
                    return self.access_times.note();
                }
            }
        }
    }

    /// A program sets the time itself: reads of before do not count any more. To be awaited before the
    /// cluster is told.
    pub(crate) async fn access_time_is_set(&self, inode: InodeId) {
        if let Some(file) = self.files.get(inode) {
            file.lock().access_time_is_set();
        }
        self.leases.lock().accesses().forget(inode);
        drop(self.access_times.telling.lock().await);
    }
}
