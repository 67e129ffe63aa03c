//! Request and answer between processes. [`Transport`] is the seam for the simulation; [`quic`] is
//! the real one. One bidirectional stream a request; data travels raw behind the message.

pub mod frame;
pub mod quic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::ids::{ClusterId, RequestId};
use crate::protocol::{Role, Service, ServiceError};

/// A request on its way out.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is addressed to.
    pub service: Service,
    /// Traces the FUSE call that caused it.
    pub request: RequestId,
    /// The caller waits no longer than this; the server may give up then, too.
    pub timeout: Duration,
    /// The encoded message.
    pub header: Bytes,
    /// Raw bytes, sent one after another.
    pub payload: Vec<Bytes>,
}

/// A request as a server sees it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// What it is addressed to; the peer's role is already checked against it.
    pub service: Service,
    /// Traces the FUSE call that caused it.
    pub request: RequestId,
    /// How long the caller waits.
    pub timeout: Duration,
    /// The encoded message.
    pub header: Bytes,
    /// Raw bytes.
    pub payload: Bytes,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The encoded message.
    pub header: Bytes,
    /// Raw bytes, in pieces (a received answer has at most one piece).
    pub payload: Vec<Bytes>,
}

/// The other end of a connection, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// Its cluster; always ours, or the handshake had failed.
    pub cluster: ClusterId,
    /// Its role.
    pub role: Role,
    /// Its name.
    pub name: String,
}

/// Why there is no answer. Everything but `Refused` may have been carried out by the server.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection: nobody listens, or the network is cut.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// Whom.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The certificates do not fit (another cluster, a wrong role, none at all).
    #[error("{address} refuses this certificate, or shows a wrong one: {reason}")]
    Identity {
        /// Whom.
        address: SocketAddr,
        /// Why, and what to do.
        reason: String,
    },
    /// The connection broke, or the time was over, while waiting for the answer.
    #[error("no answer from {address}: {reason}")]
    NoAnswer {
        /// Whom.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The answer is not a valid frame or message.
    #[error("invalid answer from {address}: {reason}")]
    Invalid {
        /// Whom.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The server answered with an error.
    #[error("{address}: {error}")]
    Refused {
        /// Who.
        address: SocketAddr,
        /// The error.
        error: ServiceError,
    },
}

/// Sends requests.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends one request and waits for its answer, at most `call.timeout`.
    async fn call(&self, address: SocketAddr, call: Call) -> Result<Answer, TransportError>;
}

/// Answers requests. A dropped future must leave nothing half done that a retry would not mend.
#[async_trait]
pub trait RequestHandler: Send + Sync + 'static {
    /// Answers one request.
    async fn handle(&self, peer: Arc<PeerIdentity>, incoming: Incoming) -> Result<Answer, ServiceError>;
}

impl Answer {
    /// An answer without payload.
    pub fn message<T: Serialize>(message: &T) -> Result<Self, ServiceError> {
        Self::with_payload(message, Vec::new())
    }

    /// An answer with payload.
    pub fn with_payload<T: Serialize>(message: &T, payload: Vec<Bytes>) -> Result<Self, ServiceError> {
        let header = codec::encode(message).map_err(|e| ServiceError::Internal { reason: e.to_string() })?;
        Ok(Self { header: header.into(), payload })
    }
}

impl Incoming {
    /// Decodes the message.
    pub fn message<T: DeserializeOwned>(&self) -> Result<T, ServiceError> {
        codec::decode(&self.header).map_err(|e| ServiceError::Invalid { reason: e.to_string() })
    }
}

/// Encodes, sends, waits, decodes: one typed request. Returns the message and the raw payload.
pub async fn request<Q, R>(
    transport: &dyn Transport,
    address: SocketAddr,
    service: Service,
    request: RequestId,
    timeout: Duration,
    message: &Q,
    payload: Vec<Bytes>,
) -> Result<(R, Bytes), TransportError>
where
    Q: Serialize + Sync,
    R: DeserializeOwned,
{
    let invalid = |reason: String| TransportError::Invalid { address, reason };
    let header = codec::encode(message).map_err(|e| invalid(e.to_string()))?.into();
    let answer = transport.call(address, Call { service, request, timeout, header, payload }).await?;
    let reply = codec::decode(&answer.header).map_err(|e| invalid(e.to_string()))?;
    let payload = match answer.payload.len() {
        0 => Bytes::new(),
        1 => answer.payload.into_iter().next().unwrap_or_default(),
        _ => answer.payload.concat().into(),
    };
    Ok((reply, payload))
}
