//! Requests to whichever metadata server leads. Every call is bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_common::client::leader_route::LeaderRoute;
use cairn_common::ids::RequestId;
use cairn_common::limits::ATTEMPT_TIMEOUT;
use cairn_common::protocol::chunk_control::{ChunkControlReply, ChunkControlRequest};
use cairn_common::protocol::{Service, ServiceError};
use cairn_common::transport::{Transport, TransportError, request};

/// Pause before another server is tried, when no leader was named.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// No metadata leader took a request.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// None answered in time.
    #[error("no metadata leader answered within {waited:?}; last tried: {tried}")]
    TimedOut {
        /// How long.
        waited: Duration,
        /// The last server and what it said.
        tried: String,
    },
    /// The leader refuses the request: trying again does not help.
    #[error("the metadata leader refuses: {0}")]
    Refused(TransportError),
    /// No addresses are configured.
    #[error("no metadata server is configured; add `metadata = [\"host:port\"]` to the configuration")]
    NoServers,
}

/// The way to the metadata leader.
pub struct MetadataLeader {
    transport: Arc<dyn Transport>,
    route: LeaderRoute,
}

impl MetadataLeader {
    /// Knows the addresses of the metadata servers.
    pub fn new(transport: Arc<dyn Transport>, servers: &[SocketAddr]) -> Result<Self, LeaderError> {
        let route = LeaderRoute::new(servers).ok_or(LeaderError::NoServers)?;
        Ok(Self { transport, route })
    }

    /// Asks the leader, trying all servers until `bound` is over.
    pub async fn call(&self, message: &ChunkControlRequest, bound: Duration) -> Result<ChunkControlReply, LeaderError> {
        let began = Instant::now();
        let id = RequestId::random();
        loop {
            let left = bound.saturating_sub(began.elapsed());
            let address = self.route.current();
            let attempt = ATTEMPT_TIMEOUT.min(left);
            let answer =
                request(&*self.transport, address, Service::ChunkControl, id, attempt, message, Vec::new()).await;
            let error = match answer {
                Ok((reply, _)) => return Ok(reply),
                Err(error) => error,
            };
            tracing::debug!(request = %id, %address, %error, "no answer from a metadata leader");
            let follow_at_once = match &error {
                TransportError::Refused { error: ServiceError::NotLeader { leader }, .. } => {
                    self.route.not_leader(address, *leader)
                }
                TransportError::Refused {
                    error: ServiceError::Forbidden { .. } | ServiceError::Invalid { .. },
                    ..
                } => return Err(LeaderError::Refused(error)),
                _ => {
                    self.route.failed(address);
                    false
                }
            };
            if began.elapsed() + RETRY_PAUSE >= bound {
                return Err(LeaderError::TimedOut { waited: began.elapsed(), tried: error.to_string() });
            }
            if !follow_at_once {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}
