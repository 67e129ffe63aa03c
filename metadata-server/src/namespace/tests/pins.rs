//! What `apply` refuses because the leader has not recalled it: the last line of the lease rules.

use cairn_common::ids::{InodeId, SessionEpoch, SessionId, SlotId};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{
    AttributeChanges, Mutation, MutationResult, NewNode, OpenMode, RenameMode, Stamp,
};

use super::machine::{Machine, named};
use crate::namespace::cluster;
use crate::namespace::command::{Action, Outcome};
use crate::namespace::plan::{Touch, plan};

const ROOT: InodeId = InodeId::ROOT;

struct Two {
    machine: Machine,
    one: SessionId,
    two: SessionId,
    sequence: u64,
}

impl Two {
    fn new() -> Self {
        let mut machine = Machine::new();
        let (one, two) = (machine.open_session(), machine.open_session());
        Self { machine, one, two, sequence: 0 }
    }

    fn file(&mut self, name: &str) -> InodeId {
        self.machine.create(self.one, ROOT, name, NewNode::File, None).inode
    }

    /// A change of the second session in slot 1 with these pins. A refused one leaves nothing behind.
    fn apply(&mut self, mutation: &Mutation, pinned: &[InodeId], keep_open: Option<&[SessionId]>) -> Outcome {
        let sequence = self.sequence + 1;
        let stamp = Stamp { session: self.two, epoch: SessionEpoch(1), slot: SlotId(1), sequence };
        let before = self.machine.base.clone();
        let keep_open = keep_open.map(<[_]>::to_vec);
        let outcome =
            self.machine.act(Action::Mutate { stamp, mutation: mutation.clone(), pinned: pinned.to_vec(), keep_open });
        match &outcome {
            Outcome::NotPinned { .. } => assert!(self.machine.base == before, "a refused change leaves nothing behind"),
            _ => self.sequence = sequence,
        }
        self.machine.check();
        outcome
    }

    fn open_exclusively(&mut self, session: SessionId, inode: InodeId) -> bool {
        let open = Mutation::Open { inode, mode: OpenMode::Write, exclusive_lease: true };
        match self.machine.mutate(session, open).unwrap() {
            MutationResult::Opened { exclusive, .. } => exclusive,
            other => panic!("{other:?}"),
        }
    }

    fn holder(&self, inode: InodeId) -> Option<SessionId> {
        cluster::exclusive_holder(&self.machine.base, inode).unwrap()
    }
}

fn refused(inodes: &[InodeId]) -> Outcome {
    Outcome::NotPinned { inodes: inodes.to_vec() }
}

fn is_made(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Mutated { result: Ok(_), .. })
}

fn chmod(inode: InodeId) -> Mutation {
    Mutation::SetAttributes { inode, changes: AttributeChanges { mode: Some(0o600), ..Default::default() } }
}

fn unlink(name: &str) -> Mutation {
    Mutation::Unlink { parent: ROOT, name: named(name) }
}

#[test]
fn every_inode_that_was_there_and_changes_must_be_pinned() {
    let mut two = Two::new();
    let (a, b) = (two.file("a"), two.file("b"));
    assert_eq!(two.apply(&chmod(a), &[b, ROOT], None), refused(&[a]));
    let rename = Mutation::Rename {
        parent: ROOT,
        name: named("a"),
        new_parent: ROOT,
        new_name: named("b"),
        mode: RenameMode::Replace,
    };
    assert_eq!(two.apply(&rename, &[], Some(&[])), refused(&[ROOT, a, b]));
    assert_eq!(two.apply(&rename, &[ROOT, a], Some(&[])), refused(&[b]));
    assert!(is_made(&two.apply(&rename, &[ROOT, a, b], Some(&[]))));
    let create = Mutation::Create {
        parent: ROOT,
        name: named("c"),
        node: NewNode::File,
        mode: 0o600,
        umask: 0,
        uid: 0,
        gid: 0,
        exclusive: true,
        open: Some(OpenMode::Write),
        exclusive_lease: true,
    };
    assert_eq!(two.apply(&create, &[], None), refused(&[ROOT]));
    let Outcome::Mutated { result: Ok(MutationResult::Node { attributes, exclusive: true, .. }), changed, .. } =
        two.apply(&create, &[ROOT], None)
    else {
        panic!("what is new needs no pin")
    };
    assert_eq!(changed, [ROOT, attributes.inode]);
}

#[test]
fn a_change_that_fails_needs_no_pin() {
    let mut two = Two::new();
    let failed = Outcome::Mutated { result: Err(FsError::NotFound), changed: Vec::new(), remembered: false };
    assert_eq!(two.apply(&unlink("a"), &[], None), failed);
}

