//! Puts bytes into a file: extents whose blocks are durable on a write quorum.

use cairn_common::clock::Timestamp;
use cairn_common::extent::{Extent, ExtentContent, NewExtent};
use cairn_common::ids::{InodeId, PoolId};
use cairn_common::limits::{FILE_MAX_BYTES, INLINE_MAX_BYTES, MAX_BLOCK_BYTES, MAX_EXTENTS_PER_MESSAGE};
use cairn_common::mode;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::MutationResult;

use super::repair::Owners;
use super::set_attributes::{TICK, stamped};
use crate::namespace::fault::Fault;
use crate::namespace::file_map;
use crate::namespace::read;
use crate::namespace::state::State;

/// The fields of `Mutation::Commit`.
pub(super) struct Commit<'m> {
    pub(super) inode: InodeId,
    pub(super) extents: &'m [NewExtent],
    pub(super) append: bool,
    pub(super) minimum_size: u64,
    pub(super) mtime: Option<Timestamp>,
}

pub(super) fn commit(state: &mut State<'_, '_>, commit: &Commit<'_>) -> Result<MutationResult, Fault> {
    let id = commit.inode;
    let mut inode = read::file(state.view(), id)?;
    let base = if commit.append { inode.size } else { 0 };
    let extents = placed(commit.extents, base)?;
    let mut size = inode.size.max(extents.last().map_or(0, Extent::end));
    if !commit.append {
        size = size.max(commit.minimum_size);
    }
    if size > FILE_MAX_BYTES {
        return Err(FsError::FileTooBig.into());
    }
    let mtime = commit.mtime.map_or(Ok(state.time), |stamp| stamped(state, stamp))?;
    for extent in &extents {
        file_map::replace(state, id, &mut inode, extent)?;
    }
    let mut owners = Owners::default();
    for new in commit.extents {
        if let ExtentContent::Block(reference) = &new.extent.content
            && !owners.have_it(state, &reference.block, new.table)?
        {
            return Err(FsError::PutAgain.into());
        }
        if let ExtentContent::Block(reference) = &new.extent.content {
            for disk in &new.missed {
                owners.note_missing(state, &reference.block, *disk)?;
            }
            owners.note_moving(state, &reference.block)?;
        }
    }
    let mut last_change = inode.ctime.plus(TICK);
    if !extents.is_empty() || size != inode.size {
        inode.data_version.0 += 1;
        inode.mode = mode::after_write(inode.mode);
        // Answers are ordered by the version, too: several commits of one write may have one time.
        last_change = inode.ctime;
    }
    inode.size = size;
    inode.mtime = mtime;
    // Programs have seen the time of the write: that it is committed only now is no change of its own.
    inode.ctime = mtime.min(state.time).max(last_change);
    state.put_inode(id, &inode);
    Ok(MutationResult::Committed {
        attributes: inode.attributes(id),
        appended_at: if commit.append { base } else { 0 },
    })
}

/// The extents at their offsets in the file, checked.
fn placed(new: &[NewExtent], base: u64) -> Result<Vec<Extent>, FsError> {
    if new.len() > MAX_EXTENTS_PER_MESSAGE {
        return Err(FsError::Invalid);
    }
    let mut behind = base;
    new.iter()
        .map(|NewExtent { extent, .. }| {
            let offset = extent.offset.checked_add(base).ok_or(FsError::FileTooBig)?;
            let end = offset.checked_add(extent.length).ok_or(FsError::FileTooBig)?;
            if end > FILE_MAX_BYTES {
                return Err(FsError::FileTooBig);
            }
            if extent.length == 0 || offset < behind || !is_sound(extent) {
                return Err(FsError::Invalid);
            }
            behind = end;
            Ok(Extent { offset, ..extent.clone() })
        })
        .collect()
}

/// Whether the content has the length that the extent says.
fn is_sound(extent: &Extent) -> bool {
    match &extent.content {
        ExtentContent::Inline(bytes) => bytes.len() as u64 == extent.length && bytes.len() <= INLINE_MAX_BYTES,
        ExtentContent::Block(reference) => {
            reference.block.pool == PoolId::DEFAULT
                && reference.block_length as usize <= MAX_BLOCK_BYTES
                && u64::from(reference.block_offset)
                    .checked_add(extent.length)
                    .is_some_and(|end| end <= u64::from(reference.block_length))
        }
        ExtentContent::Unwritten => true,
    }
}
