//! A Raft log in memory with the crash semantics of the real one, for simulations: what was not synced
//! is gone after [`LogDisk::crash`], and nothing is reported done before it was synced. A sync takes
//! simulated time; what is written meanwhile waits for the next one, as in a group commit.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::clock::Timestamp;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::log::PurgeLimit;
use super::types::{Entry, LogId, TypeConfig, Vote};

/// How long the next sync takes.
pub type SyncTime = Arc<dyn Fn() -> Duration + Send + Sync>;

/// One replication message carries no more entries than this.
const REPLICATION_ENTRIES: usize = 64;

/// What survives a crash, and what does not. Shared by the lives of one server.
pub struct LogDisk {
    state: Mutex<State>,
    sync_time: SyncTime,
    acknowledges_early: bool,
}

#[derive(Default)]
struct State {
    now: Contents,
    durable: Contents,
    unsynced: VecDeque<Change>,
    waiting: Vec<Waiting>,
    syncing: bool,
    life: u64,
}

#[derive(Clone, Default)]
struct Contents {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
}

enum Change {
    Append(Vec<Entry>),
    Vote(Vote),
    Committed(Option<LogId>),
    Truncate(u64),
    Purge(LogId),
}

enum Waiting {
    Callback(IOFlushed<TypeConfig>),
    Done(oneshot::Sender<()>),
}

/// The log of one life of a server.
#[derive(Clone)]
pub struct MemoryLog {
    disk: Arc<LogDisk>,
    life: u64,
    purge_limit: PurgeLimit,
}

impl LogDisk {
    /// An empty log.
    pub fn new(sync_time: SyncTime) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), sync_time, acknowledges_early: false })
    }

    /// An empty log with a bug, for tests of the tests: appends are reported done before they are synced.
    pub fn that_acknowledges_early(sync_time: SyncTime) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), sync_time, acknowledges_early: true })
    }

    /// The process is about to end: handles that it has work no more.
    pub fn detach(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.life += 1;
            state.syncing = false;
            std::mem::take(&mut state.waiting)
        };
        // Who waits may look here again.
        drop(waiting);
    }

    /// Power loss, after [`Self::detach`]: of what was not synced only the first `keep` changes are there.
    pub fn crash(&self, keep: usize) {
        let mut state = self.state.lock();
        let mut durable = std::mem::take(&mut state.durable);
        std::mem::take(&mut state.unsynced).into_iter().take(keep).for_each(|change| durable.take(change));
        state.now = durable.clone();
        state.durable = durable;
    }

    /// Whether a power loss now would leave the command with this stamp. What was purged counts: it is in
    /// the state.
    pub fn has_durably(&self, stamp: Timestamp) -> bool {
        let state = self.state.lock();
        for entry in state.durable.entries.values().rev() {
            let EntryPayload::Normal(batch) = &entry.payload else { continue };
            let Ok(commands) = batch.commands() else { continue };
            if commands.iter().any(|command| command.time == stamp) {
                return true;
            }
            // Stamps grow along the log.
            if commands.iter().all(|command| command.time < stamp) {
                return false;
            }
        }
        state.durable.purged.is_some()
    }

    /// Changes that a crash would take back.
    pub fn unsynced(&self) -> usize {
        self.state.lock().unsynced.len()
    }
}

impl Contents {
    fn take(&mut self, change: Change) {
        match change {
            Change::Append(entries) => self.entries.extend(entries.into_iter().map(|entry| (entry.index(), entry))),
            Change::Vote(vote) => self.vote = Some(vote),
            Change::Committed(committed) => self.committed = committed,
            Change::Truncate(next) => drop(self.entries.split_off(&next)),
            Change::Purge(upto) => {
                self.purged = self.purged.max(Some(upto));
                self.entries = self.entries.split_off(&(upto.index + 1));
            }
        }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id()).or(self.purged)
    }
}

impl Change {
    fn copy(&self) -> Self {
        match self {
            Self::Append(entries) => Self::Append(entries.clone()),
            Self::Vote(vote) => Self::Vote(*vote),
            Self::Committed(committed) => Self::Committed(*committed),
            Self::Truncate(next) => Self::Truncate(*next),
            Self::Purge(upto) => Self::Purge(*upto),
        }
    }
}

impl MemoryLog {
    /// Goes on where the disk ends; refuses to purge entries above `purge_limit`.
    pub fn open(disk: Arc<LogDisk>, purge_limit: PurgeLimit) -> Self {
        let life = disk.state.lock().life;
        Self { disk, life, purge_limit }
    }

    fn write(&self, change: Change, waiting: Option<Waiting>) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if state.life != self.life {
            return Err(io::Error::other("the server of this log has crashed"));
        }
        state.now.take(change.copy());
        state.unsynced.push_back(change);
        state.waiting.extend(waiting);
        if !std::mem::replace(&mut state.syncing, true) {
            tokio::spawn(sync(self.disk.clone(), self.life));
        }
        Ok(())
    }

    async fn write_through(&self, change: Change) -> io::Result<()> {
        let (done, synced) = oneshot::channel();
        self.write(change, Some(Waiting::Done(done)))?;
        synced.await.map_err(|_| io::Error::other("the server of this log has crashed"))
    }
}

/// Syncs until there is nothing left to sync.
async fn sync(disk: Arc<LogDisk>, life: u64) {
    loop {
        let (count, waiting) = {
            let mut state = disk.state.lock();
            if state.life != life {
                return;
            }
            if state.unsynced.is_empty() {
                state.syncing = false;
                return;
            }
            (state.unsynced.len(), std::mem::take(&mut state.waiting))
        };
        tokio::time::sleep((disk.sync_time)()).await;
        {
            let mut state = disk.state.lock();
            if state.life != life {
                return;
            }
            for _ in 0..count {
                if let Some(change) = state.unsynced.pop_front() {
                    state.durable.take(change);
                }
            }
        }
        for waiter in waiting {
            match waiter {
                Waiting::Callback(callback) => callback.io_completed(Ok(())),
                Waiting::Done(done) => drop(done.send(())),
            }
        }
    }
}

impl RaftLogReader<TypeConfig> for MemoryLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.disk.state.lock().now.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let state = self.disk.state.lock();
        Ok(state.now.entries.range(start..end).take(REPLICATION_ENTRIES).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.disk.state.lock().now.vote)
    }
}

impl RaftLogStorage<TypeConfig> for MemoryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.disk.state.lock();
        Ok(LogState { last_purged_log_id: state.now.purged, last_log_id: state.now.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write_through(Change::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.write(Change::Committed(committed), None)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.disk.state.lock().now.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if let Some(first) = entries.first() {
            let last = self.disk.state.lock().now.last();
            if last.is_some_and(|last| last.index + 1 != first.index()) {
                return Err(io::Error::other(format!("raft log: a hole before entry {}", first.index())));
            }
        }
        if self.disk.acknowledges_early {
            self.write(Change::Append(entries), None)?;
            callback.io_completed(Ok(()));
            return Ok(());
        }
        self.write(Change::Append(entries), Some(Waiting::Callback(callback)))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.write_through(Change::Truncate(last.map_or(0, |last| last.index + 1))).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let limit = (self.purge_limit)();
        if upto.index > limit {
            let index = upto.index;
            return Err(io::Error::other(format!(
                "raft log: purging up to {index}, the state is durable up to {limit}"
            )));
        }
        self.write_through(Change::Purge(upto)).await
    }
}
