//! Why an operation stopped: an answer for the program that asked, or a failure of the server.

use cairn_common::ids::InodeId;
use cairn_common::protocol::FsError;

use crate::storage::StorageError;

/// An operation was not carried out; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The operation's answer is an error.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The command may not touch these inodes as it came.
    #[error("not pinned: {0:?}")]
    NotPinned(Vec<InodeId>),
    /// The server must stop.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Fault {
    /// Parts the program's answer from the server's failure. For reads, which need no pins.
    pub(crate) fn split<T>(result: Result<T, Self>) -> Result<Result<T, FsError>, StorageError> {
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(Self::Fs(error)) => Ok(Err(error)),
            Err(Self::NotPinned(inodes)) => Err(corrupt(format!("a read wants pins on {inodes:?}"))),
            Err(Self::Storage(error)) => Err(error),
        }
    }
}

/// A contradiction in the state.
pub(crate) fn corrupt(what: impl Into<String>) -> StorageError {
    StorageError::Corrupt(what.into())
}
