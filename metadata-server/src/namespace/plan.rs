//! What a change will touch, as far as the state shows it now: what the leader pins before it proposes
//! the change. A guess that may be too small or too large: `apply` refuses a change that touches more
//! (`Outcome::NotPinned`), and what is pinned in vain costs a recall in vain.

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::name::Name;
use cairn_common::protocol::metadata::{Mutation, NodeKind, OpenMode};

use super::ops;
use super::read;
use crate::storage::{ReadView, StorageError};

/// What a change touches of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The inode.
    pub inode: InodeId,
    /// It changes, or its sender gets the exclusive lease; else the answer only tells about it.
    pub change: bool,
    /// It is a file whose last name goes.
    pub last_name: bool,
    /// Who holds it exclusively now.
    pub exclusive: Option<SessionId>,
}

/// What a change will touch; nothing for one that needs no pins, or that will fail.
pub fn plan(view: &dyn ReadView, mutation: &Mutation) -> Result<Vec<Touch>, StorageError> {
    if !ops::needs_pins(mutation) {
        return Ok(Vec::new());
    }
    let mut plan = Plan { view, touches: Vec::new() };
    match mutation {
        Mutation::Create { parent, name, exclusive, open, exclusive_lease, .. } => {
            let existing = read::entry(view, *parent, name.as_bytes())?;
            match existing {
                Some(entry) if !exclusive && entry.kind == NodeKind::File => {
                    let takes = *exclusive_lease && *open == Some(OpenMode::Write);
                    plan.touch(entry.inode, takes, false)?;
                }
                Some(_) => {}
                None => plan.touch(*parent, true, false)?,
            }
        }
        Mutation::Open { inode, mode, exclusive_lease } => {
            plan.touch(*inode, *exclusive_lease && *mode == OpenMode::Write, false)?;
        }
        Mutation::AcquireExclusive { inode }
        | Mutation::SetAttributes { inode, .. }
        | Mutation::Commit { inode, .. }
        | Mutation::SetXattr { inode, .. }
        | Mutation::RemoveXattr { inode, .. } => plan.touch(*inode, true, false)?,
        Mutation::Link { inode, parent, .. } => {
            plan.touch(*inode, true, false)?;
            plan.touch(*parent, true, false)?;
        }
        Mutation::Unlink { parent, name } | Mutation::RemoveDirectory { parent, name } => {
            if plan.name(*parent, name, true)? {
                plan.touch(*parent, true, false)?;
            }
        }
        Mutation::Rename { parent, name, new_parent, new_name, .. } => {
            if plan.name(*parent, name, false)? {
                plan.name(*new_parent, new_name, true)?;
                plan.touch(*parent, true, false)?;
                plan.touch(*new_parent, true, false)?;
            }
        }
        Mutation::Release { .. } | Mutation::GiveUpExclusive { .. } => {}
    }
    Ok(plan.touches)
}

struct Plan<'v> {
    view: &'v dyn ReadView,
    touches: Vec<Touch>,
}

impl Plan<'_> {
    fn touch(&mut self, inode: InodeId, change: bool, last_name: bool) -> Result<(), StorageError> {
        if self.touches.iter().any(|touch| touch.inode == inode) {
            return Ok(());
        }
        let exclusive = read::exclusive_holder(self.view, inode)?;
        self.touches.push(Touch { inode, change, last_name, exclusive });
        Ok(())
    }

    /// What a name stands for changes, and (`removed`) may lose the name; whether the name is there.
    fn name(&mut self, parent: InodeId, name: &Name, removed: bool) -> Result<bool, StorageError> {
        let Some(entry) = read::entry(self.view, parent, name.as_bytes())? else { return Ok(false) };
        let is_file = entry.kind == NodeKind::File;
        let last = removed && is_file && read::inode(self.view, entry.inode)?.is_some_and(|inode| inode.links == 1);
        self.touch(entry.inode, true, last)?;
        Ok(true)
    }
}
