//! Changes attributes, among them the length of a file.

use cairn_common::clock::Timestamp;
use cairn_common::ids::InodeId;
use cairn_common::limits::FILE_MAX_BYTES;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{AttributeChanges, MutationResult, TimeChange};

use super::acl;
use crate::namespace::fault::Fault;
use crate::namespace::file_map;
use crate::namespace::read;
use crate::namespace::records::Inode;
use crate::namespace::state::State;

const SETUID: u32 = 0o4000;
pub(super) const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;

pub(super) fn set_attributes(
    state: &mut State<'_, '_>,
    id: InodeId,
    changes: &AttributeChanges,
) -> Result<MutationResult, Fault> {
    let mut inode = match changes.size {
        Some(_) => read::file(state.view(), id)?,
        None => read::requested_inode(state.view(), id)?,
    };
    let time = state.time;
    if let Some(size) = changes.size {
        resize(state, id, &mut inode, size)?;
        inode.mtime = time;
    }
    if let Some(mode) = changes.mode {
        acl::change_mode(state, id, &mut inode, mode)?;
    }
    if changes.clear_suid_sgid {
        clear_suid_sgid(&mut inode);
    }
    inode.uid = changes.uid.unwrap_or(inode.uid);
    inode.gid = changes.gid.unwrap_or(inode.gid);
    inode.atime = changed(changes.atime, time, inode.atime)?;
    inode.mtime = changed(changes.mtime, time, inode.mtime)?;
    inode.ctime = time;
    state.put_inode(id, &inode);
    Ok(MutationResult::Attributes(inode.attributes(id)))
}

fn resize(state: &mut State<'_, '_>, id: InodeId, inode: &mut Inode, size: u64) -> Result<(), Fault> {
    if size > FILE_MAX_BYTES {
        return Err(FsError::FileTooBig.into());
    }
    if size < inode.size {
        file_map::cut(state, id, inode, size)?;
    }
    if size != inode.size {
        inode.size = size;
        inode.data_version.0 += 1;
    }
    Ok(())
}

/// What a write by a plain user does: suid goes, and sgid where it is not a mark for locking. On a
/// directory the bits mean something else and stay.
pub(super) fn clear_suid_sgid(inode: &mut Inode) {
    if inode.is_directory() {
        return;
    }
    inode.mode &= !SETUID;
    if inode.mode & GROUP_EXECUTE != 0 {
        inode.mode &= !SETGID;
    }
}

fn changed(change: Option<TimeChange>, now: Timestamp, old: Timestamp) -> Result<Timestamp, FsError> {
    match change {
        None => Ok(old),
        Some(TimeChange::Now) => Ok(now),
        Some(TimeChange::At(time)) => checked_time(time),
    }
}

/// A time that came over the wire.
pub(super) fn checked_time(time: Timestamp) -> Result<Timestamp, FsError> {
    if time.nanos < 1_000_000_000 { Ok(time) } else { Err(FsError::Invalid) }
}
