//! Events for mounts: each session has a mailbox that its long poll empties. Today the one event
//! is "flush this inode". Requests of several mounts for the same flush share a ticket, as long as
//! the event was not handed out yet: a flush that has begun may miss what was written since.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::protocol::metadata::SessionEvent;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// All mailboxes of a leadership.
pub(super) struct EventDesk {
    state: Mutex<State>,
}

struct State {
    next_ticket: u64,
    mailboxes: HashMap<SessionId, Mailbox>,
}

#[derive(Default)]
struct Mailbox {
    flushes: BTreeMap<InodeId, Flushes>,
    /// Since when the session has confirmed nothing although something was asked for.
    stuck_since: Duration,
    wake: Arc<Notify>,
}

/// Flushes of one inode that are not confirmed.
struct Flushes {
    queued: Option<Ticket>,
    handed_out: Vec<(Ticket, Duration)>,
    /// Since when no flush of this inode was confirmed.
    stuck_since: Duration,
}

struct Ticket {
    number: u64,
    /// Dropped when the flush is confirmed or the session has ended: wakes all who wait.
    _done: watch::Sender<()>,
    waiting: watch::Receiver<()>,
}

/// A flush that was asked for.
pub(super) struct PendingFlush {
    done: watch::Receiver<()>,
    /// Since when the session has confirmed no flush of the inode, or nothing at all: a mount that is
    /// gone must not be waited for once for every file that it had open.
    pub(super) stuck_since: Duration,
}

impl PendingFlush {
    /// Returns when the flush is confirmed or the session has ended.
    pub(super) async fn finished(&mut self) {
        // Nothing is ever sent: the wait ends when the sender is dropped.
        let _ = self.done.changed().await;
    }
}

impl EventDesk {
    /// Tickets of different leaderships differ, so a late confirmation hits nothing.
    pub(super) fn new(term: u64) -> Self {
        Self { state: Mutex::new(State { next_ticket: (term << 32) | 1, mailboxes: HashMap::new() }) }
    }

    /// Asks a session to flush an inode.
    pub(super) fn request_flush(&self, session: SessionId, inode: InodeId, now: Duration) -> PendingFlush {
        let mut state = self.state.lock();
        let State { next_ticket, mailboxes } = &mut *state;
        let mailbox = mailboxes.entry(session).or_default();
        if mailbox.flushes.is_empty() {
            mailbox.stuck_since = now;
        }
        let flushes = mailbox.flushes.entry(inode).or_insert_with(|| Flushes {
            queued: None,
            handed_out: Vec::new(),
            stuck_since: now,
        });
        let ticket = flushes.queued.get_or_insert_with(|| {
            let (sender, waiting) = watch::channel(());
            let number = *next_ticket;
            *next_ticket += 1;
            Ticket { number, _done: sender, waiting }
        });
        let pending =
            PendingFlush { done: ticket.waiting.clone(), stuck_since: flushes.stuck_since.min(mailbox.stuck_since) };
        mailbox.wake.notify_waiters();
        pending
    }

    /// Hands out what is queued, and again what was handed out before `now - redeliver` and never
    /// confirmed.
    pub(super) fn take(&self, session: SessionId, now: Duration, redeliver: Duration) -> Vec<SessionEvent> {
        let mut state = self.state.lock();
        let Some(mailbox) = state.mailboxes.get_mut(&session) else { return Vec::new() };
        let mut events = Vec::new();
        for (inode, flushes) in &mut mailbox.flushes {
            for (ticket, at) in &mut flushes.handed_out {
                if now.saturating_sub(*at) >= redeliver {
                    *at = now;
                    events.push(SessionEvent::Flush { inode: *inode, ticket: ticket.number });
                }
            }
            if let Some(ticket) = flushes.queued.take() {
                events.push(SessionEvent::Flush { inode: *inode, ticket: ticket.number });
                flushes.handed_out.push((ticket, now));
            }
        }
        events
    }

    /// Rings (`notify_waiters`) when the session may have new events, or has ended.
    pub(super) fn bell(&self, session: SessionId) -> Arc<Notify> {
        self.state.lock().mailboxes.entry(session).or_default().wake.clone()
    }

