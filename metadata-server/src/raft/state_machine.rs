//! Applies committed entries: one transaction for a run of entries, taken in by the engine together
//! with the position, and only then answered. An error here is fatal for the server: state that
//! cannot be trusted is never guessed. Durability: none of its own; after a crash the engine falls
//! back to its last flush and the log supplies the rest.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use cairn_common::clock::HybridClock;
use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend};

use super::logic::StateMachineLogic;
use super::metrics;
use super::snapshot_folder::SnapshotFolder;
use super::state_store::{Applied, StateStore};
use super::types::{Entry, LogId, OutcomeBatch, SnapshotMeta, StoredMembership, TypeConfig};
use crate::storage::Transaction;

/// A run of entries is taken in when it has this many bytes of commands.
const RUN_BYTES: usize = 2 << 20;

/// openraft's view of the state.
pub struct StateMachine {
    store: Arc<StateStore>,
    logic: Arc<dyn StateMachineLogic>,
    clock: Arc<HybridClock>,
    applied: Applied,
}

type Item = (Entry, Option<ApplyResponder<TypeConfig>>);

impl StateMachine {
    /// Goes on where the state on disk ends.
    pub fn new(store: Arc<StateStore>, logic: Arc<dyn StateMachineLogic>, clock: Arc<HybridClock>) -> io::Result<Self> {
        let applied = store.applied()?;
        clock.observe(applied.time);
        Ok(Self { store, logic, clock, applied })
    }

    fn apply_run(&mut self, run: Vec<Item>) -> io::Result<()> {
        let Some((last, _)) = run.last() else { return Ok(()) };
        let start = Instant::now();
        let mut applied = Applied { last: Some(last.log_id()), ..self.applied.clone() };
        let engine = self.store.engine();
        let view = engine.view();
        let mut tx = Transaction::new(&*view);
        let mut answers = Vec::new();
        for (entry, responder) in run {
            let mut outcomes = OutcomeBatch::default();
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembership::new(Some(entry.log_id()), membership.clone());
                }
                EntryPayload::Normal(batch) => {
                    let commands = batch.commands().map_err(io::Error::other)?;
                    outcomes.0.reserve(commands.len());
                    for command in commands {
                        applied.time = applied.time.max(command.time);
                        outcomes.0.push(self.logic.apply(&mut tx, command).map_err(io::Error::other)?);
                    }
                    self.store.count_applied(batch.encoded_bytes());
                }
            }
            if let Some(responder) = responder {
                answers.push((responder, outcomes));
            }
        }
        self.clock.observe(applied.time);
        engine.commit(tx.into_changes(), &applied.mark()?).map_err(io::Error::other)?;
        self.applied = applied;
        metrics::applied(start.elapsed());
        for (responder, outcomes) in answers {
            responder.send(outcomes);
        }
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Arc<SnapshotFolder>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut run: Vec<Item> = Vec::new();
        let mut bytes = 0;
        while let Some(item) = entries.next().await {
            let item = item?;
            if let EntryPayload::Normal(batch) = &item.0.payload {
                bytes += batch.encoded_bytes();
            }
            run.push(item);
            if bytes >= RUN_BYTES {
                self.apply_run(std::mem::take(&mut run))?;
                bytes = 0;
                tokio::task::yield_now().await;
            }
        }
        let result = self.apply_run(run);
        if let Err(error) = &result {
            tracing::error!(%error, "the state machine cannot go on; this server stops serving");
        }
        result
    }

    /// The checkpoint is made here, while nothing is applied; the builder only hands it over.
    async fn get_snapshot_builder(&mut self) -> Builder {
        let store = self.store.clone();
        let snapshot = cairn_common::blocking::run(move || store.take_snapshot()).await;
        metrics::snapshot("made");
        Builder { snapshot: Some(snapshot.unwrap_or_else(|panic| Err(io::Error::other(panic)))) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Arc<SnapshotFolder>) -> Result<(), io::Error> {
        let (store, meta) = (self.store.clone(), meta.clone());
        tracing::info!(%meta, "installing a snapshot");
        let installed = cairn_common::blocking::run(move || store.install(&meta, &snapshot)).await;
        installed.unwrap_or_else(|panic| Err(io::Error::other(panic)))?;
        self.applied = self.store.applied()?;
        self.clock.observe(self.applied.time);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf>, io::Error> {
        Ok(self.store.current_snapshot().map(describe))
    }
}

/// openraft's form of a snapshot.
pub(super) type SnapshotOf = openraft::type_config::alias::SnapshotOf<TypeConfig, Arc<SnapshotFolder>>;

pub(super) fn describe(folder: Arc<SnapshotFolder>) -> SnapshotOf {
    Snapshot { meta: folder.meta().clone(), snapshot: folder }
}

/// A snapshot that was just made.
pub struct Builder {
    snapshot: Option<io::Result<Arc<SnapshotFolder>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Arc<SnapshotFolder>;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf, io::Error> {
        match self.snapshot.take() {
            Some(snapshot) => snapshot.map(describe),
            None => Err(io::Error::other("a snapshot builder was used twice")),
        }
    }
}
