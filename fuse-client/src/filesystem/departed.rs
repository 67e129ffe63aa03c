//! Directories and special files that this mount has removed while its kernel still knows them: open ones,
//! and working directories. The cluster keeps only regular files without a name, so their attributes are
//! told from here until the kernel forgets them. Nothing of it outlives the mount.

use std::collections::HashMap;

use cairn_common::clock::{Clock, SystemClock};
use cairn_common::ids::InodeId;
use cairn_common::protocol::metadata::{AttributeChanges, Attributes, NodeKind, TimeChange};
use parking_lot::Mutex;

/// What has gone, by inode.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    attributes: Mutex<HashMap<InodeId, Attributes>>,
}

impl Departed {
    /// The last name of it has been removed. To be called before the kernel hears so: it may forget then.
    pub(crate) fn add(&self, mut attributes: Attributes) {
        let is_directory = attributes.kind == NodeKind::Directory;
        if attributes.kind == NodeKind::File || (!is_directory && attributes.links > 1) {
            return;
        }
        attributes.links = 0;
        attributes.ctime = SystemClock.wall();
        self.attributes.lock().insert(attributes.inode, attributes);
    }

    /// Its attributes.
    pub(crate) fn attributes(&self, inode: InodeId) -> Option<Attributes> {
        self.attributes.lock().get(&inode).copied()
    }

    /// Changes its attributes, for those who still have it.
    pub(crate) fn change(&self, inode: InodeId, changes: &AttributeChanges) -> Option<Attributes> {
        let mut all = self.attributes.lock();
        let attributes = all.get_mut(&inode)?;
        let now = SystemClock.wall();
        let at = |change: TimeChange| change.at(now);
        attributes.mode = changes.mode.unwrap_or(attributes.mode);
        attributes.uid = changes.uid.unwrap_or(attributes.uid);
        attributes.gid = changes.gid.unwrap_or(attributes.gid);
        attributes.atime = changes.atime.map_or(attributes.atime, at);
        attributes.mtime = changes.mtime.map_or(attributes.mtime, at);
        attributes.ctime = now;
        Some(*attributes)
    }

    /// The kernel has forgotten it.
    pub(crate) fn forget(&self, inode: InodeId) {
        self.attributes.lock().remove(&inode);
    }
}
