//! Runs one request, bounded, counted and logged. What can be answered from memory is answered on the
//! thread that read the request: a hop onto the runtime and back costs more than most answers.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use cairn_common::client::ClientError;
use cairn_common::ids::RequestId;
use fuser::Errno;

use super::{FuseAdapter, fuse_errno, meters};
use crate::errno::errno;

impl FuseAdapter {
    /// Runs `work`; `reply` gets its result, or ETIMEDOUT when the bound is over. `work` is begun on this
    /// thread and goes on on the runtime if it has to wait: before it waits it must not compute for long,
    /// or it holds up other requests (see [`Self::run_apart`]).
    pub(super) fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        request: RequestId,
        work: impl Future<Output = Result<T, ClientError>> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let begun = Instant::now();
        let bound = self.bound;
        // Timers and tasks that it starts are the runtime's.
        let _runtime = self.runtime.enter();
        let mut work = Box::pin(tokio::time::timeout(bound, work));
        // Whoever would be woken by what happens before it is polled again is polled again all the same.
        let first = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
        match first {
            Ok(Poll::Ready(result)) => {
                let result = result.unwrap_or_else(|_| Err(timed_out(operation, bound)));
                reply(finish(operation, request, begun, result));
            }
            Ok(Poll::Pending) => {
                self.runtime.spawn(async move {
                    let result = work.await.unwrap_or_else(|_| Err(timed_out(operation, bound)));
                    reply(finish(operation, request, begun, result));
                });
            }
            // The dropped reply is an EIO; a panic here would end the mount.
            Err(_) => tracing::error!(operation, %request, "a request panicked"),
        }
    }

    /// The same for work that computes before it waits: all of it is done on the runtime.
    pub(super) fn run_apart<T: Send + 'static>(
        &self,
        operation: &'static str,
        request: RequestId,
        work: impl Future<Output = Result<T, ClientError>> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let (begun, bound) = (Instant::now(), self.bound);
        self.runtime.spawn(async move {
            let result = tokio::time::timeout(bound, work).await;
            let result = result.unwrap_or_else(|_| Err(timed_out(operation, bound)));
            reply(finish(operation, request, begun, result));
        });
    }
}

fn timed_out(operation: &'static str, waited: std::time::Duration) -> ClientError {
    ClientError::TimedOut { what: operation, waited, tried: "the request's bound is over".to_owned() }
}

/// Counts and logs a result, and turns it into what the kernel is told.
pub(super) fn finish<T>(
    operation: &'static str,
    request: RequestId,
    begun: Instant,
    result: Result<T, ClientError>,
) -> Result<T, Errno> {
    meters::count(operation, result.is_ok(), begun.elapsed());
    result.map_err(|error| {
        match &error {
            // Answers of the file system are ordinary; anything else an operator wants to know.
            ClientError::Fs(error) => tracing::debug!(operation, %request, %error, "answered with an error"),
            error => tracing::warn!(operation, %request, %error, "request failed"),
        }
        fuse_errno(errno(&error))
    })
}
