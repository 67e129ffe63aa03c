//! Commits data that no program flushes: what is older than the flush interval, and more when the
//! grant presses. Starts the upload of full blocks while the program still writes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_common::client::ClientError;
use cairn_common::ids::RequestId;

use super::upload::Upload;
use crate::filesystem::Filesystem;
use crate::open_files::FileState;

/// How often the age of dirty data is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Runs until the file system is gone.
pub async fn run(filesystem: Weak<Filesystem>) {
    loop {
        {
            let Some(filesystem) = filesystem.upgrade() else { return };
            let pressed = tokio::time::timeout(TICK, filesystem.grant.pressure()).await.is_ok();
            let interval = filesystem.settings.flush_interval;
            for file in filesystem.files.dirty_files() {
                let (old, stored) = {
                    let inner = file.lock();
                    let old = inner.dirty_since.is_some_and(|since| since.elapsed() >= interval);
                    (old, inner.dirty.stored_prefix_bytes())
                };
                if old {
                    filesystem.flush_in_background(file, Scope::All);
                } else if stored >= filesystem.settings.commit_batch_bytes || (pressed && stored > 0) {
                    filesystem.flush_in_background(file, Scope::Stored);
                } else if pressed && filesystem.grant.is_pressed() && no_upload_under_way(&file) {
                    filesystem.flush_in_background(file, Scope::All);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn no_upload_under_way(file: &FileState) -> bool {
    file.lock().dirty.uploads().iter().all(|upload| upload.is_stored())
}

enum Scope {
    /// Everything that is dirty.
    All,
    /// What is durable on chunk servers already.
    Stored,
}

impl Filesystem {
    /// At most one such task a file.
    fn flush_in_background(self: &Arc<Self>, file: Arc<FileState>, scope: Scope) {
        if std::mem::replace(&mut file.lock().flushing, true) {
            return;
        }
        let filesystem = self.clone();
        self.runtime.spawn(async move {
            let request = RequestId::random();
            let result = {
                let _ordering = file.ordering.clone().lock_owned().await;
                let _changing = file.changing.clone().lock_owned().await;
                match scope {
                    Scope::All => filesystem.flush_locked(request, &file).await,
                    Scope::Stored => filesystem.commit_stored(request, &file).await,
                }
            };
            if let Err(error @ (ClientError::TimedOut { .. } | ClientError::NoSpace { .. })) = result {
                tracing::warn!(%request, inode = %file.inode, %error, "written data is not committed yet, it is kept and tried again");
            }
            file.lock().flushing = false;
        });
    }

    /// Puts a full block on its way while the program goes on.
    pub(crate) fn upload_in_background(
        self: &Arc<Self>,
        request: RequestId,
        file: Arc<FileState>,
        upload: Arc<Upload>,
    ) {
        let filesystem = self.clone();
        self.runtime.spawn(async move {
            if let Err(error) = filesystem.store(request, &upload).await {
                // The flush of the file tries again, and reports.
                tracing::debug!(%request, inode = %file.inode, %error, "early upload failed");
                return;
            }
            let stored = file.lock().dirty.stored_prefix_bytes();
            if stored >= filesystem.settings.commit_batch_bytes || (stored > 0 && filesystem.grant.is_pressed()) {
                filesystem.flush_in_background(file, Scope::Stored);
            }
        });
    }
}
