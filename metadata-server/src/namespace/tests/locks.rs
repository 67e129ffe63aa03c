//! Locks in the state machine: against a model that keeps every byte by itself, and what ends them.

use std::collections::BTreeMap;

use cairn_common::ids::{InodeId, SessionEpoch, SessionId, SlotId};
use cairn_common::protocol::FsError;
use cairn_common::protocol::locks::{LockKind, LockOwner, LockRange, LockRequest};
use cairn_common::protocol::metadata::{Mutation, MutationResult, NewNode, OpenMode, Query, QueryResult, Stamp};
use proptest::prelude::*;

use super::machine::Machine;
use crate::namespace::command::{Action, Outcome};
use crate::namespace::keys;
use crate::namespace::locks::held;
use crate::namespace::records::{self, Number};

const BYTES: u64 = 12;
const KINDS: [LockKind; 4] = [LockKind::Posix, LockKind::Ofd, LockKind::Flock, LockKind::Unseen];
const REFUSED: Result<MutationResult, FsError> = Ok(MutationResult::LockRefused);
const DONE: Result<MutationResult, FsError> = Ok(MutationResult::Done);

fn lock(inode: InodeId, kind: LockKind, id: u64, (start, end): (u64, u64), write: bool) -> LockRequest {
    LockRequest { inode, owner: LockOwner { kind, id }, range: LockRange { start, end }, write, pid: 9 }
}

fn set(lock: LockRequest) -> Mutation {
    Mutation::SetLock { lock, ticket: 0, behind: false }
}

fn unlock(lock: LockRequest) -> Mutation {
    Mutation::Unlock { inode: lock.inode, owners: vec![lock.owner], range: lock.range }
}

/// Two sessions and a file.
fn machine() -> (Machine, SessionId, SessionId, InodeId) {
    let mut machine = Machine::new();
    let (one, two) = (machine.open_session(), machine.open_session());
    let inode = machine.create(one, InodeId::ROOT, "f", NewNode::File, Some(OpenMode::Write)).inode;
    (machine, one, two, inode)
}

/// Who has a byte, by owner: for writing or not.
type Byte = BTreeMap<(SessionId, LockOwner), bool>;

