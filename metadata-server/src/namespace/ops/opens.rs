//! Open files. A session's opens are counted by mode, so every open is given back by one release.
//! A file without a name stays while anybody has it open, and goes with the last release.

use std::ops::ControlFlow;

use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::{InodeId, SessionId};
use cairn_common::limits::INLINE_MAX_BYTES;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{MutationResult, OpenMode};

use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::file_map;
use crate::namespace::keys;
use crate::namespace::read;
use crate::namespace::records::{Inode, Marker, Number, Open, Session};
use crate::namespace::removal;
use crate::namespace::state::State;
use crate::storage::{ReadView, StorageError};

/// Most extents that come along with an open.
const OPENED_EXTENTS_MAX: usize = 16;

pub(super) fn open(
    state: &mut State<'_, '_>,
    session: SessionId,
    id: InodeId,
    mode: OpenMode,
    exclusive_lease: bool,
) -> Result<MutationResult, Fault> {
    let inode = read::file(state.view(), id)?;
    let exclusive = register(state, session, id, mode, exclusive_lease)?;
    opened(state, id, &inode, exclusive)
}

fn opened(state: &mut State<'_, '_>, id: InodeId, inode: &Inode, exclusive: bool) -> Result<MutationResult, Fault> {
    state.touched.shown.insert(id);
    let extents = few_extents(state.view(), id, inode)?;
    Ok(MutationResult::Opened { attributes: inode.attributes(id), exclusive, extents })
}

/// The exclusive lease on a file that the session has open for writing.
pub(super) fn acquire_exclusive(
    state: &mut State<'_, '_>,
    session: SessionId,
    id: InodeId,
) -> Result<MutationResult, Fault> {
    let inode = read::file(state.view(), id)?;
    let open = read::plain::<Open>(state.view(), &keys::open(id, session))?;
    if open.is_none_or(|open| open.writers == 0) {
        return Err(FsError::Stale.into());
    }
    take_exclusive(state, session, id)?;
    let exclusive = holds(state, session, id)?;
    opened(state, id, &inode, exclusive)
}

/// Gives exclusive leases up; what the session does not hold is ignored.
pub(super) fn give_up_exclusive(
    state: &mut State<'_, '_>,
    session: SessionId,
    inodes: &[InodeId],
) -> Result<MutationResult, Fault> {
    for id in inodes {
        drop_exclusive(state, session, *id)?;
    }
    Ok(MutationResult::Done)
}

/// Takes the exclusive lease where the leader has pinned the file, which it does not do for one that
/// bounces.
fn take_exclusive(state: &mut State<'_, '_>, session: SessionId, id: InodeId) -> Result<(), Fault> {
    match read::exclusive_holder(state.view(), id)? {
        Some(holder) if holder == session => {}
        Some(_) => return Err(Fault::NotPinned(vec![id])),
        None if state.touched.may_take(id) => state.put(keys::exclusive(id), &Number(session.0)),
        None => {}
    }
    Ok(())
}

fn drop_exclusive(state: &mut State<'_, '_>, session: SessionId, id: InodeId) -> Result<(), StorageError> {
    if read::exclusive_holder(state.view(), id)? == Some(session) {
        state.delete(keys::exclusive(id));
    }
    Ok(())
}

/// Whether the session holds the file exclusively.
pub(super) fn holds(state: &State<'_, '_>, session: SessionId, id: InodeId) -> Result<bool, Fault> {
    Ok(read::exclusive_holder(state.view(), id)? == Some(session))
}

/// Counts one more open, and takes the exclusive lease with one for writing if that is asked for;
/// whether the session holds the file exclusively now.
pub(super) fn register(
    state: &mut State<'_, '_>,
    session: SessionId,
    id: InodeId,
    mode: OpenMode,
    exclusive_lease: bool,
) -> Result<bool, Fault> {
    add(state, session, id, mode)?;
    if exclusive_lease && mode == OpenMode::Write {
        take_exclusive(state, session, id)?;
    }
    holds(state, session, id)
}

/// Registers sessions as readers of a file whose last name goes. Those that have ended are left out.
pub(super) fn keep(state: &mut State<'_, '_>, id: InodeId, openers: &[SessionId]) -> Result<(), StorageError> {
    for session in openers {
        if read::plain::<Session>(state.view(), &keys::session(*session))?.is_some() {
            add(state, *session, id, OpenMode::Read)?;
        }
    }
    Ok(())
}

/// All extents of a file if they are few and small.
fn few_extents(view: &dyn ReadView, id: InodeId, inode: &Inode) -> Result<Option<Vec<Extent>>, StorageError> {
    let (mut extents, mut inline, mut fits) = (Vec::new(), 0, true);
    file_map::visit(view, id, inode, (0, u64::MAX), &mut |extent| {
        if let ExtentContent::Inline(bytes) = &extent.content {
            inline += bytes.len();
        }
        if extents.len() == OPENED_EXTENTS_MAX || inline > INLINE_MAX_BYTES {
            fits = false;
            return ControlFlow::Break(());
        }
        extents.push(extent);
        ControlFlow::Continue(())
    })?;
    Ok(fits.then_some(extents))
}

/// Counts one more open.
fn add(state: &mut State<'_, '_>, session: SessionId, id: InodeId, mode: OpenMode) -> Result<(), StorageError> {
    let key = keys::open(id, session);
    let mut open = read::plain::<Open>(state.view(), &key)?.unwrap_or_default();
    let count = match mode {
        OpenMode::Read => &mut open.readers,
        OpenMode::Write => &mut open.writers,
    };
    *count =
        count.checked_add(1).ok_or_else(|| corrupt(format!("session {session} has inode {id} open 2^32 times")))?;
    state.put(key, &open);
    state.put(keys::session_open(session, id), &Marker);
    Ok(())
}

/// Gives opens back; unknown ones are ignored.
pub(super) fn release(
    state: &mut State<'_, '_>,
    session: SessionId,
    opens: &[(InodeId, OpenMode)],
) -> Result<MutationResult, Fault> {
    for (id, mode) in opens {
        let key = keys::open(*id, session);
        let Some(mut open) = read::plain::<Open>(state.view(), &key)? else { continue };
        let count = match mode {
            OpenMode::Read => &mut open.readers,
            OpenMode::Write => &mut open.writers,
        };
        *count = count.saturating_sub(1);
        if open.writers == 0 && *mode == OpenMode::Write {
            drop_exclusive(state, session, *id)?;
        }
        if open == Open::default() {
            close(state, session, *id)?;
        } else {
            state.put(key, &open);
        }
    }
    Ok(MutationResult::Done)
}

/// The session has the file open no more: removes an orphan that nobody else has open.
pub(super) fn close(state: &mut State<'_, '_>, session: SessionId, id: InodeId) -> Result<(), StorageError> {
    drop_exclusive(state, session, id)?;
    state.delete(keys::open(id, session));
    state.delete(keys::session_open(session, id));
    let orphan = keys::orphan(id);
    if read::plain::<Marker>(state.view(), &orphan)?.is_none() || is_open(state.view(), id)? {
        return Ok(());
    }
    state.delete(orphan);
    let inode = read::named_inode(state.view(), id)?;
    if inode.links != 0 {
        return Err(corrupt(format!("orphan {id} has {} links", inode.links)));
    }
    removal::remove_inode(state, id, inode)
}

/// Whether any session has the file open.
pub(super) fn is_open(view: &dyn ReadView, id: InodeId) -> Result<bool, StorageError> {
    read::any(view, keys::opens(id))
}
