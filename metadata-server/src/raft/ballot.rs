//! Whether this server may vote. One that has just been started has forgotten what it promised to the
//! leader (openraft does not keep the moment of the last heartbeat), so it waits as long as any leader
//! may still trust that promise: the leader's lease is shorter than `election_min`.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::clock::Clock;
use cairn_common::protocol::ServiceError;

use super::handle::RaftHandle;
use super::options::GroupTimings;

/// Opens some time after the start.
pub(super) struct Ballot {
    clock: Arc<dyn Clock>,
    opens: Duration,
}

impl Ballot {
    /// Counts from now. A server that never took part in a vote has promised nothing.
    pub(super) fn new(raft: &RaftHandle, clock: Arc<dyn Clock>, timings: &GroupTimings) -> Arc<Self> {
        let has_voted = raft.metrics().current_term > 0;
        let opens = clock.monotonic() + if has_voted { timings.election_min } else { Duration::ZERO };
        Arc::new(Self { clock, opens })
    }

    /// Refuses while an older promise may still hold.
    pub(super) fn check(&self) -> Result<(), ServiceError> {
        if self.clock.monotonic() >= self.opens {
            return Ok(());
        }
        Err(ServiceError::Unavailable { reason: "just started: it may have promised its vote to the leader".into() })
    }
}
