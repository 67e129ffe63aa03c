//! Replaces a lost member: the new one becomes a learner, catches up, and takes the vote of the lost
//! one in one joint change. Each step may be repeated, also by another leader.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cairn_common::ids::MetadataNodeId;
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::admin::MetadataMember;
use openraft::ChangeMembers;
use openraft::ServerState;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;

use super::handle::RaftHandle;
use super::types::{Member, TypeConfig};

/// Longest time for one call; then the caller asks again and it goes on where it was.
const PATIENCE: Duration = Duration::from_secs(25);
/// A learner that is no more than this behind has caught up, in entries.
const CAUGHT_UP_ENTRIES: u64 = 100;
/// How often the progress is looked at.
const PERIOD: Duration = Duration::from_millis(20);

type WriteResult = Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

/// See [`super::MetadataGroup::replace_member`].
pub(super) async fn replace(raft: &RaftHandle, lost: MetadataNodeId, new: MetadataMember) -> Result<(), ServiceError> {
    let deadline = Instant::now() + PATIENCE;
    check(raft, lost, &new)?;
    if raft.known_member(new.node).is_none() {
        tracing::info!(%lost, new = %new.node, name = %new.name, address = %new.address, "a new metadata server becomes a learner");
        let added = raft.raft().add_learner(new.node.0, Member(new.clone()), false);
        finish(raft, deadline, "adding the learner", added).await?;
    }
    catch_up(raft, deadline, &new).await?;
    let voters: BTreeSet<u64> = raft.metrics().membership_config.membership().voter_ids().collect();
    if voters.contains(&lost.0) || !voters.contains(&new.node.0) {
        let mut next = voters;
        next.remove(&lost.0);
        next.insert(new.node.0);
        let change = raft.raft().change_membership(ChangeMembers::ReplaceAllVoters(next), false);
        finish(raft, deadline, "moving the vote", change).await?;
    }
    if raft.known_member(lost).is_some() {
        let change = raft.raft().change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([lost.0])), false);
        finish(raft, deadline, "removing the lost server", change).await?;
    }
    tracing::info!(%lost, new = %new.node, "a metadata server was replaced");
    Ok(())
}

fn check(raft: &RaftHandle, lost: MetadataNodeId, new: &MetadataMember) -> Result<(), ServiceError> {
    let invalid = |reason: String| Err(ServiceError::Invalid { reason });
    let metrics = raft.metrics();
    if metrics.state != ServerState::Leader {
        return Err(raft.not_leader());
    }
    if lost == new.node {
        return invalid(format!("metadata server {lost} cannot replace itself: the new one needs a new id"));
    }
    if lost == raft.member().node {
        return invalid(format!("metadata server {lost} leads the group, so it is not lost"));
    }
    let membership = metrics.membership_config.membership();
    for (node, Member(member)) in membership.nodes() {
        let same = member.node == new.node;
        if same && member != new {
            return invalid(format!("metadata server {node} is already a member, with other data: {member:?}"));
        }
        if !same && (member.incarnation == new.incarnation || (member.address == new.address && member.node != lost)) {
            return invalid(format!("{} has the address or the incarnation of member {node}", new.name));
        }
    }
    let known = membership.get_node(&lost.0).is_some() || membership.get_node(&new.node.0).is_some();
    if !known {
        return invalid(format!("metadata server {lost} is no member of the group"));
    }
    Ok(())
}

async fn catch_up(raft: &RaftHandle, deadline: Instant, new: &MetadataMember) -> Result<(), ServiceError> {
    loop {
        let metrics = raft.metrics();
        let Some(progress) = &metrics.replication else { return Err(raft.not_leader()) };
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = progress.get(&new.node.0).copied().flatten().map(|id| id.index);
        if matched.is_some_and(|matched| matched + CAUGHT_UP_ENTRIES >= last) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let state = matched.map_or("nothing has arrived there yet".into(), |matched| {
                format!("it has {matched} of {last} entries")
            });
            let reason = format!("{} at {} is still catching up ({state}); ask again", new.name, new.address);
            return Err(ServiceError::Unavailable { reason });
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn finish(
    raft: &RaftHandle,
    deadline: Instant,
    what: &str,
    change: impl Future<Output = WriteResult>,
) -> Result<(), ServiceError> {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
    let unavailable = |reason: String| Err(ServiceError::Unavailable { reason: format!("{what}: {reason}") });
    match tokio::time::timeout(left, change).await {
        Err(_) => unavailable("no majority confirmed it in time; ask again".into()),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(raft.not_leader()),
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
            error @ (ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_)),
        )))) => unavailable(format!("{error}; ask again")),
        Ok(Err(error)) => unavailable(error.to_string()),
    }
}
