//! Access control lists. Each is a row among the extended attributes of its inode, and the inode says which
//! it has, so that attributes tell it without a look. The permission bits and the access list are changed
//! together, here and nowhere else.

use cairn_common::ids::InodeId;
use cairn_common::limits::XATTR_LIST_MAX_BYTES;
use cairn_common::mode::SETGID;
use cairn_common::posix_acl::{AclKind, PosixAcl};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{MutationResult, NodeKind};

use super::xattr::listed_bytes;
use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::keys;
use crate::namespace::read;
use crate::namespace::records::{Inode, Opaque};
use crate::namespace::state::State;

const PERMISSION_BITS: u32 = 0o777;

/// `acl`: the value of the list's extended attribute.
pub(super) fn set(
    state: &mut State<'_, '_>,
    id: InodeId,
    kind: AclKind,
    acl: Option<&[u8]>,
    clear_sgid: bool,
) -> Result<MutationResult, Fault> {
    let mut inode = read::requested_inode(state.view(), id)?;
    let acl = PosixAcl::from_xattr(acl.unwrap_or_default()).map_err(FsError::from)?;
    if inode.kind == NodeKind::Symlink {
        return Err(FsError::NotSupported.into());
    }
    match &acl {
        None if !inode.has_acl(kind) => return Ok(MutationResult::Attributes(inode.attributes(id))),
        Some(_) if kind == AclKind::Default && !inode.is_directory() => return Err(FsError::AccessDenied.into()),
        Some(acl) if kind == AclKind::Access => {
            inode.mode = inode.mode & !PERMISSION_BITS | acl.permission_bits();
            if clear_sgid {
                inode.mode &= !SETGID;
            }
        }
        None | Some(_) => {}
    }
    let kept = acl.filter(|acl| kind == AclKind::Default || !acl.is_minimal());
    keep(state, id, &mut inode, kind, kept.as_ref())?;
    inode.ctime = state.time;
    state.put_inode(id, &inode);
    Ok(MutationResult::Attributes(inode.attributes(id)))
}

/// Gives an inode a mode, with which its access list goes along.
pub(super) fn change_mode(state: &mut State<'_, '_>, id: InodeId, inode: &mut Inode, mode: u32) -> Result<(), Fault> {
    inode.mode = mode & 0o7777;
    if let Some(acl) = stored(state, id, inode, AclKind::Access)? {
        let changed = acl.with_permission_bits(inode.mode);
        keep(state, id, inode, AclKind::Access, Some(&changed))?;
    }
    Ok(())
}

/// What a new inode gets from the directory that it is made in: of a default list its lists and its mode,
/// else a mode without the bits of the umask.
pub(super) fn inherit(
    state: &mut State<'_, '_>,
    (parent_id, parent): (InodeId, &Inode),
    (id, inode): (InodeId, &mut Inode),
    umask: u32,
) -> Result<(), Fault> {
    let Some(default) = stored(state, parent_id, parent, AclKind::Default)? else {
        inode.mode &= !(umask & PERMISSION_BITS);
        return Ok(());
    };
    let access = default.inherited(inode.mode);
    inode.mode = inode.mode & !PERMISSION_BITS | access.permission_bits();
    if !access.is_minimal() {
        keep(state, id, inode, AclKind::Access, Some(&access))?;
    }
    if inode.is_directory() {
        keep(state, id, inode, AclKind::Default, Some(&default))?;
    }
    Ok(())
}

/// The list that an inode has.
fn stored(state: &State<'_, '_>, id: InodeId, inode: &Inode, kind: AclKind) -> Result<Option<PosixAcl>, Fault> {
    if !inode.has_acl(kind) {
        return Ok(None);
    }
    let key = keys::xattr(id, kind.xattr_name().as_bytes());
    let (_, Opaque(value)) = read::latest(state.view(), &key)?
        .ok_or_else(|| corrupt(format!("inode {id} says that it has {} and has not", kind.xattr_name())))?;
    let acl = PosixAcl::from_xattr(&value)
        .map_err(|error| corrupt(format!("{} of inode {id}: {error}", kind.xattr_name())))?;
    Ok(acl)
}

/// Writes or removes the row of a list, and what the inode says of it. The inode's record is the caller's to
/// write.
fn keep(
    state: &mut State<'_, '_>,
    id: InodeId,
    inode: &mut Inode,
    kind: AclKind,
    acl: Option<&PosixAcl>,
) -> Result<(), Fault> {
    let name = kind.xattr_name().as_bytes();
    match (inode.has_acl(kind), acl.is_some()) {
        (false, true) => {
            inode.xattr_list_bytes += listed_bytes(name);
            if inode.xattr_list_bytes as usize > XATTR_LIST_MAX_BYTES {
                return Err(FsError::NoSpace.into());
            }
        }
        (true, false) => {
            inode.xattr_list_bytes = inode
                .xattr_list_bytes
                .checked_sub(listed_bytes(name))
                .ok_or_else(|| corrupt(format!("inode {id} has more extended attributes than it counts")))?;
        }
        (false, false) | (true, true) => {}
    }
    let flag = match kind {
        AclKind::Access => &mut inode.access_acl,
        AclKind::Default => &mut inode.default_acl,
    };
    *flag = acl.is_some();
    match acl {
        Some(acl) => state.put_versioned(keys::xattr(id, name), &Opaque(acl.to_xattr())),
        None => state.delete(keys::xattr(id, name)),
    }
    Ok(())
}
