//! Why bytes are no access control list.

use crate::limits::POSIX_ACL_MAX_BYTES;
use crate::protocol::FsError;

/// What is wrong with a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// More than [`POSIX_ACL_MAX_BYTES`].
    #[error("{0} bytes, and at most {POSIX_ACL_MAX_BYTES} are kept")]
    TooLarge(usize),
    /// Not a header and whole entries.
    #[error("{0} bytes are no header of 4 and entries of 8")]
    Length(usize),
    /// Not version 2.
    #[error("version {0}, and only 2 is known")]
    Version(u32),
    /// A tag that Linux does not know, or one that has to name somebody and does not.
    #[error("an entry has tag {tag:#x} and id {id}")]
    Tag {
        /// The tag's number.
        tag: u16,
        /// The id beside it.
        id: u32,
    },
    /// Other bits than read, write and execute.
    #[error("an entry has permissions {0:#o}")]
    Permissions(u16),
    /// Entries do not come in the order of their tags, or one that there may be once is there twice.
    #[error("entry {0} is out of order")]
    Order(usize),
    /// A user or group is named twice.
    #[error("somebody is named twice")]
    Duplicate,
    /// The owner, the owning group or others are missing; or the mask, with somebody named.
    #[error("an entry that a list must have is missing")]
    Missing,
}

impl From<AclError> for FsError {
    fn from(error: AclError) -> Self {
        match error {
            AclError::TooLarge(_) => Self::TooBig,
            AclError::Length(_)
            | AclError::Version(_)
            | AclError::Tag { .. }
            | AclError::Permissions(_)
            | AclError::Order(_)
            | AclError::Duplicate
            | AclError::Missing => Self::Invalid,
        }
    }
}
