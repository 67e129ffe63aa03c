//! Random commands against the reference model: every outcome, and again and again everything that
//! can be asked, is the same; the state holds together; and the bytes do not depend on how the
//! commands were gathered into entries. `CAIRN_CASES` sets the number of runs.

use std::collections::BTreeMap;

use cairn_common::clock::Timestamp;
use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::{ClusterId, DataVersion, InodeId, RequestId, SessionEpoch, SessionId, SlotId};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{
    Attributes, DirectoryEntry, Mutation, MutationResult, NodeKind, Query, QueryResult, Stamp,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};

use super::machine::{Base, writers_of};
use super::model::{Answer, Model};
use super::random_steps::{Step, resolve, step};
use crate::namespace::command::{Action, Command, Outcome};
use crate::namespace::plan::plan;
use crate::namespace::{answer, apply_within, cluster, invariants};
use crate::storage::{ReadView, Transaction};

const SLOTS: u16 = 4;
/// Steps between two comparisons of everything.
const COMPARE_EVERY: usize = 16;

/// A change without pins.
fn bare(stamp: Stamp, mutation: Mutation) -> Action {
    Action::Mutate { stamp, mutation, pinned: Vec::new(), keep_open: None }
}

/// Both sides of the comparison, and what slots last did.
struct Run {
    model: Model,
    clock: i64,
    sessions: Vec<SessionId>,
    ended: Vec<SessionId>,
    slots: BTreeMap<(SessionId, SlotId), (Stamp, Mutation, Outcome)>,
    max_removals: usize,
    /// All commands so far, to apply them once more.
    commands: Vec<Command>,
}

