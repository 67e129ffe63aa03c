//! What a group member needs to start, and why it may refuse.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::clock::Clock;
use cairn_common::ids::ClusterId;
use cairn_common::protocol::admin::MetadataMember;
use cairn_common::transport::Transport;

use super::logic::StateMachineLogic;
use super::node_identity::IdentityError;

/// Everything that [`super::MetadataGroup::start`] needs.
pub struct GroupOptions {
    /// The formatted data folder (`node_identity::format`). The group keeps `log/`, `state/` and
    /// `snapshots/` below it.
    pub data: PathBuf,
    /// The cluster.
    pub cluster: ClusterId,
    /// This server: id and incarnation from the identity, name and address from the configuration.
    pub member: MetadataMember,
    /// The first members of the group, the same list on each; empty for a server that was formatted
    /// later and waits to be taken in as a learner.
    pub initial_members: Vec<MetadataMember>,
    /// Reaches the other members.
    pub transport: Arc<dyn Transport>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What is replicated: `Arc::new(namespace::apply)`.
    pub logic: Arc<dyn StateMachineLogic>,
    /// Timings and sizes.
    pub timings: GroupTimings,
}

/// Timings and sizes of a group. The same on every member.
#[derive(Clone, Debug)]
pub struct GroupTimings {
    /// A leader sends heartbeats this often.
    pub heartbeat: Duration,
    /// A follower that hears nothing for `election_max` (the lease of the leader) plus a random time
    /// between this and `election_max` asks for an election.
    pub election_min: Duration,
    /// See `election_min`.
    pub election_max: Duration,
    /// Longest time that a proposal waits for its outcome, and a read for its confirmation.
    pub propose_timeout: Duration,
    /// A snapshot is made, and the log purged, after this many entries.
    pub snapshot_entries: u64,
    /// A snapshot is made, too, after this many bytes of commands.
    pub snapshot_bytes: u64,
    /// Entries that are kept behind a snapshot, so that a follower that was away shortly needs none.
    pub keep_entries: u64,
    /// The state is flushed to stable storage at least this often while it changes.
    pub flush_interval: Duration,
    /// Block cache of the state engine, in bytes.
    pub cache_bytes: usize,
}

impl Default for GroupTimings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(500),
            propose_timeout: Duration::from_secs(10),
            snapshot_entries: 20_000,
            snapshot_bytes: 256 << 20,
            keep_entries: 5_000,
            flush_interval: Duration::from_secs(10),
            cache_bytes: 256 << 20,
        }
    }
}

/// Why a group does not start. The server must not run without it.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The data folder is not formatted, or not this server's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done to which path.
        what: String,
        /// The error.
        source: std::io::Error,
    },
    /// The consensus library refuses to start.
    #[error("raft: {0}")]
    Raft(String),
}
