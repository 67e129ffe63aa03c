//! How many bytes are dirty in the whole mount, and who waits for less. Counts; holds no data.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Bytes in use and their limit.
#[derive(Debug)]
pub struct DirtyBudget {
    used: AtomicU64,
    limit: u64,
    freed: Notify,
    pressed: Notify,
}

impl DirtyBudget {
    /// An empty budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit, freed: Notify::new(), pressed: Notify::new() }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Whether `bytes` more may be taken in now.
    pub fn admits(&self, bytes: u64) -> bool {
        let used = self.used();
        used == 0 || used + bytes <= self.limit
    }

    /// Whether more than half is used: time to commit what is stored.
    pub fn is_pressed(&self) -> bool {
        self.used() > self.limit / 2
    }

    /// A file's dirty bytes went from `before` to `after`.
    pub fn changed(&self, before: u64, after: u64) {
        if after > before {
            self.used.fetch_add(after - before, Ordering::AcqRel);
            if self.is_pressed() {
                self.pressed.notify_one();
            }
        } else if before > after {
            self.used.fetch_sub(before - after, Ordering::AcqRel);
            self.freed.notify_waiters();
        }
    }

    /// Waits until `bytes` more may be taken in. The caller bounds the wait.
    pub async fn admitted(&self, bytes: u64) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.admits(bytes) {
                return;
            }
            self.pressed.notify_one();
            freed.await;
        }
    }

    /// Waits until somebody needs room.
    pub async fn pressure(&self) {
        self.pressed.notified().await;
    }
}
