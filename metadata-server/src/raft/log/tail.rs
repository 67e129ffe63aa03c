//! The newest entries of the log in memory: what is not written yet must be readable at once, and
//! replication and apply nearly always read what was just appended.

use std::collections::VecDeque;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;

use crate::raft::types::Entry;

/// Entries that are written stay in memory up to this many bytes.
const KEEP_BYTES: usize = 32 << 20;
/// What an entry costs besides its commands, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// A run of entries `first..next`, the end of the log.
#[derive(Default)]
pub(super) struct Tail {
    first: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries below are written (not necessarily synced) and may be forgotten.
    written: u64,
}

impl Tail {
    /// Nothing in memory; the log ends before `next`.
    pub(super) fn new(next: u64) -> Self {
        Self { first: next, written: next, ..Self::default() }
    }

    /// The first index in memory; all below are in the database only.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The index after the last entry of the log.
    pub(super) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The entries of `start..end` that are in memory.
    pub(super) fn range(&self, start: u64, end: u64) -> impl Iterator<Item = &Entry> {
        let from = start.clamp(self.first, self.next()) - self.first;
        let to = end.clamp(self.first + from, self.next()) - self.first;
        self.entries.range(from as usize..to as usize)
    }

    /// The entry must have the index [`Self::next`].
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry_bytes(&entry);
        self.entries.push_back(entry);
        self.evict();
    }

    /// Entries below `written` are in the database now.
    pub(super) fn set_written(&mut self, written: u64) {
        self.written = written;
        self.evict();
    }

    /// Forgets `next..`; the log ends before `next`.
    pub(super) fn truncate(&mut self, next: u64) {
        while self.next() > next
            && let Some(entry) = self.entries.pop_back()
        {
            self.bytes -= entry_bytes(&entry);
        }
        self.first = self.first.min(next);
    }

    /// Forgets all below `first`.
    pub(super) fn purge(&mut self, first: u64) {
        while self.first < first {
            match self.entries.pop_front() {
                Some(entry) => {
                    self.bytes -= entry_bytes(&entry);
                    self.first += 1;
                }
                None => self.first = first,
            }
        }
    }

    fn evict(&mut self) {
        while self.bytes > KEEP_BYTES
            && self.first < self.written
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= entry_bytes(&entry);
            self.first += 1;
        }
    }
}

/// Roughly what an entry takes in memory, in the log and on the wire.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    let commands = match &entry.payload {
        EntryPayload::Normal(batch) => batch.encoded_bytes(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    ENTRY_OVERHEAD_BYTES + commands
}

/// The index of an entry.
pub(super) fn index_of(entry: &Entry) -> u64 {
    entry.index()
}
