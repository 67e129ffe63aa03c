//! The thread that writes the log. Whatever waits goes into one RocksDB batch in the order it came,
//! and one sync of the write-ahead log serves all of it. Promise: an append or a vote is reported
//! done only after that sync. Every write is synced before the next one begins, so that after a loss
//! of power at most the last one is torn ([`super::torn_tail`] counts on that). After a failed write nothing is written any more: what the disk holds
//! then is unknown, and only a restart reads it back.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use openraft::storage::IOFlushed;
use rocksdb::{WriteBatch, WriteOptions};
use tokio::sync::oneshot;

use super::Shared;
use super::record::{self, COMMITTED, ENTRY_END, PURGED, VOTE, entry_key};
use super::tail::{entry_bytes, index_of};
use crate::raft::metrics;
use crate::raft::types::{Entry, LogId, TypeConfig, Vote};

/// A committed position waits no longer for an operation to go with.
const COMMITTED_WAIT: Duration = Duration::from_secs(1);
/// A batch takes no more operations when it has this many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// Reports the end of an operation.
pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// What the thread does, in the order of the queue.
pub(super) enum Operation {
    /// Entries that follow the last one.
    Append { entries: Vec<Entry>, callback: IOFlushed<TypeConfig> },
    /// The vote.
    SaveVote { vote: Vote, done: Done },
    /// Written with the next other operation, or when there is none for a while: an older position
    /// costs a restart some time, nothing else.
    SaveCommitted { committed: Option<LogId> },
    /// Removes `next..`.
    Truncate { next: u64, done: Done },
    /// Removes all up to `upto`.
    Purge { upto: LogId, done: Done },
}

/// Handle of the thread; the thread ends when it is dropped.
pub(super) struct Writer {
    queue: Option<Sender<Operation>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (queue, operations) = channel();
        let run = move || Thread { shared, failed: None, committed: None }.run(&operations);
        let thread = std::thread::Builder::new().name("raft-log".into()).spawn(run)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(super) fn submit(&self, operation: Operation) -> io::Result<()> {
        let gone = || io::Error::other("the thread that writes the raft log has ended");
        self.queue.as_ref().ok_or_else(gone)?.send(operation).map_err(|_| gone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Thread {
    shared: Arc<Shared>,
    failed: Option<String>,
    /// A committed position that is not written yet.
    committed: Option<Option<LogId>>,
}

/// What is reported when a batch is written.
enum Waiting {
    Callback(IOFlushed<TypeConfig>),
    Done(Done),
}

#[derive(Default)]
struct Batch {
    writes: WriteBatch,
    bytes: usize,
    appended: u64,
    waiting: Vec<Waiting>,
    /// Where the written part of the log ends when the batch is in.
    written: Option<u64>,
}

impl Thread {
    fn run(mut self, operations: &Receiver<Operation>) {
        crate::raft::runtime::raise_priority();
        loop {
            let wait = if self.committed.is_some() { COMMITTED_WAIT } else { Duration::from_secs(3600) };
            match operations.recv_timeout(wait) {
                Ok(Operation::SaveCommitted { committed }) => self.committed = Some(committed),
                Ok(first) => self.write(Some(first), operations),
                Err(RecvTimeoutError::Timeout) => self.write(None, operations),
                Err(RecvTimeoutError::Disconnected) => return self.write(None, operations),
            }
        }
    }

    fn write(&mut self, first: Option<Operation>, operations: &Receiver<Operation>) {
        let mut batch = Batch::default();
        let mut next = first;
        let mut result = Ok(());
        while let Some(operation) = next {
            result = result.and_then(|()| match operation {
                Operation::SaveCommitted { committed } => {
                    self.committed = Some(committed);
                    Ok(())
                }
                operation => batch.add(operation),
            });
            next = if batch.bytes < BATCH_BYTES && result.is_ok() { operations.try_recv().ok() } else { None };
        }
        if let Some(committed) = self.committed.take() {
            result = result.and_then(|()| batch.add(Operation::SaveCommitted { committed }));
        }
        let Batch { writes, appended, waiting, written, .. } = batch;
        let result = result.and_then(|()| self.commit(writes, appended));
        if let Err(error) = &result {
            tracing::error!(%error, folder = %self.shared.folder.display(), "the raft log cannot be written");
            self.failed.get_or_insert_with(|| error.to_string());
        } else if let Some(written) = written {
            self.shared.tail.write().set_written(written);
        }
        for waiter in waiting {
            let result = result.as_ref().map(|_| ()).map_err(|e| io::Error::new(e.kind(), e.to_string()));
            match waiter {
                Waiting::Callback(callback) => callback.io_completed(result),
                Waiting::Done(done) => drop(done.send(result)),
            }
        }
    }

    fn commit(&self, writes: WriteBatch, appended: u64) -> io::Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        if let Some(failure) = &self.failed {
            return Err(io::Error::other(format!("an earlier write of the raft log failed: {failure}")));
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        let start = Instant::now();
        self.shared.db.write_opt(writes, &options).map_err(io::Error::other)?;
        metrics::log_synced(start.elapsed(), appended);
        Ok(())
    }
}

impl Batch {
    fn add(&mut self, operation: Operation) -> io::Result<()> {
        match operation {
            Operation::Append { entries, callback } => {
                self.waiting.push(Waiting::Callback(callback));
                for entry in &entries {
                    let key = entry_key(index_of(entry));
                    self.writes.put(key, record::encode(&key, entry)?);
                    self.bytes += entry_bytes(entry);
                    self.written = Some(index_of(entry) + 1);
                }
                self.appended += entries.len() as u64;
            }
            Operation::SaveVote { vote, done } => {
                self.waiting.push(Waiting::Done(done));
                self.writes.put(VOTE, record::encode(VOTE, &vote)?);
            }
            Operation::SaveCommitted { committed } => {
                self.writes.put(COMMITTED, record::encode(COMMITTED, &committed)?);
            }
            Operation::Truncate { next, done } => {
                self.waiting.push(Waiting::Done(done));
                self.writes.delete_range(&entry_key(next)[..], ENTRY_END);
                self.written = Some(next);
            }
            Operation::Purge { upto, done } => {
                self.waiting.push(Waiting::Done(done));
                self.writes.put(PURGED, record::encode(PURGED, &upto)?);
                self.writes.delete_range(entry_key(0), entry_key(upto.index + 1));
            }
        }
        Ok(())
    }
}
