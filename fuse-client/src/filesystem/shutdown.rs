//! The end of a mount: flush, release, close the session, within a bound. What could not be written
//! is reported in the log, file by file.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::RequestId;
use tokio::time::Instant;

use super::Filesystem;
use crate::open_files::releaser;

impl Filesystem {
    /// Ends the file system within `settings.shutdown_timeout`. Answers the bytes that were lost.
    pub async fn shut_down(self: &Arc<Self>) -> u64 {
        let bound = self.settings.shutdown_timeout;
        let deadline = Instant::now() + bound;
        let request = RequestId::random();
        let flush = async {
            if let Err(error) = self.flush_all(request).await {
                tracing::error!(%request, %error, "the last flush failed");
            }
            releaser::release_idle(self, true).await;
            self.tell_accesses(Duration::ZERO).await;
        };
        if tokio::time::timeout(bound.mul_f64(0.8), flush).await.is_err() {
            tracing::error!(%request, "the cluster did not take the last flush within {bound:?}");
        }
        for file in self.files.dirty_files() {
            let lost = file.lock().dirty.bytes();
            tracing::error!(inode = %file.inode, lost_bytes = lost, "written data could not be committed and is lost");
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if let Ok(Err(error)) = tokio::time::timeout(left, self.backend.close(left)).await {
            tracing::warn!(%error, "the session could not be closed; the cluster ends it by itself");
        }
        self.dirty_bytes()
    }
}
