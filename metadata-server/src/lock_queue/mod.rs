//! Who waits for locks, and whose turn it is: pure. The locks themselves are in the replicated state and
//! are handed in; the queue belongs to one leadership. Those who wait for the same bytes go in the order
//! of their coming. Whose turn it is has a moment to take the lock before others may.
//!
//! Nobody is held back but by a lock, or for that moment: who waited for somebody that waits for a lock
//! himself could close a circle that no program has made.

mod deadlock;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::limits::MAX_LOCK_WAITS_PER_SESSION;
use cairn_common::protocol::locks::{HeldLock, LockRequest, LockWait};

use crate::storage::StorageError;

/// How long others let the one go first whose turn it is. A mount asks at once when it is told.
pub const TURN: Duration = Duration::from_secs(2);
/// A wait that its mount has not repeated for so long is over: the mount is gone, or has given up.
pub const SILENCE: Duration = Duration::from_secs(5);

/// A session and the number that it gave to a wait.
pub type Ticket = (SessionId, u64);
/// Reads the locks of a file.
pub type Locks<'l> = dyn Fn(InodeId) -> Result<Vec<HeldLock>, StorageError> + 'l;

/// A lock that somebody waits for.
#[derive(Clone, Debug)]
struct Waiter {
    ticket: Ticket,
    lock: LockRequest,
    /// When the mount has last told of it.
    told: Duration,
    /// Since when it is its turn.
    turn: Option<Duration>,
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub struct LockQueue {
    /// By the order of coming.
    waiters: BTreeMap<u64, Waiter>,
    places: BTreeMap<Ticket, u64>,
    files: BTreeMap<InodeId, BTreeSet<u64>>,
    next: u64,
}

impl LockQueue {
    /// A mount tells, for the first time or again, that it waits. `Free` is its turn.
    pub fn wait(
        &mut self,
        ticket: Ticket,
        lock: &LockRequest,
        now: Duration,
        locks: &Locks<'_>,
    ) -> Result<LockWait, StorageError> {
        let place = match self.places.get(&ticket) {
            Some(place) => *place,
            None => {
                let (from, to) = ((ticket.0, 0), (ticket.0, u64::MAX));
                if self.places.range(from..=to).count() >= MAX_LOCK_WAITS_PER_SESSION {
                    return Ok(LockWait::TooMany);
                }
                self.next += 1;
                self.waiters.insert(self.next, Waiter { ticket, lock: *lock, told: now, turn: None });
                self.places.insert(ticket, self.next);
                self.files.entry(lock.inode).or_default().insert(self.next);
                self.next
            }
        };
        if let Some(waiter) = self.waiters.get_mut(&place) {
            waiter.told = now;
        }
        self.look(lock.inode, now, locks)?;
        if self.waiters.get(&place).is_some_and(|waiter| waiter.turn.is_some()) {
            return Ok(LockWait::Free);
        }
        if deadlock::closes_circle(self, ticket.0, lock, locks)? {
            self.leave(ticket);
            return Ok(LockWait::Deadlock);
        }
        Ok(LockWait::Busy)
    }

    /// A wait is over: the lock was given, or nobody wants it any more. Answers the file, whose other
    /// waiters may go on.
    pub fn leave(&mut self, ticket: Ticket) -> Option<InodeId> {
        let place = self.places.remove(&ticket)?;
        let waiter = self.waiters.remove(&place)?;
        let inode = waiter.lock.inode;
        if let Some(places) = self.files.get_mut(&inode) {
            places.remove(&place);
            if places.is_empty() {
                self.files.remove(&inode);
            }
        }
        Some(inode)
    }

    /// All waits of a session are over. Answers their files.
    pub fn end_session(&mut self, session: SessionId) -> BTreeSet<InodeId> {
        let tickets: Vec<Ticket> =
            self.places.range((session, 0)..=(session, u64::MAX)).map(|(ticket, _)| *ticket).collect();
        tickets.into_iter().filter_map(|ticket| self.leave(ticket)).collect()
    }

    /// The locks of a file, or those who wait, may have changed: answers those whose turn it is now and was
    /// not before.
    pub fn look(&mut self, inode: InodeId, now: Duration, locks: &Locks<'_>) -> Result<Vec<Ticket>, StorageError> {
        self.expire(inode, now);
        let Some(places) = self.files.get(&inode) else { return Ok(Vec::new()) };
        let held = locks(inode)?;
        let (mut first, mut woken): (Vec<HeldLock>, _) = (Vec::new(), Vec::new());
        for place in places {
            let Some(waiter) = self.waiters.get_mut(place) else { continue };
            let session = waiter.ticket.0;
            if held.iter().chain(&first).any(|other| other.blocks(session, &waiter.lock)) {
                // Somebody has come in between.
                waiter.turn = None;
                continue;
            }
            first.push(as_held(session, &waiter.lock));
            if waiter.turn.is_none() {
                waiter.turn = Some(now);
                woken.push(waiter.ticket);
            }
        }
        Ok(woken)
    }

    /// Whether it is the turn of another, who came before, and what is asked for would be in the way. Only
    /// those are let go first who do not wait for a lock.
    pub fn is_behind(&self, ticket: Ticket, lock: &LockRequest, now: Duration) -> bool {
        let own = self.places.get(&ticket).copied().unwrap_or(u64::MAX);
        let Some(places) = self.files.get(&lock.inode) else { return false };
        places.iter().take_while(|place| **place < own).filter_map(|place| self.waiters.get(place)).any(|other| {
            let has_turn = other.turn.is_some_and(|since| now < since + TURN);
            has_turn && as_held(other.ticket.0, &other.lock).blocks(ticket.0, lock)
        })
    }

    /// Files that somebody waits for.
    pub fn files(&self) -> Vec<InodeId> {
        self.files.keys().copied().collect()
    }

    /// Who waits, first come first, for locks of one file or of all.
    pub fn waiting(&self, inode: Option<InodeId>) -> Vec<(SessionId, LockRequest)> {
        let of_file = self.waiters.values().filter(|waiter| inode.is_none_or(|inode| waiter.lock.inode == inode));
        of_file.map(|waiter| (waiter.ticket.0, waiter.lock)).collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// What each owner of a session waits for.
    fn waits_of(&self, session: SessionId) -> impl Iterator<Item = &LockRequest> {
        let places = self.places.range((session, 0)..=(session, u64::MAX)).map(|(_, place)| place);
        places.filter_map(|place| self.waiters.get(place)).map(|waiter| &waiter.lock)
    }

    fn expire(&mut self, inode: InodeId, now: Duration) {
        let Some(places) = self.files.get(&inode) else { return };
        let is_over = |waiter: &&Waiter| {
            let passed = waiter.turn.is_some_and(|since| now >= since + TURN) && now >= waiter.told + TURN;
            passed || now >= waiter.told + SILENCE
        };
        let over: Vec<Ticket> = places
            .iter()
            .filter_map(|place| self.waiters.get(place))
            .filter(is_over)
            .map(|waiter| waiter.ticket)
            .collect();
        for ticket in over {
            self.leave(ticket);
        }
    }
}

/// What a waiter will hold.
fn as_held(session: SessionId, lock: &LockRequest) -> HeldLock {
    HeldLock { session, owner: lock.owner, range: lock.range, write: lock.write, pid: lock.pid }
}
