//! Watches what the metadata servers apply, wherever and however often: the hook of the invariants
//! that are about commands. It stands between Raft and the namespace and changes nothing, unless a bug
//! is planted.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_common::ids::InodeId;
use cairn_common::protocol::metadata::{Mutation, Query, QueryResult};
use cairn_meta::namespace;
use cairn_meta::namespace::command::{Action, Command, Outcome};
use cairn_meta::raft::StateMachineLogic;
use cairn_meta::storage::{ReadView, StorageError, Transaction};
use parking_lot::Mutex;

use crate::invariants::durable_blocks::DurableBlocks;
use crate::invariants::durable_log::DurableLog;
use crate::invariants::equal_states::EqualStates;
use crate::invariants::fenced_sessions::FencedSessions;
use crate::planted::Planted;
use crate::planted_fence::Reopened;
use crate::workload::Workload;

/// Shared by all metadata servers.
pub(crate) struct Observer {
    states: Mutex<EqualStates>,
    fenced: Mutex<FencedSessions>,
    blocks: Mutex<DurableBlocks>,
    log: DurableLog,
    violations: Mutex<Vec<String>>,
    workload: Arc<Workload>,
    planted: Option<Planted>,
}

/// The logic of one server.
pub(crate) struct Observed {
    node: usize,
    observer: Arc<Observer>,
    reopened: Arc<Mutex<Reopened>>,
}

/// The changes of one command.
pub(crate) type Changes = BTreeMap<bytes::Bytes, Option<bytes::Bytes>>;

impl Observer {
    pub(crate) fn new(
        blocks: DurableBlocks,
        log: DurableLog,
        workload: Arc<Workload>,
        planted: Option<Planted>,
    ) -> Arc<Self> {
        Arc::new(Self {
            states: Mutex::default(),
            fenced: Mutex::default(),
            blocks: Mutex::new(blocks),
            log,
            violations: Mutex::default(),
            workload,
            planted,
        })
    }

    /// The logic for one machine; what it keeps stays over crashes.
    pub(crate) fn logic(self: &Arc<Self>, node: usize) -> Arc<Observed> {
        Arc::new(Observed { node, observer: self.clone(), reopened: Arc::default() })
    }

    /// What was seen that must never be.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    fn note(&self, violation: Option<String>) {
        self.violations.lock().extend(violation);
    }

    fn watch(&self, node: usize, command: &Command, renamed: Option<InodeId>, outcome: &Outcome, changes: &Changes) {
        let is_new = {
            let mut states = self.states.lock();
            let is_new = states.is_new(command);
            let violation = states.applied(node, command, outcome, changes);
            drop(states);
            self.note(violation);
            is_new
        };
        let violation = self.fenced.lock().applied(command, outcome, changes);
        self.note(violation);
        if is_new {
            tracing::debug!(?command, ?outcome, "first applied");
            self.note(self.log.applied(command));
            let violation = self.blocks.lock().applied(command, outcome);
            self.note(violation);
            match &command.action {
                Action::EndSession { session } => self.workload.session_ended(*session),
                Action::Mutate { mutation: Mutation::Rename { .. }, .. } => {
                    if let (Some(inode), Outcome::Mutated { result: Ok(_), .. }) = (renamed, outcome) {
                        self.workload.renames(command.request, inode.0);
                    }
                }
                _ => {}
            }
        }
    }
}

impl StateMachineLogic for Observed {
    fn apply(&self, tx: &mut Transaction<'_>, command: &Command) -> Result<Outcome, StorageError> {
        let renamed = renamed(&*tx, command);
        let (outcome, changes) = {
            let mut own = Transaction::new(&*tx);
            let outcome = match self.observer.planted {
                Some(Planted::FencedFlushAccepted) => self.reopened.lock().apply(&mut own, command)?,
                _ => namespace::apply(&mut own, command)?,
            };
            (outcome, own.into_changes())
        };
        self.observer.watch(self.node, command, renamed, &outcome, &changes);
        for (key, change) in changes {
            match change {
                Some(value) => tx.put(key, value),
                None => tx.delete(key),
            }
        }
        Ok(outcome)
    }
}

/// What a rename is about to rename.
fn renamed(view: &dyn ReadView, command: &Command) -> Option<InodeId> {
    let Action::Mutate { mutation: Mutation::Rename { parent, name, .. }, .. } = &command.action else { return None };
    match namespace::answer(view, &Query::Lookup { parent: *parent, name: name.clone() }) {
        Ok(Ok(QueryResult::Attributes(found))) => Some(found.inode),
        _ => None,
    }
}
