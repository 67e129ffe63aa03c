//! Locks: none is in the way of another, and they are counted from both sides.

use std::collections::BTreeMap;

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::protocol::locks::{HeldLock, LockRange, LockRequest};

use super::{Findings, each};
use crate::namespace::keys::{self, Table};
use crate::namespace::read;
use crate::namespace::records::{Lock, Number, Session};
use crate::storage::{ReadView, StorageError};

pub(super) fn check(view: &dyn ReadView, findings: &mut Findings) -> Result<(), StorageError> {
    let mut files: BTreeMap<InodeId, Vec<HeldLock>> = BTreeMap::new();
    each::<Lock>(view, Table::Lock, &mut |mut key, lock| {
        let (inode, session) = (InodeId(key.u64()?), SessionId(key.u64()?));
        let owner = key.lock_owner()?;
        let range = LockRange { start: key.u64()?, end: lock.end };
        key.end()?;
        findings.expect(range.is_valid(), || format!("a lock of {range:?} on inode {inode}"));
        files.entry(inode).or_default().push(HeldLock { session, owner, range, write: lock.write, pid: lock.pid });
        Ok(())
    })?;
    let (mut per_file, mut per_session) = (BTreeMap::new(), BTreeMap::new());
    for (inode, locks) in &files {
        for (place, lock) in locks.iter().enumerate() {
            let HeldLock { session, owner, range, write, pid } = *lock;
            *per_file.entry((session, *inode)).or_insert(0) += 1;
            *per_session.entry(session).or_insert(0) += 1;
            let wanted = LockRequest { inode: *inode, owner, range, write, pid };
            for other in &locks[place + 1..] {
                let is_same = (other.session, other.owner) == (session, owner) && other.range.overlaps(range);
                findings.expect(!is_same && !other.blocks(session, &wanted), || {
                    format!("locks on inode {inode} are in each other's way: {lock:?} and {other:?}")
                });
            }
        }
    }
    each::<Number>(view, Table::SessionLock, &mut |mut key, count| {
        let place = (SessionId(key.u64()?), InodeId(key.u64()?));
        key.end()?;
        let found = per_file.remove(&place).unwrap_or(0);
        findings.expect(found == count.0, || format!("{found} locks of {place:?}, {} are counted", count.0));
        Ok(())
    })?;
    findings.expect(per_file.is_empty(), || format!("locks that nobody counts: {per_file:?}"));
    each::<Number>(view, Table::LockCount, &mut |mut key, count| {
        let session = SessionId(key.u64()?);
        key.end()?;
        let found = per_session.remove(&session).unwrap_or(0);
        findings.expect(found == count.0, || format!("{found} locks of session {session}, {} are counted", count.0));
        let there = read::plain::<Session>(view, &keys::session(session))?.is_some();
        findings.expect(there, || format!("session {session} has ended and has locks"));
        Ok(())
    })?;
    findings.expect(per_session.is_empty(), || format!("locks of sessions that are not counted: {per_session:?}"));
    Ok(())
}
