//! The pure state machine: `apply` changes, `answer` reads. One file an operation.
//!
//! Nothing in here uses tokio, a clock, randomness, hash-map order or any IO but [`ReadView`] and
//! [`Transaction`]: the same commands give the same bytes on every server. It promises nothing
//! about durability: the engine takes a transaction in together with the applied index.

pub mod cluster;
pub mod command;

use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Query, QueryResult};

use crate::storage::{ReadView, StorageError, Transaction};
use command::{Command, Outcome};

/// Carries a command out: what changes goes into `tx`. An error means that the state contradicts
/// itself or the engine failed; the server must stop and must not use `tx`.
pub fn apply(_tx: &mut Transaction<'_>, _command: &Command) -> Result<Outcome, StorageError> {
    Err(StorageError::Engine("the state machine is not landed yet".into()))
}

/// Answers a read from one view. The outer error is the server's, the inner one the program's.
/// `Statfs` has inodes only: the service adds the bytes that chunk servers report.
pub fn answer(_view: &dyn ReadView, _query: &Query) -> Result<Result<QueryResult, FsError>, StorageError> {
    Err(StorageError::Engine("the state machine is not landed yet".into()))
}
