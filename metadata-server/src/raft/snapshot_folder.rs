//! A snapshot on disk: `snapshots/NAME/` holds `db/` (a checkpoint of the state engine) and `META`,
//! which is written last, durably: a folder without it is garbage of a crash and is removed at the
//! next start. Files of a snapshot never change, so table files are shared by hard links.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_common::durable_file;

use super::log::record;
use super::types::SnapshotMeta;

const META_FILE: &str = "META";
const DATABASE_FOLDER: &str = "db";

/// A complete snapshot, or one that is being received. Whoever holds it keeps its files.
#[derive(Debug)]
pub struct SnapshotFolder {
    path: PathBuf,
    meta: SnapshotMeta,
    doomed: AtomicBool,
}

impl SnapshotFolder {
    /// An empty folder for a snapshot that is about to be written; removed again if it is dropped
    /// before [`Self::complete`].
    pub(super) fn create(path: PathBuf, meta: SnapshotMeta) -> io::Result<Self> {
        std::fs::create_dir(&path).map_err(|e| within(&path, &e))?;
        Ok(Self { path, meta, doomed: AtomicBool::new(true) })
    }

    /// A complete snapshot that is there; None if it is not complete.
    pub(super) fn open(path: PathBuf) -> io::Result<Option<Self>> {
        let bytes = match durable_file::read(&path.join(META_FILE)) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(io::Error::other(e)),
        };
        let meta = record::decode(META_FILE.as_bytes(), &bytes).map_err(|e| within(&path, &e))?;
        Ok(Some(Self { path, meta, doomed: AtomicBool::new(false) }))
    }

    /// Writes META: from now on the snapshot survives. The files must be durable already.
    pub(super) fn complete(self, meta: SnapshotMeta) -> io::Result<Arc<Self>> {
        let bytes = record::encode(META_FILE.as_bytes(), &meta)?;
        durable_file::write(&self.path.join(META_FILE), &bytes).map_err(io::Error::other)?;
        if let Some(parent) = self.path.parent() {
            durable_file::sync_folder(parent).map_err(io::Error::other)?;
        }
        self.doomed.store(false, Ordering::Release);
        Ok(Arc::new(Self { path: self.path.clone(), meta, doomed: AtomicBool::new(false) }))
    }

    /// What it covers.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The engine's files.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FOLDER)
    }

    /// A newer one has taken its place: removed when nobody holds it any more.
    pub(super) fn retire(&self) {
        // Without META a crash during the removal leaves garbage, not half a snapshot.
        if let Err(error) = durable_file::remove(&self.path.join(META_FILE)) {
            tracing::warn!(%error, "cannot remove an old snapshot");
        }
        self.doomed.store(true, Ordering::Release);
    }
}

impl Drop for SnapshotFolder {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire)
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(folder = %self.path.display(), %error, "cannot remove an old snapshot");
        }
    }
}

/// Copies an engine's folder durably: table files, which never change, by hard link if possible.
pub(super) fn copy_database(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to).map_err(|e| within(to, &e))?;
    for entry in std::fs::read_dir(from).map_err(|e| within(from, &e))? {
        let source = entry?.path();
        let Some(name) = source.file_name() else { continue };
        let target = to.join(name);
        let immutable = source.extension().is_some_and(|extension| extension == "sst");
        if !immutable || std::fs::hard_link(&source, &target).is_err() {
            std::fs::copy(&source, &target).map_err(|e| within(&source, &e))?;
            File::open(&target).and_then(|file| file.sync_all()).map_err(|e| within(&target, &e))?;
        }
    }
    durable_file::sync_folder(to).map_err(io::Error::other)?;
    if let Some(parent) = to.parent() {
        durable_file::sync_folder(parent).map_err(io::Error::other)?;
    }
    Ok(())
}

fn within(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
