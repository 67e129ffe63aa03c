//! Whether a disk works. A disk fails once and stays failed until the program is started again and
//! recovery has read it: after a failed fdatasync nobody knows what is on it.

use std::sync::OnceLock;

/// State of one disk.
#[derive(Debug, Default)]
pub struct Health {
    failure: OnceLock<String>,
}

impl Health {
    /// Marks the disk as failed; the first reason stays.
    pub fn fail(&self, reason: String) {
        if self.failure.set(reason.clone()).is_ok() {
            tracing::error!(%reason, "disk failed: it takes nothing more until the server is started again");
            metrics::counter!(cairn_common::telemetry::metric_names::CHUNK_DISK_FAILURES).increment(1);
        }
    }

    /// Why the disk failed, or None while it works.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}
