//! The only room that knows fuser. It turns requests of the kernel into calls of the core and answers
//! of the core into replies; every request is bounded, and none blocks the threads that read the
//! kernel's queue. Semantics live in the core.

mod convert;
mod dispatch;
pub mod mount;
pub mod notifier;
mod requests;
mod unmounting;

use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::RequestId;
use fuser::{Errno, Request};

use crate::filesystem::{Caller, Filesystem};

/// Nothing may be believed without asking (P1).
const TTL: Duration = Duration::ZERO;

/// The kernel's side of a mounted file system.
pub struct FuseAdapter {
    filesystem: Arc<Filesystem>,
    runtime: tokio::runtime::Handle,
    bound: Duration,
}

impl FuseAdapter {
    /// An adapter whose requests run on `runtime`.
    pub fn new(filesystem: Arc<Filesystem>, runtime: tokio::runtime::Handle) -> Self {
        let bound = filesystem.settings().call_timeout;
        Self { filesystem, runtime, bound }
    }
}

fn caller(request: &Request) -> Caller {
    Caller { request: RequestId::random(), uid: request.uid(), gid: request.gid() }
}

fn fuse_errno(errno: i32) -> Errno {
    Errno::from_i32(errno)
}
