//! `Service::Admin`: what `cairnctl` asks, and other metadata servers (for their clocks).

use cairn_common::protocol::admin::{AdminReply, AdminRequest};
use cairn_common::protocol::{Role, ServiceError};
use cairn_common::transport::{Incoming, PeerIdentity};

use super::context::{Context, unexpected};
use super::status;
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
    }
}
