//! The reference model's access control lists: values of extended attributes, as programs see them.

use bytes::Bytes;
use cairn_common::clock::Timestamp;
use cairn_common::ids::InodeId;
use cairn_common::posix_acl::{AclKind, PosixAcl};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{MutationResult, NodeKind, XattrPresence};

use super::model::{Answer, CTIME, Model, Node};

impl Node {
    pub(super) fn acl(&self, kind: AclKind) -> Option<PosixAcl> {
        let value = self.xattrs.get(kind.xattr_name().as_bytes())?;
        PosixAcl::from_xattr(value).unwrap()
    }

    pub(super) fn keep_acl(&mut self, kind: AclKind, acl: PosixAcl) {
        self.xattrs.insert(kind.xattr_name().into(), acl.to_xattr());
    }

    pub(super) fn xattr_presence(&self) -> XattrPresence {
        let has = |name: &str| self.xattrs.contains_key(name.as_bytes());
        XattrPresence {
            access_acl: has("system.posix_acl_access"),
            default_acl: has("system.posix_acl_default"),
            others: self.xattrs.keys().any(|name| !name.starts_with(b"system.")),
        }
    }

    /// What a new node gets from a directory.
    pub(super) fn inherit(&mut self, directory: &Self, umask: u32) {
        match directory.acl(AclKind::Default) {
            _ if self.kind == NodeKind::Symlink => {}
            None => self.mode &= !umask,
            Some(default) => {
                let access = default.inherited(self.mode);
                self.mode &= 0o7000 | access.permission_bits();
                if !access.is_minimal() {
                    self.keep_acl(AclKind::Access, access);
                }
                if self.kind == NodeKind::Directory {
                    self.keep_acl(AclKind::Default, default);
                }
            }
        }
    }
}

impl Model {
    pub(super) fn set_acl(
        &mut self,
        time: Timestamp,
        id: InodeId,
        kind: AclKind,
        acl: Option<&Bytes>,
        clear_sgid: bool,
    ) -> Answer {
        let id = self.requested(id)?;
        let acl = acl.map_or(Ok(None), |acl| PosixAcl::from_xattr(acl))?;
        let node = self.node(id);
        if node.kind == NodeKind::Symlink {
            return Err(FsError::NotSupported);
        }
        match acl {
            None => {
                if node.xattrs.remove(kind.xattr_name().as_bytes()).is_none() {
                    return Ok(MutationResult::Attributes(self.attributes(id)));
                }
            }
            Some(_) if kind == AclKind::Default && node.kind != NodeKind::Directory => {
                return Err(FsError::AccessDenied);
            }
            Some(acl) if kind == AclKind::Default => node.keep_acl(kind, acl),
            Some(acl) => {
                let kept_bits = if clear_sgid { 0o5000 } else { 0o7000 };
                node.mode = node.mode & kept_bits | acl.permission_bits();
                node.xattrs.remove(kind.xattr_name().as_bytes());
                if !acl.is_minimal() {
                    node.keep_acl(kind, acl);
                }
            }
        }
        node.times[CTIME] = time;
        Ok(MutationResult::Attributes(self.attributes(id)))
    }
}
