//! The state while one command changes it: a transaction with the command's time and sequence.
//! Everything that changes goes through here, so that versioned records always carry the sequence.

use cairn_common::clock::Timestamp;
use cairn_common::ids::{CommitSequence, InodeId};

use super::fault::{Fault, corrupt};
use super::keys::{self, Counter};
use super::read;
use super::records::{self, Inode, Number, Record, Versioned};
use super::touched::Touched;
use crate::storage::{ReadView, StorageError, Transaction};

/// One command at work.
pub(crate) struct State<'t, 'base> {
    tx: &'t mut Transaction<'base>,
    /// The command's time.
    pub(crate) time: Timestamp,
    /// The command's commit sequence.
    pub(crate) sequence: CommitSequence,
    /// Extents that the command may still remove; what is beyond becomes garbage.
    pub(crate) removals_left: usize,
    /// What it touches.
    pub(crate) touched: Touched,
}

impl<'t, 'base> State<'t, 'base> {
    pub(crate) fn new(
        tx: &'t mut Transaction<'base>,
        time: Timestamp,
        max_removals: usize,
    ) -> Result<Self, StorageError> {
        let last = read::counter(tx, Counter::CommitSequence, 0)?;
        Ok(Self {
            tx,
            time,
            sequence: CommitSequence(last + 1),
            removals_left: max_removals,
            touched: Touched::default(),
        })
    }

    /// Does something whose changes are gathered apart, and kept only if it succeeds.
    pub(crate) fn atomically<T>(
        &mut self,
        work: impl FnOnce(&mut State<'_, '_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut own = Transaction::new(&*self.tx);
        let mut state = State {
            tx: &mut own,
            time: self.time,
            sequence: self.sequence,
            removals_left: self.removals_left,
            touched: Touched::default(),
        };
        let result = work(&mut state)?;
        for (key, change) in own.into_changes() {
            match change {
                Some(value) => self.tx.put(key, value),
                None => self.tx.delete(key),
            }
        }
        Ok(result)
    }

    /// To read from: sees what this command has changed.
    pub(crate) fn view(&self) -> &dyn ReadView {
        self.tx
    }

    pub(crate) fn put<R: Record>(&mut self, key: Vec<u8>, record: &R) {
        self.tx.put(key, records::encode(record));
    }

    pub(crate) fn put_versioned<R: Versioned>(&mut self, key: Vec<u8>, record: &R) {
        self.tx.put(key, records::encode_versioned(self.sequence, record));
        self.tx.put(keys::counter(Counter::CommitSequence), records::encode(&Number(self.sequence.0)));
    }

    pub(crate) fn delete(&mut self, key: Vec<u8>) {
        self.tx.delete(key);
    }

    pub(crate) fn put_inode(&mut self, id: InodeId, inode: &Inode) {
        self.touched.changed.insert(id);
        self.put_versioned(keys::inode(id), inode);
    }

    /// An inode of which nothing but the access time is another: no mount has to hear of that, so it is not
    /// among what the command has touched.
    pub(crate) fn put_access_time(&mut self, id: InodeId, inode: &Inode) {
        self.put_versioned(keys::inode(id), inode);
    }

    pub(crate) fn delete_inode(&mut self, id: InodeId) {
        self.touched.changed.insert(id);
        self.delete(keys::inode(id));
    }

    /// Counts one up and gives the new number: an id that was never given before.
    pub(crate) fn next(&mut self, counter: Counter, initial: u64) -> Result<u64, StorageError> {
        let next = read::counter(self.view(), counter, initial)?
            .checked_add(1)
            .ok_or_else(|| corrupt(format!("{counter:?} is at its end")))?;
        self.put(keys::counter(counter), &Number(next));
        Ok(next)
    }

    /// Counts one down.
    pub(crate) fn count_down(&mut self, counter: Counter) -> Result<(), StorageError> {
        let next = read::counter(self.view(), counter, 0)?
            .checked_sub(1)
            .ok_or_else(|| corrupt(format!("{counter:?} falls below zero")))?;
        self.put(keys::counter(counter), &Number(next));
        Ok(())
    }
}
