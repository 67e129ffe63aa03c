//! Opens the data folder: locks it, formats it when it is empty, finds every disk that belongs to it.

use std::path::{Path, PathBuf};

use cairn_common::durable_file;
use cairn_common::ids::{ClusterId, DiskUuid, Incarnation};

use super::FolderError;
use super::disk_folder::{DiskFolder, DiskIdentity, holds_segments, identity_of};
use super::identity_file::{DiskLine, IdentityFile};
use super::lock::FolderLock;

/// A data folder that this process has locked.
#[derive(Debug)]
pub struct DataFolder {
    incarnation: Incarnation,
    disks: Vec<KnownDisk>,
    _lock: FolderLock,
}

/// A disk that belongs to this server.
#[derive(Debug)]
pub struct KnownDisk {
    /// This formatting of the disk.
    pub uuid: DiskUuid,
    /// Its size when it was formatted, in bytes.
    pub capacity_bytes: u64,
    /// Whether it is there.
    pub state: DiskState,
}

/// Whether a disk is there.
#[derive(Debug)]
pub enum DiskState {
    /// It is, and locked.
    Present(DiskFolder),
    /// It is not, or not as it should be; the text says more.
    Failed(String),
}

impl DataFolder {
    /// Opens `data` with the disk folders `disks` for the server `name` of `cluster`. An empty data
    /// folder is formatted; so is a disk folder that was added to the configuration.
    pub fn open(data: &Path, disks: &[PathBuf], cluster: ClusterId, name: &str) -> Result<Self, FolderError> {
        durable_file::create_folder(data)?;
        let lock = FolderLock::take(data)?;
        let file = data.join("identity.toml");
        let (mut identity, is_new) = match IdentityFile::read(&file)? {
            Some(identity) => (identity, false),
            None => (Self::fresh(data, disks, cluster, name)?, true),
        };
        if identity.cluster != cluster || identity.name != name {
            return Err(FolderError::Foreign {
                path: file,
                owner: format!("{} of cluster {}", identity.name, identity.cluster),
                expected: format!("{name} of cluster {cluster}"),
            });
        }
        let mut known = Vec::new();
        let mut changed = is_new;
        for path in disks {
            known.push(Self::disk(&mut identity, path, is_new, &mut changed)?);
        }
        for line in &identity.disks {
            if !known.iter().any(|disk| disk.uuid == line.uuid) {
                let reason = format!("disk {} (last at {}) is in no configured folder", line.uuid, line.path.display());
                known.push(KnownDisk {
                    uuid: line.uuid,
                    capacity_bytes: line.capacity_bytes,
                    state: DiskState::Failed(reason),
                });
            }
        }
        if changed {
            identity.write(&file)?;
        }
        Ok(Self { incarnation: identity.incarnation, disks: known, _lock: lock })
    }

    /// This life of the data folder.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The disks, those that are missing included. The lock stays with the folder.
    pub fn take_disks(&mut self) -> Vec<KnownDisk> {
        std::mem::take(&mut self.disks)
    }

    fn fresh(data: &Path, disks: &[PathBuf], cluster: ClusterId, name: &str) -> Result<IdentityFile, FolderError> {
        for disk in disks {
            if holds_segments(disk)? {
                return Err(FolderError::Orphaned { disk: disk.clone(), data: data.to_path_buf() });
            }
        }
        let incarnation = Incarnation::random();
        tracing::info!(data = %data.display(), %incarnation, "formatting an empty data folder");
        Ok(IdentityFile { cluster, name: name.to_owned(), incarnation, disks: Vec::new() })
    }

