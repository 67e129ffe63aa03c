//! What a member knows of its group, for status pages and decisions of the service.

use cairn_common::protocol::admin::MetadataMember;

/// The group as this server sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// This server.
    pub member: MetadataMember,
    /// The leader that it knows, perhaps itself.
    pub leader: Option<MetadataMember>,
    /// Whether this server leads (it may not know yet that another does).
    pub leads: bool,
    /// Its term.
    pub term: u64,
    /// Last entry of its log.
    pub last_log_index: u64,
    /// Last entry that it applied.
    pub applied_index: u64,
    /// Last entry that a restart finds in the state engine without the log.
    pub durable_index: u64,
    /// The members by its newest configuration, sorted by node.
    pub members: Vec<MemberStatus>,
    /// Leader only: milliseconds since a majority last confirmed it; None if none did yet.
    pub quorum_acked_ms: Option<u64>,
    /// None while the group runs here; otherwise why it stopped for good.
    pub failure: Option<String>,
}

/// A member of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Who.
    pub member: MetadataMember,
    /// Whether it votes.
    pub role: MemberRole,
    /// Entries that it is behind the leader's log; known to the leader only.
    pub lag_entries: Option<u64>,
    /// Milliseconds since it last answered the leader; known to the leader only.
    pub silent_ms: Option<u64>,
}

/// What a member does in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberRole {
    /// Counts for the majority.
    Voter,
    /// Follows without a vote, until it has caught up.
    Learner,
}
