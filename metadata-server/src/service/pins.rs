//! A change (or a query that recalls an exclusive lease) on its way through the lease table: waits
//! until nobody holds what it needs. Dropped, it unpins.

use std::sync::Arc;

use cairn_common::ids::{InodeId, LeaseGeneration, SessionId};
use cairn_common::protocol::ServiceError;
use tokio::time::Instant;

use super::context::Context;
use super::leader::Leader;
use crate::lease::{ChangeId, LeaseTable, Standing};

/// A change under way.
pub(super) struct Pins {
    leader: Arc<Leader>,
    sender: SessionId,
    id: ChangeId,
    standing: Standing,
    over: bool,
}

impl Pins {
    /// Begins a change; `work` tells the table what it needs, and looks.
    pub(super) fn begin(
        leader: &Arc<Leader>,
        sender: SessionId,
        work: impl FnOnce(&mut LeaseTable, ChangeId) -> Standing,
    ) -> Result<Self, ServiceError> {
        match leader.leases.begin(sender, work) {
            Some((id, standing)) => Ok(Self { leader: leader.clone(), sender, id, standing, over: false }),
            None => Err(ServiceError::SessionFenced { session: sender }),
        }
    }

    pub(super) fn leader(&self) -> &Leader {
        &self.leader
    }

    /// The change needs more.
    pub(super) fn again(&mut self, work: impl FnOnce(&mut LeaseTable, ChangeId) -> Standing) {
        self.standing = self.leader.leases.with(|table| work(table, self.id));
    }

    /// Waits until nobody holds what the change needs, at most until the deadline. Answers who has the
    /// file open whose last name goes.
    pub(super) async fn clear(&mut self, context: &Context, deadline: Instant) -> Result<Vec<SessionId>, ServiceError> {
        if let Standing::Clear { keep_open } = &mut self.standing {
            return Ok(std::mem::take(keep_open));
        }
        let leases = &self.leader.leases;
        let bell = leases.change_bell(self.id);
        let ended = self.leader.ended();
        tokio::pin!(ended);
        loop {
            let until = match leases.with(|table| table.look(self.id, context.clock.monotonic())) {
                Standing::Clear { keep_open } => return Ok(keep_open),
                Standing::Wait { until } => until,
            };
            let now = Instant::now();
            if now >= deadline {
                return Err(late());
            }
            let pause = until.map_or(deadline, |until| now + until.saturating_sub(context.clock.monotonic()));
            tokio::select! {
                () = bell.notified() => {}
                () = tokio::time::sleep_until(pause.min(deadline)) => {}
                () = &mut ended => return Err(ServiceError::NotLeader { leader: None }),
            }
        }
    }

    /// The change was made, and wrote these: unpins; see `LeaseTable::finish`. `progress`: it is what a
    /// flush is made of.
    pub(super) fn finish(
        &mut self,
        context: &Context,
        changed: &[InodeId],
        progress: bool,
    ) -> (Vec<InodeId>, LeaseGeneration) {
        self.over = true;
        self.leader.leases.end(self.id, |table| {
            let now = context.clock.monotonic();
            let held = table.finish(self.id, changed, now);
            if progress {
                table.progress(self.sender, now);
            }
            (held, table.generation(self.sender).unwrap_or_default())
        })
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if !self.over {
            self.leader.leases.end(self.id, |table| table.abandon(self.id));
        }
    }
}

/// The caller has given up by then, and asks again.
fn late() -> ServiceError {
    ServiceError::Unavailable { reason: "another mount has not given its leases back in time; ask again".into() }
}
