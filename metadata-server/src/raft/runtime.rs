//! The group's own threads, so that a busy CPU elsewhere does not cost a leader its heartbeats.

/// Runs the calling thread before others if this process may do that (CAP_SYS_NICE); else nothing.
pub(super) fn raise_priority() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), -10) {
        tracing::debug!(%error, "raft threads run at normal priority");
    }
}
