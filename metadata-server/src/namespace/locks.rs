//! Reads of the locks of a file. The work grows with the locks that the file has, which are bounded.

use std::ops::ControlFlow;

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::protocol::locks::{HeldLock, LockRange, LockRequest};

use super::keys::{self, KeyFields, Table, VOLUME};
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

/// Locks of all files, at most `limit`. Not for a request path.
pub fn all(view: &dyn ReadView, limit: usize) -> Result<Vec<(InodeId, HeldLock)>, StorageError> {
    let mut found = Vec::new();
    read::scan(view, keys::table_range(Table::Lock, VOLUME), Direction::Forward, &mut |key, value| {
        if found.len() == limit {
            return Ok(ControlFlow::Break(()));
        }
        found.push(lock_of(key, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
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
        found.push(lock_of(key, value)?.1);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn lock_of(key: &[u8], value: &[u8]) -> Result<(InodeId, HeldLock), StorageError> {
    let mut fields = KeyFields::of(key);
    let (inode, session) = (InodeId(fields.u64()?), SessionId(fields.u64()?));
    let owner = fields.lock_owner()?;
    let start = fields.u64()?;
    fields.end()?;
    let Lock { end, write, pid } = records::decode(value)?;
    Ok((inode, HeldLock { session, owner, range: LockRange { start, end }, write, pid }))
}
