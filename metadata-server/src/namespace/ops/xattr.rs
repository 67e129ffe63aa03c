//! Extended attributes.

use bytes::Bytes;
use cairn_common::ids::InodeId;
use cairn_common::limits::{XATTR_LIST_MAX_BYTES, XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{MutationResult, XattrMode};

use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::keys;
use crate::namespace::read;
use crate::namespace::records::{Inode, Opaque};
use crate::namespace::state::State;
use crate::storage::{ReadView, StorageError};

/// Namespace of what the system keeps there, among it access control lists: not set like other attributes.
const SYSTEM: &[u8] = b"system.";

/// Checks the name of an extended attribute: `Range` for its length as Linux, `Invalid` for a NUL.
pub(crate) fn check_name(name: &[u8]) -> Result<(), FsError> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX_BYTES {
        return Err(FsError::Range);
    }
    if name.contains(&0) { Err(FsError::Invalid) } else { Ok(()) }
}

fn check_settable(name: &[u8]) -> Result<(), FsError> {
    check_name(name)?;
    if name.starts_with(SYSTEM) { Err(FsError::NotSupported) } else { Ok(()) }
}

pub(super) fn set(
    state: &mut State<'_, '_>,
    id: InodeId,
    name: &Bytes,
    value: &Bytes,
    mode: XattrMode,
) -> Result<MutationResult, Fault> {
    check_settable(name)?;
    if value.len() > XATTR_VALUE_MAX_BYTES {
        return Err(FsError::TooBig.into());
    }
    let mut inode = read::requested_inode(state.view(), id)?;
    let exists = exists(state.view(), id, &inode, name)?;
    match (mode, exists) {
        (XattrMode::Create, true) => return Err(FsError::Exists.into()),
        (XattrMode::Replace, false) => return Err(FsError::NoAttribute.into()),
        _ => {}
    }
    if !exists {
        inode.xattr_list_bytes += listed_bytes(name);
        if inode.xattr_list_bytes as usize > XATTR_LIST_MAX_BYTES {
            return Err(FsError::NoSpace.into());
        }
    }
    inode.ctime = state.time;
    state.put_inode(id, &inode);
    state.put_versioned(keys::xattr(id, name), &Opaque(value.clone()));
    Ok(MutationResult::Done)
}

pub(super) fn remove(state: &mut State<'_, '_>, id: InodeId, name: &Bytes) -> Result<MutationResult, Fault> {
    check_settable(name)?;
    let mut inode = read::requested_inode(state.view(), id)?;
    if !exists(state.view(), id, &inode, name)? {
        return Err(FsError::NoAttribute.into());
    }
    inode.xattr_list_bytes = inode
        .xattr_list_bytes
        .checked_sub(listed_bytes(name))
        .ok_or_else(|| corrupt(format!("inode {id} has more extended attributes than it counts")))?;
    inode.ctime = state.time;
    state.put_inode(id, &inode);
    state.delete(keys::xattr(id, name));
    Ok(MutationResult::Done)
}

/// What a name takes in a list: its bytes and a NUL.
pub(super) fn listed_bytes(name: &[u8]) -> u32 {
    name.len() as u32 + 1
}

fn exists(view: &dyn ReadView, id: InodeId, inode: &Inode, name: &[u8]) -> Result<bool, StorageError> {
    Ok(inode.xattr_list_bytes > 0 && read::latest::<Opaque>(view, &keys::xattr(id, name))?.is_some())
}
