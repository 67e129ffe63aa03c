//! What the cluster tells this mount: recalls, and that another leader grants leases now. A new
//! generation is taken over in this order: everything remembered is dropped, the kernel forgets, leases
//! of open files are reclaimed, and then the mount checks in. Until then the leader may change nothing.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_common::client::{ClientError, ClientEvent};
use cairn_common::ids::{DataVersion, InodeId, LeaseGeneration, RequestId};
use cairn_common::limits::MAX_LEASES_PER_MESSAGE;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Filesystem;
use crate::open_files::FileState;

/// Pause after a failed reclaim.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs until the session or the file system is gone.
pub(crate) async fn run(filesystem: Weak<Filesystem>, mut events: UnboundedReceiver<ClientEvent>) {
    while let Some(event) = events.recv().await {
        let Some(filesystem) = filesystem.upgrade() else { return };
        match event {
            ClientEvent::Asked(event) => drop(tokio::spawn(filesystem.obey(event))),
            ClientEvent::NewGeneration(generation) => {
                filesystem.newest_generation.send_replace(generation);
                tokio::spawn(async move { filesystem.take_over(generation).await });
            }
        }
    }
}

impl Filesystem {
    async fn take_over(self: &Arc<Self>, generation: LeaseGeneration) {
        let _one_at_a_time = self.taking_over.lock().await;
        let is_newest = || *self.newest_generation.borrow() == generation;
        if !is_newest() {
            return;
        }
        let told = self.leases.lock().adopt(generation, self.leases.time().now);
        self.leases.clock().adopt(generation);
        let kernel = self.kernel();
        for (directory, _) in told.iter().filter(|(_, told)| told.names) {
            kernel.names(*directory).await;
        }
        for (inode, told) in &told {
            if told.attributes {
                kernel.attributes(*inode).await;
            } else if told.acls {
                kernel.acls(*inode);
            }
        }
        let open = self.files.open_files();
        let versions: Vec<(Arc<FileState>, Option<DataVersion>)> =
            open.iter().map(|file| (file.clone(), file.lock().version())).collect();
        for batch in open.chunks(MAX_LEASES_PER_MESSAGE) {
            let inodes: Vec<InodeId> = batch.iter().map(|file| file.inode).collect();
            while let Err(error) = self.reclaim(inodes.clone()).await {
                tracing::warn!(%error, "leases of open files are not reclaimed yet");
                if !is_newest() || matches!(error, ClientError::SessionFenced { .. }) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        for (file, before) in versions {
            let leased = self.leases.lock().remembered_version(file.inode);
            let exclusive = file.lock().exclusive.is_held();
            // Nobody has changed the bytes, and nobody can before this mount is asked.
            if !exclusive && (leased.is_none() || leased != before) {
                kernel.pages(file.inode).await;
            }
        }
        self.backend.check_in(generation);
    }

    async fn reclaim(&self, inodes: Vec<InodeId>) -> Result<(), ClientError> {
        let asking = self.leases.ask();
        let reclaimed = self.backend.reclaim(RequestId::random(), inodes).await?;
        if let Some(question) = asking.into_question() {
            let mut cache = self.leases.lock();
            cache.reclaimed(question, reclaimed.generation, reclaimed.sequence, reclaimed.held);
        }
        Ok(())
    }
}
