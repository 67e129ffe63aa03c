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
    /// It changes; else the answer only tells about it.
    pub change: bool,
    /// Its sender asks for the exclusive lease, and gets it if the inode is pinned.
    pub take: bool,
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
                    plan.show(entry.inode, takes)?;
                }
                Some(_) => {}
                None => plan.touch(*parent, false)?,
            }
        }
        Mutation::Open { inode, mode, exclusive_lease } => {
            plan.show(*inode, *exclusive_lease && *mode == OpenMode::Write)?;
        }
        Mutation::AcquireExclusive { inode } => plan.show(*inode, true)?,
        Mutation::SetAttributes { inode, .. }
        | Mutation::Commit { inode, .. }
        | Mutation::SetXattr { inode, .. }
        | Mutation::RemoveXattr { inode, .. }
        | Mutation::SetAcl { inode, .. }
        | Mutation::Allocate { inode, .. } => plan.touch(*inode, false)?,
        Mutation::CopyRange { source, inode, .. } => {
            plan.touch(*inode, false)?;
            if source != inode {
                plan.show(*source, false)?;
            }
        }
        Mutation::Link { inode, parent, .. } => {
            plan.touch(*inode, false)?;
            plan.touch(*parent, false)?;
        }
        Mutation::Unlink { parent, name } | Mutation::RemoveDirectory { parent, name } => {
            if plan.name(*parent, name, true)? {
                plan.touch(*parent, false)?;
            }
        }
        Mutation::Rename { parent, name, new_parent, new_name, .. } => {
            if plan.name(*parent, name, false)? {
                plan.name(*new_parent, new_name, true)?;
                plan.touch(*parent, false)?;
                plan.touch(*new_parent, false)?;
            }
        }
        Mutation::Release { .. }
        | Mutation::GiveUpExclusive { .. }
        | Mutation::SetLock { .. }
        | Mutation::Unlock { .. }
        | Mutation::Accessed { .. } => {}
    }
    Ok(plan.touches)
}

/// Whether a change touches anything that mounts may have leases on; what gives back does not.
pub fn needs_pins(mutation: &Mutation) -> bool {
    ops::needs_pins(mutation)
}

struct Plan<'v> {
    view: &'v dyn ReadView,
    touches: Vec<Touch>,
}

impl Plan<'_> {
    fn touch(&mut self, inode: InodeId, last_name: bool) -> Result<(), StorageError> {
        if !self.touches.iter().any(|touch| touch.inode == inode) {
            let exclusive = read::exclusive_holder(self.view, inode)?;
            self.touches.push(Touch { inode, change: true, take: false, last_name, exclusive });
        }
        Ok(())
    }

    fn show(&mut self, inode: InodeId, take: bool) -> Result<(), StorageError> {
        let exclusive = read::exclusive_holder(self.view, inode)?;
        self.touches.push(Touch { inode, change: false, take, last_name: false, exclusive });
        Ok(())
    }

    /// What a name stands for changes, and (`removed`) may lose the name; whether the name is there.
    fn name(&mut self, parent: InodeId, name: &Name, removed: bool) -> Result<bool, StorageError> {
        let Some(entry) = read::entry(self.view, parent, name.as_bytes())? else { return Ok(false) };
        let is_file = entry.kind == NodeKind::File;
        let last = removed && is_file && read::inode(self.view, entry.inode)?.is_some_and(|inode| inode.links == 1);
        self.touch(entry.inode, last)?;
        Ok(true)
    }
}
