//! [`MetadataService`]: the one handler behind a metadata server's QUIC endpoint.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_common::clock::Clock;
use cairn_common::protocol::{Service, ServiceError};
use cairn_common::transport::{Answer, Incoming, PeerIdentity, RequestHandler, Transport};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::context::Context;
use super::timings::ServiceOptions;
use super::{admin, background, chunk_control, metadata};
use crate::raft::{MetadataGroup, RaftService};

/// Answers every request of a metadata server, and does the leader's work while this server leads.
pub struct MetadataService {
    context: Arc<Context>,
    raft: RaftService,
    leading: Mutex<Option<JoinHandle<()>>>,
}

impl MetadataService {
    /// Serves the group. Must be called inside a tokio runtime.
    pub fn start(
        group: Arc<MetadataGroup>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        options: ServiceOptions,
    ) -> Arc<Self> {
        let raft = RaftService::new(group.clone());
        let context = Arc::new(Context::new(group, transport, clock, options));
        let leading = tokio::spawn(background::follow_leadership(context.clone()));
        Arc::new(Self { context, raft, leading: Mutex::new(Some(leading)) })
    }

    /// Whether this server leads and answers as the leader.
    pub fn is_leading(&self) -> bool {
        self.context.leader().is_ok()
    }

    /// Stops the leader's work; waiting polls return. Requests are then redirected. The group is
    /// shut down by its owner, afterwards.
    pub async fn shutdown(&self) {
        let leading = self.leading.lock().take();
        if let Some(leading) = leading {
            leading.abort();
            let _ = leading.await;
        }
        self.context.set_leader(None);
    }
}

#[async_trait]
impl RequestHandler for MetadataService {
    async fn handle(&self, peer: Arc<PeerIdentity>, incoming: Incoming) -> Result<Answer, ServiceError> {
        let context = &self.context;
        let answer = match incoming.service {
            Service::Raft => return self.raft.handle(peer, incoming).await,
            Service::Metadata => metadata::handle(context, &incoming).await.and_then(|reply| Answer::message(&reply)),
            Service::ChunkControl => {
                chunk_control::handle(context, &peer, &incoming).await.and_then(|reply| Answer::message(&reply))
            }
            Service::Admin => admin::handle(context, &peer, &incoming).await.and_then(|reply| Answer::message(&reply)),
            Service::Chunk => Err(ServiceError::Invalid {
                reason: "this is a metadata server; blocks are asked of chunk servers".into(),
            }),
        };
        if let Err(error @ ServiceError::Internal { .. }) = &answer {
            tracing::error!(request = incoming.request.0, peer = peer.name, %error, "a request failed");
        }
        answer
    }
}
