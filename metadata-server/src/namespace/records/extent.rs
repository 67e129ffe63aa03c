//! An extent; its inode and offset are in the key.

use bytes::Bytes;
use cairn_common::extent::{BlockReference, Extent, ExtentContent};

use super::wire::{Reader, Writer};
use super::{Record, Versioned};

/// An extent without its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredExtent {
    pub(crate) length: u64,
    pub(crate) content: ExtentContent,
}

impl StoredExtent {
    /// With its offset, as clients see it.
    pub(crate) fn at(self, offset: u64) -> Extent {
        Extent { offset, length: self.length, content: self.content }
    }
}

impl Versioned for StoredExtent {}

impl Record for StoredExtent {
    const NAME: &'static str = "extent";

    fn write(&self, out: &mut Writer) {
        v1::write(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read(input),
            _ => None,
        }
    }
}

/// `{length u64}{kind u8}`, then for inline (1) the bytes, for a block (2) `{pool u16}{hash 32}`
/// `{block offset u32}{block length u32}`, for unwritten (3) nothing.
mod v1 {
    use super::*;

    pub(super) fn write(extent: &StoredExtent, out: &mut Writer) {
        out.u64(extent.length);
        match &extent.content {
            ExtentContent::Inline(bytes) => {
                out.u8(1);
                out.raw(bytes);
            }
            ExtentContent::Block(reference) => {
                out.u8(2);
                out.block(&reference.block);
                out.u32(reference.block_offset);
                out.u32(reference.block_length);
            }
            ExtentContent::Unwritten => out.u8(3),
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Option<StoredExtent> {
        let length = input.u64()?;
        let content = match input.u8()? {
            1 => {
                let bytes = Bytes::copy_from_slice(input.rest());
                if bytes.len() as u64 != length {
                    return None;
                }
                ExtentContent::Inline(bytes)
            }
            2 => ExtentContent::Block(BlockReference {
                block: input.block()?,
                block_offset: input.u32()?,
                block_length: input.u32()?,
            }),
            3 => ExtentContent::Unwritten,
            _ => return None,
        };
        Some(StoredExtent { length, content })
    }
}
