//! Access control lists: set and removed. They are read as the extended attributes that they are; who may
//! do what under them is decided by the kernel.

use std::sync::Arc;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::InodeId;
use cairn_common::mode::SETGID;
use cairn_common::posix_acl::AclKind;
use cairn_common::protocol::metadata::Mutation;

use super::{Caller, Filesystem};

/// What decides, besides the group in its request, whether a caller may keep the setgid bit of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerGroups {
    /// Its supplementary groups.
    pub supplementary: Vec<u32>,
    /// It has CAP_FSETID: the setgid bit stays whatever its groups are.
    pub keeps_setgid: bool,
}

impl Filesystem {
    /// Sets a list, or removes it. As chmod(2) does, a new access list takes the setgid bit away where the
    /// caller is not in the inode's group: `in_group_or_capable` of Linux.
    pub async fn set_acl(
        self: &Arc<Self>,
        caller: Caller,
        inode: InodeId,
        kind: AclKind,
        acl: Option<Bytes>,
        groups: &CallerGroups,
    ) -> Result<(), ClientError> {
        let may_clear = kind == AclKind::Access && acl.is_some() && !groups.keeps_setgid;
        let clear_sgid = may_clear && {
            let now = self.attributes(caller.request, inode).await?;
            now.mode & SETGID != 0 && now.gid != caller.gid && !groups.supplementary.contains(&now.gid)
        };
        let mutation = Mutation::SetAcl { inode, kind, acl, clear_sgid };
        self.change_attributes(caller.request, inode, mutation).await.map(|_| ())
    }
}
