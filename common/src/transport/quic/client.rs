//! The sending side. A call takes one stream of a pooled connection; its timeout bounds everything,
//! the connecting included. A call is tried a second time only when the connection turned out to be
//! dead before the first byte.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ReadError, RecvStream, SendStream, WriteError};

use super::lane::Lane;
use super::link::{Link, LinkMaker, unsent};
use super::pool::{Key, Pool};
use super::reset_key::reset_key;
use super::socket::granted_buffer_bytes;
use super::stream::{FrameReader, ReadFrameError, WriteFrameError, payload_bytes, write_request};
use super::tuning::Tuning;
use super::{QuicError, STREAM_NOT_ACCEPTED};
use crate::codec;
use crate::identity::{Identity, client_config};
use crate::ids::ClusterId;
use crate::protocol::{Role, ServiceError};
use crate::telemetry::metric_names as names;
use crate::transport::frame::{RequestFrame, Status};
use crate::transport::{Answer, Call, Transport, TransportError};

/// Sends requests over QUIC. Must be used inside a tokio runtime. Dropping it closes its connections.
pub struct QuicTransport {
    pool: Arc<Pool>,
    bulk_connections: u8,
    turn: AtomicUsize,
}

impl QuicTransport {
    /// A transport that shows this identity.
    pub fn new(identity: &Identity) -> Result<Self, QuicError> {
        Self::with_tuning(identity, Tuning::default())
    }

    /// The same, with other network parameters.
    pub fn with_tuning(identity: &Identity, tuning: Tuning) -> Result<Self, QuicError> {
        Self::with_tls(identity.peer().cluster, client_config(identity)?, tuning)
    }

    /// A transport with a TLS configuration of the caller's, who may be a stranger (tests of P8).
    pub fn with_tls(cluster: ClusterId, tls: rustls::ClientConfig, tuning: Tuning) -> Result<Self, QuicError> {
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let granted = granted_buffer_bytes(&tuning).map_err(|source| QuicError::Socket { address, source })?;
        let tuning = tuning.settled(granted);
        let crypto = QuicClientConfig::try_from(tls).map_err(|e| QuicError::Tls { reason: e.to_string() })?;
        let crypto = Arc::new(crypto);
        // Of the peer's address, only matters whether it is a loopback.
        let config = |peer: Ipv4Addr| {
            let mut config = ClientConfig::new(crypto.clone());
            config.transport_config(Arc::new(tuning.transport(peer.into(), true)));
            config
        };
        let maker = LinkMaker {
            endpoint: tuning.endpoint(reset_key(rand::random())),
            loopback: config(Ipv4Addr::LOCALHOST),
            network: config(Ipv4Addr::UNSPECIFIED),
            tuning: tuning.clone(),
        };
        Ok(Self {
            pool: Pool::new(cluster, maker),
            bulk_connections: tuning.bulk_connections,
            turn: AtomicUsize::new(0),
        })
    }

    /// Closes all connections; what is under way fails. Calls after it connect anew.
    pub fn close(&self) {
        self.pool.close();
    }

    async fn attempt(&self, key: Key, call: &Call, sent: &AtomicBool) -> Result<Answer, TransportError> {
        let mut second = false;
        loop {
            let link = self.pool.link(key).await?;
            match link.connection().open_bi().await {
                Ok((send, recv)) => {
                    sent.store(true, Ordering::Relaxed);
                    return exchange(&link, key.address, call, send, recv).await;
                }
                Err(error) => {
                    let error = unsent(key.address, &error);
                    if second || matches!(error, TransportError::Identity { .. }) {
                        return Err(error);
                    }
                    second = true;
                }
            }
        }
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Transport for QuicTransport {
    async fn call(&self, address: SocketAddr, call: Call) -> Result<Answer, TransportError> {
        let started = Instant::now();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let key = Key {
            address,
            // Administration is offered by metadata servers.
            role: call.service.server_role().unwrap_or(Role::Metadata),
            lane: Lane::of(call.service, payload_bytes(&call.payload), self.bulk_connections, turn),
        };
        let sent = AtomicBool::new(false);
        let result = match tokio::time::timeout(call.timeout, self.attempt(key, &call, &sent)).await {
            Ok(result) => result,
            Err(_) => {
                let within = format!("within {} ms", call.timeout.as_millis());
                Err(if sent.load(Ordering::Relaxed) {
                    TransportError::NoAnswer { address, reason: format!("none came {within}") }
                } else {
                    TransportError::Unreachable { address, reason: format!("no connection {within}") }
                })
            }
        };
        names::record_call(call.service, outcome(&result), started.elapsed());
        result
    }
}

fn outcome(result: &Result<Answer, TransportError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(TransportError::Unreachable { .. }) => "unreachable",
        Err(TransportError::Identity { .. }) => "identity",
        Err(TransportError::NoAnswer { .. }) => "no_answer",
        Err(TransportError::Invalid { .. }) => "invalid",
        Err(TransportError::Refused { .. }) => "refused",
    }
}

/// Sends the request and reads the answer. From here on, the server may have acted.
async fn exchange(
    link: &Link,
    address: SocketAddr,
    call: &Call,
    mut send: SendStream,
    recv: RecvStream,
) -> Result<Answer, TransportError> {
    let invalid = |reason: String| TransportError::Invalid { address, reason };
    let frame = RequestFrame {
        service: call.service,
        header_bytes: call.header.len(),
        payload_bytes: payload_bytes(&call.payload),
        timeout: call.timeout,
        request: call.request,
    };
    match write_request(&mut send, &frame, &call.header, &call.payload).await {
        Ok(()) => {}
        // The server has read enough; its answer says why.
        Err(WriteFrameError::Stream(WriteError::Stopped(_))) => {}
        Err(WriteFrameError::Stream(WriteError::ConnectionLost(error))) => return Err(link.sent(&error)),
        Err(error) => return Err(invalid(format!("the request cannot be sent: {error}"))),
    }
    let mut reader = FrameReader::new(recv);
    let answer = async {
        let frame = reader.answer().await?;
        let (header, payload) = reader.body(frame.header_bytes, frame.payload_bytes).await?;
        Ok((frame.status, header, payload))
    };
    let (status, header, payload) = answer.await.map_err(|error| match error {
        ReadFrameError::Stream(ReadError::ConnectionLost(error)) => link.sent(&error),
        ReadFrameError::Stream(ReadError::Reset(code)) if code == STREAM_NOT_ACCEPTED => {
            TransportError::Unreachable { address, reason: "it is ending; the request was not looked at".to_owned() }
        }
        ReadFrameError::Stream(ReadError::Reset(_)) => TransportError::NoAnswer {
            address,
            reason: "it gave the request up (late, or not a valid frame)".to_owned(),
        },
        ReadFrameError::Stream(error) => invalid(error.to_string()),
        ReadFrameError::Frame(error) => invalid(error.to_string()),
    })?;
    match status {
        Status::Answer => Ok(Answer { header, payload: if payload.is_empty() { Vec::new() } else { vec![payload] } }),
        Status::Error => {
            let error: ServiceError = codec::decode(&header).map_err(|e| invalid(e.to_string()))?;
            Err(TransportError::Refused { address, error })
        }
    }
}