    /// Forgets sessions that are not in the state any more.
    pub(super) fn retain(&self, exists: impl Fn(SessionId) -> bool) {
        self.state.lock().mailboxes.retain(|session, mailbox| {
            let stays = exists(*session);
            if !stays {
                mailbox.wake.notify_waiters();
            }
            stays
        });
    }

    /// The session has flushed what a ticket asked for. Unknown tickets are ignored.
    pub(super) fn confirm(&self, session: SessionId, number: u64, now: Duration) {
        let mut state = self.state.lock();
        let Some(mailbox) = state.mailboxes.get_mut(&session) else { return };
        // A late confirmation of what was given up is a sign that the session moves, too.
        mailbox.stuck_since = now;
        mailbox.flushes.retain(|_, flushes| {
            let before = flushes.handed_out.len();
            flushes.handed_out.retain(|(ticket, _)| ticket.number != number);
            if flushes.handed_out.len() < before {
                flushes.stuck_since = now;
            }
            flushes.queued.is_some() || !flushes.handed_out.is_empty()
        });
    }

    /// The session has ended: nobody waits for it any more, its poll returns.
    pub(super) fn end(&self, session: SessionId) {
        if let Some(mailbox) = self.state.lock().mailboxes.remove(&session) {
            mailbox.wake.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const REDELIVER: Duration = Duration::from_secs(2);

    fn tickets(mail: &[SessionEvent]) -> Vec<u64> {
        mail.iter().map(|SessionEvent::Flush { ticket, .. }| *ticket).collect()
    }

    fn is_finished(flush: &PendingFlush) -> bool {
        flush.done.has_changed().is_err()
    }

    #[test]
    fn requests_share_a_flush_until_it_is_handed_out() {
        let (desk, session, inode) = (EventDesk::new(3), SessionId(1), InodeId(7));
        let first = desk.request_flush(session, inode, MS);
        let second = desk.request_flush(session, inode, MS);
        let mail = tickets(&desk.take(session, MS * 2, REDELIVER));
        assert_eq!(mail.len(), 1, "one flush for both");
        assert!(desk.take(session, MS * 3, REDELIVER).is_empty(), "handed out once");
        let third = desk.request_flush(session, inode, MS * 4);
        let later = tickets(&desk.take(session, MS * 5, REDELIVER));
        assert_eq!(later.len(), 1, "a flush that has begun does not count for a later request");
        desk.confirm(session, mail[0], MS * 6);
        assert!(is_finished(&first) && is_finished(&second) && !is_finished(&third));
        desk.confirm(session, later[0], MS * 7);
        assert!(is_finished(&third));
    }

    #[test]
    fn an_unconfirmed_event_is_handed_out_again_and_a_stuck_session_shows() {
        let (desk, session, inode) = (EventDesk::new(1), SessionId(1), InodeId(7));
        desk.request_flush(session, inode, MS);
        let mail = tickets(&desk.take(session, MS, REDELIVER));
        assert_eq!(tickets(&desk.take(session, MS + REDELIVER, REDELIVER)), mail);
        assert_eq!(desk.request_flush(session, inode, REDELIVER * 9).stuck_since, MS);
        let other = desk.request_flush(session, InodeId(8), REDELIVER * 9);
        assert_eq!(other.stuck_since, MS, "the session is stuck, whatever the file");
        desk.confirm(session, mail[0], REDELIVER * 10);
        assert_eq!(desk.request_flush(session, inode, REDELIVER * 11).stuck_since, REDELIVER * 10, "it moves again");
        assert_eq!(desk.request_flush(session, InodeId(9), REDELIVER * 12).stuck_since, REDELIVER * 10);
    }

    #[test]
    fn the_end_of_a_session_ends_every_wait_for_it() {
        let (desk, session) = (EventDesk::new(1), SessionId(1));
        let queued = desk.request_flush(session, InodeId(7), MS);
        desk.take(session, MS, REDELIVER);
        let behind = desk.request_flush(session, InodeId(7), MS);
        desk.end(session);
        assert!(is_finished(&queued) && is_finished(&behind));
        desk.confirm(session, 1, MS);
    }
}
