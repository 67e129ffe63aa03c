//! A state machine over a sorted map, driven command by command. What an "entry" changes goes into
//! the map when the entry ends, so that reads meet both the overlay and the base.

use std::collections::{BTreeMap, btree_map};
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use cairn_common::clock::Timestamp;
use cairn_common::ids::{ClusterId, InodeId, RequestId, SessionEpoch, SessionId, SlotId};
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{
    Attributes, Mutation, MutationResult, NewNode, OpenMode, Query, QueryResult, Stamp,
};

use crate::namespace::command::{Action, Command, Outcome};
use crate::namespace::keys::{self, KeyFields};
use crate::namespace::plan::plan;
use crate::namespace::read::{self, Direction};
use crate::namespace::records::{self, Open};
use crate::namespace::{MAX_REMOVALS, answer, apply_within, invariants};
use crate::storage::{ReadView, StorageError, Transaction};

/// The base of a test.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Base(pub(super) BTreeMap<Bytes, Bytes>);

impl Base {
    pub(super) fn range(&self, from: &[u8], to: &[u8]) -> btree_map::Range<'_, Bytes, Bytes> {
        let to = to.max(from);
        self.0.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
    }

    pub(super) fn take_in(&mut self, changes: BTreeMap<Bytes, Option<Bytes>>) {
        for (key, change) in changes {
            match change {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }
}

impl ReadView for Base {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        for (key, value) in self.range(from, to) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        for (key, value) in self.range(from, to).rev() {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Applies commands, one entry each.
pub(super) struct Machine {
    pub(super) base: Base,
    pub(super) max_removals: usize,
    pub(super) clock: i64,
    sequences: BTreeMap<SessionId, u64>,
}

impl Machine {
    /// An initialized cluster of 1024 partitions.
    pub(super) fn new() -> Self {
        let mut machine =
            Self { base: Base::default(), max_removals: MAX_REMOVALS, clock: 1000, sequences: BTreeMap::new() };
        machine.act(Action::Initialize { cluster: ClusterId(7), partitions: 1024, replicas: 3 });
        machine
    }

    /// Applies one command, a second after the one before.
    pub(super) fn act(&mut self, action: Action) -> Outcome {
        self.clock += 1;
        let time = Timestamp { seconds: self.clock, nanos: 0 };
        let command = Command { time, request: RequestId(1), action };
        let mut tx = Transaction::new(&self.base);
        let outcome = apply_within(&mut tx, &command, self.max_removals).unwrap();
        let changes = tx.into_changes();
        self.base.take_in(changes);
        outcome
    }

    pub(super) fn open_session(&mut self) -> SessionId {
        match self.act(Action::OpenSession { client: "test".into(), slots: 4 }) {
            Outcome::Session { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    /// A change in slot 0 with the next sequence.
    pub(super) fn mutate(&mut self, session: SessionId, mutation: Mutation) -> Result<MutationResult, FsError> {
        let sequence = self.sequences.entry(session).or_insert(0);
        *sequence += 1;
        let stamp = Stamp { session, epoch: SessionEpoch(1), slot: SlotId(0), sequence: *sequence };
        match self.change(stamp, mutation) {
            Outcome::Mutated { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }

    /// A change with all the pins that it needs; nobody has a file open without having registered.
    pub(super) fn change(&mut self, stamp: Stamp, mutation: Mutation) -> Outcome {
        let pinned = plan(&self.base, &mutation).unwrap().iter().map(|touch| touch.inode).collect();
        self.act(Action::Mutate { stamp, mutation, pinned, keep_open: Some(Vec::new()) })
    }

    pub(super) fn create(
        &mut self,
        session: SessionId,
        parent: InodeId,
        name: &str,
        node: NewNode,
        open: Option<OpenMode>,
    ) -> Attributes {
        let (mode, umask, uid, gid, exclusive) = (0o644, 0, 10, 20, true);
        let name = named(name);
        let exclusive_lease = false;
        let create = Mutation::Create { parent, name, node, mode, umask, uid, gid, exclusive, open, exclusive_lease };
        match self.mutate(session, create).unwrap() {
            MutationResult::Node { attributes, .. } => attributes,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn ask(&self, query: Query) -> Result<QueryResult, FsError> {
        answer(&self.base, &query).unwrap()
    }

    pub(super) fn attributes(&self, inode: InodeId) -> Result<Attributes, FsError> {
        match self.ask(Query::Attributes { inode })? {
            QueryResult::Attributes(attributes) => Ok(attributes),
            other => panic!("{other:?}"),
        }
    }

    /// The whole state must hold together.
    pub(super) fn check(&self) {
        let violations = invariants::check(&self.base).unwrap();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

/// Sessions that have a file open for writing, by number.
pub(super) fn writers_of(view: &dyn ReadView, inode: InodeId) -> Vec<SessionId> {
    let mut writers = Vec::new();
    read::scan(view, keys::opens(inode), Direction::Forward, &mut |key, value| {
        let mut fields = KeyFields::of(key);
        fields.u64()?;
        let session = SessionId(fields.u64()?);
        if records::decode::<Open>(value)?.writers > 0 {
            writers.push(session);
        }
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    writers
}

/// A good name.
pub(super) fn named(name: &str) -> Name {
    Name::new(name.as_bytes().to_vec()).unwrap()
}