    /// Finds the disk of a configured folder. `is_new`: the data folder is being formatted, so that a
    /// disk folder without blocks is a format that was interrupted.
    fn disk(
        identity: &mut IdentityFile,
        path: &Path,
        is_new: bool,
        changed: &mut bool,
    ) -> Result<KnownDisk, FolderError> {
        let found = if is_new { None } else { identity_of(path)? };
        if let Some(found) = found {
            if let Some(line) = identity.disks.iter().find(|line| line.uuid == found.uuid) {
                let state = DiskState::Present(DiskFolder::open(path)?);
                return Ok(KnownDisk { uuid: line.uuid, capacity_bytes: line.capacity_bytes, state });
            }
            if found.incarnation != identity.incarnation || holds_segments(path)? {
                return Err(FolderError::Foreign {
                    path: path.join("disk.toml"),
                    owner: format!("the server with incarnation {}", found.incarnation),
                    expected: format!("{} with incarnation {}", identity.name, identity.incarnation),
                });
            }
        } else if let Some(line) = identity.disks.iter().find(|line| line.path == path) {
            // Unmounted, or wiped: never made anew by itself.
            let reason = format!(
                "{} was disk {} and is not formatted: mount the disk. If it is lost, configure a new folder for its \
                 replacement",
                path.display(),
                line.uuid
            );
            return Ok(KnownDisk {
                uuid: line.uuid,
                capacity_bytes: line.capacity_bytes,
                state: DiskState::Failed(reason),
            });
        } else if holds_segments(path)? {
            return Err(FolderError::Broken { path: path.join("disk.toml"), reason: "it is missing".to_owned() });
        }
        *changed = true;
        let uuid = DiskUuid::random();
        let folder = DiskFolder::format(
            path,
            &DiskIdentity { uuid, cluster: identity.cluster, incarnation: identity.incarnation },
        )?;
        tracing::info!(path = %path.display(), %uuid, "formatted a disk folder");
        let stat = rustix::fs::statvfs(path).map_err(|error| FolderError::Io {
            action: "measure",
            path: path.to_path_buf(),
            error: error.into(),
        })?;
        let capacity_bytes = stat.f_blocks * stat.f_frsize;
        identity.disks.push(DiskLine { uuid, path: path.to_path_buf(), capacity_bytes });
        Ok(KnownDisk { uuid, capacity_bytes, state: DiskState::Present(folder) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        root: tempfile::TempDir,
        cluster: ClusterId,
    }

    impl Place {
        fn new() -> Self {
            Self { root: tempfile::tempdir().unwrap(), cluster: ClusterId::random() }
        }
        fn data(&self) -> PathBuf {
            self.root.path().join("data")
        }
        fn disk(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }
        fn open(&self, disks: &[&str]) -> Result<DataFolder, FolderError> {
            let disks: Vec<PathBuf> = disks.iter().map(|name| self.disk(name)).collect();
            DataFolder::open(&self.data(), &disks, self.cluster, "chunk1")
        }
    }

    fn uuids(folder: &DataFolder) -> Vec<DiskUuid> {
        folder.disks.iter().map(|disk| disk.uuid).collect()
    }

    #[test]
    fn keeps_its_identity_and_takes_new_disks() {
        let place = Place::new();
        let first = place.open(&["a", "b"]).unwrap();
        let (incarnation, disks) = (first.incarnation(), uuids(&first));
        drop(first);
        let second = place.open(&["b", "a", "c"]).unwrap();
        assert_eq!(second.incarnation(), incarnation);
        assert_eq!(uuids(&second)[..2], [disks[1], disks[0]], "a disk is known by its UUID, not by its place");
        let with_c = uuids(&second);
        drop(second);
        assert_eq!(uuids(&place.open(&["b", "a", "c"]).unwrap()), with_c);
    }

    #[test]
    fn two_processes_never_open_one_folder() {
        let place = Place::new();
        let _first = place.open(&["a"]).unwrap();
        assert!(matches!(place.open(&["a"]), Err(FolderError::Locked { .. })));
        let disks = [place.disk("a")];
        let other = DataFolder::open(&place.root.path().join("data2"), &disks, place.cluster, "chunk2");
        assert!(matches!(other, Err(FolderError::Locked { .. })), "nor one disk: {other:?}");
    }

    #[test]
    fn a_vanished_disk_is_failed_and_not_made_anew() {
        let place = Place::new();
        let disks = uuids(&place.open(&["a", "b"]).unwrap());
        std::fs::remove_dir_all(place.disk("b")).unwrap();
        for attempt in 0..2 {
            let folder = place.open(&["a", "b"]).unwrap();
            assert_eq!(uuids(&folder), disks);
            assert!(
                matches!(&folder.disks[1].state, DiskState::Failed(reason) if reason.contains("mount")),
                "{attempt}"
            );
            assert!(matches!(folder.disks[0].state, DiskState::Present(_)));
            drop(folder);
            // The empty folder of a missing mount is the same.
            let _ = std::fs::create_dir(place.disk("b"));
        }
        let folder = place.open(&["a"]).unwrap();
        assert!(matches!(folder.disks[1].state, DiskState::Failed(_)), "also when it left the configuration");
    }

    #[test]
    fn broken_foreign_and_lost_identities_are_refused() {
        let place = Place::new();
        drop(place.open(&["a"]).unwrap());
        let other = DataFolder::open(&place.data(), &[place.disk("a")], ClusterId::random(), "chunk1");
        assert!(matches!(other, Err(FolderError::Foreign { .. })), "{other:?}");

        let file = place.data().join("identity.toml");
        let good = std::fs::read(&file).unwrap();
        std::fs::write(&file, &good[..good.len() / 2]).unwrap();
        let text = place.open(&["a"]).unwrap_err().to_string();
        assert!(text.contains("identity.toml is broken") && text.contains("backup"), "{text}");

        std::fs::write(place.disk("a").join("segments/0000000000000001.segment"), b"x").unwrap();
        std::fs::remove_file(&file).unwrap();
        let text = place.open(&["a"]).unwrap_err().to_string();
        assert!(text.contains("has no identity"), "{text}");
        std::fs::write(&file, &good).unwrap();
        assert!(place.open(&["a"]).is_ok());
    }

    #[test]
    fn an_interrupted_format_is_begun_again() {
        let place = Place::new();
        drop(place.open(&["a"]).unwrap());
        // The crash came before identity.toml was written.
        std::fs::remove_file(place.data().join("identity.toml")).unwrap();
        let folder = place.open(&["a"]).unwrap();
        assert!(matches!(folder.disks[0].state, DiskState::Present(_)));
    }
}
