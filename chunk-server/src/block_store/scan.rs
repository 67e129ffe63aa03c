//! Walks the records of a segment, for recovery and scrub. It changes nothing and decides nothing: it
//! says what is there. Behind a header that cannot be read it looks for the next record at every place
//! where one may begin.

use std::io;

use cairn_common::block::BlockHash;
use cairn_common::block_tree::{BlockTree, CHAINING_VALUE_BYTES};
use cairn_common::ids::DiskUuid;

use super::disk::{SegmentFile, SegmentId};
use super::record::{HEADER_BYTES, HeaderError, MAGIC, RECORD_ALIGN, RecordHeader, groups_bytes};

/// Bytes read at once while looking for the next record.
const SEARCH_BYTES: usize = 1 << 20;

/// Condition of a record whose header is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Chaining values and payload are what the header says.
    Whole,
    /// They are not, or the file ends within them.
    Damaged,
    /// The disk could not read them.
    Unreadable,
}

/// What is at a place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A record.
    Record(RecordHeader, Condition),
    /// Bytes `[start, end)` that are no record, up to the next one or the end of the file.
    Gap {
        /// Where they begin.
        start: u64,
        /// Where they end.
        end: u64,
    },
}

impl Found {
    /// Where the next thing begins.
    pub fn end(&self) -> u64 {
        match self {
            Self::Record(header, _) => header.offset + header.record_bytes(),
            Self::Gap { end, .. } => *end,
        }
    }
}

/// A segment cannot be walked.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The disk failed.
    #[error("segment {segment} cannot be read at {offset}: {error}")]
    Io {
        /// The segment.
        segment: SegmentId,
        /// Where in it.
        offset: u64,
        /// Why.
        error: io::Error,
    },
    /// Written by a newer program, or one with other limits: nothing must be cut or rewritten.
    #[error("segment {segment} at {offset}: {error}; start the version of cairn-chunk that wrote it")]
    Format {
        /// The segment.
        segment: SegmentId,
        /// Where in it.
        offset: u64,
        /// Why.
        error: HeaderError,
    },
}

/// A segment that is walked.
pub struct Scan<'a> {
    /// The file.
    pub file: &'a dyn SegmentFile,
    /// The disk that it is on.
    pub disk: DiskUuid,
    /// Its number.
    pub segment: SegmentId,
}

impl Scan<'_> {
    /// What is at `offset`, a multiple of [`RECORD_ALIGN`]; None at the end of the file. Reads and
    /// checks the whole record.
    pub fn next(&self, offset: u64) -> Result<Option<Found>, ScanError> {
        let length = self.file.length().map_err(|error| self.io(offset, error))?;
        if offset >= length {
            return Ok(None);
        }
        match self.header(offset)? {
            Some(header) => Ok(Some(Found::Record(header, self.condition(&header)))),
            None => Ok(Some(Found::Gap { start: offset, end: self.search(offset + RECORD_ALIGN, length)? })),
        }
    }

    /// The header at `offset`, if a record of this very place is there.
    fn header(&self, offset: u64) -> Result<Option<RecordHeader>, ScanError> {
        let bytes = self.file.read_at(offset, HEADER_BYTES).map_err(|error| self.io(offset, error))?;
        let Ok(bytes) = <&[u8; HEADER_BYTES]>::try_from(bytes.as_slice()) else { return Ok(None) };
        match RecordHeader::decode(bytes) {
            Ok(header) if header.belongs_at(self.disk, self.segment, offset) => Ok(Some(header)),
            Ok(_) | Err(HeaderError::NotAHeader) => Ok(None),
            Err(error) => Err(ScanError::Format { segment: self.segment, offset, error }),
        }
    }

    fn condition(&self, header: &RecordHeader) -> Condition {
        let groups = groups_bytes(header.stored_bytes);
        let body = groups + header.stored_bytes as usize;
        let Ok(bytes) = self.file.read_at(header.offset + HEADER_BYTES as u64, body) else {
            return Condition::Unreadable;
        };
        if bytes.len() == body && body_is_whole(&header.stored_hash, &bytes[..groups], &bytes[groups..]) {
            Condition::Whole
        } else {
            Condition::Damaged
        }
    }

    /// The first place from `from` on where a record begins, or the end of the file.
    fn search(&self, from: u64, length: u64) -> Result<u64, ScanError> {
        let mut window_start = from;
        while window_start < length {
            let window = self.file.read_at(window_start, SEARCH_BYTES).map_err(|error| self.io(window_start, error))?;
            for (index, place) in window.chunks(RECORD_ALIGN as usize).enumerate() {
                let offset = window_start + index as u64 * RECORD_ALIGN;
                if place.starts_with(&MAGIC) && self.header(offset)?.is_some() {
                    return Ok(offset);
                }
            }
            window_start += SEARCH_BYTES as u64;
        }
        Ok(length)
    }

    fn io(&self, offset: u64, error: io::Error) -> ScanError {
        ScanError::Io { segment: self.segment, offset, error }
    }
}

/// Whether chaining values and payload are those of this hash.
fn body_is_whole(hash: &BlockHash, groups: &[u8], payload: &[u8]) -> bool {
    let tree = BlockTree::of(payload);
    tree.hash == *hash && tree.groups.as_flattened() == groups && groups.len().is_multiple_of(CHAINING_VALUE_BYTES)
}
