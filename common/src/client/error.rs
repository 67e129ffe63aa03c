//! Why a client's call failed. Each variant has one errno (`fuse-client/src/errno.rs`).

use std::time::Duration;

use crate::block::BlockId;
use crate::ids::SessionId;
use crate::protocol::FsError;

/// A failed call. Nothing but `Fs` and `NoSpace` says for certain that nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The operation was carried out and has this answer.
    #[error("{0}")]
    Fs(#[from] FsError),
    /// No quorum answered within the bound. A change may still happen later, but only once.
    #[error("{what}: no answer within {waited:?}; last tried: {tried}")]
    TimedOut {
        /// What was asked for.
        what: &'static str,
        /// How long.
        waited: Duration,
        /// The last server and what it said.
        tried: String,
    },
    /// The cluster ended the session: this mount may do nothing any more; unmount and mount again.
    #[error("session {session} was ended by the cluster (silent for too long, or evicted): unmount and mount again")]
    SessionFenced {
        /// The session.
        session: SessionId,
    },
    /// No server takes this program's certificate, or the role may not do this.
    #[error("refused by the cluster: {reason}")]
    Refused {
        /// Who said so, and why.
        reason: String,
    },
    /// Every owner of a block was asked, and none has its right bytes.
    #[error("no replica of block {block} gives its bytes: {tried}")]
    NoReplica {
        /// The block.
        block: BlockId,
        /// Each disk and what it answered.
        tried: String,
    },
    /// The disks of too many owners are full.
    #[error("no space: {reason}")]
    NoSpace {
        /// Which disks.
        reason: String,
    },
    /// The cluster has another idea of a slot's last change: a defect. The slot is not used again.
    #[error("slot out of sequence: {reason}")]
    OutOfSequence {
        /// Who said so.
        reason: String,
    },
    /// A server answered something that does not belong to the question: a defect.
    #[error("unexpected answer: {reason}")]
    Protocol {
        /// Who answered what.
        reason: String,
    },
}