fn may_have(byte: &Byte, session: SessionId, lock: &LockRequest) -> bool {
    byte.iter().all(|((other_session, other), write)| {
        let is_own = (*other_session, *other) == (session, lock.owner);
        // flock and fcntl do not see each other; who was not seen is in everybody's way.
        let is_flock = |kind| kind == LockKind::Flock;
        let apart = other.kind != LockKind::Unseen
            && lock.owner.kind != LockKind::Unseen
            && is_flock(other.kind) != is_flock(lock.owner.kind);
        is_own || apart || !(*write || lock.write)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn locks_are_what_every_byte_by_itself_would_be(
        steps in prop::collection::vec(
            (0..2usize, 0..4usize, 0..2u64, 0..BYTES, 0..BYTES, prop::option::weighted(0.7, any::<bool>())), 1..60
        )
    ) {
        let (mut machine, one, two, inode) = machine();
        let mut model = vec![Byte::new(); BYTES as usize];
        for (session, kind, id, a, b, write) in steps {
            let session = [one, two][session];
            let wanted = lock(inode, KINDS[kind], id, (a.min(b), a.max(b)), write.unwrap_or_default());
            let bytes = wanted.range.start as usize..=wanted.range.end as usize;
            let key = (session, wanted.owner);
            if write.is_none() {
                prop_assert_eq!(machine.mutate(session, unlock(wanted)), DONE);
                model[bytes].iter_mut().for_each(|byte| _ = byte.remove(&key));
            } else {
                let free = model[bytes.clone()].iter().all(|byte| may_have(byte, session, &wanted));
                let asked = machine.ask(Query::LockInTheWay { session, lock: wanted }).unwrap();
                let QueryResult::Lock(in_the_way) = asked else { panic!("{asked:?}") };
                prop_assert_eq!(in_the_way.is_none(), free);
                prop_assert_eq!(machine.mutate(session, set(wanted)), if free { DONE } else { REFUSED });
                if free {
                    model[bytes].iter_mut().for_each(|byte| _ = byte.insert(key, wanted.write));
                } else if wanted.owner.kind == LockKind::Flock {
                    model.iter_mut().for_each(|byte| _ = byte.remove(&key));
                }
            }
            let mut found = vec![Byte::new(); BYTES as usize];
            for held in held(&machine.base, inode).unwrap() {
                for byte in held.range.start..=held.range.end {
                    let twice = found[byte as usize].insert((held.session, held.owner), held.write);
                    prop_assert!(twice.is_none(), "an owner has byte {} twice", byte);
                }
            }
            prop_assert_eq!(&found, &model);
        }
        machine.check();
        machine.act(Action::EndSession { session: one });
        prop_assert!(held(&machine.base, inode).unwrap().iter().all(|held| held.session == two));
        machine.check();
    }
}

#[test]
fn a_retried_lock_is_taken_once_and_its_refusal_is_remembered() {
    let (mut machine, one, two, inode) = machine();
    let wanted = lock(inode, LockKind::Posix, 1, (0, 9), true);
    let stamp = |session, sequence| Stamp { session, epoch: SessionEpoch(1), slot: SlotId(2), sequence };
    let outcome = |result: &Result<MutationResult, FsError>, remembered| Outcome::Mutated {
        result: result.clone(),
        changed: Vec::new(),
        remembered,
    };
    assert_eq!(machine.change(stamp(one, 1), set(wanted)), outcome(&DONE, false));
    assert_eq!(machine.change(stamp(two, 1), set(wanted)), outcome(&REFUSED, false));
    assert_eq!(machine.change(stamp(one, 2), unlock(wanted)), outcome(&DONE, false));
    assert_eq!(machine.change(stamp(two, 1), set(wanted)), outcome(&REFUSED, true), "a refusal does not turn");
    assert_eq!(machine.change(stamp(two, 2), set(wanted)), outcome(&DONE, false));
    assert_eq!(machine.change(stamp(one, 2), unlock(wanted)), outcome(&DONE, true));
    assert_eq!(held(&machine.base, inode).unwrap().len(), 1, "a late unlock takes nothing from others");
    assert_eq!(machine.change(stamp(two, 2), set(wanted)), outcome(&DONE, true));
    machine.check();
}

#[test]
fn the_end_of_a_session_frees_its_locks_in_the_same_step() {
    let (mut machine, one, two, inode) = machine();
    let other = machine.create(one, InodeId::ROOT, "g", NewNode::File, None).inode;
    for file in [inode, other] {
        for (number, kind) in KINDS.into_iter().enumerate() {
            let place = 20 * number as u64;
            assert_eq!(machine.mutate(one, set(lock(file, kind, 1, (place, place + 9), true))), DONE);
        }
    }
    let whole = LockRange { start: 0, end: 200 };
    let wanted = LockRequest { range: whole, ..lock(inode, LockKind::Unseen, 1, (0, 0), true) };
    assert_eq!(machine.mutate(two, set(wanted)), REFUSED);
    machine.act(Action::EndSession { session: one });
    assert_eq!(machine.mutate(two, set(wanted)), DONE);
    assert!(held(&machine.base, other).unwrap().is_empty());
    machine.check();
    let stamp = Stamp { session: one, epoch: SessionEpoch(1), slot: SlotId(0), sequence: 99 };
    assert_eq!(machine.change(stamp, set(wanted)), Outcome::Fenced, "an ended session locks nothing");
}

#[test]
fn who_came_later_is_refused_when_the_leader_says_so() {
    let (mut machine, one, _, inode) = machine();
    let wanted = lock(inode, LockKind::Posix, 1, (0, 9), false);
    let behind = |lock| Mutation::SetLock { lock, ticket: 3, behind: true };
    assert_eq!(machine.mutate(one, behind(wanted)), REFUSED);
    assert_eq!(machine.mutate(one, set(wanted)), DONE);
    assert_eq!(machine.mutate(one, behind(wanted)), DONE, "it has it already");
}

#[test]
fn a_flock_that_cannot_be_converted_is_lost_and_a_posix_lock_is_not() {
    let (mut machine, one, two, inode) = machine();
    for (kind, left) in [(LockKind::Flock, 1), (LockKind::Posix, 2)] {
        let whole = (0, LockRange::LAST);
        for session in [one, two] {
            assert_eq!(machine.mutate(session, set(lock(inode, kind, 5, whole, false))), DONE);
        }
        assert_eq!(machine.mutate(one, set(lock(inode, kind, 5, whole, true))), REFUSED);
        assert_eq!(held(&machine.base, inode).unwrap().len(), left, "{kind:?}");
        for session in [one, two] {
            machine.mutate(session, unlock(lock(inode, kind, 5, whole, true))).unwrap();
        }
    }
    machine.check();
}

#[test]
fn locks_need_a_file_a_range_and_room() {
    let (mut machine, one, _, inode) = machine();
    let good = lock(inode, LockKind::Posix, 1, (0, 9), true);
    for (start, end) in [(5, 4), (0, LockRange::LAST + 1), (u64::MAX, u64::MAX)] {
        let bad = LockRequest { range: LockRange { start, end }, ..good };
        assert_eq!(machine.mutate(one, set(bad)), Err(FsError::Invalid));
        assert_eq!(machine.mutate(one, unlock(bad)), Err(FsError::Invalid));
    }
    let gone = LockRequest { inode: InodeId(999), ..good };
    assert_eq!(machine.mutate(one, set(gone)), Err(FsError::Stale));
    assert_eq!(machine.mutate(one, unlock(gone)), DONE);
    let directory = LockRequest { inode: InodeId::ROOT, ..good };
    assert_eq!(machine.mutate(one, set(directory)), Err(FsError::IsDirectory));
    assert_eq!(machine.mutate(one, set(good)), DONE);
    let full = Number(cairn_common::limits::MAX_LOCKS_PER_SESSION);
    let count = (keys::lock_count(one).into(), Some(records::encode(&full).into()));
    machine.base.take_in(BTreeMap::from([count]));
    let more = lock(inode, LockKind::Posix, 1, (20, 29), true);
    assert_eq!(machine.mutate(one, set(more)), Err(FsError::NoLocks));
    assert_eq!(machine.mutate(one, set(LockRequest { write: false, ..good })), DONE, "no lock more");
    assert_eq!(machine.mutate(one, unlock(lock(inode, LockKind::Posix, 1, (4, 5), true))), DONE, "never refused");
}
