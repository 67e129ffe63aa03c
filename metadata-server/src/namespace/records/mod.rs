//! Values of the state machine. Every value begins with the version of its record (one byte, from
//! 1), so that an old one stays readable for ever: a new version is a new module beside `v1`, which
//! is never changed again. Values that snapshots must be able to keep are *versioned*: behind the
//! record version they carry the commit sequence of the command that wrote them
//! (`docs/decisions`, snapshots), and are read through [`super::read::latest`] only.

mod chunk_server;
mod cluster;
mod entry;
mod extent;
mod inode;
mod lock;
mod marker;
mod partition_rows;
mod session;
mod wire;

pub(crate) use chunk_server::{ChunkNode, Disk};
pub(crate) use cluster::{Cluster, Number};
pub(crate) use entry::{Entry, OrderedEntry};
pub(crate) use extent::StoredExtent;
pub(crate) use inode::{FIRST_COOKIE, Inode, Trim};
pub(crate) use lock::Lock;
pub(crate) use marker::{Garbage, Marker, Opaque};
pub(crate) use partition_rows::{OwnedRow, PartitionRows};
pub(crate) use session::{Open, Session, Slot};

use cairn_common::ids::CommitSequence;

use crate::storage::StorageError;
use wire::{Reader, Writer};

/// A value of one table.
pub(crate) trait Record: Sized {
    /// Its name in messages.
    const NAME: &'static str;
    /// The record version that is written.
    const VERSION: u8 = 1;

    /// Writes the newest version, without the header.
    fn write(&self, out: &mut Writer);

    /// Reads the given version; None if there is no such version.
    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self>;
}

/// A record that carries its commit sequence.
pub(crate) trait Versioned: Record {}

/// `{version u8}{record}`
pub(crate) fn encode<R: Record>(record: &R) -> Vec<u8> {
    let mut out = Writer::with_version(R::VERSION);
    record.write(&mut out);
    out.into_bytes()
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<R: Record>(value: &[u8]) -> Result<R, StorageError> {
    let mut input = Reader::new(value);
    let record = input.u8().and_then(|version| R::read(version, &mut input));
    complete::<R, _>(record, &input, value)
}

/// `{version u8}{commit sequence u64}{record}`
pub(crate) fn encode_versioned<R: Versioned>(sequence: CommitSequence, record: &R) -> Vec<u8> {
    let mut out = Writer::with_version(R::VERSION);
    out.u64(sequence.0);
    record.write(&mut out);
    out.into_bytes()
}

/// Reads what [`encode_versioned`] wrote.
pub(crate) fn decode_versioned<R: Versioned>(value: &[u8]) -> Result<(CommitSequence, R), StorageError> {
    let mut input = Reader::new(value);
    let record = input.u8().and_then(|version| {
        let sequence = CommitSequence(input.u64()?);
        Some((sequence, R::read(version, &mut input)?))
    });
    complete::<R, _>(record, &input, value)
}

fn complete<R: Record, T>(record: Option<T>, input: &Reader<'_>, value: &[u8]) -> Result<T, StorageError> {
    match record {
        Some(record) if input.is_empty() => Ok(record),
        _ => {
            let head = &value[..value.len().min(64)];
            Err(StorageError::Corrupt(format!("unreadable {} {head:02x?}", R::NAME)))
        }
    }
}
