//! `Service::ChunkControl`: what chunk servers report, and the work that they get. Only the leader
//! answers.

use cairn_common::ids::RequestId;
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::chunk_control::{ChunkControlReply, ChunkControlRequest, Heartbeat, Registration};
use cairn_common::transport::{Incoming, PeerIdentity};

use super::context::{Context, broken, unexpected};
use super::leader::Leader;
use super::metadata::newer_table;
use super::repair;
use crate::namespace::cluster;
use crate::namespace::command::{Action, Outcome};

/// Answers one request of a chunk server.
pub(super) async fn handle(
    context: &Context,
    peer: &PeerIdentity,
    incoming: &Incoming,
) -> Result<ChunkControlReply, ServiceError> {
    let leader = context.leader()?;
    match incoming.message::<ChunkControlRequest>()? {
        ChunkControlRequest::Register(registration) => {
            register(context, &leader, peer, incoming.request, registration).await
        }
        ChunkControlRequest::Heartbeat(heartbeat) => heard(context, &leader, peer, incoming.request, heartbeat).await,
        ChunkControlRequest::PartitionTable { known } => Ok(ChunkControlReply::Table(newer_table(context, known)?)),
    }
}

async fn register(
    context: &Context,
    leader: &Leader,
    peer: &PeerIdentity,
    request: RequestId,
    registration: Registration,
) -> Result<ChunkControlReply, ServiceError> {
    if registration.name != peer.name {
        let reason = format!(
            "a chunk server with the certificate of {:?} registers as {:?}; give it the certificate of its own name",
            peer.name, registration.name
        );
        return Err(ServiceError::Forbidden { reason });
    }
    let name = registration.name.clone();
    match context.group.propose(request, Action::RegisterChunkServer(registration)).await? {
        Outcome::Registered { node, disks } => {
            tracing::info!(request = request.0, %name, %node, disks = disks.len(), "a chunk server has registered");
            reload_roster(context, leader)?;
            Ok(ChunkControlReply::Registered { node, disks })
        }
        other => Err(unexpected(&other)),
    }
}

/// Takes the state's records into the roster, and wakes the placement if disks came or went.
pub(super) fn reload_roster(context: &Context, leader: &Leader) -> Result<(), ServiceError> {
    let records = {
        let view = context.group.view();
        cluster::chunk_servers(&*view).map_err(broken)?
    };
    if leader.roster.update(records, context.clock.monotonic()) {
        leader.disks_changed.notify_one();
    }
    Ok(())
}

async fn heard(
    context: &Context,
    leader: &Leader,
    peer: &PeerIdentity,
    request: RequestId,
    heartbeat: Heartbeat,
) -> Result<ChunkControlReply, ServiceError> {
    let table = {
        let view = context.group.view();
        cluster::table_epoch(&*view).map_err(broken)?
    };
    let unknown = ChunkControlReply::Heard { table, tasks: Vec::new(), register: true };
    let Heartbeat { node, incarnation, disks, damaged, repaired, .. } = heartbeat;
    if !leader.roster.is_named(node, &peer.name)
        || !leader.roster.report(node, incarnation, disks, context.clock.monotonic())
    {
        return Ok(unknown);
    }
    let own = leader.roster.disks_of(node);
    let mine = |list: Vec<_>| list.into_iter().filter(|(_, disk)| own.contains(disk)).collect::<Vec<_>>();
    // Both are replicated before the answer: the server does not say them again.
    if !damaged.is_empty() {
        tracing::warn!(request = request.0, server = peer.name, blocks = damaged.len(), "reports damaged blocks");
        repair::record_damage(context, request, mine(damaged)).await?;
    }
    if !repaired.is_empty() {
        repair::record_repair(context, leader, request, mine(repaired)).await?;
    }
    let tasks = repair::tasks(context, leader, &own)?;
    Ok(ChunkControlReply::Heard { table, tasks, register: false })
}
