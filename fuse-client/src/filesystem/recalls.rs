//! Leases go back to the cluster: what another mount waits for. The order is that of the decision on
//! leases: first nothing new is remembered or told with a lifetime, then the kernel forgets (while this
//! mount goes on taking in writes and answering), then what is dirty is flushed and the exclusive lease
//! given up, and only then is the recall answered. Each recall is a task of its own, and none waits for
//! another: the answers of shared ones ask nobody, those of exclusive ones need commits that pass.

use std::sync::Arc;
use std::time::Instant;

use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::metadata::{Mutation, OpenMode, SessionEvent};
use cairn_common::telemetry::metric_names::{MOUNT_RECALL_SECONDS, MOUNT_RECALLS};

use super::Filesystem;
use crate::lease::Told;
use crate::open_files::FileState;

impl Filesystem {
    /// Does what an event asks for, once: it is handed out again until it is answered.
    pub(super) async fn obey(self: Arc<Self>, event: SessionEvent) {
        let SessionEvent::Recall { inode, ticket, exclusive, last_name } = event;
        if !self.recalls.lock().insert(ticket) {
            return;
        }
        let begun = Instant::now();
        let request = RequestId::random();
        // No answer to a question of before counts from here on, and nothing goes out with a lifetime.
        let now = self.leases.time().now;
        self.recent_recalls.note(inode, now);
        let told = self.leases.lock().recall(inode, exclusive, now);
        self.doubt_capability(inode);
        if let Some(file) = self.files.get(inode).filter(|_| exclusive) {
            file.lock().exclusive.announce_recall();
        }
        self.make_kernel_forget(inode, told, exclusive).await;
        if exclusive {
            self.give_lease_up(request, inode).await;
        }
        let open = self.is_open(inode, last_name);
        if let Err(error) = self.backend.recall_done(ticket, open).await {
            tracing::warn!(%request, %inode, %error, "a recall could not be answered");
        }
        self.recalls.lock().remove(&ticket);
        let kind = if exclusive { "exclusive" } else { "shared" };
        metrics::counter!(MOUNT_RECALLS, "kind" => kind).increment(1);
        metrics::histogram!(MOUNT_RECALL_SECONDS, "kind" => kind).record(begun.elapsed());
    }

    async fn make_kernel_forget(&self, inode: InodeId, told: Told, exclusive: bool) {
        let kernel = self.kernel();
        if told.names {
            kernel.names(inode).await;
        }
        let has_pages = self.files.get(inode).is_some_and(|file| file.is_open());
        if has_pages || exclusive {
            kernel.pages(inode).await;
        } else if told.attributes {
            kernel.attributes(inode).await;
        } else if told.acls {
            kernel.acls(inode);
        }
    }

    /// Flushes a file and gives the exclusive lease on it up. New writes wait for the end of it.
    async fn give_lease_up(self: &Arc<Self>, request: RequestId, inode: InodeId) {
        // Also when nothing is known of the lease here: the answer that brings it may be on its way. And with
        // a state where there was none: who opens the file meanwhile must find there that the lease ends,
        // because the cluster may end it after it has granted that open another.
        let pin = self.files.pin(inode, OpenMode::Read);
        let file = pin.file();
        file.lock().exclusive.recalled();
        self.flush_for_good(request, file).await;
        file.lock().exclusive.leave();
        self.tell_given_up(request, file).await;
    }

    /// Tells the cluster that the exclusive lease on a file ends; the file has left it already.
    pub(super) async fn tell_given_up(&self, request: RequestId, file: &FileState) {
        let inode = file.inode;
        let told = self.submit(request, Mutation::GiveUpExclusive { inodes: vec![inode] }).await;
        if let Err(error) = told {
            tracing::warn!(%request, %inode, %error, "an exclusive lease could not be given up");
        }
        self.leases.lock().gave_up(inode);
        file.lock().exclusive.ended();
        file.exclusive_ended.notify_waiters();
    }

    /// Until nothing is dirty any more, or is lost, which is reported where it belongs.
    async fn flush_for_good(self: &Arc<Self>, request: RequestId, file: &Arc<FileState>) {
        while file.is_dirty() {
            match self.flush_for_other(request, file).await {
                Ok(()) => {}
                // The bytes are still here and still owed to the other mount.
                Err(error @ ClientError::TimedOut { .. }) => {
                    let inode = file.inode;
                    tracing::warn!(%request, %inode, %error, "another mount waits for data that cannot be committed yet");
                }
                Err(_) => return,
            }
        }
    }

    /// Whether programs have the file open. With the answer to the question for a last name this mount
    /// counts as registered, so it has to release the file when they close it.
    fn is_open(&self, inode: InodeId, last_name: bool) -> bool {
        let Some(file) = self.files.get(inode) else { return false };
        let mut inner = file.lock();
        let reading = inner.registration(OpenMode::Read);
        if last_name && reading.pins > 0 {
            reading.registered = true;
        }
        inner.registrations.iter().any(|registration| registration.pins > 0)
    }
}
