//! Follows what openraft publishes: who leads and may serve, failures, gauges.

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::metrics::RaftMetrics;
use tokio::sync::watch;

use super::handle::RaftHandle;
use super::metrics;
use super::types::TypeConfig;

/// What the service waits for.
pub(super) struct Watched {
    /// The term, while this server leads and has applied an entry of that term.
    pub(super) leadership: watch::Receiver<Option<u64>>,
    /// Why the group stopped here for good.
    pub(super) failure: watch::Receiver<Option<String>>,
}

/// Starts the task; it ends with the Raft instance.
pub(super) fn watch(raft: &RaftHandle) -> Watched {
    let (lead, leadership) = watch::channel(None);
    let (fail, failure) = watch::channel(None);
    let mut published = raft.raft().metrics();
    let name = raft.member().name.clone();
    tokio::spawn(async move {
        let mut stated = (None, ServerState::default());
        loop {
            let now = published.borrow_watched().clone();
            let state = (now.current_leader, now.state);
            if stated != state {
                tracing::info!(%name, term = now.current_term, leader = ?now.current_leader, state = ?now.state, "raft");
                stated = state;
            }
            lead.send_if_modified(|current| std::mem::replace(current, serving_term(&now)) != serving_term(&now));
            if let Err(fatal) = &now.running_state {
                lead.send_replace(None);
                if fail.borrow().is_none() {
                    match fatal {
                        // Asked for: the server is ending.
                        Fatal::Stopped => tracing::info!(%name, "left the metadata group"),
                        _ => tracing::error!(%name, %fatal, "the metadata group stopped on this server"),
                    }
                    fail.send_replace(Some(fatal.to_string()));
                }
            }
            publish(&now);
            if published.changed().await.is_err() {
                lead.send_replace(None);
                return;
            }
        }
    });
    Watched { leadership, failure }
}

/// The leader's state holds all that earlier leaders acknowledged once an entry of its own term is
/// applied (Raft paper, section 8).
fn serving_term(now: &RaftMetrics<TypeConfig>) -> Option<u64> {
    let leads = now.state == ServerState::Leader && now.running_state.is_ok();
    let applied = now.last_applied.is_some_and(|applied| applied.leader_id.term == now.current_term);
    (leads && applied).then_some(now.current_term)
}

fn publish(now: &RaftMetrics<TypeConfig>) {
    let leads = now.state == ServerState::Leader;
    let applied = now.last_applied.map_or(0, |id| id.index);
    let committed = now.local_committed.map_or(0, |id| id.index);
    metrics::position(now.current_term, leads, applied, committed, now.last_log_index.unwrap_or(0));
}
