//! The Raft log: entries, vote, committed and purged position, in a RocksDB of its own.
//!
//! All writes go through one thread ([`writer`]) in order, and one sync serves all who wait. Promise:
//! what openraft was told to be flushed survives power loss, in order and without holes; a log with a
//! hole or a damaged record does not open. A torn end of the write-ahead log was never acknowledged
//! and is dropped ([`torn_tail`]); damage before the end is refused (`TolerateCorruptedTailRecords`),
//! where RocksDB's default would silently drop what follows it.

mod reader;
pub(in crate::raft) mod record;
mod tail;
#[cfg(test)]
mod tests;
mod torn_tail;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_common::durable_file;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::{Mutex, RwLock};
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, ErrorKind, Options};
use tokio::sync::oneshot;

pub use self::reader::LogReader;
use self::tail::Tail;
use self::writer::{Done, Operation, Writer};
use super::types::{Entry, LogId, TypeConfig, Vote};

/// Block cache, in bytes: old entries are read by followers that lag.
const CACHE_BYTES: usize = 16 << 20;

/// How far the log may be purged: entries above are still needed by a restart.
pub type PurgeLimit = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The log of this server.
pub struct RaftLog {
    shared: Arc<Shared>,
    writer: Writer,
    purge_limit: Option<PurgeLimit>,
}

/// What the log and its readers share.
struct Shared {
    db: DB,
    folder: PathBuf,
    tail: RwLock<Tail>,
    positions: Mutex<Positions>,
}

#[derive(Default)]
struct Positions {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
}

impl RaftLog {
    /// Opens or creates the log of a folder; reads and checks every entry.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let within = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", folder.display()));
        // RocksDB makes the folder, too, but not durably in its parent.
        durable_file::create_folder(folder).map_err(io::Error::other)?;
        let db = open_database(folder).map_err(within)?;
        let positions = reader::recover(&db).map_err(within)?;
        let next = positions.last.as_ref().map_or(0, |last| last.index + 1);
        let shared = Arc::new(Shared {
            db,
            folder: folder.to_owned(),
            tail: RwLock::new(Tail::new(next)),
            positions: Mutex::new(positions),
        });
        let writer = Writer::start(shared.clone())?;
        Ok(Self { shared, writer, purge_limit: None })
    }

    /// From now on refuses to purge entries above what `limit` returns.
    pub fn limit_purge(&mut self, limit: PurgeLimit) {
        self.purge_limit = Some(limit);
    }

    /// A reader of the log.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    async fn run(&self, operation: impl FnOnce(Done) -> Operation) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        self.writer.submit(operation(done))?;
        finished.await.map_err(|_| io::Error::other("the thread that writes the raft log has ended"))?
    }
}

impl RaftLogStorage<TypeConfig> for RaftLog {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let positions = self.shared.positions.lock();
        Ok(LogState { last_purged_log_id: positions.purged, last_log_id: positions.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.run(|done| Operation::SaveVote { vote, done }).await?;
        self.shared.positions.lock().vote = Some(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared.positions.lock().committed = committed;
        self.writer.submit(Operation::SaveCommitted { committed })
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.positions.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut tail = self.shared.tail.write();
            // openraft's test suite begins logs at 1; such a log is refused when it is opened again.
            if self.shared.positions.lock().last.is_none()
                && let Some(first) = entries.first()
            {
                tail.purge(first.index());
            }
            for entry in &entries {
                if entry.index() != tail.next() {
                    let (index, next) = (entry.index(), tail.next());
                    return Err(io::Error::other(format!("raft log: entry {index} is appended where {next} is next")));
                }
                tail.push(entry.clone());
            }
        }
        if let Some(last) = entries.last() {
            self.shared.positions.lock().last = Some(last.log_id());
        }
        self.writer.submit(Operation::Append { entries, callback })
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let next = last.map_or(0, |last| last.index + 1);
        if next >= self.shared.tail.read().next() {
            return Ok(());
        }
        // Waits until it is done: a reader must not find the old entries in the database meanwhile.
        self.run(|done| Operation::Truncate { next, done }).await?;
        self.shared.tail.write().truncate(next);
        let purged = self.shared.positions.lock().purged;
        let before = next.checked_sub(1).filter(|before| purged.is_none_or(|purged| purged.index < *before));
        let last = match before {
            Some(before) => self.reader().try_get_log_entries(before..next).await?.first().map(|entry| entry.log_id()),
            None => purged,
        };
        self.shared.positions.lock().last = last;
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        if let Some(limit) = &self.purge_limit
            && upto.index > limit()
        {
            let limit = limit();
            return Err(io::Error::other(format!(
                "raft log: purging up to {} would lose entries that the state machine has on stable storage only up to {limit}",
                upto.index
            )));
        }
        {
            let mut positions = self.shared.positions.lock();
            positions.purged = positions.purged.max(Some(upto));
            positions.last = positions.last.max(Some(upto));
        }
        self.shared.tail.write().purge(upto.index + 1);
        self.run(|done| Operation::Purge { upto, done }).await
    }
}

fn open_database(folder: &Path) -> io::Result<DB> {
    let error = match DB::open(&options(), folder) {
        Err(error) if error.kind() == ErrorKind::Corruption => error,
        opened => return opened.map_err(io::Error::other),
    };
    let Some(cut) = torn_tail::cut(folder)? else { return Err(io::Error::other(error)) };
    tracing::warn!(file = %cut.file.display(), length = cut.length, bytes = cut.bytes, %error,
        "the last write was torn by a loss of power, and is dropped: it was never acknowledged");
    DB::open(&options(), folder).map_err(io::Error::other)
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    table.set_format_version(6);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // A whole write-ahead log that is missing is noticed, too.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_write_buffer_size(64 << 20);
    options.set_max_write_buffer_number(3);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(3);
    options.set_max_log_file_size(4 << 20);
    options
}
