//! Extended attributes. Access control lists are read as some, and set by calls of their own.

use std::sync::Arc;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::InodeId;
use cairn_common::limits::{XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES};
use cairn_common::posix_acl::AclKind;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Mutation, Query, QueryResult, XattrMode};

use super::{Caller, Filesystem};
use crate::backend::unexpected;

/// Namespaces of extended attributes. Not "system.": nothing is kept there but access control lists.
const NAMESPACES: [&[u8]; 3] = [b"user.", TRUSTED, b"security."];
const TRUSTED: &[u8] = b"trusted.";
/// The kernel asks for it before every write.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

impl Filesystem {
    /// A value.
    pub async fn xattr(&self, caller: Caller, inode: InodeId, name: Bytes) -> Result<Bytes, ClientError> {
        check_name(&name)?;
        if let Some(answer) = self.try_xattr(inode, &name) {
            return answer;
        }
        let capability_of = if name == CAPABILITY { self.files.get(inode) } else { None };
        let generation = capability_of.as_ref().map(|file| file.lock().capability_generation);
        match self.ask(caller.request, Query::Xattr { inode, name }).await {
            Ok(QueryResult::Bytes(value)) => Ok(value),
            Ok(_) => Err(unexpected("a question for an attribute")),
            Err(error) => {
                if let (ClientError::Fs(FsError::NoAttribute), Some(file)) = (&error, capability_of) {
                    let mut inner = file.lock();
                    inner.no_capability |= generation == Some(inner.capability_generation);
                }
                Err(error)
            }
        }
    }

    /// All names, each followed by a NUL; those of `trusted.` for who may use them.
    pub async fn xattr_names(&self, caller: Caller, inode: InodeId, shows_trusted: bool) -> Result<Bytes, ClientError> {
        let remembered = self.leases.told(|cache, time| cache.xattr_names(inode, time));
        let names = match remembered {
            Some(names) => names,
            None => match self.ask(caller.request, Query::Xattrs { inode }).await? {
                QueryResult::Names(names) => names,
                _ => return Err(unexpected("a question for attribute names")),
            },
        };
        let mut list = Vec::new();
        for name in names.iter().filter(|name| shows_trusted || !name.starts_with(TRUSTED)) {
            list.extend_from_slice(name);
            list.push(0);
        }
        Ok(list.into())
    }

    /// Sets a value.
    pub async fn set_xattr(
        self: &Arc<Self>,
        caller: Caller,
        inode: InodeId,
        name: Bytes,
        value: Bytes,
        mode: XattrMode,
    ) -> Result<(), ClientError> {
        check_name(&name)?;
        if value.len() > XATTR_VALUE_MAX_BYTES {
            return Err(FsError::TooBig.into());
        }
        self.doubt_capability(inode);
        let result = self.change(caller.request, Mutation::SetXattr { inode, name, value, mode }).await;
        self.doubt_capability(inode);
        result.map(|_| ())
    }

    /// Removes a value.
    pub async fn remove_xattr(&self, caller: Caller, inode: InodeId, name: Bytes) -> Result<(), ClientError> {
        check_name(&name)?;
        self.change(caller.request, Mutation::RemoveXattr { inode, name }).await.map(|_| ())
    }

    /// From now on somebody may have set the capability.
    pub(crate) fn doubt_capability(&self, inode: InodeId) {
        if let Some(file) = self.files.get(inode) {
            let mut inner = file.lock();
            inner.no_capability = false;
            inner.capability_generation += 1;
        }
    }
}

/// What Linux checks before a file system sees a name, and FUSE does not: that its namespace exists and
/// something follows it. Who may use it the kernel checks itself.
pub(super) fn check_name(name: &[u8]) -> Result<(), FsError> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX_BYTES {
        return Err(FsError::Range);
    }
    if AclKind::of_xattr(name).is_some() {
        return Ok(());
    }
    let rest = NAMESPACES.iter().find_map(|namespace| name.strip_prefix(*namespace));
    match rest {
        None => Err(FsError::NotSupported),
        Some([]) => Err(FsError::Invalid),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_linux_does_it() {
        for name in ["user.a", "trusted.a", "security.a.b", "system.posix_acl_access", "system.posix_acl_default"] {
            assert_eq!(check_name(name.as_bytes()), Ok(()), "{name}");
        }
        for name in ["bad.a", "user", "system.posix_acl", "system.a", ".user.a"] {
            assert_eq!(check_name(name.as_bytes()), Err(FsError::NotSupported), "{name}");
        }
        assert_eq!(check_name(b"user."), Err(FsError::Invalid));
        assert_eq!(check_name(b""), Err(FsError::Range));
        assert_eq!(check_name(format!("user.{}", "a".repeat(251)).as_bytes()), Err(FsError::Range));
    }
}
