//! The only room that knows fuser. It turns requests of the kernel into calls of the core and answers
//! of the core into replies, and says how long the kernel may believe them; every request is bounded,
//! and none blocks the threads that read the kernel's queue. Semantics live in the core.

mod believed;
mod caller_groups;
mod caller_task;
mod convert;
mod dispatch;
mod kernel;
mod listing;
mod listings;
mod locks;
mod meters;
pub mod mount;
mod nearness;
pub mod notifier;
mod replies;
mod requests;
mod unmounting;

use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::RequestId;
use fuser::{Errno, Request};

use self::kernel::Kernel;
use self::nearness::Nearness;
use crate::filesystem::{Caller, Filesystem};

/// The kernel's side of a mounted file system.
pub struct FuseAdapter {
    filesystem: Arc<Filesystem>,
    runtime: tokio::runtime::Handle,
    bound: Duration,
    kernel: Arc<Kernel>,
    nearness: Arc<Nearness>,
}

impl FuseAdapter {
    /// An adapter whose requests run on `runtime`.
    pub fn new(filesystem: Arc<Filesystem>, runtime: tokio::runtime::Handle) -> Self {
        let bound = filesystem.settings().call_timeout;
        Self { filesystem, runtime, bound, kernel: Arc::default(), nearness: Nearness::start() }
    }
}

fn caller(request: &Request) -> Caller {
    Caller { request: RequestId::random(), uid: request.uid(), gid: request.gid(), umask: 0 }
}

fn fuse_errno(errno: i32) -> Errno {
    Errno::from_i32(errno)
}
