//! Changes attributes, among them the length of a file.

use std::time::Duration;

use cairn_common::clock::Timestamp;
use cairn_common::ids::InodeId;
use cairn_common::limits::{FILE_MAX_BYTES, MAX_STAMP_AHEAD};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{AttributeChanges, MutationResult, TimeChange};

use super::acl;
use crate::namespace::fault::Fault;
use crate::namespace::file_map;
use crate::namespace::read;
use crate::namespace::records::Inode;
use crate::namespace::state::State;

/// By so much a ctime is later than that of the change before, at least: mounts order answers of one data version
/// by it. It is never ahead of the cluster's time, or the next change would seem to be older.
pub(super) const TICK: Duration = Duration::from_nanos(1);

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
    inode.uid = changes.uid.unwrap_or(inode.uid);
    inode.gid = changes.gid.unwrap_or(inode.gid);
    inode.atime = changed(changes.atime, time, inode.atime)?;
    inode.mtime = changed(changes.mtime, time, inode.mtime)?;
    inode.ctime = match changes.ctime {
        Some(stamp) => stamped(state, stamp)?.min(time).max(inode.ctime.plus(TICK)),
        None => time,
    };
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

fn changed(change: Option<TimeChange>, now: Timestamp, old: Timestamp) -> Result<Timestamp, FsError> {
    match change {
        None => Ok(old),
        Some(TimeChange::Now) => Ok(now),
        Some(TimeChange::At(time)) => checked_time(time),
    }
}

/// When a mount did something that it tells of now.
pub(super) fn stamped(state: &State<'_, '_>, stamp: Timestamp) -> Result<Timestamp, FsError> {
    Ok(checked_time(stamp)?.min(state.time.plus(MAX_STAMP_AHEAD)))
}

/// A time that came over the wire.
fn checked_time(time: Timestamp) -> Result<Timestamp, FsError> {
    if time.nanos < 1_000_000_000 { Ok(time) } else { Err(FsError::Invalid) }
}
