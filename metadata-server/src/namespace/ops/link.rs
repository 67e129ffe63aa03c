//! A further name of a file.

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::limits::LINK_MAX;
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::MutationResult;

use super::directory::{self, NewEntry};
use super::opens;
use crate::namespace::fault::Fault;
use crate::namespace::read;
use crate::namespace::state::State;

/// Checks in the order of link(2) in Linux: the file, the new name, then what may be linked.
pub(super) fn link(
    state: &mut State<'_, '_>,
    session: SessionId,
    id: InodeId,
    parent: InodeId,
    name: &Name,
) -> Result<MutationResult, Fault> {
    name.check()?;
    let mut inode = read::requested_inode(state.view(), id)?;
    read::directory(state.view(), parent)?;
    if read::entry(state.view(), parent, name.as_bytes())?.is_some() {
        return Err(FsError::Exists.into());
    }
    if inode.is_directory() {
        return Err(FsError::NotPermitted.into());
    }
    if inode.links == 0 {
        return Err(FsError::NotFound.into());
    }
    if inode.links >= LINK_MAX {
        return Err(FsError::TooManyLinks.into());
    }
    inode.links += 1;
    inode.ctime = state.time;
    state.put_inode(id, &inode);
    directory::insert(state, parent, name.as_bytes(), NewEntry { inode: id, kind: inode.kind, cookie: None })?;
    Ok(MutationResult::Node {
        attributes: inode.attributes(id),
        created: true,
        exclusive: opens::holds(state, session, id)?,
    })
}
