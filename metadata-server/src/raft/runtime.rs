//! The group's own threads, so that a busy CPU elsewhere does not cost a leader its heartbeats.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the runtime: the core, the state machine and the network may all be busy at once.
const THREADS: usize = 4;
/// Tasks that do not end in this time are left behind.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Niceness of the threads where the process may raise its priority.
const NICE: i32 = -10;

/// A tokio runtime of its own. Tasks end when it is stopped or dropped.
pub(super) struct GroupRuntime(Option<Runtime>);

impl GroupRuntime {
    pub(super) fn start() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("raft").enable_all().on_thread_start(raise_priority);
        builder.build().map(|runtime| Self(Some(runtime)))
    }

    pub(super) fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Ends all tasks and waits for them, at most [`STOP_PATIENCE`].
    pub(super) async fn stop(mut self) {
        if let Some(stopping) = self.begin_stop() {
            let _ = cairn_common::blocking::run(|| stopping.join()).await;
        }
    }

    /// A runtime must not be waited for on a thread of another one.
    fn begin_stop(&mut self) -> Option<JoinHandle<()>> {
        let runtime = self.0.take()?;
        std::thread::Builder::new().name("raft-stop".into()).spawn(|| runtime.shutdown_timeout(STOP_PATIENCE)).ok()
    }
}

/// Blocks until the tasks have ended: RocksDB must be closed before its process ends.
impl Drop for GroupRuntime {
    fn drop(&mut self) {
        if let Some(stopping) = self.begin_stop() {
            let _ = stopping.join();
        }
    }
}

/// Runs the calling thread before others if this process may do that (CAP_SYS_NICE); else nothing.
pub(super) fn raise_priority() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICE) {
        tracing::debug!(%error, "raft threads run at normal priority");
    }
}
