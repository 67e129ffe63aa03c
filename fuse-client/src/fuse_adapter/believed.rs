//! How long the kernel may believe an answer. Nothing that a lease does not cover, never longer than
//! the lease, and only in answers whose race with a recall the kernel itself decides rightly:
//!
//! - attributes in answers to GETATTR, LOOKUP and READDIRPLUS. An answer to a change (SETATTR, CREATE,
//!   LINK…) the kernel takes in whatever it was told meanwhile, so it may be believed for no moment;
//! - access control lists in answers to GETXATTR: those that are told under a lease (see [`Believed::acl`]);
//! - names in answers to lookups and creates, and in listings that are watched (see the notifier).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::ids::InodeId;
use cairn_common::name::Name;
use cairn_common::protocol::metadata::Attributes;

use super::FuseAdapter;
use super::kernel::Kernel;
use super::listings::Listings;
use crate::filesystem::Filesystem;
use crate::kernel_caches::KernelCaches;

/// Answers about these may be believed.
#[derive(Clone)]
pub(super) struct Believed {
    filesystem: Arc<Filesystem>,
    kernel: Arc<Kernel>,
}

impl FuseAdapter {
    pub(super) fn believed(&self) -> Believed {
        Believed { filesystem: self.filesystem.clone(), kernel: self.kernel.clone() }
    }
}

impl Believed {
    pub(super) fn filesystem(&self) -> &Filesystem {
        &self.filesystem
    }

    pub(super) fn listings(&self) -> &Listings {
        &self.kernel.listings
    }

    /// For attributes that are about to be told.
    pub(super) fn attributes(&self, shown: &Attributes) -> Duration {
        self.kernel.attribute_ttl(shown.inode, self.filesystem.attribute_ttl_of(shown))
    }

    /// An access control list is about to be told, or (None) that there is none. The kernel keeps it until it
    /// is made to forget; where nobody would do that, it is made to now, and does not keep the answer.
    pub(super) fn acl(&self, inode: InodeId, name: &[u8], value: Option<&Bytes>) {
        if !self.filesystem.tell_acl(inode, name, value) {
            self.kernel.acls(inode);
        }
    }

    /// For an entry of a listing, of what leases allow.
    pub(super) fn entry(&self, inode: InodeId, ttl: Duration) -> Duration {
        self.kernel.name_ttl(self.kernel.attribute_ttl(inode, ttl))
    }

    /// For a name that is about to be told.
    pub(super) fn name(&self, parent: InodeId, name: &Name, stands_for: Option<InodeId>) -> Duration {
        self.kernel.name_ttl(self.filesystem.name_ttl(parent, name, stands_for))
    }
}
