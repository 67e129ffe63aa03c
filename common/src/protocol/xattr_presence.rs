//! What attributes tell of extended attributes.

use serde::{Deserialize, Serialize};

use crate::posix_acl::AclKind;

/// Which extended attributes an inode has, so that nobody needs to ask for those that it has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct XattrPresence {
    /// An access list that says more than the mode.
    pub access_acl: bool,
    /// A default list.
    pub default_acl: bool,
    /// Any other.
    pub others: bool,
}

impl XattrPresence {
    /// Whether there may be one of this name.
    pub fn may_have(&self, name: &[u8]) -> bool {
        match AclKind::of_xattr(name) {
            Some(AclKind::Access) => self.access_acl,
            Some(AclKind::Default) => self.default_acl,
            None => self.others,
        }
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.access_acl || self.default_acl || self.others
    }
}
