//! Reads the records of all segments in turn and checks them, so many bytes at a time. What is found
//! damaged is noted in the index, and the metadata leader has it repaired. Its position is kept over a
//! restart, as far as the index is.

use cairn_common::block::BlockId;

use super::disk::SegmentId;
use super::index_entry::IndexEntry;
use super::scan::{Condition, Found, Scan, ScanError};
use super::shared::Shared;
use cairn_common::telemetry::metric_names;

/// The scrub of one disk.
pub(super) struct Scrub {
    segment: SegmentId,
    offset: u64,
    /// Bytes read beyond the last budget.
    debt: u64,
}

impl Scrub {
    /// Goes on where the last one stopped.
    pub(super) fn new(shared: &Shared) -> Self {
        let (segment, offset) = shared.index.scrub_position().unwrap_or_default();
        Self { segment, offset, debt: 0 }
    }

    /// Reads about so many bytes.
    pub(super) fn run(&mut self, shared: &Shared, budget: u64) {
        let mut left = budget.saturating_sub(self.debt);
        self.debt = self.debt.saturating_sub(budget);
        if left == 0 {
            return;
        }
        let before = (self.segment, self.offset);
        while left > 0 {
            let bytes = match self.step(shared) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => {
                    // Not read: skip to the next segment; what is there is found when it is asked for.
                    tracing::error!(%error, "scrub cannot read");
                    self.segment = SegmentId(self.segment.0 + 1);
                    self.offset = 0;
                    break;
                }
            };
            metrics::counter!(metric_names::CHUNK_SCRUBBED_BYTES).increment(bytes);
            self.debt += bytes.saturating_sub(left);
            left = left.saturating_sub(bytes);
        }
        if before != (self.segment, self.offset)
            && let Err(error) = shared.index.set_scrub_position(self.segment, self.offset)
        {
            tracing::warn!(%error, "cannot keep the position of the scrub");
        }
    }

    /// Checks one record, or moves on to the next segment. None at the end of a round.
    fn step(&mut self, shared: &Shared) -> Result<Option<u64>, ScanError> {
        // Only what is durable and indexed; the writer is at work behind it.
        let known = shared.index.position();
        if self.segment > known.segment || (self.segment == known.segment && self.offset >= known.offset) {
            (self.segment, self.offset) = (SegmentId(0), 0);
            return Ok(None);
        }
        let file = match shared.segments.file(self.segment) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.segment = SegmentId(self.segment.0 + 1);
                self.offset = 0;
                return Ok(Some(0));
            }
            Err(error) => {
                return Err(ScanError::Io { segment: self.segment, offset: self.offset, error });
            }
        };
        let scan = Scan { file: &*file, disk: shared.disk, segment: self.segment };
        let start = self.offset;
        let Some(found) = scan.next(start)? else {
            self.segment = SegmentId(self.segment.0 + 1);
            self.offset = 0;
            return Ok(Some(0));
        };
        self.offset = found.end();
        match found {
            Found::Record(_, Condition::Whole) => {}
            Found::Record(header, condition) => {
                let entry = IndexEntry::of(&header, false);
                if self.is_current(shared, &header.block, &entry) {
                    tracing::warn!(block = %header.block, ?condition, "scrub found damage");
                    shared.record_damage(header.block, entry);
                }
            }
            Found::Gap { start, end } => self.blame_gap(shared, start, end),
        }
        Ok(Some(found.end() - start))
    }

    fn is_current(&self, shared: &Shared, block: &BlockId, entry: &IndexEntry) -> bool {
        matches!(shared.index.entry(block), Ok(Some(known)) if known.same_record(entry) && !known.damaged)
    }

    /// A header cannot be read, so the index must say whose records are there. Rare: it walks the index.
    fn blame_gap(&self, shared: &Shared, start: u64, end: u64) {
        let known = shared.index.position();
        let end = if self.segment == known.segment { end.min(known.offset) } else { end };
        let mut damaged = Vec::new();
        let walk = shared.index.for_each(|block, entry| {
            if !entry.damaged && entry.touches(self.segment, start, end) {
                damaged.push((block, entry));
            }
            true
        });
        if let Err(error) = walk {
            tracing::error!(%error, "scrub cannot walk the index");
        }
        for (block, entry) in damaged {
            shared.record_damage(block, entry);
        }
    }
}
