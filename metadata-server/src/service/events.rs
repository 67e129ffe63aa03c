//! The leader's lease table with its bells: whoever waits for a recall, for mail or for the end of a
//! failover is woken by what the table says. The rules are in [`crate::lease`]; every call takes the
//! one lock for a moment and waits for nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::SessionId;
use cairn_common::protocol::metadata::SessionEvent;
use cairn_common::telemetry::metric_names as names;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::lease::{ChangeId, LeaseTable, Output};

/// The leases of a leadership.
pub(super) struct LeaseDesk {
    state: Mutex<State>,
    /// Sessions that must be ended; rings when there is one.
    evictions: Mutex<Vec<SessionId>>,
    eviction_bell: Notify,
}

struct State {
    table: LeaseTable,
    /// Rung (`notify_waiters`) when a session has mail, another standing, or is gone.
    mail: HashMap<SessionId, Arc<Notify>>,
    /// Rung when a change may look again.
    changes: HashMap<ChangeId, Arc<Notify>>,
}

impl LeaseDesk {
    pub(super) fn new(table: LeaseTable) -> Self {
        let state = State { table, mail: HashMap::new(), changes: HashMap::new() };
        Self { state: Mutex::new(state), evictions: Mutex::default(), eviction_bell: Notify::new() }
    }

    /// Does something with the table, then rings whom it concerns.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut LeaseTable) -> T) -> T {
        let mut state = self.state.lock();
        let result = work(&mut state.table);
        self.ring(&mut state);
        result
    }

    fn ring(&self, state: &mut State) {
        for output in state.table.drain() {
            match output {
                Output::Mail(session) => {
                    if let Some(bell) = state.mail.get(&session) {
                        bell.notify_waiters();
                    }
                }
                Output::Wake(change) => {
                    if let Some(bell) = state.changes.get(&change) {
                        bell.notify_one();
                    }
                }
                Output::Evict(session) => {
                    self.evictions.lock().push(session);
                    self.eviction_bell.notify_one();
                }
                Output::GaveUp(session) => {
                    tracing::warn!(%session, "a mount did not answer a recall in time: all its shared leases are void");
                    metrics::counter!(names::LEASE_GIVEN_UP).increment(1);
                }
            }
        }
    }

    /// Begins a change of a session that is not being ended, and does the first with it at once.
    pub(super) fn begin<T>(
        &self,
        sender: SessionId,
        work: impl FnOnce(&mut LeaseTable, ChangeId) -> T,
    ) -> Option<(ChangeId, T)> {
        self.with(|table| {
            table.is_live(sender).then(|| {
                let id = table.begin(sender);
                (id, work(table, id))
            })
        })
    }

    /// Rings when the change may look again; from before this call on nothing is missed by who looks
    /// after it.
    pub(super) fn change_bell(&self, id: ChangeId) -> Arc<Notify> {
        self.state.lock().changes.entry(id).or_default().clone()
    }

    /// The change is over: does the last with it.
    pub(super) fn end<T>(&self, id: ChangeId, work: impl FnOnce(&mut LeaseTable) -> T) -> T {
        let mut state = self.state.lock();
        let result = work(&mut state.table);
        state.changes.remove(&id);
        self.ring(&mut state);
        result
    }

    /// Rings when the session has mail, another standing, or is gone. Take `notified()` of it before
    /// looking.
    pub(super) fn bell(&self, session: SessionId) -> Arc<Notify> {
        self.state.lock().mail.entry(session).or_default().clone()
    }

    /// What a session is asked now.
    pub(super) fn mail(&self, session: SessionId, now: Duration) -> Vec<SessionEvent> {
        let mail = self.with(|table| table.mail(session, now));
        if !mail.is_empty() {
            metrics::counter!(names::LEASE_RECALLS).increment(mail.len() as u64);
        }
        mail
    }

    /// The session was ended in the state.
    pub(super) fn end_session(&self, session: SessionId) {
        let mut state = self.state.lock();
        state.table.end_session(session);
        self.ring(&mut state);
        state.mail.remove(&session);
    }

    /// Forgets the bells of sessions that are not in the state any more.
    pub(super) fn retain(&self, exists: impl Fn(SessionId) -> bool) {
        let mut state = self.state.lock();
        state.mail.retain(|session, bell| {
            let stays = exists(*session);
            if !stays {
                bell.notify_waiters();
            }
            stays
        });
    }

    /// The next session that must be evicted.
    pub(super) async fn next_eviction(&self) -> SessionId {
        loop {
            if let Some(session) = self.evictions.lock().pop() {
                return session;
            }
            self.eviction_bell.notified().await;
        }
    }
}
