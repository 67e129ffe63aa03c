//! Reads of a range of a block. What is read is verified with the very check that the client makes,
//! so that rot is found here; nothing that does not verify is ever handed out. Blocks on IO, holds no
//! lock.

use std::io;

use bytes::Bytes;
use cairn_common::block::BlockId;
use cairn_common::block_tree::{CHAINING_VALUE_BYTES, covering_groups, proof, verify};

use super::index_entry::IndexEntry;
use super::record::{HEADER_BYTES, groups_bytes};
use super::shared::Shared;

/// What became of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Verified bytes.
    Found {
        /// Length of the whole block.
        block_bytes: u32,
        /// Where `data` begins in the block.
        data_offset: u32,
        /// The groups that the range touches.
        data: Bytes,
        /// Their proof.
        proof: Bytes,
    },
    /// Not on this disk.
    Missing,
    /// On this disk, but not as it was written.
    Damaged,
    /// The index cannot be read.
    Failed,
}

/// Reads the groups that cover `length` bytes from `offset` on.
pub(super) fn read(shared: &Shared, block: &BlockId, offset: u32, length: u32) -> ReadOutcome {
    let entry = match shared.index.entry(block) {
        Ok(Some(entry)) => entry,
        Ok(None) => return ReadOutcome::Missing,
        Err(error) => {
            shared.health.fail(error.to_string());
            return ReadOutcome::Failed;
        }
    };
    // A block with a damaged group may have whole ones: they are tried all the same.
    match read_record(shared, block, &entry, offset, length) {
        Ok(Some(found)) => found,
        Ok(None) => {
            shared.record_damage(*block, entry);
            ReadOutcome::Damaged
        }
        Err(error) => {
            tracing::error!(%block, segment = %entry.segment, offset = entry.offset, %error, "cannot read");
            shared.record_damage(*block, entry);
            ReadOutcome::Damaged
        }
    }
}

/// None if what is there does not verify.
fn read_record(
    shared: &Shared,
    block: &BlockId,
    entry: &IndexEntry,
    offset: u32,
    length: u32,
) -> io::Result<Option<ReadOutcome>> {
    let block_bytes = entry.stored_bytes;
    let Some(range) = covering_groups(block_bytes, offset, length) else {
        return Ok(Some(ReadOutcome::Found {
            block_bytes,
            data_offset: block_bytes,
            data: Bytes::new(),
            proof: Bytes::new(),
        }));
    };
    let file = shared.segments.file(entry.segment)?;
    let groups_at = entry.offset + HEADER_BYTES as u64;
    let groups_length = groups_bytes(block_bytes);
    let data = file.read_at(groups_at + groups_length as u64 + u64::from(range.start), range.len())?;
    let proof = if range.len() == block_bytes as usize {
        Vec::new()
    } else {
        let groups = file.read_at(groups_at, groups_length)?;
        let (groups, _) = groups.as_chunks::<CHAINING_VALUE_BYTES>();
        proof(groups, block_bytes, &range)
    };
    if data.len() != range.len() || verify(&block.hash, block_bytes, range.start, &data, &proof).is_err() {
        return Ok(None);
    }
    Ok(Some(ReadOutcome::Found { block_bytes, data_offset: range.start, data: data.into(), proof: proof.into() }))
}
