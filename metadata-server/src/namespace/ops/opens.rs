//! Open files. A session's opens are counted by mode, so every open is given back by one release.
//! A file without a name stays while anybody has it open, and goes with the last release.

use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::{InodeId, SessionId};
use cairn_common::limits::INLINE_MAX_BYTES;
use cairn_common::protocol::metadata::{MutationResult, OpenMode};

use std::ops::ControlFlow;

use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::file_map;
use crate::namespace::keys;
use crate::namespace::read;
use crate::namespace::records::{Inode, Marker, Open};
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
) -> Result<MutationResult, Fault> {
    let inode = read::file(state.view(), id)?;
    add(state, session, id, mode)?;
    let extents = few_extents(state.view(), id, &inode)?;
    Ok(MutationResult::Opened { attributes: inode.attributes(id), extents })
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
pub(super) fn add(
    state: &mut State<'_, '_>,
    session: SessionId,
    id: InodeId,
    mode: OpenMode,
) -> Result<(), StorageError> {
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
