//! The extents of a range of a file.

use std::ops::ControlFlow;

use cairn_common::extent::ExtentContent;
use cairn_common::ids::InodeId;
use cairn_common::limits::MAX_EXTENTS_PER_MESSAGE;
use cairn_common::protocol::metadata::QueryResult;

use crate::namespace::fault::Fault;
use crate::namespace::file_map;
use crate::namespace::read;
use crate::storage::ReadView;

/// Most inline bytes in one answer, so that it fits a message with all its extents.
const INLINE_BYTES_MAX: usize = 1 << 20;

pub(super) fn extents(view: &dyn ReadView, id: InodeId, range: (u64, u64)) -> Result<QueryResult, Fault> {
    let inode = read::file(view, id)?;
    let (mut extents, mut inline, mut complete_to) = (Vec::new(), 0, u64::MAX);
    file_map::visit(view, id, &inode, range, &mut |extent| {
        if let ExtentContent::Inline(bytes) = &extent.content {
            inline += bytes.len();
        }
        if extents.len() == MAX_EXTENTS_PER_MESSAGE || inline > INLINE_BYTES_MAX {
            complete_to = extent.offset;
            return ControlFlow::Break(());
        }
        extents.push(extent);
        ControlFlow::Continue(())
    })?;
    Ok(QueryResult::Extents { extents, complete_to, size: inode.size, data_version: inode.data_version })
}
