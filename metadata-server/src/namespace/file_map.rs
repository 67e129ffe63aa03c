//! The extent map of a file, with its back-references. A stored extent belongs to the file unless
//! the inode's trim hides it; extents that belong to it never overlap and end within its size.

use std::ops::ControlFlow;

use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::InodeId;

use super::fault::corrupt;
use super::keys::{self, KeyFields};
use super::read::{self, Direction};
use super::records::{self, Garbage, Inode, Marker, StoredExtent, Trim};
use super::state::State;
use crate::storage::{ReadView, StorageError};

/// Offset of an extent's key.
pub(crate) fn offset_of(key: &[u8]) -> Result<u64, StorageError> {
    let mut fields = KeyFields::of(key);
    fields.u64()?;
    let offset = fields.u64()?;
    fields.end()?;
    Ok(offset)
}

/// Visits the file's extents that touch `[from, to)`, whole and ascending, until `Break`.
pub(crate) fn visit(
    view: &dyn ReadView,
    id: InodeId,
    inode: &Inode,
    (from, to): (u64, u64),
    visit: &mut dyn FnMut(Extent) -> ControlFlow<()>,
) -> Result<(), StorageError> {
    if from >= to || inode.allocated == 0 {
        return Ok(());
    }
    if let Some(before) = before(view, id, inode, from)?
        && before.end() > from
        && visit(before).is_break()
    {
        return Ok(());
    }
    let range = (keys::extent(id, from), keys::extent(id, to));
    read::scan(view, range, Direction::Forward, &mut |key, value| {
        let offset = offset_of(key)?;
        let (sequence, stored) = records::decode_versioned::<StoredExtent>(value)?;
        Ok(if inode.shows(offset, sequence) { visit(stored.at(offset)) } else { ControlFlow::Continue(()) })
    })
}

