//! Bounds what a restart has to replay and what the log holds: flushes the state now and then, makes
//! a snapshot when the log has grown, after which openraft purges the log. The log itself refuses to
//! be purged beyond what the state engine has on stable storage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;

use super::handle::RaftHandle;
use super::options::GroupTimings;
use super::state_store::StateStore;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(250);

/// Starts the task; it ends with the Raft instance.
pub(super) fn start(raft: RaftHandle, store: Arc<StateStore>, timings: GroupTimings) {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut flushed = Instant::now();
        let mut asked: Option<u64> = None;
        loop {
            ticks.tick().await;
            let (applied, snapshot) = {
                let metrics = raft.raft().metrics();
                let metrics = metrics.borrow_watched();
                if metrics.running_state.is_err() {
                    return;
                }
                let index = |id: Option<super::types::LogId>| id.map_or(0, |id| id.index);
                (index(metrics.last_applied), index(metrics.snapshot))
            };
            let grown = applied >= snapshot + timings.snapshot_entries
                || store.bytes_since_snapshot() >= timings.snapshot_bytes;
            let snapshot_due =
                grown && asked.is_none_or(|asked| applied >= asked + timings.snapshot_entries / 4 || snapshot >= asked);
            let flush_due = flushed.elapsed() >= timings.flush_interval && store.engine().durable_index() < applied;
            if !snapshot_due && !flush_due {
                continue;
            }
            // Also before a snapshot: then little is left to flush while nothing can be applied.
            let engine = store.engine();
            match cairn_common::blocking::run(move || engine.flush()).await {
                Ok(Ok(durable)) => tracing::debug!(durable, "state flushed"),
                Ok(Err(error)) => tracing::error!(%error, "the state cannot be flushed; the log is kept"),
                Err(error) => tracing::error!(%error, "the flush of the state failed"),
            }
            flushed = Instant::now();
            if snapshot_due {
                asked = Some(applied);
                if raft.raft().trigger().snapshot().await.is_err() {
                    return;
                }
            }
        }
    });
}
