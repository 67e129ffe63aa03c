//! Reads of the locks of a file. The work grows with the locks that the file has, which are bounded.

use std::ops::ControlFlow;

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::protocol::locks::{HeldLock, LockRange, LockRequest};

use super::keys::{self, KeyFields};
use super::read::{self, Direction};
use super::records::{self, Lock};
use crate::storage::{ReadView, StorageError};

/// All locks of a file, of one owner after the other.
pub fn held(view: &dyn ReadView, inode: InodeId) -> Result<Vec<HeldLock>, StorageError> {
    scan(view, keys::locks(inode))
}

/// Those of one session.
pub(crate) fn held_by(view: &dyn ReadView, inode: InodeId, session: SessionId) -> Result<Vec<HeldLock>, StorageError> {
    scan(view, keys::locks_of_session(inode, session))
}

/// The lock with the lowest start that is in the way of what a session could ask for.
pub(crate) fn in_the_way(
    view: &dyn ReadView,
    session: SessionId,
    lock: &LockRequest,
) -> Result<Option<HeldLock>, StorageError> {
    let held = held(view, lock.inode)?;
    Ok(held.into_iter().filter(|other| other.blocks(session, lock)).min_by_key(|other| other.range.start))
}

fn scan(view: &dyn ReadView, range: (Vec<u8>, Vec<u8>)) -> Result<Vec<HeldLock>, StorageError> {
    let mut found = Vec::new();
    read::scan(view, range, Direction::Forward, &mut |key, value| {
        let mut fields = KeyFields::of(key);
        fields.u64()?;
        let session = SessionId(fields.u64()?);
        let owner = fields.lock_owner()?;
        let start = fields.u64()?;
        fields.end()?;
        let Lock { end, write, pid } = records::decode(value)?;
        found.push(HeldLock { session, owner, range: LockRange { start, end }, write, pid });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}
