//! Counts users' requests under way, so that background work can give way to them.

use std::time::Duration;

use tokio::sync::watch;

/// The gauge, shared by the service and background work.
pub struct Traffic {
    requests: watch::Sender<usize>,
}

/// A user's request under way; ends when dropped.
pub struct UserRequest<'a>(&'a Traffic);

impl Default for Traffic {
    fn default() -> Self {
        Self { requests: watch::Sender::new(0) }
    }
}

impl Traffic {
    /// Counts a request until the guard is dropped.
    pub fn begin(&self) -> UserRequest<'_> {
        self.requests.send_modify(|requests| *requests += 1);
        UserRequest(self)
    }

    /// Waits for a moment without users' requests, at most so long.
    pub async fn quiet(&self, bound: Duration) {
        let mut requests = self.requests.subscribe();
        // Over the bound the work goes on all the same: repair must not starve.
        let _ = tokio::time::timeout(bound, requests.wait_for(|requests| *requests == 0)).await;
    }
}

impl Drop for UserRequest<'_> {
    fn drop(&mut self) {
        self.0.requests.send_modify(|requests| *requests -= 1);
    }
}
