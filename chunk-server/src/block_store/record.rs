//! The record that a block is stored as. Everything needed to rebuild the index is in it, and every
//! byte of it is covered by a checksum, so that damage is found and never read as data.
//!
//! # Layout, version 1
//!
//! A record begins at a multiple of 64 bytes from the start of its segment and is padded with zeros
//! to a multiple of 64. Integers are little endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `CAIRNREC` |
//! | 8 | 1 | version, 1 |
//! | 9 | 1 | encoding: 0 plain (lz4 and zstd will be 1 and 2) |
//! | 10 | 1 | shard of erasure coding; 0 |
//! | 11 | 1 | binary logarithm of the verification group size: 14 (16 KiB) |
//! | 12 | 2 | pool |
//! | 14 | 2 | zero |
//! | 16 | 8 | segment that the record is in |
//! | 24 | 8 | offset in the segment |
//! | 32 | 8 | batch: the group commit that wrote the record |
//! | 40 | 8 | generation (garbage collection; 1) |
//! | 48 | 4 | key id; 0 = not encrypted |
//! | 52 | 4 | logical length: bytes after decoding |
//! | 56 | 4 | stored length: bytes of the payload |
//! | 60 | 4 | zero |
//! | 64 | 32 | hash in the block's name |
//! | 96 | 32 | BLAKE3 of the payload (the name's hash, as long as the shard is 0) |
//! | 128 | 16 | UUID of the disk |
//! | 144 | 32 | zero |
//! | 176 | 16 | checksum: BLAKE3 of bytes 0..176, its first 16 bytes |
//! | 192 | 32 a group | chaining values of the groups; none if there is only one group |
//! | … | stored length | payload |
//!
//! Segment, offset and disk are in the record so that the image of a record (in a user's file, or
//! left over on the disk) is never taken for one. The batch tells, after a crash, a record that was
//! torn before anybody was told of it from one that was durable and rotted: a batch is begun only
//! when the one before it is durable. The chaining values need no checksum of their own, since they
//! must merge to the payload's hash. A later version keeps magic, version and checksum where they are.

use cairn_common::block::{BlockHash, BlockId};
use cairn_common::block_tree::{CHAINING_VALUE_BYTES, stored_group_count};
use cairn_common::ids::{DiskUuid, PoolId};
use cairn_common::limits::{MAX_BLOCK_BYTES, VERIFY_GROUP_BYTES};
use cairn_common::protocol::chunk::Encoding;

use super::disk::SegmentId;

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 192;
/// Records begin at multiples of this.
pub const RECORD_ALIGN: u64 = 64;
/// First bytes of a record.
pub const MAGIC: [u8; 8] = *b"CAIRNREC";

const VERSION: u8 = 1;
const CHECKSUM_AT: usize = 176;
const GROUP_LOG2: u8 = VERIFY_GROUP_BYTES.trailing_zeros() as u8;

/// Why bytes are no header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No magic, or the checksum does not fit.
    #[error("not a record header")]
    NotAHeader,
    /// A whole header of another version: written by a newer program. Not damage.
    #[error("record version {0} is newer than this program")]
    Version(u8),
    /// The checksum fits and a field makes no sense.
    #[error("record header with an impossible {0}")]
    Field(&'static str),
}

/// Header of a record. The layout is documented on the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The disk that the record was written to.
    pub disk: DiskUuid,
    /// The segment that it was written to.
    pub segment: SegmentId,
    /// Where in the segment, in bytes.
    pub offset: u64,
    /// The group commit that wrote it.
    pub batch: u64,
    /// The block's name.
    pub block: BlockId,
    /// Shard of erasure coding, 0.
    pub shard: u8,
    /// Raised when a condemned block is put again.
    pub generation: u64,
    /// How the payload is encoded.
    pub encoding: Encoding,
    /// The key that it is encrypted with, 0 for none.
    pub key_id: u32,
    /// Bytes after decoding.
    pub logical_bytes: u32,
    /// Bytes of the payload.
    pub stored_bytes: u32,
    /// BLAKE3 of the payload.
    pub stored_hash: BlockHash,
}

