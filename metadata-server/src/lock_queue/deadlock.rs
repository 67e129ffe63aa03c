//! EDEADLK, as Linux finds it: only owners of POSIX locks are looked at (the others are not tied to a
//! process that could be stuck), and an owner waits if any of its threads does.

use std::collections::BTreeSet;

use cairn_common::ids::SessionId;
use cairn_common::protocol::locks::{HeldLock, LockKind, LockOwner, LockRequest};

use super::{LockQueue, Locks};
use crate::storage::StorageError;

/// Owners that a search looks at; beyond it, it finds nothing: two processes are the rule.
const MAX_OWNERS: usize = 256;

type Owner = (SessionId, LockOwner);

/// Whether those who are in the way of a lock wait for the owner that wants it.
pub(super) fn closes_circle(
    queue: &LockQueue,
    session: SessionId,
    lock: &LockRequest,
    locks: &Locks<'_>,
) -> Result<bool, StorageError> {
    if lock.owner.kind != LockKind::Posix {
        return Ok(false);
    }
    let mut seen: BTreeSet<Owner> = BTreeSet::new();
    let mut open: Vec<Owner> = in_the_way(&locks(lock.inode)?, session, lock);
    while let Some(owner) = open.pop() {
        if owner == (session, lock.owner) {
            return Ok(true);
        }
        if seen.len() == MAX_OWNERS || !seen.insert(owner) {
            continue;
        }
        for waited in queue.waits_of(owner.0).filter(|waited| waited.owner == owner.1) {
            open.extend(in_the_way(&locks(waited.inode)?, owner.0, waited));
        }
    }
    Ok(false)
}

fn in_the_way(held: &[HeldLock], session: SessionId, lock: &LockRequest) -> Vec<Owner> {
    let others = held.iter().filter(|other| other.owner.kind == LockKind::Posix && other.blocks(session, lock));
    others.map(|other| (other.session, other.owner)).collect()
}
