//! What a command touches, gathered while it is at work: the leader must have pinned it, so that
//! nothing changes that some mount may still answer from memory.

use std::collections::BTreeSet;

use cairn_common::ids::{InodeId, SessionId};

use super::fault::Fault;
use super::read;
use crate::storage::{ReadView, StorageError};

/// Inodes that a command touches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    /// Their records are written or removed.
    pub(super) changed: BTreeSet<InodeId>,
    /// They came into being with this command: nobody can know them.
    pub(super) made: BTreeSet<InodeId>,
    /// What the leader has pinned.
    pub(super) pinned: BTreeSet<InodeId>,
    /// The result tells about them.
    pub(super) shown: BTreeSet<InodeId>,
    /// A file that has lost its last name.
    pub(super) last_name: Option<InodeId>,
}

impl Touched {
    /// Whether nobody else can hold a lease on the inode: the session may take the exclusive one.
    pub(crate) fn may_take(&self, inode: InodeId) -> bool {
        self.pinned.contains(&inode) || self.made.contains(&inode)
    }

    /// Refuses what is not pinned, what another session holds exclusively, and a last name that goes
    /// without having asked who has the file open.
    pub(super) fn check(&self, view: &dyn ReadView, session: SessionId, asked: bool) -> Result<(), Fault> {
        let changes = || self.changed.iter().filter(|inode| !self.made.contains(inode)).copied();
        let mut refused: BTreeSet<InodeId> = changes().filter(|inode| !self.pinned.contains(inode)).collect();
        for inode in changes().chain(self.shown.iter().copied()) {
            if held_by_another(view, session, inode)? {
                refused.insert(inode);
            }
        }
        refused.extend(self.last_name.filter(|_| !asked));
        if refused.is_empty() { Ok(()) } else { Err(Fault::NotPinned(refused.into_iter().collect())) }
    }
}

fn held_by_another(view: &dyn ReadView, session: SessionId, inode: InodeId) -> Result<bool, StorageError> {
    Ok(read::exclusive_holder(view, inode)?.is_some_and(|holder| holder != session))
}
