//! Sends a request of a session to whoever leads, until there is a definite answer or the time is
//! over. A leader that lets one request wait (for other mounts) and answers others has not failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::ClientError;
use super::leader_route::LeaderRoute;
use super::metadata_client::MetadataClientSettings;
use crate::codec;
use crate::ids::RequestId;
use crate::protocol::metadata::{MetadataReply, MetadataRequest};
use crate::protocol::{Service, ServiceError};
use crate::telemetry::metric_names::MOUNT_FAILOVERS;
use crate::transport::{Call, Transport, TransportError};

/// First wait after a server that could not help, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// The way to the leader.
pub(super) struct Channel {
    transport: Arc<dyn Transport>,
    pub(super) route: LeaderRoute,
    pub(super) settings: MetadataClientSettings,
    /// Who answered last, and when.
    answered: Mutex<Option<(SocketAddr, Instant)>>,
}

impl Channel {
    pub(super) fn new(transport: Arc<dyn Transport>, route: LeaderRoute, settings: MetadataClientSettings) -> Self {
        Self { transport, route, settings, answered: Mutex::new(None) }
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.call_timeout
    }

    /// Asks whoever leads until there is a definite answer or the time is over.
    pub(super) async fn call(
        &self,
        what: &'static str,
        request: RequestId,
        message: &MetadataRequest,
        deadline: Instant,
    ) -> Result<MetadataReply, ClientError> {
        let begun = Instant::now();
        let header: Bytes = codec::encode(message)
            .map_err(|error| ClientError::Protocol { reason: format!("{what}: {error}") })?
            .into();
        let mut back_off = BACK_OFF.0;
        let mut identity_refusals = 0;
        let mut tried = String::from("nobody");
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut { what, waited: begun.elapsed(), tried });
            }
            let address = self.route.current();
            let attempted = Instant::now();
            let error = match self.attempt(address, request, header.clone(), left).await {
                Ok(reply) => {
                    *self.answered.lock() = Some((address, Instant::now()));
                    return Ok(reply);
                }
                Err(error) => error,
            };
            metrics::counter!(MOUNT_FAILOVERS, "kind" => "metadata").increment(1);
            tried = error.to_string();
            let wait = match error {
                TransportError::Refused { error, .. } => match error {
                    ServiceError::NotLeader { leader } => !self.route.not_leader(address, leader),
                    ServiceError::SessionFenced { session } => return Err(ClientError::SessionFenced { session }),
                    ServiceError::Forbidden { .. } => return Err(ClientError::Refused { reason: tried }),
                    ServiceError::NoSpace { .. } => return Err(ClientError::NoSpace { reason: tried }),
                    ServiceError::BadSequence => {
                        return Err(ClientError::OutOfSequence { reason: format!("{what}: {tried}") });
                    }
                    ServiceError::Invalid { .. } | ServiceError::StaleTable { .. } => {
                        return Err(ClientError::Protocol { reason: format!("{what}: {tried}") });
                    }
                    ServiceError::Unavailable { .. } | ServiceError::Internal { .. } => {
                        self.route.failed(address);
                        true
                    }
                },
                TransportError::Identity { .. } => {
                    identity_refusals += 1;
                    if identity_refusals >= self.route.server_count() {
                        return Err(ClientError::Refused { reason: tried });
                    }
                    self.route.failed(address);
                    false
                }
                TransportError::NoAnswer { .. } if self.has_answered(address, attempted) => true,
                TransportError::Unreachable { .. }
                | TransportError::NoAnswer { .. }
                | TransportError::Invalid { .. } => {
                    self.route.failed(address);
                    true
                }
            };
            tracing::debug!(%request, what, tried, "metadata attempt failed");
            if wait || back_off > BACK_OFF.0 {
                let jitter = back_off.mul_f64(0.5 + rand::random::<f64>() / 2.0);
                tokio::time::sleep(jitter.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
            back_off = (back_off * 2).min(BACK_OFF.1);
        }
    }

    /// Whether a server has answered another call since then: it is alive, and leads as far as it knows.
    fn has_answered(&self, address: SocketAddr, since: Instant) -> bool {
        self.answered.lock().is_some_and(|(who, when)| who == address && when > since)
    }

    /// One attempt at one server. Ends early when another call has found that server not to be the
    /// one to ask.
    async fn attempt(
        &self,
        address: SocketAddr,
        request: RequestId,
        header: Bytes,
        left: Duration,
    ) -> Result<MetadataReply, TransportError> {
        let timeout = self.settings.attempt_timeout.min(left);
        let call = Call { service: Service::Metadata, request, timeout, header, payload: Vec::new() };
        let mut route = self.route.subscribe();
        let answer = tokio::select! {
            answer = self.transport.call(address, call) => answer?,
            _ = route.wait_for(|current| *current != address) => {
                return Err(TransportError::NoAnswer { address, reason: "another call found it gone".into() });
            }
            () = tokio::time::sleep(timeout) => {
                return Err(TransportError::NoAnswer { address, reason: format!("{timeout:?} are over") });
            }
        };
        codec::decode(&answer.header).map_err(|error| TransportError::Invalid { address, reason: error.to_string() })
    }
}