/// The file's last extent that begins below an offset.
fn before(view: &dyn ReadView, id: InodeId, inode: &Inode, offset: u64) -> Result<Option<Extent>, StorageError> {
    let mut found = None;
    let range = (keys::extent(id, 0), keys::extent(id, offset));
    read::scan(view, range, Direction::Reverse, &mut |key, value| {
        let offset = offset_of(key)?;
        let (sequence, stored) = records::decode_versioned::<StoredExtent>(value)?;
        if !inode.shows(offset, sequence) {
            return Ok(ControlFlow::Continue(()));
        }
        found = Some(stored.at(offset));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// The file's extents that touch `[from, to)`.
pub(crate) fn touching(
    view: &dyn ReadView,
    id: InodeId,
    inode: &Inode,
    range: (u64, u64),
) -> Result<Vec<Extent>, StorageError> {
    let mut extents = Vec::new();
    visit(view, id, inode, range, &mut |extent| {
        extents.push(extent);
        ControlFlow::Continue(())
    })?;
    Ok(extents)
}

/// Removes a stored extent and its back-reference. The caller stores the inode.
pub(crate) fn remove(
    state: &mut State<'_, '_>,
    id: InodeId,
    inode: &mut Inode,
    extent: &Extent,
) -> Result<(), StorageError> {
    forget(state, id, extent);
    inode.allocated = inode
        .allocated
        .checked_sub(extent.length)
        .ok_or_else(|| corrupt(format!("extents of inode {id} are longer than what is allocated")))?;
    Ok(())
}

/// Removes a stored extent and its back-reference, of a file that is gone.
pub(crate) fn forget(state: &mut State<'_, '_>, id: InodeId, extent: &Extent) {
    state.delete(keys::extent(id, extent.offset));
    if let ExtentContent::Block(reference) = &extent.content {
        state.delete(keys::backref(&reference.block, id, extent.offset));
    }
}

/// Stores an extent where the file has none. The caller stores the inode.
fn insert(state: &mut State<'_, '_>, id: InodeId, inode: &mut Inode, extent: &Extent) -> Result<(), StorageError> {
    let key = keys::extent(id, extent.offset);
    // A hidden extent may still be stored under the key: its back-reference must go with it.
    if inode.trim.is_some()
        && let Some((_, hidden)) = read::latest::<StoredExtent>(state.view(), &key)?
    {
        remove(state, id, inode, &hidden.at(extent.offset))?;
    }
    state.put_versioned(key, &StoredExtent { length: extent.length, content: extent.content.clone() });
    if let ExtentContent::Block(reference) = &extent.content {
        state.put(keys::backref(&reference.block, id, extent.offset), &Marker);
    }
    inode.allocated = inode
        .allocated
        .checked_add(extent.length)
        .ok_or_else(|| corrupt(format!("inode {id} has more allocated than a file can have")))?;
    Ok(())
}

/// Puts an extent over whatever the file has there. The caller stores the inode.
pub(crate) fn replace(
    state: &mut State<'_, '_>,
    id: InodeId,
    inode: &mut Inode,
    extent: &Extent,
) -> Result<(), StorageError> {
    let (from, to) = (extent.offset, extent.end());
    // Nothing that the file shows lies behind its end: an append need not look.
    let old = if from < inode.size { touching(state.view(), id, inode, (from, to))? } else { Vec::new() };
    take_out(state, id, inode, &old, (from, to))?;
    insert(state, id, inode, extent)
}

/// Takes `[from, to)` out of these extents, which touch it; what lies outside stays.
fn take_out(
    state: &mut State<'_, '_>,
    id: InodeId,
    inode: &mut Inode,
    extents: &[Extent],
    (from, to): (u64, u64),
) -> Result<(), StorageError> {
    for extent in extents {
        remove(state, id, inode, extent)?;
        for rest in [extent.slice(0, from), extent.slice(to, u64::MAX)].into_iter().flatten() {
            insert(state, id, inode, &rest)?;
        }
    }
    Ok(())
}

/// Cuts everything behind `size`. Many extents are only hidden, and become garbage. The caller
/// stores the inode with the new size.
pub(crate) fn cut(state: &mut State<'_, '_>, id: InodeId, inode: &mut Inode, size: u64) -> Result<(), StorageError> {
    if inode.allocated == 0 {
        return Ok(());
    }
    if let Some(last) = before(state.view(), id, inode, size)?
        && let Some(kept) = last.slice(0, size)
        && kept.length < last.length
    {
        remove(state, id, inode, &last)?;
        insert(state, id, inode, &kept)?;
    }
    let most = match inode.trim {
        // The older trim lies behind this one: the newer says all.
        Some(trim) if size <= trim.from => 0,
        // One trim is all that an inode can have, so the few extents written since then go at once.
        Some(_) => usize::MAX,
        None => state.removals_left,
    };
    let mut cut = Vec::new();
    visit(state.view(), id, inode, (size, u64::MAX), &mut |extent| {
        cut.push(extent);
        if cut.len() > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if cut.len() > most || (most == 0 && inode.trim.is_some()) {
        inode.trim = Some(Trim { from: size, before: state.sequence });
        state.put(keys::garbage(id), &Garbage { cursor: size });
        return Ok(());
    }
    state.removals_left = state.removals_left.saturating_sub(cut.len());
    for extent in &cut {
        remove(state, id, inode, extent)?;
    }
    Ok(())
}

/// Makes `[from, to)` a hole, as far as at most `most` extents reach; answers how far that is. The caller
/// stores the inode.
pub(crate) fn clear(
    state: &mut State<'_, '_>,
    id: InodeId,
    inode: &mut Inode,
    (from, to): (u64, u64),
    most: usize,
) -> Result<u64, StorageError> {
    let (extents, to) = some_touching(state.view(), id, inode, (from, to), most)?;
    take_out(state, id, inode, &extents, (from, to))?;
    Ok(to)
}

/// Allocates the holes in `[from, to)`, as far as at most `most` extents reach; answers how far that is.
/// The caller stores the inode.
pub(crate) fn fill(
    state: &mut State<'_, '_>,
    id: InodeId,
    inode: &mut Inode,
    (from, to): (u64, u64),
    most: usize,
) -> Result<u64, StorageError> {
    let (extents, to) = some_touching(state.view(), id, inode, (from, to), most)?;
    let mut at = from;
    let taken = extents.iter().map(|extent| (extent.offset.max(from), extent.end().min(to)));
    for (begin, end) in taken.chain([(to, to)]) {
        if at < begin {
            let hole = Extent { offset: at, length: begin - at, content: ExtentContent::Unwritten };
            insert(state, id, inode, &hole)?;
        }
        at = end;
    }
    Ok(to)
}

/// The first `most` extents that touch `[from, to)`, and the end of the range that these are all of.
pub(crate) fn some_touching(
    view: &dyn ReadView,
    id: InodeId,
    inode: &Inode,
    (from, to): (u64, u64),
    most: usize,
) -> Result<(Vec<Extent>, u64), StorageError> {
    let (mut extents, mut end) = (Vec::new(), to);
    visit(view, id, inode, (from, to), &mut |extent| {
        if extents.len() == most {
            end = extent.offset;
            return ControlFlow::Break(());
        }
        extents.push(extent);
        ControlFlow::Continue(())
    })?;
    Ok((extents, end))
}
