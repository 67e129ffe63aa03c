//! One connection to one server, with its socket. A task watches it: it closes the connection when
//! the server's port turns out to be closed, or when nobody has used it for a while.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::refusal::{Refusal, explain};
use super::socket::TunedSocket;
use super::tuning::Tuning;
use super::{CLOSE_DONE, CLOSE_UNREACHABLE};
use crate::telemetry::metric_names as names;
use crate::transport::TransportError;

/// What every link of a transport is made with.
pub(super) struct LinkMaker {
    pub(super) tuning: Tuning,
    pub(super) endpoint: EndpointConfig,
    pub(super) loopback: ClientConfig,
    pub(super) network: ClientConfig,
}

/// An established connection.
pub(super) struct Link {
    address: SocketAddr,
    connection: Connection,
    unreachable: AtomicBool,
    born: Instant,
    used_ms: AtomicU64,
}

impl LinkMaker {
    /// Connects, within the connect timeout. `server_name` says which cluster and role it must be.
    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        server_name: &str,
        lane: &'static str,
    ) -> Result<Arc<Link>, TransportError> {
        let unreachable = |reason: String| TransportError::Unreachable { address, reason };
        let socket = TunedSocket::connect(address, &self.tuning)
            .map_err(|e| unreachable(format!("no UDP socket towards it: {e}")))?;
        let closed_port = socket.unreachable();
        let endpoint = Endpoint::new_with_abstract_socket(self.endpoint.clone(), None, socket, Arc::new(TokioRuntime))
            .map_err(|e| unreachable(format!("no UDP socket towards it: {e}")))?;
        let config = if address.ip().is_loopback() { &self.loopback } else { &self.network };
        let connecting = endpoint
            .connect_with(config.clone(), address, server_name)
            .map_err(|e| unreachable(format!("cannot start a connection: {e}")))?;
        let connection = tokio::select! {
            result = tokio::time::timeout(self.tuning.connect_timeout, connecting) => match result {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => return Err(unsent(address, &error)),
                Err(_) => return Err(unreachable(format!("no answer to a handshake within {} ms; \
                    is the server running, and UDP let through?", self.tuning.connect_timeout.as_millis()))),
            },
            () = closed_port.notified() => return Err(unreachable(NOBODY.to_owned())),
        };
        let link = Arc::new(Link {
            address,
            connection,
            unreachable: AtomicBool::new(false),
            born: Instant::now(),
            used_ms: AtomicU64::new(0),
        });
        tokio::spawn(link.clone().watch(closed_port, self.tuning.unused_timeout, lane));
        Ok(link)
    }
}

const NOBODY: &str = "nobody listens there (port unreachable); is the server running?";

/// The error of a request of which nothing was sent.
pub(super) fn unsent(address: SocketAddr, error: &ConnectionError) -> TransportError {
    match explain(error) {
        Refusal::Identity(reason) => TransportError::Identity { address, reason },
        Refusal::Broken(reason) => TransportError::Unreachable { address, reason },
    }
}

impl Link {
    /// The connection, for streams.
    pub(super) fn connection(&self) -> &Connection {
        // Never more than 584 million years.
        self.used_ms.store(self.born.elapsed().as_millis() as u64, Ordering::Relaxed);
        &self.connection
    }

    /// Whether new streams are worth trying.
    pub(super) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// The error of a request that may have arrived.
    pub(super) fn sent(&self, error: &ConnectionError) -> TransportError {
        let address = self.address;
        match explain(error) {
            Refusal::Identity(reason) => TransportError::Identity { address, reason },
            Refusal::Broken(_) if self.unreachable.load(Ordering::Relaxed) => {
                TransportError::NoAnswer { address, reason: NOBODY.to_owned() }
            }
            Refusal::Broken(reason) => TransportError::NoAnswer { address, reason },
        }
    }

    /// The error with which the connection ended because certificates do not fit, if so.
    pub(super) fn identity_error(&self) -> Option<TransportError> {
        match explain(&self.connection.close_reason()?) {
            Refusal::Identity(reason) => Some(TransportError::Identity { address: self.address, reason }),
            Refusal::Broken(_) => None,
        }
    }

    pub(super) fn close(&self) {
        self.connection.close(CLOSE_DONE, b"done");
    }

    async fn watch(self: Arc<Self>, closed_port: Arc<Notify>, unused: Duration, lane: &'static str) {
        metrics::gauge!(names::TRANSPORT_CONNECTIONS, "side" => "client", "lane" => lane).increment(1.0);
        let mut check = tokio::time::interval(unused / 4);
        loop {
            tokio::select! {
                reason = self.connection.closed() => {
                    let path = self.connection.stats().path;
                    tracing::debug!(
                        server = %self.address, lane, %reason, rtt_us = path.rtt.as_micros(), mtu = path.current_mtu,
                        sent = path.sent_packets, lost = path.lost_packets, congestion = path.congestion_events,
                        window = path.cwnd, "connection ended"
                    );
                    break;
                }
                () = closed_port.notified() => {
                    self.unreachable.store(true, Ordering::Relaxed);
                    self.connection.close(CLOSE_UNREACHABLE, b"port unreachable");
                }
                _ = check.tick() => {
                    let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
                    if self.born.elapsed().saturating_sub(used) > unused {
                        self.close();
                    }
                }
            }
        }
        metrics::gauge!(names::TRANSPORT_CONNECTIONS, "side" => "client", "lane" => lane).decrement(1.0);
    }
}