impl Run {
    fn new(max_removals: usize) -> Self {
        let start = Timestamp { seconds: 1000, nanos: 0 };
        Self {
            model: Model::new(start),
            clock: start.seconds - 1,
            sessions: Vec::new(),
            ended: Vec::new(),
            slots: BTreeMap::new(),
            max_removals,
            commands: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp { seconds: self.clock, nanos: 0 }
    }

    fn apply(&mut self, tx: &mut Transaction<'_>, action: Action) -> Outcome {
        self.clock += 1;
        let command = Command { time: self.now(), request: RequestId(3), action };
        let outcome = apply_within(tx, &command, self.max_removals).unwrap();
        self.commands.push(command);
        outcome
    }

    fn open_session(&mut self, tx: &mut Transaction<'_>) {
        let outcome = self.apply(tx, Action::OpenSession { client: "c".into(), slots: SLOTS });
        let Outcome::Session { session, .. } = outcome else { panic!("{outcome:?}") };
        self.sessions.push(session);
    }

    /// A session that is there, or now and then one that has ended.
    fn session(&self, pick: u8) -> SessionId {
        let all: Vec<_> = self.sessions.iter().chain(self.ended.last()).copied().collect();
        all[usize::from(pick) % all.len()]
    }

    fn step(&mut self, tx: &mut Transaction<'_>, step: &Step) {
        match step {
            Step::Change { session, slot, change } => {
                let session = self.session(*session);
                let now = self.now();
                let mutation = resolve(change, &mut self.model, now);
                self.change(tx, session, SlotId(u16::from(*slot)), mutation);
            }
            Step::Retry { session, slot } => {
                let key = (self.session(*session), SlotId(u16::from(*slot)));
                let Some((stamp, mutation, outcome)) = self.slots.get(&key).cloned() else { return };
                let expected = match outcome {
                    _ if !self.sessions.contains(&key.0) => Outcome::Fenced,
                    Outcome::Mutated { result, changed, .. } => Outcome::Mutated { result, changed, remembered: true },
                    other => other,
                };
                assert_eq!(self.apply(tx, bare(stamp, mutation)), expected, "a retry is remembered");
            }
            Step::WrongSequence { session, slot, ahead } => {
                let session = self.session(*session);
                let mut stamp = self.next_stamp(session, SlotId(u16::from(*slot)));
                stamp.sequence += u64::from(*ahead) - 1;
                let fenced = !self.sessions.contains(&session);
                let mutation = Mutation::Release { opens: Vec::new() };
                let expected = if fenced { Outcome::Fenced } else { Outcome::BadSequence };
                assert_eq!(self.apply(tx, bare(stamp, mutation.clone())), expected);
                stamp = Stamp { epoch: SessionEpoch(0), ..self.next_stamp(session, SlotId(0)) };
                assert_eq!(self.apply(tx, bare(stamp, mutation)), Outcome::Fenced, "an old epoch");
            }
            Step::OpenSession => self.open_session(tx),
            Step::EndSession { session } => {
                let session = self.session(*session);
                assert_eq!(self.apply(tx, Action::EndSession { session }), Outcome::Done);
                self.model.end_session(session);
                self.sessions.retain(|s| *s != session);
                self.ended.push(session);
                if self.sessions.is_empty() {
                    self.open_session(tx);
                }
            }
            Step::CollectGarbage { limit } => {
                let limit = u32::from(*limit);
                assert_eq!(self.apply(tx, Action::CollectGarbage { limit }), Outcome::Done);
            }
            Step::EndEntry => {}
        }
    }

    fn next_stamp(&self, session: SessionId, slot: SlotId) -> Stamp {
        let sequence = self.slots.get(&(session, slot)).map_or(0, |(stamp, ..)| stamp.sequence) + 1;
        Stamp { session, epoch: SessionEpoch(1), slot, sequence }
    }

    fn change(&mut self, tx: &mut Transaction<'_>, session: SessionId, slot: SlotId, mutation: Mutation) {
        let stamp = self.next_stamp(session, slot);
        if !self.sessions.contains(&session) {
            assert_eq!(self.apply(tx, bare(stamp, mutation)), Outcome::Fenced);
            return;
        }
        let (outcome, openers) = self.pinned(tx, stamp, &mutation);
        let Outcome::Mutated { result: answer, changed, .. } = outcome.clone() else {
            panic!("{mutation:?}: {outcome:?}")
        };
        let before: BTreeMap<u64, Attributes> =
            self.model.nodes.keys().map(|id| (*id, self.model.attributes(*id))).collect();
        let expected = self.model.mutate(session, self.now(), &mutation, &openers);
        for (id, attributes) in before {
            let now = self.model.nodes.contains_key(&id).then(|| self.model.attributes(id));
            // Nobody has to hear of reads.
            let told = now.map(|now| match &mutation {
                Mutation::Accessed { .. } => Attributes { atime: attributes.atime, ..now },
                _ => now,
            });
            let same = told == Some(attributes);
            assert!(same || changed.contains(&InodeId(id)), "{mutation:?} changes {id} and tells of {changed:?}");
        }
        let exact = !cluster::has_garbage(tx).unwrap();
        assert_eq!(comparable(&answer, exact), comparable(&expected, exact), "{mutation:?}");
        if let Ok(MutationResult::Opened { attributes, extents, .. }) = &answer {
            check_opened(tx, attributes.inode, extents.as_ref());
        }
        self.slots.insert((session, slot), (stamp, mutation, outcome));
    }

    /// Applies a change as a leader does: first, now and then, without pins, which must be refused if it
    /// changes what was there; then with those of the plan, after others have given up what they hold
    /// exclusively. Answers who was said to have the file open whose last name goes, too.
    fn pinned(&mut self, tx: &mut Transaction<'_>, stamp: Stamp, mutation: &Mutation) -> (Outcome, Vec<SessionId>) {
        let last = self.model.last_inode;
        let asks = plan(tx, mutation).unwrap().iter().any(|touch| touch.take);
        if self.clock % 4 == 0 && !asks {
            match self.apply(tx, bare(stamp, mutation.clone())) {
                Outcome::NotPinned { .. } => {}
                outcome => {
                    let Outcome::Mutated { changed, .. } = &outcome else { panic!("{mutation:?}: {outcome:?}") };
                    let needs_none = matches!(mutation, Mutation::Release { .. });
                    assert!(needs_none || changed.iter().all(|id| id.0 > last), "{mutation:?} changed {changed:?}");
                    return (outcome, Vec::new());
                }
            }
        }
        let plan = plan(tx, mutation).unwrap();
        let openers: Vec<SessionId> =
            self.sessions.iter().filter(|s| (s.0 + self.clock as u64).is_multiple_of(3)).copied().collect();
        let keep_open = plan.iter().any(|touch| touch.last_name).then(|| openers.clone());
        let pinned = plan.iter().filter(|touch| touch.change || touch.take).map(|touch| touch.inode).collect();
        let action = Action::Mutate { stamp, mutation: mutation.clone(), pinned, keep_open };
        let refused = match self.apply(tx, action.clone()) {
            Outcome::NotPinned { inodes } => inodes,
            outcome => return (outcome, openers),
        };
        for inode in refused {
            let holder = SessionId(self.model.exclusive[&inode.0]);
            assert_ne!(holder, stamp.session, "{mutation:?} is refused because of the sender's own lease");
            let given = Mutation::GiveUpExclusive { inodes: vec![inode] };
            self.change(tx, holder, SlotId(SLOTS - 1), given);
        }
        (self.apply(tx, action), openers)
    }

    /// Everything that can be asked.
    fn compare(&self, view: &dyn ReadView) {
        let exact = !cluster::has_garbage(view).unwrap();
        for id in 1..=self.model.last_inode + 1 {
            let inode = InodeId(id);
            let asked = answer(view, &Query::Attributes { inode }).unwrap();
            let Some(node) = self.model.nodes.get(&id) else {
                assert_eq!(asked, Err(FsError::Stale), "inode {id} is gone");
                continue;
            };
            let attributes = self.model.attributes(id);
            let Ok(QueryResult::Attributes(found)) = asked else { panic!("inode {id}: {asked:?}") };
            assert_eq!(same(found, exact), same(attributes, exact));
            match node.kind {
                NodeKind::File => self.compare_file(view, id),
                NodeKind::Directory => self.compare_directory(view, id, exact),
                NodeKind::Symlink => {
                    let target = answer(view, &Query::ReadLink { inode }).unwrap();
                    assert_eq!(target, Ok(QueryResult::Bytes(node.target.clone())));
                }
                _ => assert_eq!(answer(view, &Query::ReadLink { inode }).unwrap(), Err(FsError::Invalid)),
            }
            let Ok(QueryResult::Names(names)) = answer(view, &Query::Xattrs { inode }).unwrap() else { panic!() };
            assert_eq!(names, node.xattrs.keys().cloned().collect::<Vec<_>>());
            for (name, value) in &node.xattrs {
                let query = Query::Xattr { inode, name: name.clone().into() };
                assert_eq!(answer(view, &query).unwrap(), Ok(QueryResult::Bytes(value.clone())));
            }
        }
        let Ok(QueryResult::Statfs(statfs)) = answer(view, &Query::Statfs).unwrap() else { panic!() };
        assert_eq!(statfs.inodes, self.model.nodes.len() as u64);
        for session in &self.sessions {
            let opens = self.model.opens.keys().filter(|(_, holder)| *holder == session.0).count();
            assert_eq!(cluster::open_files(view, *session).unwrap(), opens as u64);
        }
    }

    fn compare_file(&self, view: &dyn ReadView, id: u64) {
        let (extents, size) = extents(view, InodeId(id), (0, u64::MAX));
        let bytes = &self.model.nodes[&id].bytes;
        assert_eq!(size, bytes.len() as u64);
        let mut found = vec![None; bytes.len()];
        let mut behind = 0;
        for extent in &extents {
            assert!(extent.offset >= behind, "extents of {id} overlap or are out of order");
            behind = extent.end();
            for at in 0..extent.length {
                let byte = match &extent.content {
                    ExtentContent::Inline(bytes) => bytes[at as usize],
                    ExtentContent::Unwritten => 0,
                    ExtentContent::Block(reference) => {
                        self.model.blocks[&reference.block][reference.block_offset as usize + at as usize]
                    }
                };
                found[(extent.offset + at) as usize] = Some(byte);
            }
        }
        assert_eq!(&found, bytes, "bytes of inode {id}");
        let part = (size / 3, size / 3 * 2);
        let touching: Vec<_> = extents.into_iter().filter(|e| e.offset < part.1 && e.end() > part.0).collect();
        assert_eq!(self::extents(view, InodeId(id), part).0, touching);
        let exclusive = cluster::exclusive_holder(view, InodeId(id)).unwrap();
        assert_eq!(exclusive.map(|session| session.0), self.model.exclusive.get(&id).copied());
        let writers: Vec<_> = writers_of(view, InodeId(id)).iter().map(|s| s.0).collect();
        let opens = self.model.opens.iter().filter(|((inode, _), counts)| *inode == id && counts.1 > 0);
        assert_eq!(writers, opens.map(|((_, session), _)| *session).collect::<Vec<_>>());
    }

    fn compare_directory(&self, view: &dyn ReadView, id: u64, exact: bool) {
        let inode = InodeId(id);
        let query = Query::ReadDirectory { inode, after: 0, up_to: u64::MAX, limit: 4096, attributes: true };
        let Ok(QueryResult::Entries { entries, end, last_cookie }) = answer(view, &query).unwrap() else { panic!() };
        assert!(end);
        let node = &self.model.nodes[&id];
        assert_eq!(last_cookie, node.next_cookie - 1);
        let mut expected: Vec<_> =
            node.entries.iter().map(|(name, (id, cookie))| (*cookie, name.clone(), *id)).collect();
        expected.sort_unstable();
        let summary = |e: &DirectoryEntry| (e.cookie, e.name.as_bytes().to_vec(), e.inode.0);
        assert_eq!(entries.iter().map(summary).collect::<Vec<_>>(), expected);
        for entry in &entries {
            let attributes = same(self.model.attributes(entry.inode.0), exact);
            assert_eq!(entry.attributes.map(|found| same(found, exact)), Some(attributes));
            let lookup = answer(view, &Query::Lookup { parent: inode, name: entry.name.clone() }).unwrap();
            assert_eq!(lookup.map(|found| comparable_query(&found, exact)), Ok(Some(attributes)));
        }
        let parent = answer(view, &Query::Parent { inode }).unwrap().unwrap();
        let parent = comparable_query(&parent, exact).unwrap();
        assert_eq!(parent.inode.0, self.model.parent_of(id));
    }
}

fn comparable_query(result: &QueryResult, exact: bool) -> Option<Attributes> {
    match result {
        QueryResult::Attributes(attributes) => Some(same(*attributes, exact)),
        _ => None,
    }
}

/// Attributes as far as the model knows them: how a directory's version grows is not promised, and
/// what is allocated counts what garbage still holds.
fn same(attributes: Attributes, exact: bool) -> Attributes {
    let directory = attributes.kind == NodeKind::Directory;
    Attributes {
        data_version: if directory { DataVersion(0) } else { attributes.data_version },
        allocated: if exact { attributes.allocated } else { 0 },
        ..attributes
    }
}

fn comparable(answer: &Answer, exact: bool) -> Answer {
    let mut answer = answer.clone();
    match &mut answer {
        Ok(
            MutationResult::Attributes(attributes)
            | MutationResult::Node { attributes, .. }
            | MutationResult::Committed { attributes, .. }
            | MutationResult::Ranged { attributes, .. },
        ) => *attributes = same(*attributes, exact),
        Ok(MutationResult::Opened { attributes, extents, .. }) => {
            *attributes = same(*attributes, exact);
            *extents = None;
        }
        Ok(MutationResult::Done | MutationResult::LockRefused) | Err(_) => {}
    }
    answer
}

fn extents(view: &dyn ReadView, inode: InodeId, (from, to): (u64, u64)) -> (Vec<Extent>, u64) {
    match answer(view, &Query::Extents { inode, from, to }).unwrap() {
        Ok(QueryResult::Extents { extents, complete_to: u64::MAX, size, .. }) => (extents, size),
        other => panic!("{other:?}"),
    }
}

fn check_opened(view: &dyn ReadView, inode: InodeId, opened: Option<&Vec<Extent>>) {
    let (all, _) = extents(view, inode, (0, u64::MAX));
    let inline = |e: &Extent| if let ExtentContent::Inline(bytes) = &e.content { bytes.len() } else { 0 };
    let few = all.len() <= 16 && all.iter().map(inline).sum::<usize>() <= 4096;
    assert_eq!(opened, few.then_some(&all));
}

fn run(steps: &[Step], max_removals: usize) -> Result<(), TestCaseError> {
    let mut run = Run::new(max_removals);
    let mut base = Base::default();
    let mut steps = steps.iter().enumerate().peekable();
    let mut begun = false;
    while steps.peek().is_some() {
        let mut tx = Transaction::new(&base);
        if !begun {
            let cluster = ClusterId(9);
            assert_eq!(run.apply(&mut tx, Action::Initialize { cluster, partitions: 4, replicas: 1 }), Outcome::Done);
            run.open_session(&mut tx);
            run.open_session(&mut tx);
            begun = true;
        }
        for (number, step) in steps.by_ref() {
            run.step(&mut tx, step);
            if number % COMPARE_EVERY == 0 {
                run.compare(&tx);
            }
            if matches!(step, Step::EndEntry) {
                break;
            }
        }
        let changes = tx.into_changes();
        base.take_in(changes);
    }
    run.compare(&base);
    prop_assert_eq!(invariants::check(&base).unwrap(), Vec::<String>::new());
    let mut again = Base::default();
    for command in &run.commands {
        let mut tx = Transaction::new(&again);
        apply_within(&mut tx, command, max_removals).unwrap();
        let changes = tx.into_changes();
        again.take_in(changes);
    }
    prop_assert!(again == base, "the bytes depend on how commands are gathered");
    let end = Action::CollectGarbage { limit: u32::MAX };
    let mut tx = Transaction::new(&base);
    run.apply(&mut tx, end);
    run.compare(&tx);
    prop_assert!(!cluster::has_garbage(&tx).unwrap());
    let changes = tx.into_changes();
    base.take_in(changes);
    prop_assert_eq!(invariants::check(&base).unwrap(), Vec::<String>::new());
    Ok(())
}

fn config() -> Config {
    let cases = std::env::var("CAIRN_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48);
    let persistence = FileFailurePersistence::WithSource("regressions");
    Config { cases, failure_persistence: Some(Box::new(persistence)), ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_commands_do_what_the_model_does(
        steps in prop::collection::vec(step(), 1..2000),
        max_removals in prop_oneof![Just(2usize), Just(10_000usize)],
    ) {
        run(&steps, max_removals)?;
    }
}
