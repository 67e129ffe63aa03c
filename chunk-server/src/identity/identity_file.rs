//! `identity.toml` in the data folder: cluster, name, incarnation and the disks that belong to it.
//! Written when the folder is formatted and when a disk is added, never otherwise.
//!
//! ```toml
//! version = 1
//! cluster = "…"
//! name = "chunk1"
//! incarnation = "…"
//! disks = 1                # so that a file that was cut off is noticed
//! [[disk]]
//! uuid = "…"
//! path = "/…"             # where it was when it was formatted
//! capacity_bytes = 0       # its size then, for the time when it is not there
//! ```

use std::path::{Path, PathBuf};

use cairn_common::durable_file;
use cairn_common::ids::{ClusterId, DiskUuid, Incarnation};
use serde::{Deserialize, Serialize};

use super::FolderError;

const VERSION: u32 = 1;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdentityFile {
    pub(super) cluster: ClusterId,
    pub(super) name: String,
    pub(super) incarnation: Incarnation,
    pub(super) disks: Vec<DiskLine>,
}

/// A disk in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DiskLine {
    pub(super) uuid: DiskUuid,
    pub(super) path: PathBuf,
    pub(super) capacity_bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    cluster: String,
    name: String,
    incarnation: String,
    disks: usize,
    #[serde(default)]
    disk: Vec<DiskText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiskText {
    uuid: String,
    path: PathBuf,
    capacity_bytes: u64,
}

impl IdentityFile {
    /// Reads the file; None if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, FolderError> {
        let text = match durable_file::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let broken = |reason: String| FolderError::Broken { path: path.to_path_buf(), reason };
        let text: Text = toml::from_str(&text).map_err(|error| broken(error.to_string()))?;
        if text.version != VERSION {
            return Err(broken(format!("version {} is not known to this program", text.version)));
        }
        if text.disks != text.disk.len() {
            return Err(broken(format!("it lists {} of its {} disks", text.disk.len(), text.disks)));
        }
        let uuid = |error: uuid::Error| broken(error.to_string());
        let disks = text.disk.into_iter().map(|disk| {
            Ok(DiskLine {
                uuid: disk.uuid.parse().map_err(uuid)?,
                path: disk.path,
                capacity_bytes: disk.capacity_bytes,
            })
        });
        Ok(Some(Self {
            cluster: text.cluster.parse().map_err(uuid)?,
            name: text.name,
            incarnation: text.incarnation.parse().map_err(uuid)?,
            disks: disks.collect::<Result<_, FolderError>>()?,
        }))
    }

    /// Writes the file durably.
    pub(super) fn write(&self, path: &Path) -> Result<(), FolderError> {
        let disk = |disk: &DiskLine| DiskText {
            uuid: disk.uuid.to_string(),
            path: disk.path.clone(),
            capacity_bytes: disk.capacity_bytes,
        };
        let text = Text {
            version: VERSION,
            cluster: self.cluster.to_string(),
            name: self.name.clone(),
            incarnation: self.incarnation.to_string(),
            disks: self.disks.len(),
            disk: self.disks.iter().map(disk).collect(),
        };
        let text = toml::to_string(&text)
            .map_err(|error| FolderError::Broken { path: path.to_path_buf(), reason: error.to_string() })?;
        Ok(durable_file::write(path, text.as_bytes())?)
    }
}
