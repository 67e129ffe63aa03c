//! What the writer, the readers, the scrub and the reports of one disk share. It owns no thread and
//! does no IO by itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_common::block::BlockId;
use cairn_common::ids::DiskUuid;

use super::health::Health;
use super::index::{Change, Index};
use super::index_entry::IndexEntry;
use super::journal::{Journal, News};
use super::options::StoreOptions;
use super::room::Room;
use super::segments::Segments;
use cairn_common::telemetry::metric_names;

/// The parts of one disk's store.
pub(super) struct Shared {
    pub(super) disk: DiskUuid,
    pub(super) options: StoreOptions,
    pub(super) segments: Segments,
    pub(super) index: Index,
    pub(super) health: Health,
    pub(super) journal: Journal,
    /// Bytes of all segments.
    used_bytes: AtomicU64,
    dirty: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        disk: DiskUuid,
        options: StoreOptions,
        segments: Segments,
        index: Index,
        used_bytes: u64,
    ) -> Self {
        Self {
            disk,
            options,
            segments,
            index,
            health: Health::default(),
            journal: Journal::default(),
            used_bytes: AtomicU64::new(used_bytes),
            dirty: AtomicBool::new(false),
        }
    }

    /// What may still be written. On an error of the disk that is nothing.
    pub(super) fn room(&self) -> Room {
        let used = self.used_bytes.load(Ordering::Relaxed);
        match self.segments.disk().space() {
            Ok(space) => Room::of(space, used, &self.options),
            Err(_) => Room { total_bytes: self.options.capacity_bytes, ..Room::default() },
        }
    }

    pub(super) fn add_used(&self, bytes: u64) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The index changed since it was last flushed.
    pub(super) fn index_is_dirty(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    /// Whether the index changed, and forgets it.
    pub(super) fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Ordering::AcqRel)
    }

    /// Takes note that a record is damaged: in the index, in the next report, in the metrics.
    pub(super) fn record_damage(&self, block: BlockId, entry: IndexEntry) {
        if entry.damaged {
            return;
        }
        tracing::error!(%block, segment = %entry.segment, offset = entry.offset, "block is damaged on this disk");
        metrics::counter!(metric_names::CHUNK_VERIFICATION_FAILURES).increment(1);
        match self.index.apply(&[Change::Damaged(block, entry)], None) {
            Ok(()) => {
                self.index_is_dirty();
                self.journal.add(block, News::Damaged);
            }
            Err(error) => self.health.fail(error.to_string()),
        }
    }
}
