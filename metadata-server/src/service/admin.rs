//! `Service::Admin`: what `cairnctl` asks, and other metadata servers (for their clocks).

use cairn_common::ids::{RequestId, SessionId};
use cairn_common::protocol::admin::{AdminReply, AdminRequest};
use cairn_common::protocol::{Role, ServiceError};
use cairn_common::transport::{Incoming, PeerIdentity};

use super::context::{Context, broken, unexpected};
use super::leader::Leader;
use super::{lease_report, lock_report, sessions, status};
use crate::namespace::cluster;
use crate::namespace::command::{Action, Outcome};

/// Answers one request of an administrator.
pub(super) async fn handle(
    context: &Context,
    peer: &PeerIdentity,
    incoming: &Incoming,
) -> Result<AdminReply, ServiceError> {
    let message = incoming.message::<AdminRequest>()?;
    if peer.role != Role::Admin && message != AdminRequest::Local {
        let reason = format!("{:?} has the role {}; only an administrator may do this", peer.name, peer.role.as_str());
        return Err(ServiceError::Forbidden { reason });
    }
    match message {
        AdminRequest::Local => Ok(AdminReply::Local(status::local(context))),
        AdminRequest::Status => {
            let leader = context.leader()?;
            Ok(AdminReply::Status(Box::new(status::cluster_status(context, &leader).await?)))
        }
        AdminRequest::ReplaceMetadata { lost, new } => {
            context.leader()?;
            tracing::warn!(request = incoming.request.0, by = peer.name, %lost, new = %new.node, "replaces a member");
            context.group.replace_member(lost, new).await?;
            Ok(AdminReply::Done)
        }
        AdminRequest::AllocateMetadataNode => {
            context.leader()?;
            match context.group.propose(incoming.request, Action::AllocateMetadataNode).await? {
                Outcome::MetadataNode(node) => Ok(AdminReply::NodeId(node)),
                other => Err(unexpected(&other)),
            }
        }
        AdminRequest::Leases(of) => {
            let leader = context.leader()?;
            Ok(AdminReply::Leases(Box::new(lease_report::report(context, &leader, &of).await?)))
        }
        AdminRequest::Locks { path } => {
            let leader = context.leader()?;
            let report = lock_report::report(context, &leader, path.as_deref()).await?;
            Ok(AdminReply::Locks(Box::new(report)))
        }
        AdminRequest::EvictSession { session } => {
            let leader = context.leader()?;
            evict(context, &leader, incoming.request, peer, session).await?;
            Ok(AdminReply::Done)
        }
    }
}

async fn evict(
    context: &Context,
    leader: &Leader,
    request: RequestId,
    peer: &PeerIdentity,
    session: SessionId,
) -> Result<(), ServiceError> {
    let record = {
        let view = context.fresh_view().await?;
        cluster::session(&*view, session).map_err(broken)?
    };
    let Some(record) = record else { return Err(lease_report::no_session(session)) };
    tracing::warn!(request = request.0, by = peer.name, %session, client = record.client, "evicts a session");
    sessions::evict(context, leader, request, session).await
}
