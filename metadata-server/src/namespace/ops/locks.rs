//! Locks of files: what is set replaces what the owner had there. A lock is refused by a result and not
//! by an error where the refusal itself changes something.

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::limits::{MAX_LOCKS_PER_FILE, MAX_LOCKS_PER_SESSION};
use cairn_common::lock_spans::{self, LockSpan};
use cairn_common::protocol::FsError;
use cairn_common::protocol::locks::{HeldLock, LockKind, LockOwner, LockRange, LockRequest};
use cairn_common::protocol::metadata::MutationResult;

use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::keys::{self, KeyFields};
use crate::namespace::locks;
use crate::namespace::read;
use crate::namespace::records::{Lock, Number};
use crate::namespace::state::State;
use crate::storage::StorageError;

pub(super) fn set(
    state: &mut State<'_, '_>,
    session: SessionId,
    lock: &LockRequest,
    behind: bool,
) -> Result<MutationResult, Fault> {
    if !lock.range.is_valid() {
        return Err(FsError::Invalid.into());
    }
    read::file(state.view(), lock.inode)?;
    let held = locks::held(state.view(), lock.inode)?;
    let own = spans_of(&held, session, lock.owner);
    let wanted = lock_spans::replace(&own, lock.range, Some((lock.write, lock.pid)));
    if wanted == own {
        return Ok(MutationResult::Done);
    }
    if behind || held.iter().any(|other| other.blocks(session, lock)) {
        if lock.owner.kind == LockKind::Flock {
            // Two that share it and both want it for themselves would else wait for each other for ever.
            write_spans(state, session, lock.inode, lock.owner, &own, &[])?;
        }
        return Ok(MutationResult::LockRefused);
    }
    let more = wanted.len().saturating_sub(own.len());
    if more > 0 {
        let count = read::plain::<Number>(state.view(), &keys::lock_count(session))?.map_or(0, |count| count.0);
        if count + more as u64 > MAX_LOCKS_PER_SESSION || held.len() + more > MAX_LOCKS_PER_FILE {
            return Err(FsError::NoLocks.into());
        }
    }
    write_spans(state, session, lock.inode, lock.owner, &own, &wanted)?;
    Ok(MutationResult::Done)
}

pub(super) fn unlock(
    state: &mut State<'_, '_>,
    session: SessionId,
    inode: InodeId,
    owners: &[LockOwner],
    range: LockRange,
) -> Result<MutationResult, Fault> {
    if !range.is_valid() {
        return Err(FsError::Invalid.into());
    }
    for owner in owners {
        let held = locks::held_by(state.view(), inode, session)?;
        let own = spans_of(&held, session, *owner);
        let left = lock_spans::replace(&own, range, None);
        write_spans(state, session, inode, *owner, &own, &left)?;
    }
    Ok(MutationResult::Done)
}

/// Removes all locks of a session that ends.
pub(super) fn drop_all(state: &mut State<'_, '_>, session: SessionId) -> Result<(), StorageError> {
    for key in read::keys_of(state.view(), keys::session_locks(session))? {
        let mut fields = KeyFields::of(&key);
        fields.u64()?;
        let inode = InodeId(fields.u64()?);
        fields.end()?;
        for lock in read::keys_of(state.view(), keys::locks_of_session(inode, session))? {
            state.delete(lock);
        }
        state.delete(key);
    }
    state.delete(keys::lock_count(session));
    Ok(())
}

/// The locks of one owner, ascending.
fn spans_of(held: &[HeldLock], session: SessionId, owner: LockOwner) -> Vec<LockSpan> {
    let own = held.iter().filter(|lock| (lock.session, lock.owner) == (session, owner));
    own.map(|lock| LockSpan { range: lock.range, write: lock.write, pid: lock.pid }).collect()
}

/// Writes what has changed, and counts.
fn write_spans(
    state: &mut State<'_, '_>,
    session: SessionId,
    inode: InodeId,
    owner: LockOwner,
    before: &[LockSpan],
    after: &[LockSpan],
) -> Result<(), StorageError> {
    for span in before.iter().filter(|span| !after.contains(span)) {
        state.delete(keys::lock(inode, session, owner, span.range.start));
    }
    for span in after.iter().filter(|span| !before.contains(span)) {
        let record = Lock { end: span.range.end, write: span.write, pid: span.pid };
        state.put(keys::lock(inode, session, owner, span.range.start), &record);
    }
    count(state, keys::session_lock(session, inode), before.len(), after.len())?;
    count(state, keys::lock_count(session), before.len(), after.len())
}

fn count(state: &mut State<'_, '_>, key: Vec<u8>, fewer: usize, more: usize) -> Result<(), StorageError> {
    if fewer == more {
        return Ok(());
    }
    let before = read::plain::<Number>(state.view(), &key)?.map_or(0, |count| count.0);
    let after = (before + more as u64)
        .checked_sub(fewer as u64)
        .ok_or_else(|| corrupt(format!("locks are counted below zero at {key:02x?}")))?;
    if after == 0 {
        state.delete(key);
    } else {
        state.put(key, &Number(after));
    }
    Ok(())
}
