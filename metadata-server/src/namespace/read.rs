//! Reads of records. Versioned ones are read through [`latest`] only: with snapshots it will look
//! for the newest version that is not newer than the snapshot, and nothing else has to change.

use std::ops::ControlFlow;

use cairn_common::ids::{CommitSequence, InodeId, SessionId};
use cairn_common::protocol::FsError;

use super::fault::{Fault, corrupt};
use super::keys::{self, Counter};
use super::records::{self, Entry, Inode, Number, Record, Versioned};
use crate::storage::{ReadView, StorageError};

/// The newest version of a versioned record, and the command that wrote it.
pub(crate) fn latest<R: Versioned>(
    view: &dyn ReadView,
    key: &[u8],
) -> Result<Option<(CommitSequence, R)>, StorageError> {
    view.get(key)?.map(|value| records::decode_versioned(&value)).transpose()
}

/// A record without versions.
pub(crate) fn plain<R: Record>(view: &dyn ReadView, key: &[u8]) -> Result<Option<R>, StorageError> {
    view.get(key)?.map(|value| records::decode(&value)).transpose()
}

/// A counter; `initial` before it was ever written.
pub(crate) fn counter(view: &dyn ReadView, counter: Counter, initial: u64) -> Result<u64, StorageError> {
    Ok(plain::<Number>(view, &keys::counter(counter))?.map_or(initial, |number| number.0))
}

/// An inode, if it is there.
pub(crate) fn inode(view: &dyn ReadView, inode: InodeId) -> Result<Option<Inode>, StorageError> {
    Ok(latest(view, &keys::inode(inode))?.map(|(_, inode)| inode))
}

/// The inode that an entry or another record names, which must be there.
pub(crate) fn named_inode(view: &dyn ReadView, id: InodeId) -> Result<Inode, StorageError> {
    inode(view, id)?.ok_or_else(|| corrupt(format!("inode {id} is named and not there")))
}

/// An inode that a request names: `Stale` if it is gone.
pub(crate) fn requested_inode(view: &dyn ReadView, id: InodeId) -> Result<Inode, Fault> {
    Ok(inode(view, id)?.ok_or(FsError::Stale)?)
}

/// A directory that a request names: `NotFound`, `NotDirectory`.
pub(crate) fn directory(view: &dyn ReadView, id: InodeId) -> Result<Inode, Fault> {
    let inode = inode(view, id)?.ok_or(FsError::NotFound)?;
    if inode.is_directory() { Ok(inode) } else { Err(FsError::NotDirectory.into()) }
}

/// A regular file that a request names: `Stale`, `IsDirectory`, `Invalid`.
pub(crate) fn file(view: &dyn ReadView, id: InodeId) -> Result<Inode, Fault> {
    let inode = requested_inode(view, id)?;
    if inode.is_file() {
        Ok(inode)
    } else if inode.is_directory() {
        Err(FsError::IsDirectory.into())
    } else {
        Err(FsError::Invalid.into())
    }
}

/// The session that holds a file exclusively.
pub(crate) fn exclusive_holder(view: &dyn ReadView, id: InodeId) -> Result<Option<SessionId>, StorageError> {
    Ok(plain::<Number>(view, &keys::exclusive(id))?.map(|session| SessionId(session.0)))
}

/// The entry of a name, if it is there.
pub(crate) fn entry(view: &dyn ReadView, parent: InodeId, name: &[u8]) -> Result<Option<Entry>, StorageError> {
    Ok(latest(view, &keys::entry(parent, name))?.map(|(_, entry)| entry))
}

/// Which way a scan goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Reverse,
}

/// Looks at a key and its value, and says whether to go on.
pub(crate) type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StorageError> + 'v;

/// Visits a range until the visitor answers `Break`, or fails.
pub(crate) fn scan(
    view: &dyn ReadView,
    (from, to): (Vec<u8>, Vec<u8>),
    direction: Direction,
    visit: &mut Visitor<'_>,
) -> Result<(), StorageError> {
    let mut failure = None;
    let mut visit = |key: &[u8], value: &[u8]| match visit(key, value) {
        Ok(flow) => flow,
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    };
    match direction {
        Direction::Forward => view.scan(&from, &to, &mut visit)?,
        Direction::Reverse => view.scan_reverse(&from, &to, &mut visit)?,
    }
    failure.map_or(Ok(()), Err)
}

/// Whether a range has any key.
pub(crate) fn any(view: &dyn ReadView, range: (Vec<u8>, Vec<u8>)) -> Result<bool, StorageError> {
    let mut found = false;
    scan(view, range, Direction::Forward, &mut |_, _| {
        found = true;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// All keys of a range that is known to be short.
pub(crate) fn keys_of(view: &dyn ReadView, range: (Vec<u8>, Vec<u8>)) -> Result<Vec<Vec<u8>>, StorageError> {
    let mut found = Vec::new();
    scan(view, range, Direction::Forward, &mut |key, _| {
        found.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}
