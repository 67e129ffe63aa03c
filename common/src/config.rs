//! The TOML file of a program: one flat structure for all four, so that a file can be checked as a
//! whole and unknown keys are refused. It reads files and checks their form; it opens nothing that
//! they name. It writes nothing: the maker of the file (`cairnctl`) uses [`NodeConfig::to_toml`]
//! and `durable_file`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::{DEFAULT_PARTITIONS, DEFAULT_REPLICAS};

/// Everything that a configuration file may say. Flags override fields after [`load`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The program's name in its cluster; also the name in its certificate.
    pub name: String,
    /// Data folder (servers only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// UDP address of the QUIC endpoint (servers only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// TCP address of the Prometheus endpoint; none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// Addresses of all metadata servers.
    #[serde(default)]
    pub metadata: Vec<SocketAddr>,

    /// `cairn-meta`: partitions of a new cluster, a power of two.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// `cairn-meta`: replicas of the default pool of a new cluster, 1 to 8.
    #[serde(default = "default_replicas")]
    pub replicas: u8,

    /// `cairn-chunk`: what fails together with this server; its name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    /// `cairn-chunk`: a folder for each disk; `data/disk1` if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<PathBuf>,
    /// `cairn-chunk`: bytes that each disk may hold; 0 is the size of its file system.
    #[serde(default)]
    pub capacity_bytes: u64,

    /// Certificate files. Last, because it is a TOML table.
    pub identity: IdentityFiles,
}

/// Where a program's certificate is. All three are PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFiles {
    /// Certificate of the cluster's authority.
    pub ca: PathBuf,
    /// The program's own certificate.
    pub certificate: PathBuf,
    /// The key of the program's certificate (mode 0600).
    pub key: PathBuf,
}

/// A configuration that cannot be used. Every variant names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {file}: {source}; give the right path with --config")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML of the right form. The text names line, column and key.
    #[error("{file} is no valid configuration: {reason}")]
    Form {
        /// The file.
        file: PathBuf,
        /// Parser's message.
        reason: String,
    },
    /// A value is out of its range.
    #[error("{file}: `{key}` {reason}")]
    Value {
        /// The file.
        file: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong and what to write.
        reason: String,
    },
    /// This program needs a key that others do not.
    #[error("the configuration of {name} has no `{key}`; add a line like {example}")]
    Missing {
        /// The program's name.
        name: String,
        /// The key.
        key: &'static str,
        /// A line that would do.
        example: &'static str,
    },
}

fn default_partitions() -> u32 {
    DEFAULT_PARTITIONS
}

fn default_replicas() -> u8 {
    DEFAULT_REPLICAS
}

/// Most replicas of a block.
const MAX_REPLICAS: u8 = 8;

/// Reads and checks a configuration. Relative paths in it are relative to the file's folder.
pub fn load(file: &Path) -> Result<NodeConfig, ConfigError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_path_buf(), source })?;
    parse(&text, file)
}

fn parse(text: &str, file: &Path) -> Result<NodeConfig, ConfigError> {
    let mut config: NodeConfig = toml::from_str(text)
        .map_err(|e| ConfigError::Form { file: file.to_path_buf(), reason: e.to_string().trim_end().to_owned() })?;
    let value = |key, reason: String| Err(ConfigError::Value { file: file.to_path_buf(), key, reason });
    if let Err(reason) = check_name(&config.name) {
        return value("name", reason);
    }
    if !config.partitions.is_power_of_two() {
        return value("partitions", format!("is {}, but must be a power of two such as 65536", config.partitions));
    }
    if !(1..=MAX_REPLICAS).contains(&config.replicas) {
        return value("replicas", format!("is {}, but must be 1 to {MAX_REPLICAS}", config.replicas));
    }
    if config.metadata.is_empty() {
        return value("metadata", "is empty: name the addresses of all metadata servers".to_owned());
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    let identity = &mut config.identity;
    for path in config.data.iter_mut().chain(&mut config.disks).chain([
        &mut identity.ca,
        &mut identity.certificate,
        &mut identity.key,
    ]) {
        *path = folder.join(&*path);
    }
    Ok(config)
}

/// Whether a word may be a program's name: 1 to 63 letters, digits, `-`, `_` and `.`, because it
/// becomes part of a certificate, a file name and a metric label. The error says what is wrong.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 63 || !name.chars().all(fits) || name.starts_with('.') {
        return Err(format!("is {name:?}, but must be 1 to 63 letters, digits, `-`, `_` or `.`"));
    }
    Ok(())
}

