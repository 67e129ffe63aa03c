//! Runs one request on the runtime, bounded, counted and logged.

use std::future::Future;
use std::time::Instant;

use cairn_common::client::ClientError;
use cairn_common::ids::RequestId;
use cairn_common::telemetry::metric_names::{MOUNT_OPERATION_SECONDS, MOUNT_OPERATIONS};
use fuser::Errno;

use super::{FuseAdapter, fuse_errno};
use crate::errno::errno;

impl FuseAdapter {
    /// Runs `work`; `reply` gets its result, or ETIMEDOUT when the bound is over.
    pub(super) fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        request: RequestId,
        work: impl Future<Output = Result<T, ClientError>> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let bound = self.bound;
        self.runtime.spawn(async move {
            let begun = Instant::now();
            let result = match tokio::time::timeout(bound, work).await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) => {
                    log(operation, request, &error);
                    Err(fuse_errno(errno(&error)))
                }
                Err(_) => {
                    tracing::warn!(operation, %request, "no answer within {bound:?}");
                    Err(Errno::ETIMEDOUT)
                }
            };
            count(operation, result.is_ok(), begun);
            reply(result);
        });
    }
}

/// Answers of the file system are ordinary; anything else an operator wants to know.
pub(super) fn log(operation: &'static str, request: RequestId, error: &ClientError) {
    match error {
        ClientError::Fs(error) => tracing::debug!(operation, %request, %error, "answered with an error"),
        error => tracing::warn!(operation, %request, %error, "request failed"),
    }
}

pub(super) fn count(operation: &'static str, ok: bool, begun: Instant) {
    let outcome = if ok { "ok" } else { "error" };
    metrics::counter!(MOUNT_OPERATIONS, "operation" => operation, "outcome" => outcome).increment(1);
    metrics::histogram!(MOUNT_OPERATION_SECONDS, "operation" => operation).record(begun.elapsed());
}
