//! The thread that writes the log. Whatever waits goes into one RocksDB batch in the order it came,
//! and one sync of the write-ahead log serves all of it. Promise: an append or a vote is reported
//! done only after that sync. After a failed write nothing is written any more: what the disk holds
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

/// A batch takes no more operations when it has this many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// Reports the end of an operation.
pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// What the thread does, in the order of the queue.
pub(super) enum Operation {
    /// Entries that follow the last one. Synced.
    Append { entries: Vec<Entry>, callback: IOFlushed<TypeConfig> },
    /// Synced.
    SaveVote { vote: Vote, done: Done },
    /// Not synced: an older position costs a restart some time, nothing else.
    SaveCommitted { committed: Option<LogId> },
    /// Removes `next..`. Not synced: the sync of the next append covers it.
    Truncate { next: u64, done: Done },
    /// Removes all up to `upto`. Not synced: entries that come back are purged again.
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
        let run = move || Thread { shared, failed: None }.run(&operations);
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
    sync: bool,
    appended: u64,
    waiting: Vec<Waiting>,
    /// Where the written part of the log ends when the batch is in.
    written: Option<u64>,
}

impl Thread {
    fn run(mut self, operations: &Receiver<Operation>) {
        crate::raft::runtime::raise_priority();
        loop {
            match operations.recv_timeout(Duration::from_secs(3600)) {
                Ok(first) => self.write(first, operations),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, first: Operation, operations: &Receiver<Operation>) {
        let mut batch = Batch::default();
        let mut next = Some(first);
        let mut result = Ok(());
        while let Some(operation) = next {
            result = result.and_then(|()| batch.add(operation));
            next = if batch.bytes < BATCH_BYTES && result.is_ok() { operations.try_recv().ok() } else { None };
        }
        let Batch { writes, sync, appended, waiting, written, .. } = batch;
        let result = result.and_then(|()| self.commit(writes, sync, appended));
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

    fn commit(&self, writes: WriteBatch, sync: bool, appended: u64) -> io::Result<()> {
        if let Some(failure) = &self.failed {
            return Err(io::Error::other(format!("an earlier write of the raft log failed: {failure}")));
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let start = Instant::now();
        self.shared.db.write_opt(writes, &options).map_err(io::Error::other)?;
        if sync {
            metrics::log_synced(start.elapsed(), appended);
        }
        Ok(())
    }
}

impl Batch {
    fn add(&mut self, operation: Operation) -> io::Result<()> {
        match operation {
            Operation::Append { entries, callback } => {
                self.waiting.push(Waiting::Callback(callback));
                self.sync = true;
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
                self.sync = true;
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
