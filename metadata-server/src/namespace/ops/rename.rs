//! Renames, with the errors of rename(2) in the order in which Linux finds them.

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{MutationResult, RenameMode};

use super::directory::{self, NewEntry};
use super::unlink::drop_name;
use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::read;
use crate::namespace::records::Entry;
use crate::namespace::state::State;
use crate::storage::{ReadView, StorageError};

/// Directories above one another that a rename is ready to climb; deeper down it is `Invalid`.
const MAX_DEPTH: usize = 65_536;

/// One side of a rename.
#[derive(Clone, Copy)]
pub(super) struct Place<'m> {
    pub(super) parent: InodeId,
    pub(super) name: &'m Name,
}

pub(super) fn rename(
    state: &mut State<'_, '_>,
    from: Place<'_>,
    to: Place<'_>,
    mode: RenameMode,
    openers: &[SessionId],
) -> Result<MutationResult, Fault> {
    from.name.check()?;
    to.name.check()?;
    read::directory(state.view(), from.parent)?;
    read::directory(state.view(), to.parent)?;
    let source = read::entry(state.view(), from.parent, from.name.as_bytes())?.ok_or(FsError::NotFound)?;
    let target = read::entry(state.view(), to.parent, to.name.as_bytes())?;
    match (mode, &target) {
        (RenameMode::NoReplace, Some(_)) => return Err(FsError::Exists.into()),
        (RenameMode::Exchange, None) => return Err(FsError::NotFound.into()),
        _ => {}
    }
    check_ancestry(state.view(), from, to, &source, target.as_ref(), mode)?;
    match target {
        Some(target) if target.inode == source.inode => {}
        Some(target) if mode == RenameMode::Exchange => exchange(state, from, to, &source, &target)?,
        Some(target) => {
            check_replaceable(state.view(), &source, &target)?;
            directory::remove(state, to.parent, to.name.as_bytes(), &target)?;
            // A name that is there before and after keeps its place in a listing.
            move_entry(state, from, to, &source, Some(target.cookie))?;
            drop_name(state, &target, openers)?;
        }
        None => {
            // So does a file that only changes its name within a directory.
            let cookie = (from.parent == to.parent).then_some(source.cookie);
            move_entry(state, from, to, &source, cookie)?;
        }
    }
    Ok(MutationResult::Done)
}

/// A directory must not come to lie in itself, nor be replaced by something that lies in it.
fn check_ancestry(
    view: &dyn ReadView,
    from: Place<'_>,
    to: Place<'_>,
    source: &Entry,
    target: Option<&Entry>,
    mode: RenameMode,
) -> Result<(), Fault> {
    if from.parent == to.parent {
        return Ok(());
    }
    if is_directory(source) && lies_within(view, to.parent, source.inode)? {
        return Err(FsError::Invalid.into());
    }
    if let Some(target) = target
        && is_directory(target)
        && lies_within(view, from.parent, target.inode)?
    {
        let error = if mode == RenameMode::Exchange { FsError::Invalid } else { FsError::NotEmpty };
        return Err(error.into());
    }
    Ok(())
}

fn is_directory(entry: &Entry) -> bool {
    entry.kind == cairn_common::protocol::metadata::NodeKind::Directory
}

/// Whether a directory is `above` or lies below it.
fn lies_within(view: &dyn ReadView, directory: InodeId, above: InodeId) -> Result<bool, Fault> {
    let mut at = directory;
    for _ in 0..MAX_DEPTH {
        if at == above {
            return Ok(true);
        }
        if at == InodeId::ROOT {
            return Ok(false);
        }
        at = read::named_inode(view, at)?.parent;
    }
    Err(FsError::Invalid.into())
}

fn check_replaceable(view: &dyn ReadView, source: &Entry, target: &Entry) -> Result<(), Fault> {
    match (is_directory(source), is_directory(target)) {
        (true, false) => Err(FsError::NotDirectory.into()),
        (false, true) => Err(FsError::IsDirectory.into()),
        (false, false) => Ok(()),
        (true, true) if read::named_inode(view, target.inode)?.size != 0 => Err(FsError::NotEmpty.into()),
        (true, true) => Ok(()),
    }
}

/// Moves an entry to a free name.
fn move_entry(
    state: &mut State<'_, '_>,
    from: Place<'_>,
    to: Place<'_>,
    entry: &Entry,
    cookie: Option<u64>,
) -> Result<(), StorageError> {
    directory::remove(state, from.parent, from.name.as_bytes(), entry)?;
    let new = NewEntry { inode: entry.inode, kind: entry.kind, cookie };
    directory::insert(state, to.parent, to.name.as_bytes(), new)?;
    settle(state, entry, from.parent, to.parent)
}

/// The two names change what they stand for; each keeps its place in its listing.
fn exchange(
    state: &mut State<'_, '_>,
    from: Place<'_>,
    to: Place<'_>,
    source: &Entry,
    target: &Entry,
) -> Result<(), StorageError> {
    directory::remove(state, from.parent, from.name.as_bytes(), source)?;
    directory::remove(state, to.parent, to.name.as_bytes(), target)?;
    let to_source = NewEntry { inode: target.inode, kind: target.kind, cookie: Some(source.cookie) };
    directory::insert(state, from.parent, from.name.as_bytes(), to_source)?;
    let to_target = NewEntry { inode: source.inode, kind: source.kind, cookie: Some(target.cookie) };
    directory::insert(state, to.parent, to.name.as_bytes(), to_target)?;
    settle(state, source, from.parent, to.parent)?;
    settle(state, target, to.parent, from.parent)
}

/// What was moved knows its new parent and has a new ctime.
fn settle(
    state: &mut State<'_, '_>,
    entry: &Entry,
    old_parent: InodeId,
    new_parent: InodeId,
) -> Result<(), StorageError> {
    let mut inode = read::named_inode(state.view(), entry.inode)?;
    inode.ctime = state.time;
    if inode.is_directory() {
        if inode.parent != old_parent {
            return Err(corrupt(format!("directory {} is not in its parent", entry.inode)));
        }
        inode.parent = new_parent;
    }
    state.put_inode(entry.inode, &inode);
    Ok(())
}
