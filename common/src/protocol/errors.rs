//! Errors that cross the wire: what a file operation answers, and why a server did not do it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{SessionId, TableEpoch};

/// The answer of a file operation that was carried out and failed. Each has one errno
/// (`fuse-client/src/errno.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum FsError {
    /// ENOENT
    #[error("no such file or directory")]
    NotFound,
    /// EEXIST
    #[error("file exists")]
    Exists,
    /// ENOTDIR
    #[error("not a directory")]
    NotDirectory,
    /// EISDIR
    #[error("is a directory")]
    IsDirectory,
    /// ENOTEMPTY
    #[error("directory not empty")]
    NotEmpty,
    /// ENAMETOOLONG
    #[error("file name too long")]
    NameTooLong,
    /// EINVAL
    #[error("invalid argument")]
    Invalid,
    /// EPERM
    #[error("operation not permitted")]
    NotPermitted,
    /// EACCES
    #[error("permission denied")]
    AccessDenied,
    /// EMLINK
    #[error("too many links")]
    TooManyLinks,
    /// EXDEV
    #[error("cross-device link")]
    CrossDevice,
    /// ESTALE: the inode is gone.
    #[error("stale file handle")]
    Stale,
    /// ENODATA: no such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// ERANGE
    #[error("result too large for the buffer")]
    Range,
    /// E2BIG: the value of an extended attribute is too large.
    #[error("argument too large")]
    TooBig,
    /// EFBIG
    #[error("file too large")]
    FileTooBig,
    /// ENOSPC
    #[error("no space left")]
    NoSpace,
    /// EOPNOTSUPP
    #[error("operation not supported")]
    NotSupported,
    /// ENXIO: SEEK_DATA or SEEK_HOLE beyond the end.
    #[error("no such offset")]
    NoSuchOffset,
    /// The block's partition has got other owners since it was put: it is to be put again, by a newer
    /// table. Mounts do so and never show it.
    #[error("owners of a block have changed")]
    PutAgain,
    /// EIO: bytes that no replica could give, or a state that must not be.
    #[error("input/output error")]
    Io,
    /// EAGAIN: somebody else holds a lock that is in the way.
    #[error("locked by another")]
    Locked,
    /// EDEADLK: those who hold what a lock waits for wait for its owner.
    #[error("waiting would be for ever: those in the way wait for this owner")]
    Deadlock,
    /// ENOLCK: too many locks, or too many that wait for one.
    #[error("no locks available")]
    NoLocks,
}

/// Why a server did not carry a request out. Nothing was changed, except where said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ServiceError {
    /// This metadata server does not lead. Ask the one named, or another.
    #[error("this server does not lead the metadata group (leader: {leader:?})")]
    NotLeader {
        /// The leader's address, if known.
        leader: Option<SocketAddr>,
    },
    /// No quorum answered in time. The change may or may not happen later: ask again with the same
    /// slot and sequence.
    #[error("no quorum: {reason}")]
    Unavailable {
        /// What was tried.
        reason: String,
    },
    /// The session was ended or its epoch is old: nothing that it sends changes anything any more.
    #[error("session {session} was ended by the cluster")]
    SessionFenced {
        /// The session.
        session: SessionId,
    },
    /// A slot's sequence is neither the last nor the next.
    #[error("slot sequence out of order")]
    BadSequence,
    /// The partition table of the sender is not this server's; fetch it again.
    #[error("partition table epoch {have} is asked for, the sender has another")]
    StaleTable {
        /// The epoch that the server has.
        have: TableEpoch,
    },
    /// The peer's role may not do this.
    #[error("refused: {reason}")]
    Forbidden {
        /// Which role asked for what.
        reason: String,
    },
    /// The request is no valid message.
    #[error("invalid request: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The disk is full.
    #[error("no space: {reason}")]
    NoSpace {
        /// Which disk.
        reason: String,
    },
    /// The server failed; its log says more.
    #[error("server error: {reason}")]
    Internal {
        /// What failed.
        reason: String,
    },
}
