//! Work that blocks (file IO, hashing of large blocks), off the threads that poll tasks. The seam for
//! the simulation, which has one thread and no other: there it runs where it is, as a task of the
//! caller's runtime. Nothing else may start a blocking task.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

static INLINE: AtomicBool = AtomicBool::new(false);

/// From now on all such work of this process runs on the thread of the caller's runtime. For a process
/// that must do the same things in the same order every time; a server would stall.
pub fn run_inline() {
    INLINE.store(true, Ordering::Relaxed);
}

/// Runs the work. It goes on if the handle is dropped. Must be called inside a tokio runtime.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if INLINE.load(Ordering::Relaxed) { tokio::spawn(async move { work() }) } else { tokio::task::spawn_blocking(work) }
}
