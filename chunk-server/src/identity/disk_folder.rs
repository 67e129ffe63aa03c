//! A disk folder: `disk.toml` with its UUID, `segments/`, `index/`, and a lock.

use std::path::{Path, PathBuf};

use cairn_common::durable_file;
use cairn_common::ids::{ClusterId, DiskUuid, Incarnation};
use serde::{Deserialize, Serialize};

use super::FolderError;
use super::lock::FolderLock;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    uuid: String,
    cluster: String,
    incarnation: String,
}

/// Who a disk folder belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DiskIdentity {
    pub(super) uuid: DiskUuid,
    pub(super) cluster: ClusterId,
    pub(super) incarnation: Incarnation,
}

/// A disk folder that this process has locked.
#[derive(Debug)]
pub struct DiskFolder {
    path: PathBuf,
    _lock: FolderLock,
}

impl DiskFolder {
    /// Locks an existing, formatted disk folder.
    pub(super) fn open(path: &Path) -> Result<Self, FolderError> {
        let folder = Self { path: path.to_path_buf(), _lock: FolderLock::take(path)? };
        durable_file::create_folder(&folder.segments())?;
        Ok(folder)
    }

    /// Formats an empty folder.
    pub(super) fn format(path: &Path, identity: &DiskIdentity) -> Result<Self, FolderError> {
        durable_file::create_folder(path)?;
        let folder = Self { path: path.to_path_buf(), _lock: FolderLock::take(path)? };
        durable_file::create_folder(&folder.segments())?;
        let text = Text {
            version: VERSION,
            uuid: identity.uuid.to_string(),
            cluster: identity.cluster.to_string(),
            incarnation: identity.incarnation.to_string(),
        };
        let file = path.join("disk.toml");
        let text = toml::to_string(&text)
            .map_err(|error| FolderError::Broken { path: file.clone(), reason: error.to_string() })?;
        durable_file::write(&file, text.as_bytes())?;
        Ok(folder)
    }

    /// Where the segments are.
    pub fn segments(&self) -> PathBuf {
        self.path.join("segments")
    }

    /// Where the index is.
    pub fn index(&self) -> PathBuf {
        self.path.join("index")
    }
}

/// Whose disk this is; None if the folder is not formatted or not there.
pub(super) fn identity_of(path: &Path) -> Result<Option<DiskIdentity>, FolderError> {
    let file = path.join("disk.toml");
    let text = match durable_file::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let broken = |reason: String| FolderError::Broken { path: file.clone(), reason };
    let text: Text = toml::from_str(&text).map_err(|error| broken(error.to_string()))?;
    if text.version != VERSION {
        return Err(broken(format!("version {} is not known to this program", text.version)));
    }
    let uuid = |error: uuid::Error| broken(error.to_string());
    Ok(Some(DiskIdentity {
        uuid: text.uuid.parse().map_err(uuid)?,
        cluster: text.cluster.parse().map_err(uuid)?,
        incarnation: text.incarnation.parse().map_err(uuid)?,
    }))
}

/// Whether a folder holds segments (or cannot be looked at, which must not be taken for empty).
pub(super) fn holds_segments(path: &Path) -> Result<bool, FolderError> {
    let segments = path.join("segments");
    match std::fs::read_dir(&segments) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FolderError::Io { action: "list", path: segments, error }),
    }
}