#[test]
fn the_last_name_goes_only_after_everybody_was_asked() {
    let mut two = Two::new();
    let a = two.file("a");
    let pins = [ROOT, a];
    let link = Mutation::Link { inode: a, parent: ROOT, name: named("b") };
    assert!(is_made(&two.apply(&link, &pins, None)));
    let touch = |last_name| Touch { inode: a, change: true, take: false, last_name, exclusive: None };
    assert!(plan(&two.machine.base, &unlink("a")).unwrap().contains(&touch(false)));
    assert!(is_made(&two.apply(&unlink("a"), &pins, None)), "another name is left");
    assert!(plan(&two.machine.base, &unlink("b")).unwrap().contains(&touch(true)));
    assert_eq!(two.apply(&unlink("b"), &pins, None), refused(&[a]));
    let (one, gone) = (two.one, SessionId(77));
    assert!(is_made(&two.apply(&unlink("b"), &pins, Some(&[one, gone]))));
    assert_eq!(two.machine.attributes(a).unwrap().links, 0, "who said so keeps it open");
    two.machine.mutate(one, Mutation::Release { opens: vec![(a, OpenMode::Read)] }).unwrap();
    assert_eq!(two.machine.attributes(a), Err(FsError::Stale));
}

#[test]
fn what_another_session_holds_exclusively_is_neither_changed_nor_told_about() {
    let mut two = Two::new();
    let (a, one, session) = (two.file("a"), two.one, two.two);
    assert!(two.open_exclusively(one, a));
    assert_eq!(two.apply(&chmod(a), &[a], None), refused(&[a]));
    let open = |exclusive_lease| Mutation::Open { inode: a, mode: OpenMode::Write, exclusive_lease };
    assert_eq!(two.apply(&open(false), &[a], None), refused(&[a]), "the answer would show its size");
    assert_eq!(two.apply(&open(true), &[a], None), refused(&[a]));
    two.machine.mutate(one, Mutation::GiveUpExclusive { inodes: vec![a] }).unwrap();
    assert_eq!(two.holder(a), None);
    assert!(is_made(&two.apply(&open(false), &[], None)), "to show what nobody holds needs no pin");
    assert!(is_made(&two.apply(&open(true), &[], None)));
    assert_eq!(two.holder(a), None, "to take it does");
    assert!(is_made(&two.apply(&open(true), &[a], None)));
    assert_eq!(two.holder(a), Some(session));
}

#[test]
fn an_exclusive_lease_needs_an_open_for_writing_and_ends_with_it() {
    let mut two = Two::new();
    let (a, session) = (two.file("a"), two.two);
    let acquire = Mutation::AcquireExclusive { inode: a };
    let stale = Outcome::Mutated { result: Err(FsError::Stale), changed: Vec::new(), remembered: false };
    assert_eq!(two.apply(&acquire, &[a], None), stale);
    let open = Mutation::Open { inode: a, mode: OpenMode::Read, exclusive_lease: true };
    assert!(is_made(&two.apply(&open, &[a], None)));
    assert_eq!(two.holder(a), None);
    assert_eq!(two.apply(&acquire, &[a], None), stale, "it has the file open for reading only");
    two.open_exclusively(session, a);
    two.open_exclusively(session, a);
    let release = Mutation::Release { opens: vec![(a, OpenMode::Write)] };
    two.machine.mutate(session, release.clone()).unwrap();
    assert_eq!(two.holder(a), Some(session), "one is left");
    two.machine.mutate(session, release).unwrap();
    assert_eq!(two.holder(a), None);
    two.open_exclusively(session, a);
    assert_eq!(cluster::held_exclusively(&two.machine.base, session, 9).unwrap(), [a]);
    two.machine.act(Action::EndSession { session });
    assert_eq!(two.holder(a), None);
    two.machine.check();
}

#[test]
fn what_gives_back_needs_no_pins() {
    let mut two = Two::new();
    let (a, session) = (two.file("a"), two.two);
    two.open_exclusively(session, a);
    two.machine.mutate(session, unlink("a")).unwrap();
    let give_up = Mutation::GiveUpExclusive { inodes: vec![a, ROOT, InodeId(99)] };
    assert!(is_made(&two.apply(&give_up, &[], None)));
    let release = Mutation::Release { opens: vec![(a, OpenMode::Write)] };
    assert!(is_made(&two.apply(&release, &[], None)));
    assert_eq!(two.machine.attributes(a), Err(FsError::Stale));
}
