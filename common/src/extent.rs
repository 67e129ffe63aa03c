//! A file is a map of extents; what no extent covers is a hole and reads as zeros.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::block::BlockId;
use crate::ids::{DiskId, TableEpoch};

/// A run of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Length, in bytes; at least 1.
    pub length: u64,
    /// Where the bytes are.
    pub content: ExtentContent,
}

impl Extent {
    /// First offset behind the extent.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// The part of this extent within `[from, to)`, if any.
    pub fn slice(&self, from: u64, to: u64) -> Option<Self> {
        let (start, end) = (self.offset.max(from), self.end().min(to));
        if start >= end {
            return None;
        }
        let skipped = start - self.offset;
        let content = match &self.content {
            ExtentContent::Inline(bytes) => {
                ExtentContent::Inline(bytes.slice(skipped as usize..(skipped + end - start) as usize))
            }
            ExtentContent::Block(reference) => ExtentContent::Block(BlockReference {
                block_offset: reference.block_offset + skipped as u32,
                ..*reference
            }),
            ExtentContent::Unwritten => ExtentContent::Unwritten,
        };
        Some(Self { offset: start, length: end - start, content })
    }
}

/// Where an extent's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExtentContent {
    /// In the metadata itself; at most [`crate::limits::INLINE_MAX_BYTES`].
    Inline(Bytes),
    /// A range of a block: `[block_offset, block_offset + extent length)`.
    Block(BlockReference),
    /// Allocated, reads as zeros (fallocate).
    Unwritten,
}

/// A place in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockReference {
    /// The block.
    pub block: BlockId,
    /// Where the extent begins in the block, in bytes.
    pub block_offset: u32,
    /// Length of the whole block, in bytes.
    pub block_length: u32,
}

/// An extent that a client commits, with the disks of its owners that do not hold the block yet:
/// work for repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewExtent {
    /// The extent; for an append its offset counts from the end of the file.
    pub extent: Extent,
    /// Owners that did not confirm the block durable. A quorum of the others did.
    pub missed: Vec<DiskId>,
    /// Of a block: the table by which that quorum is one. Refused (`FsError::PutAgain`) if the block's
    /// partition has got owners since.
    pub table: TableEpoch,
}
