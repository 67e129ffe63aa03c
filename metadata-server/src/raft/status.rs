//! What a member knows of its group, for status pages and decisions of the service.

use std::collections::BTreeSet;

use cairn_common::protocol::admin::MetadataMember;
use openraft::Instant;
use openraft::ServerState;
use openraft::type_config::alias::SerdeInstantOf;

use super::handle::RaftHandle;
use super::types::{LogId, Member, TypeConfig};

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
    /// Last entry that its log no longer holds: followers that lack it get a snapshot.
    pub purged_index: u64,
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

/// Reads it from what openraft publishes.
pub(super) fn of(raft: &RaftHandle, durable_index: u64) -> GroupStatus {
    let metrics = raft.metrics();
    let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
    let last_log_index = metrics.last_log_index.unwrap_or(0);
    let own = raft.member().node.0;
    let millis = |at: &SerdeInstantOf<TypeConfig>| at.elapsed().as_millis() as u64;
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let member_status = |(node, Member(member)): (&u64, &Member)| {
        let matched = metrics.replication.as_ref().and_then(|all| all.get(node).copied());
        let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(node)).and_then(|heard| heard.as_ref());
        let leads_itself = metrics.state == ServerState::Leader && *node == own;
        MemberStatus {
            member: member.clone(),
            role: if voters.contains(node) { MemberRole::Voter } else { MemberRole::Learner },
            lag_entries: match leads_itself {
                true => Some(0),
                false => matched.map(|matched| last_log_index.saturating_sub(index(matched))),
            },
            silent_ms: if leads_itself { Some(0) } else { heard.map(millis) },
        }
    };
    GroupStatus {
        member: raft.member().clone(),
        leader: raft.leader(),
        leads: metrics.state == ServerState::Leader,
        term: metrics.current_term,
        last_log_index,
        purged_index: index(metrics.purged),
        applied_index: index(metrics.last_applied),
        durable_index,
        members: membership.nodes().map(member_status).collect(),
        quorum_acked_ms: metrics.last_quorum_acked.as_ref().map(millis),
        failure: metrics.running_state.as_ref().err().map(ToString::to_string),
    }
}
