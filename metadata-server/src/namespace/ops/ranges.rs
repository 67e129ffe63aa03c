//! Changes of a range of a file that bring no bytes: allocation, holes, and copies that share blocks.
//! Each does no more than [`MAX_EXTENTS_PER_MESSAGE`] extents at once and says how far it came.

use cairn_common::extent::Extent;
use cairn_common::ids::InodeId;
use cairn_common::limits::{FILE_MAX_BYTES, MAX_EXTENTS_PER_MESSAGE};
use cairn_common::mode;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{AllocateMode, MutationResult};

use crate::namespace::fault::Fault;
use crate::namespace::file_map;
use crate::namespace::read;
use crate::namespace::records::Inode;
use crate::namespace::state::State;

/// A range of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) inode: InodeId,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Range {
    fn end(&self) -> Result<u64, FsError> {
        self.offset.checked_add(self.length).filter(|end| *end <= FILE_MAX_BYTES).ok_or(FsError::FileTooBig)
    }
}

pub(super) fn allocate(
    state: &mut State<'_, '_>,
    range: Range,
    mode: AllocateMode,
    keep_size: bool,
) -> Result<MutationResult, Fault> {
    let mut inode = read::file(state.view(), range.inode)?;
    let end = range.end()?;
    if range.length == 0 {
        return Err(FsError::Invalid.into());
    }
    let keep_size = keep_size || mode == AllocateMode::Punch;
    // No extent lies behind the end of its file.
    let to = if keep_size { end.min(inode.size) } else { end };
    let mut done = range.length;
    if range.offset < to {
        let (id, within, most) = (range.inode, (range.offset, to), MAX_EXTENTS_PER_MESSAGE);
        let reached = match mode {
            AllocateMode::Fill => file_map::fill(state, id, &mut inode, within, most)?,
            AllocateMode::Zero | AllocateMode::Punch => file_map::clear(state, id, &mut inode, within, most)?,
        };
        if mode == AllocateMode::Zero {
            file_map::fill(state, id, &mut inode, (range.offset, reached), most)?;
        }
        if reached < to {
            done = reached - range.offset;
        }
        inode.size = inode.size.max(if keep_size { 0 } else { reached });
    }
    Ok(changed(state, range.inode, inode, done))
}

/// Makes `to` show what the source shows from `source_offset` on.
pub(super) fn copy(
    state: &mut State<'_, '_>,
    source_id: InodeId,
    source_offset: u64,
    to: Range,
) -> Result<MutationResult, Fault> {
    let source = read::file(state.view(), source_id)?;
    let mut inode = read::file(state.view(), to.inode)?;
    let source_end = Range { inode: source_id, offset: source_offset, length: to.length }.end()?;
    let overlap = source_offset < to.end()? && to.offset < source_end;
    if source_id == to.inode && overlap {
        return Err(FsError::Invalid.into());
    }
    if source_id != to.inode {
        state.touched.shown.insert(source_id);
    }
    let source_end = source_end.min(source.size);
    if source_offset >= source_end {
        return Ok(MutationResult::Ranged { attributes: inode.attributes(to.inode), done: 0 });
    }
    let within = (source_offset, source_end);
    let (extents, source_end) =
        file_map::some_touching(state.view(), source_id, &source, within, MAX_EXTENTS_PER_MESSAGE)?;
    let end = to.offset + (source_end - source_offset);
    let end = file_map::clear(state, to.inode, &mut inode, (to.offset, end), MAX_EXTENTS_PER_MESSAGE)?;
    let source_end = source_offset + (end - to.offset);
    for part in extents.iter().filter_map(|extent| extent.slice(source_offset, source_end)) {
        let copy = Extent { offset: part.offset - source_offset + to.offset, ..part };
        file_map::replace(state, to.inode, &mut inode, &copy)?;
    }
    inode.size = inode.size.max(end);
    Ok(changed(state, to.inode, inode, end - to.offset))
}

fn changed(state: &mut State<'_, '_>, id: InodeId, mut inode: Inode, done: u64) -> MutationResult {
    inode.data_version.0 += 1;
    inode.mtime = state.time;
    inode.ctime = state.time;
    inode.mode = mode::after_write(inode.mode);
    state.put_inode(id, &inode);
    MutationResult::Ranged { attributes: inode.attributes(id), done }
}
