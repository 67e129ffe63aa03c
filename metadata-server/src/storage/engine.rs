//! [`StorageEngine`]: what the state machine adapter needs of an engine. An engine takes in the
//! changes of applied entries together with a mark that says how far they go. Nothing is on stable
//! storage before [`StorageEngine::flush`] (or a flush of the engine's own) says so: after a crash
//! the engine holds a prefix of what was committed to it, and its mark tells which one; the Raft log
//! supplies the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::{ReadView, StorageError};

/// First byte of the engine's own keys; no key of the namespace begins with it.
pub const RESERVED_TABLE: u8 = 0x00;

/// Changes of a transaction: puts (`Some`) and deletes (`None`).
pub type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// How far the state goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Index of the last entry that is part of the state.
    pub index: u64,
    /// What the caller wants back with it (Raft log id and membership); opaque to the engine.
    pub detail: Bytes,
}

/// An ordered key-value engine below the state machine.
pub trait StorageEngine: Send + Sync + 'static {
    /// A consistent view of what is committed now. It stays valid if the engine is replaced.
    fn view(&self) -> Box<dyn ReadView + Send + Sync>;

    /// Takes in changes and their mark, all or nothing. They are visible on return, but not on
    /// stable storage. A key with [`RESERVED_TABLE`] is refused.
    fn commit(&self, changes: Changes, mark: &Mark) -> Result<(), StorageError>;

    /// The mark of the last commit; None for an engine that never took one.
    fn mark(&self) -> Option<Mark>;

    /// Brings all that is committed now to stable storage. Returns the index that a crash cannot take
    /// back any more. Blocks for the duration of the IO.
    fn flush(&self) -> Result<u64, StorageError>;

    /// The index that the last flush reported, or the one found when the engine was opened.
    fn durable_index(&self) -> u64;

    /// Writes what is committed now as a complete, durable copy into a folder that does not exist
    /// yet; flushes as a side effect. Returns the mark of the copy.
    fn checkpoint(&self, folder: &Path) -> Result<Option<Mark>, StorageError>;

    /// The engine's files will never be opened again: they are removed when the last view is gone.
    fn retire(&self);
}

/// Opens an engine in a folder, made if absent.
pub type OpenEngine = Arc<dyn Fn(&Path) -> Result<Arc<dyn StorageEngine>, StorageError> + Send + Sync>;

/// The key of the mark.
pub(super) const MARK_KEY: &[u8] = &[RESERVED_TABLE, b'm'];
const MARK_VERSION: u8 = 1;

impl Mark {
    /// Version byte, index (big-endian), detail.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(9 + self.detail.len());
        out.put_u8(MARK_VERSION);
        out.put_u64(self.index);
        out.put_slice(&self.detail);
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, StorageError> {
        if bytes.len() < 9 || bytes[0] != MARK_VERSION {
            return Err(StorageError::Corrupt(format!("applied mark {bytes:02x?}")));
        }
        bytes.advance(1);
        let index = bytes.get_u64();
        Ok(Self { index, detail: Bytes::copy_from_slice(bytes) })
    }
}

pub(super) fn refuse_reserved(changes: &Changes) -> Result<(), StorageError> {
    // Keys are sorted: a reserved or empty one comes first.
    match changes.keys().next() {
        Some(key) if key.first().is_none_or(|table| *table == RESERVED_TABLE) => {
            Err(StorageError::Corrupt(format!("the state machine writes to a reserved key {key:02x?}")))
        }
        _ => Ok(()),
    }
}
