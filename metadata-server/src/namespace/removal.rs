//! Removal of an inode that nothing names and nobody has open. What a file with very many extents
//! leaves behind becomes garbage, which `CollectGarbage` removes in bounded steps: inode numbers
//! are never used again, so nobody sees it.

use std::ops::ControlFlow;

use cairn_common::extent::Extent;
use cairn_common::ids::InodeId;
use cairn_common::protocol::metadata::NodeKind;

use super::file_map;
use super::keys::{self, Counter, KeyFields, Table};
use super::read::{self, Direction};
use super::records::{self, Garbage, Inode, StoredExtent};
use super::state::State;
use crate::storage::StorageError;

/// Removes an inode with everything that hangs on it; its last name is gone already.
pub(crate) fn remove_inode(state: &mut State<'_, '_>, id: InodeId, mut inode: Inode) -> Result<(), StorageError> {
    state.delete_inode(id);
    state.count_down(Counter::Inodes)?;
    if inode.xattr_list_bytes > 0 {
        for key in read::keys_of(state.view(), keys::xattrs(id))? {
            state.delete(key);
        }
    }
    match inode.kind {
        NodeKind::Symlink => state.delete(keys::symlink(id)),
        NodeKind::File if inode.allocated > 0 => {
            let most = if inode.trim.is_some() { 0 } else { state.removals_left };
            let (extents, _) = stored(state, id, 0, most.saturating_add(1))?;
            if extents.len() > most {
                state.put(keys::garbage(id), &Garbage { cursor: 0 });
            } else {
                state.removals_left -= extents.len();
                for (extent, _) in &extents {
                    file_map::remove(state, id, &mut inode, extent)?;
                }
            }
        }
        NodeKind::File
        | NodeKind::Directory
        | NodeKind::Fifo
        | NodeKind::Socket
        | NodeKind::CharDevice
        | NodeKind::BlockDevice => {}
    }
    Ok(())
}

type Stored = (Extent, cairn_common::ids::CommitSequence);

/// Up to `limit` stored extents from an offset on, hidden ones too, and whether these are all.
fn stored(state: &State<'_, '_>, id: InodeId, from: u64, limit: usize) -> Result<(Vec<Stored>, bool), StorageError> {
    let (mut found, mut all) = (Vec::new(), true);
    let (_, end) = keys::extents(id);
    read::scan(state.view(), (keys::extent(id, from), end), Direction::Forward, &mut |key, value| {
        if found.len() == limit {
            all = false;
            return Ok(ControlFlow::Break(()));
        }
        let (sequence, stored) = records::decode_versioned::<StoredExtent>(value)?;
        found.push((stored.at(file_map::offset_of(key)?), sequence));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((found, all))
}

/// Looks at no more than `limit` extents of garbage and removes those that no file shows.
pub(crate) fn collect(state: &mut State<'_, '_>, limit: usize) -> Result<(), StorageError> {
    let mut left = limit;
    while left > 0 {
        let Some((id, garbage)) = first_garbage(state)? else { return Ok(()) };
        let live = read::inode(state.view(), id)?;
        let (extents, all) = stored(state, id, garbage.cursor, left)?;
        left -= extents.len();
        match live {
            Some(mut inode) => {
                for (extent, sequence) in &extents {
                    if !inode.shows(extent.offset, *sequence) {
                        file_map::remove(state, id, &mut inode, extent)?;
                    }
                }
                if all {
                    inode.trim = None;
                }
                state.put_inode(id, &inode);
            }
            None => {
                for (extent, _) in &extents {
                    file_map::forget(state, id, extent);
                }
            }
        }
        match extents.last() {
            Some((last, _)) if !all => {
                state.put(keys::garbage(id), &Garbage { cursor: last.offset.saturating_add(1) });
            }
            _ => state.delete(keys::garbage(id)),
        }
    }
    Ok(())
}

fn first_garbage(state: &State<'_, '_>) -> Result<Option<(InodeId, Garbage)>, StorageError> {
    let mut first = None;
    let range = keys::table_range(Table::Garbage, keys::VOLUME);
    read::scan(state.view(), range, Direction::Forward, &mut |key, value| {
        let mut fields = KeyFields::of(key);
        let id = InodeId(fields.u64()?);
        fields.end()?;
        first = Some((id, records::decode::<Garbage>(value)?));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(first)
}
