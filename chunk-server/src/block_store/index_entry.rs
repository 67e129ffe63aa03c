//! Keys and values of the index, coded by hand. Keys sort by table, pool, shard, hash, so that the
//! blocks of a partition lie together.
//!
//! Key of a block: `{table u8 = 1}{pool u16 be}{shard u8}{hash 32}`; of its damage mark the same with
//! table 2; of the single records `{table u8 = 3}{name u8}`. Value of a block, version 1, 40 bytes,
//! little endian: `{version u8}{flags u8: 1 = damaged}{encoding u8}{0 u8}{segment u64}{offset u64}
//! {generation u64}{key id u32}{logical u32}{stored u32}`.

use cairn_common::block::{BlockHash, BlockId};
use cairn_common::ids::PoolId;
use cairn_common::protocol::chunk::Encoding;

use super::disk::SegmentId;
use super::record::{RecordHeader, encoding_byte, encoding_of_byte, record_bytes};

const VERSION: u8 = 1;
const FLAG_DAMAGED: u8 = 1;
const KEY_BYTES: usize = 36;
const VALUE_BYTES: usize = 40;

/// A table of the index: the first byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// Where blocks are.
    Blocks = 1,
    /// Blocks known to be damaged, to be found without a walk over all.
    Damaged = 2,
    /// Position, counters, scrub position.
    Single = 3,
}

/// What the index knows of a block. It is in the index only after its record was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The segment that its record is in.
    pub segment: SegmentId,
    /// Where the record begins, in bytes.
    pub offset: u64,
    /// Generation of the record.
    pub generation: u64,
    /// How the payload is encoded.
    pub encoding: Encoding,
    /// The key that it is encrypted with, 0 for none.
    pub key_id: u32,
    /// Bytes after decoding.
    pub logical_bytes: u32,
    /// Bytes of the payload.
    pub stored_bytes: u32,
    /// The record was found damaged: the block counts as missing until it is put again.
    pub damaged: bool,
}

impl IndexEntry {
    /// The entry of a record.
    pub fn of(header: &RecordHeader, damaged: bool) -> Self {
        Self {
            segment: header.segment,
            offset: header.offset,
            generation: header.generation,
            encoding: header.encoding,
            key_id: header.key_id,
            logical_bytes: header.logical_bytes,
            stored_bytes: header.stored_bytes,
            damaged,
        }
    }

    /// Whether both are about the same record.
    pub fn same_record(&self, other: &Self) -> bool {
        (self.segment, self.offset) == (other.segment, other.offset)
    }

    /// Whether the record touches bytes `[start, end)` of a segment.
    pub fn touches(&self, segment: SegmentId, start: u64, end: u64) -> bool {
        self.segment == segment && self.offset < end && start < self.offset + record_bytes(self.stored_bytes)
    }

    pub(super) fn encode(&self) -> [u8; VALUE_BYTES] {
        let mut bytes = [0; VALUE_BYTES];
        bytes[0] = VERSION;
        bytes[1] = if self.damaged { FLAG_DAMAGED } else { 0 };
        bytes[2] = encoding_byte(self.encoding);
        bytes[4..12].copy_from_slice(&self.segment.0.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.offset.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.generation.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.key_id.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.logical_bytes.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes
    }

    /// None if the bytes are no entry of a version known here.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; VALUE_BYTES] = bytes.try_into().ok()?;
        if bytes[0] != VERSION {
            return None;
        }
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        Some(Self {
            damaged: bytes[1] & FLAG_DAMAGED != 0,
            encoding: encoding_of_byte(bytes[2])?,
            segment: SegmentId(u64_at(4)),
            offset: u64_at(12),
            generation: u64_at(20),
            key_id: u32_at(28),
            logical_bytes: u32_at(32),
            stored_bytes: u32_at(36),
        })
    }
}

/// Key of a block in a table.
pub(super) fn key(table: Table, block: &BlockId) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[0] = table as u8;
    key[1..3].copy_from_slice(&block.pool.0.to_be_bytes());
    key[4..].copy_from_slice(&block.hash.0);
    key
}

/// The block of a key of this table; None for another table's key, or another shard's.
pub(super) fn block_of_key(table: Table, key: &[u8]) -> Option<BlockId> {
    let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
    if key[0] != table as u8 || key[3] != 0 {
        return None;
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(&key[4..]);
    Some(BlockId { pool: PoolId(u16::from_be_bytes([key[1], key[2]])), hash: BlockHash(hash) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of version 1, for ever.
    #[test]
    fn golden_bytes() {
        let entry = IndexEntry {
            segment: SegmentId(7),
            offset: 0x1_0040,
            generation: 1,
            encoding: Encoding::Plain,
            key_id: 3,
            logical_bytes: 0x0102_0304,
            stored_bytes: 0x0506_0708,
            damaged: true,
        };
        let hex: String = entry.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "01010000070000000000000040000100000000000100000000000000030000000403020108070605");
        assert_eq!(IndexEntry::decode(&entry.encode()), Some(entry));
        assert_eq!(IndexEntry::decode(&entry.encode()[1..]), None);
        let mut newer = entry.encode();
        newer[0] = 2;
        assert_eq!(IndexEntry::decode(&newer), None);
    }

    #[test]
    fn keys_sort_by_pool_and_hash() {
        let block = |pool, first| {
            let mut hash = [0; 32];
            hash[0] = first;
            BlockId { pool: PoolId(pool), hash: BlockHash(hash) }
        };
        let blocks = [block(1, 0), block(1, 255), block(2, 0), block(256, 0)];
        for pair in blocks.windows(2) {
            assert!(key(Table::Blocks, &pair[0]) < key(Table::Blocks, &pair[1]));
        }
        for block in blocks {
            assert_eq!(block_of_key(Table::Damaged, &key(Table::Damaged, &block)), Some(block));
            assert_eq!(block_of_key(Table::Blocks, &key(Table::Damaged, &block)), None);
        }
    }
}
