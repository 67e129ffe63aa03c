//! Removes a name: of a file or of an empty directory.

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::MutationResult;

use super::{directory, opens};
use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::keys;
use crate::namespace::read;
use crate::namespace::records::{Entry, Marker};
use crate::namespace::removal;
use crate::namespace::state::State;
use crate::storage::StorageError;

pub(super) fn unlink(
    state: &mut State<'_, '_>,
    parent: InodeId,
    name: &Name,
    openers: &[SessionId],
) -> Result<MutationResult, Fault> {
    let entry = entry_to_remove(state, parent, name)?;
    if read::named_inode(state.view(), entry.inode)?.is_directory() {
        return Err(FsError::IsDirectory.into());
    }
    directory::remove(state, parent, name.as_bytes(), &entry)?;
    drop_name(state, &entry, openers)?;
    Ok(MutationResult::Done)
}

pub(super) fn remove_directory(
    state: &mut State<'_, '_>,
    parent: InodeId,
    name: &Name,
) -> Result<MutationResult, Fault> {
    let entry = entry_to_remove(state, parent, name)?;
    let victim = read::named_inode(state.view(), entry.inode)?;
    if !victim.is_directory() {
        return Err(FsError::NotDirectory.into());
    }
    if victim.size != 0 {
        return Err(FsError::NotEmpty.into());
    }
    directory::remove(state, parent, name.as_bytes(), &entry)?;
    drop_name(state, &entry, &[])?;
    Ok(MutationResult::Done)
}

fn entry_to_remove(state: &State<'_, '_>, parent: InodeId, name: &Name) -> Result<Entry, Fault> {
    name.check()?;
    read::directory(state.view(), parent)?;
    Ok(read::entry(state.view(), parent, name.as_bytes())?.ok_or(FsError::NotFound)?)
}

/// What an entry stood for has lost that name: it goes, or has a link less, or waits as an orphan
/// for those who have it open, among them `openers`, who did not register until now. A directory is
/// empty, and has no other name.
pub(super) fn drop_name(state: &mut State<'_, '_>, entry: &Entry, openers: &[SessionId]) -> Result<(), StorageError> {
    let id = entry.inode;
    let mut inode = read::named_inode(state.view(), id)?;
    if inode.is_directory() {
        if inode.size != 0 || inode.links != 2 {
            return Err(corrupt(format!("directory {id} is removed and not empty")));
        }
        return removal::remove_inode(state, id, inode);
    }
    inode.links = inode.links.checked_sub(1).ok_or_else(|| corrupt(format!("inode {id} has a name and no links")))?;
    inode.ctime = state.time;
    if inode.links == 0 {
        if inode.is_file() {
            state.touched.last_name = Some(id);
            opens::keep(state, id, openers)?;
        }
        if !opens::is_open(state.view(), id)? {
            return removal::remove_inode(state, id, inode);
        }
        state.put(keys::orphan(id), &Marker);
    }
    state.put_inode(id, &inode);
    Ok(())
}
