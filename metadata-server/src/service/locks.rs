//! The queue of those who wait for locks, with its bells. It is looked at when a lock goes, when a wait
//! or a session ends, and whenever a mount repeats that it waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::protocol::locks::{LockRequest, LockWait};
use cairn_common::protocol::metadata::{MetadataReply, Mutation, MutationResult};
use cairn_common::protocol::{FsError, ServiceError};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::context::{Context, broken};
use super::leader::Leader;
use crate::lock_queue::{LockQueue, TURN, Ticket};
use crate::namespace::{cluster, locks};

/// Waits of a leadership.
#[derive(Default)]
pub(super) struct LockDesk {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: LockQueue,
    /// Rung when it may be the turn of a wait. Only of polls that are under way.
    bells: HashMap<Ticket, Arc<Notify>>,
}

impl LockDesk {
    /// The locks of a file may have changed.
    fn look(&self, context: &Context, inode: InodeId) {
        let mut state = self.state.lock();
        let view = context.group.view();
        match state.queue.look(inode, context.clock.monotonic(), &|inode| locks::held(&*view, inode)) {
            Ok(woken) => {
                for bell in woken.iter().filter_map(|ticket| state.bells.get(ticket)) {
                    bell.notify_one();
                }
            }
            // Each wait looks again by itself.
            Err(error) => tracing::error!(%error, %inode, "the locks of a file cannot be read"),
        }
    }

    /// Who waits, for locks of one file or of all.
    pub(super) fn waiting(&self, inode: Option<InodeId>) -> Vec<(SessionId, LockRequest)> {
        self.state.lock().queue.waiting(inode)
    }

    /// A wait is over.
    pub(super) fn leave(&self, context: &Context, ticket: Ticket) {
        let left = self.state.lock().queue.leave(ticket);
        if let Some(inode) = left {
            self.look(context, inode);
        }
    }

    /// A session has ended in the state, with its locks.
    pub(super) fn end_session(&self, context: &Context, session: SessionId) {
        let files = {
            let mut state = self.state.lock();
            state.queue.end_session(session);
            state.queue.files()
        };
        files.into_iter().for_each(|inode| self.look(context, inode));
    }

    /// What a change of a lock is proposed as: behind another, if it is that one's turn. Who does not wait
    /// may come in between.
    pub(super) fn enqueue(&self, context: &Context, session: SessionId, mutation: Mutation) -> Mutation {
        match mutation {
            Mutation::SetLock { lock, ticket, behind: _ } => {
                let now = context.clock.monotonic();
                let behind = ticket != 0 && self.state.lock().queue.is_behind((session, ticket), &lock, now);
                Mutation::SetLock { lock, ticket, behind }
            }
            other => other,
        }
    }

    /// A change was made or refused.
    pub(super) fn changed(
        &self,
        context: &Context,
        session: SessionId,
        mutation: &Mutation,
        result: &Result<MutationResult, FsError>,
    ) {
        match mutation {
            Mutation::SetLock { lock, ticket, .. } => {
                if matches!(result, Ok(MutationResult::Done)) {
                    self.leave(context, (session, *ticket));
                }
                // What was downgraded, or given up to be asked for anew.
                self.look(context, lock.inode);
            }
            Mutation::Unlock { inode, .. } => self.look(context, *inode),
            _ => {}
        }
    }
}

/// Waits until it is the turn of a lock that a session waits for, at most `wait`.
pub(super) async fn wait(
    context: &Context,
    leader: &Leader,
    ticket: Ticket,
    lock: &LockRequest,
    wait: Duration,
) -> Result<MetadataReply, ServiceError> {
    let (desk, deadline) = (&leader.locks, Instant::now() + wait);
    let bell = Arc::new(Notify::new());
    desk.state.lock().bells.insert(ticket, bell.clone());
    let _unhang = Unhang { desk, ticket, bell: bell.clone() };
    let ended = leader.ended();
    tokio::pin!(ended);
    loop {
        let standing = {
            let mut state = desk.state.lock();
            let view = context.group.view();
            if cluster::session(&*view, ticket.0).map_err(broken)?.is_none() {
                return Err(ServiceError::SessionFenced { session: ticket.0 });
            }
            let now = context.clock.monotonic();
            state.queue.wait(ticket, lock, now, &|inode| locks::held(&*view, inode)).map_err(broken)?
        };
        if standing != LockWait::Busy || Instant::now() >= deadline {
            return Ok(MetadataReply::LockWait(standing));
        }
        tokio::select! {
            () = bell.notified() => {}
            // The turn of another may have passed unused.
            () = tokio::time::sleep_until(deadline.min(Instant::now() + TURN / 2)) => {}
            () = &mut ended => return Err(ServiceError::NotLeader { leader: None }),
        }
    }
}

/// Takes a bell away with the poll that it was for, unless a later poll has hung its own.
struct Unhang<'d> {
    desk: &'d LockDesk,
    ticket: Ticket,
    bell: Arc<Notify>,
}

impl Drop for Unhang<'_> {
    fn drop(&mut self) {
        let mut state = self.desk.state.lock();
        if state.bells.get(&self.ticket).is_some_and(|bell| Arc::ptr_eq(bell, &self.bell)) {
            state.bells.remove(&self.ticket);
        }
    }
}
