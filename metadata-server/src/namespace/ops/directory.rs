//! Entries of a directory: by name and by cookie, with the directory's size, links, times and
//! cookie counter.

use bytes::Bytes;
use cairn_common::ids::InodeId;
use cairn_common::protocol::metadata::NodeKind;

use crate::namespace::fault::corrupt;
use crate::namespace::keys;
use crate::namespace::read;
use crate::namespace::records::{Entry, Inode, OrderedEntry};
use crate::namespace::state::State;
use crate::storage::StorageError;

/// What a new entry leads to, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewEntry {
    pub(super) inode: InodeId,
    pub(super) kind: NodeKind,
    /// A position to take over (of the name that it replaces or had before), or a new one at the end.
    pub(super) cookie: Option<u64>,
}

/// Adds an entry; the name is free.
pub(super) fn insert(
    state: &mut State<'_, '_>,
    parent: InodeId,
    name: &[u8],
    new: NewEntry,
) -> Result<(), StorageError> {
    change(state, parent, |directory| {
        let cookie = new.cookie.unwrap_or(directory.next_cookie);
        directory.next_cookie = directory.next_cookie.max(cookie + 1);
        directory.size += 1;
        directory.links += u32::from(new.kind == NodeKind::Directory);
        Some(cookie)
    })
    .map(|cookie| {
        state.put_versioned(keys::entry(parent, name), &Entry { inode: new.inode, kind: new.kind, cookie });
        let name = Bytes::copy_from_slice(name);
        state
            .put_versioned(keys::entry_order(parent, cookie), &OrderedEntry { inode: new.inode, kind: new.kind, name });
    })
}

/// Removes an entry that is there.
pub(super) fn remove(
    state: &mut State<'_, '_>,
    parent: InodeId,
    name: &[u8],
    entry: &Entry,
) -> Result<(), StorageError> {
    state.delete(keys::entry(parent, name));
    state.delete(keys::entry_order(parent, entry.cookie));
    change(state, parent, |directory| {
        directory.size = directory.size.checked_sub(1)?;
        directory.links = directory.links.checked_sub(u32::from(entry.kind == NodeKind::Directory))?;
        Some(())
    })
}

/// Changes a directory's inode because of its entries: its times and version change, too.
fn change<T>(
    state: &mut State<'_, '_>,
    id: InodeId,
    change: impl FnOnce(&mut Inode) -> Option<T>,
) -> Result<T, StorageError> {
    let mut directory = read::named_inode(state.view(), id)?;
    let result = change(&mut directory)
        .ok_or_else(|| corrupt(format!("directory {id} has fewer entries or subdirectories than it counts")))?;
    directory.mtime = state.time;
    directory.ctime = state.time;
    directory.data_version.0 += 1;
    state.put_inode(id, &directory);
    Ok(result)
}
