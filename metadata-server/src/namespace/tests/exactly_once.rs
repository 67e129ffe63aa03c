//! Slots and sessions: a change happens once however often it is sent, and a session that was ended
//! changes nothing.

use cairn_common::ids::{InodeId, SessionEpoch, SlotId};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Mutation, MutationResult, NewNode, OpenMode, Query, Stamp};

use super::machine::{Machine, named, writers_of};
use crate::namespace::cluster;
use crate::namespace::command::{Action, Outcome};

fn unlink(name: &str) -> Mutation {
    Mutation::Unlink { parent: InodeId::ROOT, name: named(name) }
}

#[test]
fn a_retry_gets_the_first_outcome_even_when_the_state_has_moved_on() {
    let mut machine = Machine::new();
    let session = machine.open_session();
    let other = machine.open_session();
    let inode = machine.create(other, InodeId::ROOT, "a", NewNode::File, None).inode;
    let stamp = Stamp { session, epoch: SessionEpoch(1), slot: SlotId(3), sequence: 1 };
    let first = machine.change(stamp, unlink("a"));
    let outcome = |remembered| {
        let changed = vec![InodeId::ROOT, inode];
        Outcome::Mutated { result: Ok(MutationResult::Done), changed, remembered }
    };
    assert_eq!(first, outcome(false));
    machine.create(other, InodeId::ROOT, "a", NewNode::File, None);
    assert_eq!(machine.change(stamp, unlink("a")), outcome(true));
    let lookup = Query::Lookup { parent: InodeId::ROOT, name: named("a") };
    assert!(machine.ask(lookup).is_ok(), "the retry did not remove the new file");
    machine.check();
}

#[test]
fn an_error_is_remembered_too_and_uses_its_sequence_up() {
    let mut machine = Machine::new();
    let session = machine.open_session();
    let stamp = |sequence| Stamp { session, epoch: SessionEpoch(1), slot: SlotId(0), sequence };
    let missing = |remembered| Outcome::Mutated { result: Err(FsError::NotFound), changed: Vec::new(), remembered };
    assert_eq!(machine.change(stamp(1), unlink("a")), missing(false));
    let other = machine.open_session();
    let inode = machine.create(other, InodeId::ROOT, "a", NewNode::File, None).inode;
    assert_eq!(machine.change(stamp(1), unlink("a")), missing(true));
    let changed = vec![InodeId::ROOT, inode];
    let done = Outcome::Mutated { result: Ok(MutationResult::Done), changed, remembered: false };
    assert_eq!(machine.change(stamp(2), unlink("a")), done);
}

#[test]
fn sequences_slots_and_epochs_are_checked() {
    let mut machine = Machine::new();
    let session = machine.open_session();
    let before = machine.base.clone();
    let epoch = SessionEpoch(1);
    for (slot, sequence) in [(0, 0), (0, 2), (4, 1), (u16::MAX, 1), (0, u64::MAX)] {
        let stamp = Stamp { session, epoch, slot: SlotId(slot), sequence };
        let outcome = machine.change(stamp, unlink("a"));
        assert_eq!(outcome, Outcome::BadSequence, "slot {slot}, sequence {sequence}");
    }
    for epoch in [SessionEpoch(0), SessionEpoch(2)] {
        let stamp = Stamp { session, epoch, slot: SlotId(0), sequence: 1 };
        assert_eq!(machine.change(stamp, unlink("a")), Outcome::Fenced);
    }
    assert!(machine.base == before, "nothing changed");
}

#[test]
fn a_session_that_ends_lets_go_of_all_it_had() {
    let mut machine = Machine::new();
    let (one, two) = (machine.open_session(), machine.open_session());
    let kept = machine.create(one, InodeId::ROOT, "a", NewNode::File, Some(OpenMode::Write)).inode;
    let shared = machine.create(one, InodeId::ROOT, "b", NewNode::File, Some(OpenMode::Read)).inode;
    machine.mutate(two, Mutation::Open { inode: shared, mode: OpenMode::Read, exclusive_lease: false }).unwrap();
    machine.mutate(two, unlink("a")).unwrap();
    machine.mutate(two, unlink("b")).unwrap();
    assert_eq!(machine.attributes(kept).unwrap().links, 0, "an open file stays without a name");
    assert_eq!(writers_of(&machine.base, kept), [one]);
    assert_eq!(cluster::open_files(&machine.base, one).unwrap(), 2);
    assert_eq!(machine.act(Action::EndSession { session: one }), Outcome::Done);
    assert_eq!(machine.attributes(kept), Err(FsError::Stale));
    assert_eq!(machine.attributes(shared).unwrap().links, 0, "the other session has it open");
    assert_eq!(cluster::session(&machine.base, one).unwrap(), None);
    let stamp = Stamp { session: one, epoch: SessionEpoch(1), slot: SlotId(1), sequence: 1 };
    assert_eq!(machine.change(stamp, unlink("c")), Outcome::Fenced);
    assert_eq!(machine.act(Action::EndSession { session: one }), Outcome::Done, "ending twice is fine");
    machine.mutate(two, Mutation::Release { opens: vec![(shared, OpenMode::Read)] }).unwrap();
    assert_eq!(machine.attributes(shared), Err(FsError::Stale));
    let sessions = cluster::sessions(&machine.base).unwrap();
    assert_eq!(sessions.iter().map(|s| s.session).collect::<Vec<_>>(), [two]);
    machine.check();
}

#[test]
fn opens_are_counted() {
    let mut machine = Machine::new();
    let session = machine.open_session();
    let inode = machine.create(session, InodeId::ROOT, "a", NewNode::File, Some(OpenMode::Write)).inode;
    machine.mutate(session, Mutation::Open { inode, mode: OpenMode::Write, exclusive_lease: false }).unwrap();
    machine.mutate(session, Mutation::Open { inode, mode: OpenMode::Read, exclusive_lease: false }).unwrap();
    machine.mutate(session, unlink("a")).unwrap();
    let release = |opens: &[OpenMode]| Mutation::Release { opens: opens.iter().map(|mode| (inode, *mode)).collect() };
    machine.mutate(session, release(&[OpenMode::Write])).unwrap();
    assert_eq!(writers_of(&machine.base, inode), [session]);
    machine.mutate(session, release(&[OpenMode::Write, OpenMode::Write])).unwrap();
    assert!(writers_of(&machine.base, inode).is_empty());
    assert!(machine.attributes(inode).is_ok(), "a reader has it still");
    machine.mutate(session, release(&[OpenMode::Read])).unwrap();
    assert_eq!(machine.attributes(inode), Err(FsError::Stale));
    machine.check();
}