impl NodeConfig {
    /// The data folder, which every server needs.
    pub fn data(&self) -> Result<&Path, ConfigError> {
        self.data.as_deref().ok_or_else(|| self.missing("data", "data = \"/var/lib/cairn/meta1\""))
    }

    /// The address to serve, which every server needs.
    pub fn listen(&self) -> Result<SocketAddr, ConfigError> {
        self.listen.ok_or_else(|| self.missing("listen", "listen = \"192.0.2.1:7001\""))
    }

    /// The failure domain of a chunk server.
    pub fn failure_domain(&self) -> &str {
        self.failure_domain.as_deref().unwrap_or(&self.name)
    }

    /// The disk folders of a chunk server.
    pub fn disks(&self) -> Result<Vec<PathBuf>, ConfigError> {
        if self.disks.is_empty() { Ok(vec![self.data()?.join("disk1")]) } else { Ok(self.disks.clone()) }
    }

    /// The text of a file that [`load`] reads back.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    fn missing(&self, key: &'static str, example: &'static str) -> ConfigError {
        ConfigError::Missing { name: self.name.clone(), key, example }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
name = "mount1"
metadata = ["127.0.0.1:7001", "127.0.0.1:7002"]
[identity]
ca = "/pki/ca.pem"
certificate = "mount1.pem"
key = "/pki/mount1.key"
"#;

    fn parse_at(text: &str) -> Result<NodeConfig, ConfigError> {
        parse(text, Path::new("/etc/cairn/x.toml"))
    }

    #[test]
    fn defaults_and_relative_paths() {
        let config = parse_at(SMALLEST).unwrap();
        assert_eq!(config.partitions, 65_536);
        assert_eq!(config.replicas, 3);
        assert_eq!(config.identity.certificate, Path::new("/etc/cairn/mount1.pem"));
        assert_eq!(config.identity.ca, Path::new("/pki/ca.pem"));
        let missing = config.listen().unwrap_err().to_string();
        assert!(missing.contains("mount1") && missing.contains("listen ="), "{missing}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut config = parse_at(SMALLEST).unwrap();
        config.data = Some("/data/chunk1".into());
        config.listen = Some("127.0.0.1:7101".parse().unwrap());
        config.disks = vec!["/data/chunk1/disk1".into()];
        config.failure_domain = Some("rack-a".into());
        assert_eq!(parse_at(&config.to_toml().unwrap()).unwrap(), config);
    }

    #[test]
    fn errors_name_file_and_key() {
        for (text, key) in [
            (SMALLEST.replace("name =", "nmae ="), "nmae"),
            (SMALLEST.replace("\"mount1\"", "\"a/b\""), "`name`"),
            (format!("partitions = 1000{SMALLEST}"), "power of two"),
            (format!("replicas = 0{SMALLEST}"), "`replicas`"),
            (format!("listen = \"localhost\"{SMALLEST}"), "listen"),
            (SMALLEST.replace("key = ", "kee = "), "kee"),
        ] {
            let error = parse_at(&text).unwrap_err().to_string();
            assert!(error.contains("/etc/cairn/x.toml") && error.contains(key), "{error}");
        }
        let error = load(Path::new("/nonexistent/cairn.toml")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/cairn.toml") && error.contains("--config"), "{error}");
    }
}
