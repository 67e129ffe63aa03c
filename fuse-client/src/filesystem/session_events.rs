//! What the cluster asks of this mount: to flush a file that another mount has asked about. Until it
//! is answered the other mount waits (P1).

use std::sync::{Arc, Weak};

use cairn_common::client::{ClientError, ClientEvent};
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::metadata::SessionEvent;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Filesystem;

/// Runs until the session or the file system is gone.
pub(crate) async fn run(filesystem: Weak<Filesystem>, mut events: UnboundedReceiver<ClientEvent>) {
    while let Some(event) = events.recv().await {
        let Some(filesystem) = filesystem.upgrade() else { return };
        match event {
            ClientEvent::Asked(SessionEvent::Recall { inode, ticket, .. }) => {
                tokio::spawn(async move { filesystem.flush_for_another_mount(inode, ticket).await });
            }
            ClientEvent::NewGeneration(generation) => {
                filesystem.backend.leases().adopt(generation);
                filesystem.backend.check_in(generation);
            }
        }
    }
}

impl Filesystem {
    async fn flush_for_another_mount(self: Arc<Self>, inode: InodeId, ticket: u64) {
        let request = RequestId::random();
        self.doubt_capability(inode);
        let Some(file) = self.files.get(inode) else {
            self.answer_recall(request, inode, ticket).await;
            return;
        };
        while let Err(error) = self.flush_for_other(request, &file).await {
            match error {
                // The bytes are still here and still owed to the other mount.
                ClientError::TimedOut { .. } => {
                    tracing::warn!(%request, %inode, %error, "another mount waits for data that cannot be committed yet");
                }
                // The data is lost and that is reported where it belongs; the other mount need not wait.
                _ => break,
            }
        }
        self.answer_recall(request, inode, ticket).await;
    }

    async fn answer_recall(&self, request: RequestId, inode: InodeId, ticket: u64) {
        if let Err(error) = self.backend.recall_done(ticket, false).await {
            tracing::warn!(%request, %inode, %error, "a recall could not be answered");
        }
    }
}
