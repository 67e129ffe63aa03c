//! The locks of the kernel's VFS that decide which calls of one mount may run at the same time: changes
//! of one file exclude each other, changes of one directory exclude each other and what is asked of it.
//! Without them programs would do what no kernel lets them do.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_common::ids::InodeId;
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The locks of one mount.
#[derive(Default)]
pub(crate) struct InodeLocks(Mutex<BTreeMap<InodeId, Arc<RwLock<()>>>>);

impl InodeLocks {
    fn of(&self, inode: InodeId) -> Arc<RwLock<()>> {
        self.0.lock().entry(inode).or_default().clone()
    }

    /// Whether a change of it is under way.
    pub(crate) fn is_changing(&self, inode: InodeId) -> bool {
        self.of(inode).try_read().is_err()
    }

    /// For a question.
    pub(crate) async fn shared(&self, inode: InodeId) -> OwnedRwLockReadGuard<()> {
        self.of(inode).read_owned().await
    }

    /// For a change of these.
    pub(crate) async fn exclusive<const N: usize>(&self, mut inodes: [InodeId; N]) -> Vec<OwnedRwLockWriteGuard<()>> {
        inodes.sort_unstable();
        let mut guards = Vec::with_capacity(N);
        for (index, inode) in inodes.iter().enumerate() {
            if index == 0 || inodes[index - 1] != *inode {
                guards.push(self.of(*inode).write_owned().await);
            }
        }
        guards
    }
}
