//! Why an operation stopped: an answer for the program that asked, or a failure of the server.

use cairn_common::protocol::FsError;

use crate::storage::StorageError;

/// An operation was not carried out; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The operation's answer is an error.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The server must stop.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Fault {
    /// Parts the program's answer from the server's failure.
    pub(crate) fn split<T>(result: Result<T, Self>) -> Result<Result<T, FsError>, StorageError> {
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(Self::Fs(error)) => Ok(Err(error)),
            Err(Self::Storage(error)) => Err(error),
        }
    }
}

/// A contradiction in the state.
pub(crate) fn corrupt(what: impl Into<String>) -> StorageError {
    StorageError::Corrupt(what.into())
}
