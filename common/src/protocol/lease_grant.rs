//! What answers of the metadata service say about shared leases.

use serde::{Deserialize, Serialize};

use crate::ids::{CommitSequence, InodeId, LeaseGeneration};
use crate::protocol::metadata::Attributes;

/// Shared leases that came with an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrant {
    /// Their generation: worth nothing if the mount has another.
    pub generation: LeaseGeneration,
    /// Inodes that the answer tells about (the one asked about, and those in it) and that are *not*
    /// leased; all others are.
    pub refused: Vec<InodeId>,
}

/// What a change did, for the sender's caches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeEffects {
    /// State that `held` shows: everything up to this commit.
    pub sequence: CommitSequence,
    /// All inodes whose records the change wrote or removed.
    pub changed: Vec<InodeId>,
    /// Attributes, as of `sequence`, of those of them that the session holds a shared lease on now.
    pub held: Vec<Attributes>,
    /// The generation of these leases.
    pub generation: LeaseGeneration,
}
