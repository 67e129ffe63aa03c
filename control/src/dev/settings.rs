//! `cluster.toml`: what a local cluster was made with and where its parts listen. Written through a
//! temporary file and rename, so that an interrupted command leaves the old or the new one whole.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cairn_common::ids::{ClusterId, Incarnation};
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::ports::{free_addresses, random_host};
use crate::error::{ControlError, FileContext};

/// Most servers of one kind in a local cluster.
const MAX_CHUNK_SERVERS: u64 = 64;

/// Sizes asked for on the command line; what is None keeps its value or its default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    /// Metadata servers.
    pub(crate) meta: Option<u64>,
    /// Chunk servers.
    pub(crate) chunk: Option<u64>,
    /// Replicas.
    pub(crate) replicas: Option<u64>,
}

/// The settings of a local cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The cluster.
    #[serde(with = "text")]
    pub(crate) cluster: ClusterId,
    /// Replicas of the default pool.
    pub(crate) replicas: u8,
    /// The metadata servers.
    pub(crate) metadata: Vec<MetadataEntry>,
    /// The chunk servers.
    pub(crate) chunk: Vec<ServerEntry>,
    /// The mounts.
    #[serde(default)]
    pub(crate) mount: Vec<MountEntry>,
}

/// A metadata server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MetadataEntry {
    /// meta1, meta2, …
    pub(crate) name: String,
    /// Its number in the group; another one after a replacement.
    pub(crate) node: u64,
    /// This life of its folder.
    #[serde(with = "text")]
    pub(crate) incarnation: Incarnation,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where its metrics are.
    pub(crate) metrics: SocketAddr,
    /// The folder was formatted with this number: it is never formatted with it again.
    #[serde(default)]
    pub(crate) formatted: bool,
}

/// A chunk server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerEntry {
    /// chunk1, chunk2, …
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where its metrics are.
    pub(crate) metrics: SocketAddr,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountEntry {
    /// mount1, mount2, …
    pub(crate) name: String,
    /// The mount point, absolute.
    pub(crate) path: PathBuf,
    /// Where its metrics are.
    pub(crate) metrics: SocketAddr,
}

impl Settings {
    /// Settings of a new cluster, with addresses that are free now. Nothing is written yet.
    pub(crate) fn new(sizes: Sizes) -> Result<Self, ControlError> {
        let meta = sizes.meta.unwrap_or(3);
        let chunk = sizes.chunk.unwrap_or(3);
        let replicas = sizes.replicas.unwrap_or_else(|| chunk.min(3));
        let bad = |flag, asked, rule| Err(ControlError::BadSize { flag, asked, rule });
        if !matches!(meta, 1 | 3 | 5) {
            return bad("meta", meta, "a metadata group has 1, 3 or 5 servers");
        }
        if chunk == 0 || chunk > MAX_CHUNK_SERVERS {
            return bad("chunk", chunk, "there are 1 to 64 chunk servers in a local cluster");
        }
        if replicas == 0 || replicas > chunk.min(8) {
            return bad("replicas", replicas, "every replica needs a chunk server of its own, and there are at most 8");
        }
        let host = random_host();
        let mut addresses = free_addresses(host, (meta + chunk) as usize * 2, &[])?.into_iter();
        let mut next = || addresses.next().ok_or(ControlError::NoPorts { host, wanted: 1, low: 0, high: 0 });
        let metadata = (1..=meta)
            .map(|node| {
                Ok(MetadataEntry {
                    name: format!("meta{node}"),
                    node,
                    incarnation: Incarnation::random(),
                    address: next()?,
                    metrics: next()?,
                    formatted: false,
                })
            })
            .collect::<Result<_, ControlError>>()?;
        let chunk = (1..=chunk)
            .map(|number| Ok(ServerEntry { name: format!("chunk{number}"), address: next()?, metrics: next()? }))
            .collect::<Result<_, ControlError>>()?;
        Ok(Self { cluster: ClusterId::random(), replicas: replicas as u8, metadata, chunk, mount: Vec::new() })
    }

    /// Reads the settings of an existing cluster.
    pub(crate) fn load(layout: &Layout) -> Result<Self, ControlError> {
        let path = layout.cluster_file();
        let text = fs::read_to_string(&path).doing("read", &path)?;
        toml::from_str(&text).map_err(|e| ControlError::BadFile { path, reason: e.to_string() })
    }

