//! The write reserve: reports of disks and of mounts go into the ledger, grants come out.

use cairn_common::ids::SessionId;
use cairn_common::limits::KEEP_ALIVE_INTERVAL;
use cairn_common::protocol::write_reserve::{ReserveReport, ReserveShare, ReserveStatus};
use cairn_common::telemetry::metric_names as names;
use parking_lot::Mutex;

use super::context::Context;
use super::leader::Leader;
use crate::write_reserve::{Ledger, Totals, budget};

/// The ledger of one leadership.
#[derive(Default)]
pub(super) struct ReserveDesk {
    ledger: Mutex<Ledger>,
}

impl ReserveDesk {
    /// With what is known of the sessions in the state: nothing.
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger: Mutex::new(ledger) }
    }

    /// A session was opened.
    pub(super) fn open(&self, session: SessionId) {
        self.ledger.lock().open(session);
    }

    /// A session is over.
    pub(super) fn end(&self, session: SessionId) {
        self.ledger.lock().end(session);
    }

    /// Ends all sessions but these.
    pub(super) fn retain(&self, is_open: impl FnMut(SessionId) -> bool) {
        self.ledger.lock().retain(is_open);
    }

    /// A keep-alive that carries this leader's generation: whoever sent it has heard this leader, and hence
    /// every answer of earlier ones that it will ever look at.
    pub(super) fn report(&self, session: SessionId, report: ReserveReport) -> Option<ReserveShare> {
        self.ledger.lock().report(session, report)
    }

    /// For people.
    pub(super) fn status(&self) -> ReserveStatus {
        let Totals { budget, granted, full } = self.ledger.lock().totals();
        ReserveStatus { budget_bytes: budget, granted_bytes: granted, full: budget == Some(0), full_mounts: full }
    }

    fn set_budget(&self, bytes: u64) {
        let before = {
            let mut ledger = self.ledger.lock();
            let before = ledger.totals().budget;
            ledger.set_budget(bytes);
            before
        };
        match (before, bytes) {
            (Some(0), 1..) => tracing::info!(budget_bytes = bytes, "there is room on the disks again"),
            (Some(1..), 0) => tracing::warn!("the disks are full, or too few report: mounts must not buffer writes"),
            _ => {}
        }
    }

    /// Gauges that only the leader knows.
    pub(super) fn set_gauges(&self) {
        let Totals { budget, granted, full } = self.ledger.lock().totals();
        metrics::gauge!(names::WRITE_RESERVE_BUDGET_BYTES).set(budget.unwrap_or(0) as f64);
        metrics::gauge!(names::WRITE_RESERVE_GRANTED_BYTES).set(granted as f64);
        metrics::gauge!(names::WRITE_RESERVE_FULL_MOUNTS).set(f64::from(full));
    }
}

/// Keeps the budget in step with the disks, for as long as this server leads.
pub(super) async fn follow_disks(context: &Context, leader: &Leader) {
    let timeout = context.options.timings.chunk_timeout;
    loop {
        if let Some((live, silent)) = leader.roster.reserves(timeout, context.clock.monotonic()) {
            leader.reserve.set_budget(budget(leader.cluster.replicas, &live, silent));
        }
        tokio::time::sleep(KEEP_ALIVE_INTERVAL).await;
    }
}
