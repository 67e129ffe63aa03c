//! `cairnctl dev status --json`, as far as tests look at it.

use serde::Deserialize;

/// State of a local cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Name of the leader.
    pub leader: Option<String>,
    /// All servers.
    pub nodes: Vec<Node>,
    /// Blocks with a missing or damaged replica.
    pub under_replicated: Option<u64>,
    /// The write reserve.
    pub write_reserve: Option<WriteReserve>,
    /// Mounts.
    pub mounts: Vec<Mount>,
}

/// A server.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// `metadata` or `chunk`.
    pub role: String,
    /// `up`, `down`, `degraded`, …
    pub state: String,
    /// Log entries that a metadata server is behind the leader.
    #[serde(default)]
    pub lag_entries: Option<u64>,
    /// A chunk server's disks.
    #[serde(default)]
    pub disks: Vec<Disk>,
}

/// A disk.
#[derive(Clone, Debug, Deserialize)]
pub struct Disk {
    /// Blocks on it.
    pub blocks: u64,
    /// Blocks found damaged and not repaired yet.
    pub damaged_blocks: u64,
}

/// The write reserve.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct WriteReserve {
    /// So many disks are full that mounts buffer nothing.
    pub full: bool,
}

/// A mount.
#[derive(Clone, Debug, Deserialize)]
pub struct Mount {
    /// Its name.
    pub name: String,
    /// `up`, `dead`, …
    pub state: String,
}

impl Status {
    /// Whether there is a leader, everything is up and every block has its replicas.
    pub fn is_healthy(&self) -> bool {
        self.leader.is_some()
            && self.nodes.iter().all(|node| node.state == "up")
            && self.mounts.iter().all(|mount| mount.state == "up")
            && self.under_replicated == Some(0)
    }

    /// Blocks that some disk knows to be damaged.
    pub fn damaged_blocks(&self) -> u64 {
        self.nodes.iter().flat_map(|node| &node.disks).map(|disk| disk.damaged_blocks).sum()
    }
}