impl RecordHeader {
    /// The header as it is on disk.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = VERSION;
        bytes[9] = encoding_byte(self.encoding);
        bytes[10] = self.shard;
        bytes[11] = GROUP_LOG2;
        bytes[12..14].copy_from_slice(&self.block.pool.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.offset.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.batch.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.generation.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.key_id.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.logical_bytes.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[64..96].copy_from_slice(&self.block.hash.0);
        bytes[96..128].copy_from_slice(&self.stored_hash.0);
        bytes[128..144].copy_from_slice(&self.disk.0.to_le_bytes());
        let checksum = checksum(&bytes);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum);
        bytes
    }

    /// Reads a header. That it belongs at this place is for the caller to check
    /// ([`RecordHeader::belongs_at`]).
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        if bytes[..8] != MAGIC || bytes[CHECKSUM_AT..] != checksum(bytes) {
            return Err(HeaderError::NotAHeader);
        }
        if bytes[8] != VERSION {
            return Err(HeaderError::Version(bytes[8]));
        }
        if bytes[11] != GROUP_LOG2 {
            return Err(HeaderError::Field("verification group size"));
        }
        let header = Self {
            disk: DiskUuid(u128::from_le_bytes(field(bytes, 128))),
            segment: SegmentId(u64::from_le_bytes(field(bytes, 16))),
            offset: u64::from_le_bytes(field(bytes, 24)),
            batch: u64::from_le_bytes(field(bytes, 32)),
            block: BlockId { pool: PoolId(u16::from_le_bytes(field(bytes, 12))), hash: BlockHash(field(bytes, 64)) },
            shard: bytes[10],
            generation: u64::from_le_bytes(field(bytes, 40)),
            encoding: encoding_of_byte(bytes[9]).ok_or(HeaderError::Field("encoding"))?,
            key_id: u32::from_le_bytes(field(bytes, 48)),
            logical_bytes: u32::from_le_bytes(field(bytes, 52)),
            stored_bytes: u32::from_le_bytes(field(bytes, 56)),
            stored_hash: BlockHash(field(bytes, 96)),
        };
        if header.stored_bytes == 0 || header.stored_bytes as usize > MAX_BLOCK_BYTES {
            return Err(HeaderError::Field("length"));
        }
        Ok(header)
    }

    /// Whether the record was written to this very place.
    pub fn belongs_at(&self, disk: DiskUuid, segment: SegmentId, offset: u64) -> bool {
        self.disk == disk && self.segment == segment && self.offset == offset
    }

    /// Bytes of the whole record with its padding.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(self.stored_bytes)
    }
}

/// Bytes of the chaining values of a payload.
pub fn groups_bytes(stored_bytes: u32) -> usize {
    stored_group_count(stored_bytes) as usize * CHAINING_VALUE_BYTES
}

/// Bytes of a whole record, padding included, with a payload of this length.
pub fn record_bytes(stored_bytes: u32) -> u64 {
    (HEADER_BYTES as u64 + groups_bytes(stored_bytes) as u64 + u64::from(stored_bytes)).next_multiple_of(RECORD_ALIGN)
}

/// The byte that stands for an encoding, on disk and in the index.
pub(super) fn encoding_byte(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Plain => 0,
    }
}

/// The encoding of a byte.
pub(super) fn encoding_of_byte(byte: u8) -> Option<Encoding> {
    match byte {
        0 => Some(Encoding::Plain),
        _ => None,
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn checksum(bytes: &[u8; HEADER_BYTES]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(&bytes[..CHECKSUM_AT]).as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> RecordHeader {
        RecordHeader {
            disk: DiskUuid(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            segment: SegmentId(7),
            offset: 0x1_0040,
            batch: 9,
            block: BlockId { pool: PoolId(0x0102), hash: BlockHash([0xab; 32]) },
            shard: 0,
            generation: 1,
            encoding: Encoding::Plain,
            key_id: 0,
            logical_bytes: 0x0001_2345,
            stored_bytes: 0x0001_2345,
            stored_hash: BlockHash([0xcd; 32]),
        }
    }

    /// The bytes of version 1, for ever.
    #[test]
    fn golden_bytes() {
        let hex: String = header().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "434149524e52454301000",
            "00e02010000",
            "0700000000000000",
            "4000010000000000",
            "0900000000000000",
            "0100000000000000",
            "00000000",
            "45230100",
            "45230100",
            "00000000",
            "abababababababababababababababababababababababababababababababab",
            "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
            "ffeeddccbbaa99887766554433221100",
            "0000000000000000000000000000000000000000000000000000000000000000",
        );
        assert_eq!(hex[..352], *expected);
        assert_eq!(hex[352..], *GOLDEN_CHECKSUM);
    }

    const GOLDEN_CHECKSUM: &str = "801af919ebad5b98f345a09138b578ea";

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = header().encode();
        assert_eq!(RecordHeader::decode(&good), Ok(header()));
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bad), Err(HeaderError::NotAHeader), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        let sum = checksum(&bytes);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum);
        assert_eq!(RecordHeader::decode(&bytes), Err(HeaderError::Version(2)));
    }

    #[test]
    fn a_record_is_only_taken_at_its_place() {
        let header = header();
        assert!(header.belongs_at(header.disk, SegmentId(7), 0x1_0040));
        assert!(!header.belongs_at(DiskUuid(1), SegmentId(7), 0x1_0040));
        assert!(!header.belongs_at(header.disk, SegmentId(8), 0x1_0040));
        assert!(!header.belongs_at(header.disk, SegmentId(7), 0x1_0080));
    }

    #[test]
    fn records_are_padded() {
        assert_eq!(record_bytes(1), 256);
        assert_eq!(record_bytes(64), 256);
        assert_eq!(record_bytes(65), 320);
        assert_eq!(record_bytes(16 << 10), 192 + (16 << 10));
        assert_eq!(record_bytes((16 << 10) + 64), 192 + 64 + (16 << 10) + 64);
    }
}
