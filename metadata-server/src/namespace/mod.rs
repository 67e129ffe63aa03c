//! The pure state machine: `apply` changes, `answer` reads. One file an operation.
//!
//! Nothing in here uses tokio, a clock, randomness, hash-map order or any IO but [`ReadView`] and
//! [`Transaction`]: the same commands give the same bytes on every server. It promises nothing
//! about durability: the engine takes a transaction in together with the applied index.

pub mod cluster;
pub mod command;
mod fault;
mod file_map;
pub mod invariants;
mod keys;
pub mod locks;
mod ops;
pub mod partition_blocks;
pub mod plan;
mod queries;
mod read;
mod records;
mod removal;
mod state;
#[cfg(test)]
mod tests;
mod touched;

use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Query, QueryResult};

use crate::storage::{ReadView, StorageError, Transaction};
use command::{Action, Command, Outcome};
use state::State;

/// Most extents that one command removes with a deleted or truncated file; what is beyond becomes
/// garbage, removed by `CollectGarbage`. Part of the replicated behaviour: a change needs a feature
/// level.
const MAX_REMOVALS: usize = 10_000;

/// Carries a command out: what changes goes into `tx`. An error means that the state contradicts
/// itself or the engine failed; the server must stop and must not use `tx`.
pub fn apply(tx: &mut Transaction<'_>, command: &Command) -> Result<Outcome, StorageError> {
    apply_within(tx, command, MAX_REMOVALS)
}

fn apply_within(tx: &mut Transaction<'_>, command: &Command, max_removals: usize) -> Result<Outcome, StorageError> {
    let state = &mut State::new(tx, command.time, max_removals)?;
    match &command.action {
        Action::Initialize { cluster, partitions, replicas } => {
            ops::initialize(state, *cluster, *partitions, *replicas).map(|()| Outcome::Done)
        }
        Action::OpenSession { client, slots } => ops::open_session(state, client, *slots),
        Action::EndSession { session } => ops::end_session(state, *session).map(|()| Outcome::Done),
        Action::Mutate { stamp, mutation, pinned, keep_open } => {
            ops::mutate(state, stamp, mutation, pinned, keep_open.as_deref())
        }
        Action::RegisterChunkServer(registration) => ops::register(state, registration),
        Action::InstallRows { base, rows } => ops::install_rows(state, *base, rows),
        Action::RecordDamage { damaged } => ops::record_damage(state, damaged).map(|()| Outcome::Done),
        Action::RecordRepair { repaired } => ops::record_repair(state, repaired).map(|()| Outcome::Done),
        Action::AllocateMetadataNode => ops::allocate_metadata_node(state).map(Outcome::MetadataNode),
        Action::RaiseFeatureLevel { level } => ops::raise_feature_level(state, *level).map(|()| Outcome::Done),
        Action::CollectGarbage { limit } => removal::collect(state, *limit as usize).map(|()| Outcome::Done),
    }
}

/// Answers a read from one view. The outer error is the server's, the inner one the program's.
/// `Statfs` has inodes only: the service adds the bytes that chunk servers report.
pub fn answer(view: &dyn ReadView, query: &Query) -> Result<Result<QueryResult, FsError>, StorageError> {
    queries::answer(view, query)
}
