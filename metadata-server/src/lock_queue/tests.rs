//! The queue over a list of locks.

use std::cell::RefCell;
use std::time::Duration;

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::limits::MAX_LOCK_WAITS_PER_SESSION;
use cairn_common::protocol::locks::{HeldLock, LockKind, LockOwner, LockRange, LockRequest, LockWait};

use super::{LockQueue, SILENCE, TURN, as_held};

const FILE: InodeId = InodeId(7);
const OTHER_FILE: InodeId = InodeId(8);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Desk {
    queue: LockQueue,
    held: RefCell<Vec<(InodeId, HeldLock)>>,
    now: Duration,
}

fn lock(inode: InodeId, owner: u64, (start, end): (u64, u64), write: bool) -> LockRequest {
    let owner = LockOwner { kind: LockKind::Posix, id: owner };
    LockRequest { inode, owner, range: LockRange { start, end }, write, pid: 1 }
}

impl Desk {
    fn hold(&self, session: u64, lock: &LockRequest) {
        self.held.borrow_mut().push((lock.inode, as_held(SessionId(session), lock)));
    }

    fn drop_locks(&self, session: u64, inode: InodeId) {
        self.held.borrow_mut().retain(|(at, held)| (held.session, *at) != (SessionId(session), inode));
    }

    fn wait(&mut self, session: u64, number: u64, lock: &LockRequest) -> LockWait {
        let held = &self.held;
        let locks = |inode: InodeId| Ok(held.borrow().iter().filter(|(at, _)| *at == inode).map(|(_, l)| *l).collect());
        self.queue.wait((SessionId(session), number), lock, self.now, &locks).unwrap()
    }

    fn look(&mut self, inode: InodeId) -> Vec<u64> {
        let held = &self.held;
        let locks = |inode: InodeId| Ok(held.borrow().iter().filter(|(at, _)| *at == inode).map(|(_, l)| *l).collect());
        let woken = self.queue.look(inode, self.now, &locks).unwrap();
        woken.into_iter().map(|(session, _)| session.0).collect()
    }
}

#[test]
fn who_came_first_goes_first_and_others_wait_for_their_turn() {
    let mut desk = Desk::default();
    let write = |owner| lock(FILE, owner, (0, 9), true);
    desk.hold(1, &write(1));
    assert_eq!(desk.wait(2, 1, &write(1)), LockWait::Busy);
    assert_eq!(desk.wait(3, 1, &write(1)), LockWait::Busy);
    assert_eq!(desk.wait(4, 1, &lock(FILE, 1, (20, 29), true)), LockWait::Free, "other bytes are free");
    desk.drop_locks(1, FILE);
    assert_eq!(desk.look(FILE), [2], "one of them");
    let late = (SessionId(9), 5);
    assert!(desk.queue.is_behind(late, &write(1), desk.now), "it is another's turn");
    assert!(!desk.queue.is_behind(late, &lock(FILE, 1, (10, 19), true), desk.now), "for other bytes it is not");
    assert!(!desk.queue.is_behind((SessionId(2), 1), &write(1), desk.now), "it is its own turn");
    desk.hold(2, &write(1));
    desk.queue.leave((SessionId(2), 1));
    assert_eq!(desk.look(FILE), [0u64; 0]);
    desk.drop_locks(2, FILE);
    assert_eq!(desk.look(FILE), [3]);
}

#[test]
fn readers_go_together_and_do_not_wait_for_a_writer_that_waits() {
    let mut desk = Desk::default();
    let read = |owner| lock(FILE, owner, (0, 9), false);
    desk.hold(1, &lock(FILE, 1, (0, 9), true));
    assert_eq!(desk.wait(2, 1, &read(1)), LockWait::Busy);
    assert_eq!(desk.wait(3, 1, &lock(FILE, 1, (0, 9), true)), LockWait::Busy);
    assert_eq!(desk.wait(4, 1, &read(1)), LockWait::Busy);
    desk.drop_locks(1, FILE);
    assert_eq!(desk.look(FILE), [2, 4]);
    desk.hold(2, &read(1));
    assert!(!desk.queue.is_behind((SessionId(9), 1), &read(1), desk.now));
}

#[test]
fn who_does_not_use_its_turn_or_falls_silent_loses_its_place() {
    let mut desk = Desk::default();
    let write = lock(FILE, 1, (0, 9), true);
    desk.hold(1, &write);
    assert_eq!(desk.wait(2, 1, &write), LockWait::Busy);
    assert_eq!(desk.wait(3, 1, &write), LockWait::Busy);
    desk.drop_locks(1, FILE);
    assert_eq!(desk.look(FILE), [2]);
    desk.now += TURN;
    assert_eq!(desk.wait(3, 1, &write), LockWait::Free, "the other's turn is over");
    assert_eq!(desk.queue.len(), 1);
    desk.now += SILENCE;
    assert_eq!(desk.look(FILE), [0u64; 0]);
    assert!(desk.queue.is_empty());
}

#[test]
fn a_circle_of_posix_owners_is_a_deadlock_and_a_chain_is_none() {
    let mut desk = Desk::default();
    let here = |owner| lock(FILE, owner, (0, 0), true);
    let there = |owner| lock(OTHER_FILE, owner, (5, 5), true);
    let third = |owner| lock(FILE, owner, (9, 9), true);
    desk.hold(1, &here(10));
    desk.hold(2, &there(20));
    desk.hold(3, &third(30));
    assert_eq!(desk.wait(1, 1, &there(10)), LockWait::Busy, "1 waits for 2");
    assert_eq!(desk.wait(2, 1, &third(20)), LockWait::Busy, "2 waits for 3");
    assert_eq!(desk.wait(3, 1, &here(31)), LockWait::Busy, "another owner of 3 is in no circle");
    assert_eq!(desk.wait(3, 2, &here(30)), LockWait::Deadlock, "3 waits for 1");
    assert_eq!(desk.queue.len(), 3, "who is told of a deadlock waits no more");
    let mut ofd = here(30);
    ofd.owner.kind = LockKind::Ofd;
    assert_eq!(desk.wait(3, 4, &ofd), LockWait::Busy, "only POSIX locks are looked at");
}

#[test]
fn waits_of_a_session_are_bounded_and_end_with_it() {
    let mut desk = Desk::default();
    desk.hold(1, &lock(FILE, 1, (0, 9), true));
    for number in 1..=MAX_LOCK_WAITS_PER_SESSION as u64 {
        assert_eq!(desk.wait(2, number, &lock(FILE, number, (0, 9), true)), LockWait::Busy);
    }
    assert_eq!(desk.wait(2, 1, &lock(FILE, 1, (0, 9), true)), LockWait::Busy, "a repeated one is none more");
    assert_eq!(desk.wait(2, u64::MAX, &lock(FILE, 1, (0, 9), true)), LockWait::TooMany);
    assert_eq!(desk.wait(3, 1, &lock(FILE, 1, (0, 9), true)), LockWait::Busy, "another session has its own bound");
    desk.now += SECOND;
    desk.queue.end_session(SessionId(2));
    assert_eq!((desk.queue.len(), desk.queue.files()), (1, vec![FILE]));
}
