//! Takes in a snapshot piece by piece. Promise: a snapshot is handed to Raft only when every byte of
//! it came with the right hash and all of it is on stable storage; what is unfinished is removed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cairn_common::durable_file;
use parking_lot::Mutex;

use super::snapshot_folder::SnapshotFolder;
use super::state_store::StateStore;
use super::types::SnapshotMeta;

/// Most files in a snapshot.
const MAX_FILES: usize = 100_000;

/// The snapshot that is arriving at this server; one at a time.
pub(super) struct SnapshotInbox {
    store: Arc<StateStore>,
    arriving: Mutex<Option<Arrival>>,
}

struct Arrival {
    transfer: u128,
    folder: SnapshotFolder,
    meta: SnapshotMeta,
    files: Vec<Arriving>,
}

struct Arriving {
    file: Arc<File>,
    bytes: u64,
    received: u64,
}

impl SnapshotInbox {
    pub(super) fn new(store: Arc<StateStore>) -> Self {
        Self { store, arriving: Mutex::new(None) }
    }

    /// Blocks for the duration of the IO.
    pub(super) fn begin(&self, transfer: u128, meta: SnapshotMeta, files: Vec<(String, u64)>) -> io::Result<()> {
        if files.len() > MAX_FILES {
            return Err(invalid(format!("a snapshot of {} files", files.len())));
        }
        // What an interrupted transfer left goes first.
        drop(self.arriving.lock().take());
        let folder = self.store.new_snapshot_folder(meta.clone())?;
        let database = folder.database();
        std::fs::create_dir(&database)?;
        let mut arriving = Vec::with_capacity(files.len());
        for (name, bytes) in files {
            if Path::new(&name).file_name() != Some(name.as_ref()) {
                return Err(invalid(format!("{name:?} is no name of a file")));
            }
            let file = OpenOptions::new().write(true).create_new(true).open(database.join(name))?;
            arriving.push(Arriving { file: Arc::new(file), bytes, received: 0 });
        }
        *self.arriving.lock() = Some(Arrival { transfer, folder, meta, files: arriving });
        Ok(())
    }

    /// Writes a piece where it belongs. Blocks for the duration of the IO.
    pub(super) fn piece(
        &self,
        transfer: u128,
        file: u32,
        offset: u64,
        hash: [u8; 32],
        piece: &Bytes,
    ) -> io::Result<()> {
        if blake3::hash(piece) != hash {
            return Err(invalid(format!("a piece of file {file} at {offset} does not fit its hash")));
        }
        let target = {
            let arriving = self.arriving.lock();
            let arrival = current(arriving.as_ref(), transfer)?;
            let target = arrival.files.get(file as usize).ok_or_else(|| invalid(format!("no file {file}")))?;
            if offset > target.received || offset + piece.len() as u64 > target.bytes {
                let (received, bytes) = (target.received, target.bytes);
                return Err(invalid(format!("a piece at {offset}, but {received} of {bytes} bytes are here")));
            }
            target.file.clone()
        };
        target.write_all_at(piece, offset)?;
        if let Some(arrival) = self.arriving.lock().as_mut().filter(|arrival| arrival.transfer == transfer) {
            let target = &mut arrival.files[file as usize];
            target.received = target.received.max(offset + piece.len() as u64);
        }
        Ok(())
    }

    /// Makes a whole snapshot durable and hands it over. Blocks for the duration of the IO.
    pub(super) fn finish(&self, transfer: u128) -> io::Result<Arc<SnapshotFolder>> {
        let arrival = {
            let mut arriving = self.arriving.lock();
            let arrival = current(arriving.as_ref(), transfer)?;
            if let Some(number) = arrival.files.iter().position(|file| file.received < file.bytes) {
                return Err(invalid(format!("file {number} is not complete")));
            }
            arriving.take().ok_or_else(|| unknown(transfer))?
        };
        for arriving in &arrival.files {
            arriving.file.sync_all()?;
        }
        durable_file::sync_folder(&arrival.folder.database()).map_err(io::Error::other)?;
        arrival.folder.complete(arrival.meta)
    }

    /// Gives up a snapshot that was handed over and not taken. Returns whether it was not.
    pub(super) fn discard_unused(&self, snapshot: &Arc<SnapshotFolder>) -> bool {
        let unused = !self.store.current_snapshot().is_some_and(|current| Arc::ptr_eq(&current, snapshot));
        if unused {
            snapshot.retire();
        }
        unused
    }
}

fn current(arriving: Option<&Arrival>, transfer: u128) -> io::Result<&Arrival> {
    arriving.filter(|arrival| arrival.transfer == transfer).ok_or_else(|| unknown(transfer))
}

fn unknown(transfer: u128) -> io::Error {
    invalid(format!("snapshot transfer {transfer:x} is not under way here; it must begin again"))
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

#[cfg(test)]
mod tests {
    use rocksdb::Cache;

    use super::*;
    use crate::storage::{RocksEngine, StorageEngine};

    #[test]
    fn only_whole_and_true_snapshots_come_through() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new_lru_cache(1 << 20);
        let open = move |folder: &Path| Ok(Arc::new(RocksEngine::open(folder, &cache)?) as Arc<dyn StorageEngine>);
        let inbox = SnapshotInbox::new(Arc::new(StateStore::open(folder.path(), Arc::new(open)).unwrap()));
        let snapshots = || std::fs::read_dir(folder.path().join("snapshots")).unwrap().count();
        let hash = |piece: &Bytes| *blake3::hash(piece).as_bytes();
        let (one, two) = (Bytes::from_static(b"first piece, "), Bytes::from_static(b"second"));
        let files = vec![("a.sst".to_owned(), 19), ("empty".to_owned(), 0)];

        assert!(inbox.begin(1, SnapshotMeta::default(), vec![("../escape".into(), 1)]).is_err());
        inbox.begin(1, SnapshotMeta::default(), files.clone()).unwrap();
        inbox.piece(1, 0, 0, hash(&one), &one).unwrap();
        assert!(inbox.piece(1, 0, 13, hash(&one), &two).is_err(), "a wrong hash");
        assert!(inbox.piece(1, 0, 15, hash(&two), &two).is_err(), "a gap, and beyond the end");
        assert!(inbox.piece(1, 2, 0, hash(&one), &one).is_err(), "no such file");
        assert!(inbox.finish(1).is_err(), "a piece is missing");
        assert!(inbox.piece(9, 0, 13, hash(&two), &two).is_err(), "another transfer");

        // The sender begins again: what came before is forgotten.
        inbox.begin(2, SnapshotMeta::default(), files).unwrap();
        assert_eq!(snapshots(), 1);
        assert!(inbox.piece(1, 0, 13, hash(&two), &two).is_err());
        inbox.piece(2, 0, 0, hash(&one), &one).unwrap();
        inbox.piece(2, 0, 0, hash(&one), &one).unwrap();
        inbox.piece(2, 0, 13, hash(&two), &two).unwrap();
        let snapshot = inbox.finish(2).unwrap();
        assert_eq!(std::fs::read(snapshot.database().join("a.sst")).unwrap(), b"first piece, second");
        assert!(inbox.finish(2).is_err(), "only once");
        assert!(SnapshotFolder::open(snapshot.path().to_owned()).unwrap().is_some());
    }
}
