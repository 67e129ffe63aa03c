//! What is done with a disk before it serves: everything behind the index's position is read from the
//! segments and put into the index. With an empty index that is a rebuild from the first record.
//!
//! - A whole record is indexed, after an fdatasync: a killed process may have left it in the page cache
//!   only.
//! - A damaged record is reported, if a later batch proves that it had been durable. In the last batch
//!   it is torn: nobody was told of it. Its header is erased, so that it is not taken for a durable one
//!   once there are later batches.
//! - Behind the last record the last segment is cut, so that nothing torn is ever followed by new
//!   records.
//!
//! A disk that cannot be read is not changed.

use std::io::{self, IoSlice};

use cairn_common::ids::DiskUuid;

use super::disk::SegmentId;
use super::index::{Change, Index, IndexError, Position};
use super::index_entry::IndexEntry;
use super::record::{HEADER_BYTES, RecordHeader};
use super::scan::{Condition, Found, Scan, ScanError};
use super::segments::Segments;

/// Records that go into the index at once.
const CHANGES_AT_ONCE: usize = 4096;

/// A disk cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A segment cannot be walked.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The disk failed.
    #[error("{action}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        error: io::Error,
    },
}

/// Where writing goes on, and what was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// End of what is durable and indexed. `segment` 0: there is none yet.
    pub position: Position,
    /// Records that the index did not know.
    pub added: u64,
    /// Damaged records that had been durable.
    pub damaged: u64,
    /// Damaged records of the last batch, and bytes behind the last record: never acknowledged.
    pub torn: u64,
    /// Whether new records must go to a new segment because the last one is shorter than the index knows.
    pub needs_new_segment: bool,
}

/// Brings the index up to the segments.
pub fn recover(segments: &Segments, index: &Index, disk: DiskUuid) -> Result<Recovered, RecoveryError> {
    let known = index.position();
    // A segment that a killed process had just made may not be durable in the folder yet.
    segments.disk().sync_folder().map_err(|error| RecoveryError::Io { action: "cannot sync the folder", error })?;
    let all = segments.disk().list().map_err(|error| RecoveryError::Io { action: "cannot list segments", error })?;
    let mut recovery = Recovery {
        index,
        changes: Vec::new(),
        suspects: Vec::new(),
        result: Recovered { position: known, ..Recovered::default() },
    };
    for segment in all.iter().copied().filter(|segment| *segment >= known.segment) {
        let from = if segment == known.segment { known.offset } else { 0 };
        let is_last = all.last() == Some(&segment);
        recovery.segment(segments, disk, segment, from, is_last)?;
    }
    recovery.finish(segments)
}

struct Recovery<'a> {
    index: &'a Index,
    changes: Vec<Change>,
    suspects: Vec<(RecordHeader, Condition)>,
    result: Recovered,
}

impl Recovery<'_> {
    fn segment(
        &mut self,
        segments: &Segments,
        disk: DiskUuid,
        segment: SegmentId,
        from: u64,
        is_last: bool,
    ) -> Result<(), RecoveryError> {
        let io = |action| move |error| RecoveryError::Io { action, error };
        let file = segments.file(segment).map_err(io("cannot open a segment"))?;
        let length = file.length().map_err(io("cannot measure a segment"))?;
        self.result.needs_new_segment = false;
        if length < from {
            tracing::error!(%segment, length, known = from, "segment is shorter than the index knows");
            self.result.needs_new_segment = true;
            return Ok(());
        }
        // Before anything of it counts as durable; a cut of a recovery that was killed, too.
        file.sync_data().map_err(io("cannot sync a segment"))?;
        let scan = Scan { file: &*file, disk, segment };
        let mut at = from;
        let mut end = from;
        while let Some(found) = scan.next(at)? {
            at = found.end();
            let Found::Record(header, condition) = found else { continue };
            self.result.position.batch = self.result.position.batch.max(header.batch);
            match condition {
                Condition::Whole => {
                    end = at;
                    self.result.added += 1;
                    self.changes.push(Change::Stored(header.block, IndexEntry::of(&header, false)));
                    if self.changes.len() >= CHANGES_AT_ONCE {
                        // Without a position: a crash on the way begins again.
                        self.index.apply(&std::mem::take(&mut self.changes), None)?;
                    }
                }
                Condition::Damaged => self.suspects.push((header, condition)),
                Condition::Unreadable => {
                    end = at;
                    self.suspects.push((header, condition));
                }
            }
        }
        // Keep everything up to the last record that may have been durable.
        let last_durable = self.suspects.iter().rev().find(|(header, condition)| {
            header.segment == segment
                && (*condition == Condition::Unreadable || header.batch < self.result.position.batch)
        });
        if let Some((header, _)) = last_durable {
            end = end.max(header.offset + header.record_bytes());
        }
        if is_last && length != end {
            if length > end {
                self.result.torn += 1;
                tracing::warn!(%segment, from = end, bytes = length - end, "cutting what was never acknowledged");
            }
            // Shorter is the file when only padding is missing: records begin at multiples of their alignment.
            file.truncate(end).map_err(io("cannot cut a segment"))?;
            file.sync_data().map_err(io("cannot sync a segment"))?;
        }
        self.result.position.segment = segment;
        self.result.position.offset = end;
        Ok(())
    }

    fn finish(mut self, segments: &Segments) -> Result<Recovered, RecoveryError> {
        let Position { segment, offset, batch } = self.result.position;
        for (header, condition) in &self.suspects {
            if *condition == Condition::Unreadable || header.batch < batch {
                self.result.damaged += 1;
                self.changes.push(Change::Stored(header.block, IndexEntry::of(header, true)));
            } else {
                self.result.torn += 1;
                if header.segment < segment || header.offset < offset {
                    erase(segments, header)?;
                }
            }
        }
        self.index.apply(&self.changes, Some(self.result.position))?;
        self.index.flush()?;
        Ok(self.result)
    }
}

/// Makes a torn record that whole ones follow into a gap.
fn erase(segments: &Segments, header: &RecordHeader) -> Result<(), RecoveryError> {
    let io = |error| RecoveryError::Io { action: "cannot erase a torn record", error };
    let file = segments.file(header.segment).map_err(io)?;
    file.write_at(header.offset, &[IoSlice::new(&[0; HEADER_BYTES])]).map_err(io)?;
    file.sync_data().map_err(io)
}
