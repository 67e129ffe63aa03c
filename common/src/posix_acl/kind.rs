//! Which of an inode's two lists.

use serde::{Deserialize, Serialize};

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AclKind {
    /// Who may use the inode.
    Access,
    /// Of a directory: what is made in it begins with this one.
    Default,
}

impl AclKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Access, Self::Default];

    /// Name of the extended attribute that shows it.
    pub const fn xattr_name(self) -> &'static str {
        match self {
            Self::Access => "system.posix_acl_access",
            Self::Default => "system.posix_acl_default",
        }
    }

    /// The list that an extended attribute shows, if it shows one.
    pub fn of_xattr(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.xattr_name().as_bytes() == name)
    }
}
