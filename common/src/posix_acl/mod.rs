//! Access control lists of POSIX 1003.1e draft 17 as Linux keeps them (acl(5)): the lists themselves, the
//! bytes of their extended attributes, and how they and the permission bits of a mode follow each other.
//! Pure. Who may do what under a list is decided by the kernel of each mount.

mod acl;
mod entry;
mod error;
mod kind;
#[cfg(test)]
mod tests;

pub use acl::PosixAcl;
pub use entry::{AclEntry, AclTag};
pub use error::AclError;
pub use kind::AclKind;