    /// Writes the settings.
    pub(crate) fn save(&self, layout: &Layout) -> Result<(), ControlError> {
        let path = layout.cluster_file();
        let text =
            toml::to_string(self).map_err(|e| ControlError::BadFile { path: path.clone(), reason: e.to_string() })?;
        let header =
            "# Written by cairnctl dev. Addresses are part of the metadata group's member list: do not edit.\n";
        Ok(cairn_common::durable_file::write(&path, format!("{header}{text}").as_bytes())?)
    }

    /// Refuses flags that contradict the settings.
    pub(crate) fn check(&self, sizes: Sizes, layout: &Layout) -> Result<(), ControlError> {
        for (flag, kept, asked) in [
            ("meta", self.metadata.len() as u64, sizes.meta),
            ("chunk", self.chunk.len() as u64, sizes.chunk),
            ("replicas", u64::from(self.replicas), sizes.replicas),
        ] {
            if let Some(asked) = asked.filter(|asked| *asked != kept) {
                return Err(ControlError::Contradiction { flag, kept, asked, path: layout.dir().to_owned() });
            }
        }
        Ok(())
    }

    /// Remembers a mount; one of the same path keeps its name. Returns the name.
    pub(crate) fn remember_mount(&mut self, path: &Path) -> Result<String, ControlError> {
        if let Some(known) = self.mount.iter().find(|mount| mount.path == path) {
            return Ok(known.name.clone());
        }
        let name = format!("mount{}", self.mount.len() + 1);
        let host = self.metadata.first().map_or_else(random_host, |server| server.metrics.ip());
        let metrics = free_addresses(host, 1, &self.addresses())?.remove(0);
        self.mount.push(MountEntry { name: name.clone(), path: path.to_owned(), metrics });
        Ok(name)
    }

    /// Every address that belongs to something of the cluster, whether it runs or not.
    fn addresses(&self) -> Vec<SocketAddr> {
        let metadata = self.metadata.iter().flat_map(|server| [server.address, server.metrics]);
        let chunk = self.chunk.iter().flat_map(|server| [server.address, server.metrics]);
        metadata.chain(chunk).chain(self.mount.iter().map(|mount| mount.metrics)).collect()
    }

    /// Where the metadata servers listen.
    pub(crate) fn metadata_addresses(&self) -> Vec<SocketAddr> {
        self.metadata.iter().map(|server| server.address).collect()
    }
}

/// UUIDs as text.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let mut settings = Settings::new(Sizes::default()).unwrap();
        assert_eq!(settings.remember_mount(Path::new("/mnt/a b")).unwrap(), "mount1");
        assert_eq!(settings.remember_mount(Path::new("/mnt/c")).unwrap(), "mount2");
        assert_eq!(settings.remember_mount(Path::new("/mnt/a b")).unwrap(), "mount1");
        settings.save(&layout).unwrap();
        assert_eq!(Settings::load(&layout).unwrap(), settings);
    }

    #[test]
    fn addresses_are_all_different() {
        let mut settings = Settings::new(Sizes { meta: Some(5), chunk: Some(9), replicas: Some(3) }).unwrap();
        settings.remember_mount(Path::new("/mnt/a")).unwrap();
        let mut all = settings.addresses();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), count), (29, 29));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for sizes in [
            Sizes { meta: Some(2), ..Sizes::default() },
            Sizes { chunk: Some(0), ..Sizes::default() },
            Sizes { chunk: Some(2), replicas: Some(3), ..Sizes::default() },
            Sizes { replicas: Some(0), ..Sizes::default() },
        ] {
            assert!(matches!(Settings::new(sizes), Err(ControlError::BadSize { .. })), "{sizes:?}");
        }
        let smallest = Settings::new(Sizes { meta: Some(1), chunk: Some(1), replicas: Some(1) }).unwrap();
        assert_eq!((smallest.metadata.len(), smallest.chunk.len(), smallest.replicas), (1, 1, 1));
    }

    #[test]
    fn contradicting_flags_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let settings = Settings::new(Sizes::default()).unwrap();
        assert!(settings.check(Sizes { meta: Some(3), chunk: Some(3), replicas: Some(3) }, &layout).is_ok());
        let refused = settings.check(Sizes { replicas: Some(2), ..Sizes::default() }, &layout);
        assert!(matches!(refused, Err(ControlError::Contradiction { flag: "replicas", kept: 3, asked: 2, .. })));
    }
}
