//! Locks of the test cluster: no queue, only who has what.

use std::collections::BTreeMap;

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::lock_spans::{LockSpan, replace};
use cairn_common::protocol::locks::{HeldLock, LockOwner, LockRange, LockRequest};
use cairn_common::protocol::metadata::MutationResult;

#[derive(Default)]
pub(crate) struct Locks {
    owners: BTreeMap<(InodeId, SessionId, LockOwner), Vec<LockSpan>>,
    /// Changes that were carried out, refused ones too.
    pub(crate) changes: u32,
}

impl Locks {
    /// All locks on a file.
    pub(crate) fn held(&self, inode: InodeId) -> Vec<HeldLock> {
        let of_file = self.owners.iter().filter(|((at, ..), _)| *at == inode);
        let all = of_file.flat_map(|((_, session, owner), spans)| {
            spans.iter().map(|span| HeldLock {
                session: *session,
                owner: *owner,
                range: span.range,
                write: span.write,
                pid: span.pid,
            })
        });
        all.collect()
    }

    pub(crate) fn in_the_way(&self, session: SessionId, lock: &LockRequest) -> Option<HeldLock> {
        self.held(lock.inode).into_iter().find(|held| held.blocks(session, lock))
    }

    pub(crate) fn set(&mut self, session: SessionId, lock: &LockRequest) -> MutationResult {
        self.changes += 1;
        if self.in_the_way(session, lock).is_some() {
            return MutationResult::LockRefused;
        }
        let own = self.owners.entry((lock.inode, session, lock.owner)).or_default();
        *own = replace(own, lock.range, Some((lock.write, lock.pid)));
        MutationResult::Done
    }

    pub(crate) fn unlock(&mut self, session: SessionId, inode: InodeId, owners: &[LockOwner], range: LockRange) {
        self.changes += 1;
        for owner in owners {
            if let Some(own) = self.owners.get_mut(&(inode, session, *owner)) {
                *own = replace(own, range, None);
            }
        }
    }
}
