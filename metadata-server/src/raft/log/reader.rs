//! Reading the log: the newest entries from memory, older ones from the database, never with a hole.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::{OptionalSend, RaftLogReader};
use rocksdb::{DB, ReadOptions};

use super::record::{self, COMMITTED, ENTRY_END, PURGED, VOTE, entry_key};
use super::tail::entry_bytes;
use super::{Positions, Shared};
use crate::raft::types::{Entry, TypeConfig, Vote};

/// One replication message carries at least one entry, and no more when it has this many bytes.
const REPLICATION_BYTES: usize = 4 << 20;

/// Reads the log of this server.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn read(&self, start: u64, end: u64, limit_bytes: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut add = |entry: &Entry| {
            let full = bytes >= limit_bytes;
            if !full {
                bytes += entry_bytes(entry);
                entries.push(entry.clone());
            }
            !full
        };
        // Memory first: whatever leaves it meanwhile is in the database.
        let (first, recent): (u64, Vec<Entry>) = {
            let tail = self.shared.tail.read();
            (tail.first(), tail.range(start, end).cloned().collect())
        };
        let mut room = true;
        if start < first {
            scan(&self.shared.db, start, end.min(first), |entry| {
                room = add(&entry);
                Ok(room)
            })?;
        }
        if room {
            let _ = recent.iter().all(add);
        }
        check_contiguous(&entries)?;
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, REPLICATION_BYTES)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.positions.lock().vote)
    }
}

/// Visits the entries of `start..end` in the database until the visitor returns false.
fn scan(db: &DB, start: u64, end: u64, mut visit: impl FnMut(Entry) -> io::Result<bool>) -> io::Result<()> {
    if start >= end {
        return Ok(());
    }
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(entry_key(start));
    options.set_iterate_upper_bound(if end == u64::MAX { ENTRY_END.to_vec() } else { entry_key(end).to_vec() });
    let mut iterator = db.raw_iterator_opt(options);
    iterator.seek_to_first();
    while let Some((key, value)) = iterator.item() {
        let entry: Entry = record::decode(key, value)?;
        if entry.index() != record::entry_index(key)? {
            return Err(record::corrupt(key, "holds another entry"));
        }
        if !visit(entry)? {
            return Ok(());
        }
        iterator.next();
    }
    iterator.status().map_err(io::Error::other)
}

fn check_contiguous(entries: &[Entry]) -> io::Result<()> {
    match entries.windows(2).find(|pair| pair[0].index() + 1 != pair[1].index()) {
        None => Ok(()),
        Some(pair) => Err(hole(pair[0].index(), pair[1].index())),
    }
}

fn hole(before: u64, after: u64) -> io::Error {
    let reason = format!("raft log: entry {after} follows entry {before}, those between are missing");
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// What a restart finds; every entry is read and checked.
pub(super) fn recover(db: &DB) -> io::Result<Positions> {
    fn meta<T: serde::de::DeserializeOwned>(db: &DB, key: &[u8]) -> io::Result<Option<T>> {
        db.get(key).map_err(io::Error::other)?.map(|value| record::decode(key, &value)).transpose()
    }
    let mut positions = Positions {
        vote: meta(db, VOTE)?,
        committed: meta::<Option<_>>(db, COMMITTED)?.flatten(),
        purged: meta(db, PURGED)?,
        last: None,
    };
    positions.last = positions.purged;
    let mut previous = positions.purged.map(|purged| purged.index);
    scan(db, 0, u64::MAX, |entry| {
        let expected = previous.map_or(0, |previous| previous + 1);
        if entry.index() != expected {
            return Err(hole(expected.saturating_sub(1), entry.index()));
        }
        previous = Some(entry.index());
        positions.last = Some(entry.log_id());
        Ok(true)
    })?;
    Ok(positions)
}
