//! Counts requests of the kernel. Looked up once: to find a metric by its labels costs as much as many
//! an answer.

use std::sync::LazyLock;
use std::time::Duration;

use cairn_common::telemetry::metric_names::{MOUNT_OPERATION_SECONDS, MOUNT_OPERATIONS};
use metrics::{Counter, Histogram};

/// Operations that are counted, the frequent ones first.
const OPERATIONS: [&str; 25] = [
    "lookup",
    "open",
    "read",
    "getattr",
    "write",
    "readdirplus",
    "readdir",
    "flush",
    "create",
    "getxattr",
    "setattr",
    "unlink",
    "mkdir",
    "rmdir",
    "rename",
    "readlink",
    "fsync",
    "fsyncdir",
    "link",
    "symlink",
    "mknod",
    "statfs",
    "listxattr",
    "setxattr",
    "lseek",
];

/// Made at the first request: the recorder is there by then, if there is one.
static METERS: LazyLock<Vec<(&str, Meter)>> =
    LazyLock::new(|| OPERATIONS.iter().map(|operation| (*operation, Meter::of(operation))).collect());

struct Meter {
    ok: Counter,
    error: Counter,
    seconds: Histogram,
}

impl Meter {
    fn of(operation: &'static str) -> Self {
        Self {
            ok: metrics::counter!(MOUNT_OPERATIONS, "operation" => operation, "outcome" => "ok"),
            error: metrics::counter!(MOUNT_OPERATIONS, "operation" => operation, "outcome" => "error"),
            seconds: metrics::histogram!(MOUNT_OPERATION_SECONDS, "operation" => operation),
        }
    }

    fn count(&self, ok: bool, took: Duration) {
        if ok { &self.ok } else { &self.error }.increment(1);
        self.seconds.record(took);
    }
}

/// Counts a request that was answered, with or without an error, after this time.
pub(super) fn count(operation: &'static str, ok: bool, took: Duration) {
    match METERS.iter().find(|(name, _)| *name == operation) {
        Some((_, meter)) => meter.count(ok, took),
        None => Meter::of(operation).count(ok, took),
    }
}
