//! The answering side. Every connection shows a certificate of the cluster; every request is checked
//! against the role in it before the handler sees it (P8). A handler that was started runs to its
//! end, whatever becomes of the caller: only the answer is dropped.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, ServerConfig, TokioRuntime};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tracing::Instrument;

use super::refusal::{Refusal, explain};
use super::reset_key::reset_key;
use super::socket::{TunedSocket, granted_buffer_bytes};
use super::stream::{FrameReader, ReadFrameError, write_answer};
use super::tuning::Tuning;
use super::{CLOSE_DONE, CLOSE_NOBODY, QuicError, STREAM_GIVEN_UP, STREAM_NOT_ACCEPTED};
use crate::codec;
use crate::identity::{Identity, peer_of_certificate, server_config};
use crate::ids::ClusterId;
use crate::protocol::ServiceError;
use crate::telemetry::metric_names as names;
use crate::transport::frame::{RequestFrame, Status};
use crate::transport::{Answer, Incoming, PeerIdentity, RequestHandler};

/// A request must have arrived whole, and its answer be taken, within this.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers handed to the network just before the end get this long to leave.
const LEAVE_TIME: Duration = Duration::from_millis(50);
/// The last words of an endpoint get this long.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves requests on a UDP address.
pub struct QuicServer;

/// A running server. Dropping it ends the server at once; [`Self::shutdown`] ends it in order.
pub struct QuicServerHandle {
    endpoint: Endpoint,
    local_address: SocketAddr,
    draining: watch::Sender<bool>,
    shared: Arc<Shared>,
}

struct Shared {
    cluster: ClusterId,
    handler: Arc<dyn RequestHandler>,
    loopback: Arc<ServerConfig>,
    network: Arc<ServerConfig>,
    connect_timeout: Duration,
    /// Requests whose handlers run or whose answers are being sent.
    active: watch::Sender<usize>,
}

/// Counts a request as active while it lives.
struct Active<'a>(&'a watch::Sender<usize>);

impl<'a> Active<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|n| *n += 1);
        Self(count)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl QuicServer {
    /// Binds and serves; must be called inside a tokio runtime.
    pub fn serve(
        address: SocketAddr,
        identity: &Identity,
        handler: Arc<dyn RequestHandler>,
    ) -> Result<QuicServerHandle, QuicError> {
        Self::serve_with(address, identity, handler, Tuning::default())
    }

    /// The same, with other network parameters.
    pub fn serve_with(
        address: SocketAddr,
        identity: &Identity,
        handler: Arc<dyn RequestHandler>,
        tuning: Tuning,
    ) -> Result<QuicServerHandle, QuicError> {
        let opened = |source| QuicError::Socket { address, source };
        let granted = granted_buffer_bytes(&tuning).map_err(opened)?;
        let tuning = tuning.settled(granted);
        let crypto = QuicServerConfig::try_from(server_config(identity)?)
            .map_err(|e| QuicError::Tls { reason: e.to_string() })?;
        let crypto = Arc::new(crypto);
        let config = |peer: std::net::IpAddr| {
            let mut config = ServerConfig::with_crypto(crypto.clone());
            config.transport_config(Arc::new(tuning.transport(peer, false)));
            config.migration(false);
            Arc::new(config)
        };
        let shared = Arc::new(Shared {
            cluster: identity.peer().cluster,
            handler,
            loopback: config(std::net::Ipv4Addr::LOCALHOST.into()),
            network: config(std::net::Ipv4Addr::UNSPECIFIED.into()),
            connect_timeout: tuning.connect_timeout,
            active: watch::Sender::new(0),
        });
        let socket = TunedSocket::bind(address, &tuning).map_err(opened)?;
        let secret = identity.derived_secret("cairn 2026-11-21 QUIC stateless reset key");
        let endpoint = Endpoint::new_with_abstract_socket(
            tuning.endpoint(reset_key(secret)),
            Some((*shared.network).clone()),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(opened)?;
        let local_address = endpoint.local_addr().map_err(opened)?;
        let (draining, drain) = watch::channel(false);
        tokio::spawn(accept(endpoint.clone(), shared.clone(), drain));
        tracing::info!(address = %local_address, "serving");
        Ok(QuicServerHandle { endpoint, local_address, draining, shared })
    }
}

impl QuicServerHandle {
    /// The bound address, with the real port.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Takes no more requests, waits for those under way (at most `grace`), closes the connections.
    /// Requests that come meanwhile are refused in a way that tells the caller that nobody looked.
    pub async fn shutdown(&self, grace: Duration) {
        self.draining.send_replace(true);
        let mut active = self.shared.active.subscribe();
        let drained = active.wait_for(|n| *n == 0);
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(requests = *self.shared.active.borrow(), "ending although requests are under way");
        }
        tokio::time::sleep(LEAVE_TIME).await;
        self.endpoint.close(CLOSE_DONE, b"the server is ending");
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
    }
}

impl Drop for QuicServerHandle {
    fn drop(&mut self) {
        self.endpoint.close(CLOSE_DONE, b"the server is ending");
    }
}

async fn accept(endpoint: Endpoint, shared: Arc<Shared>, drain: watch::Receiver<bool>) {
    while let Some(incoming) = endpoint.accept().await {
        if *drain.borrow() {
            incoming.refuse();
            continue;
        }
        tokio::spawn(serve_connection(incoming, shared.clone(), drain.clone()));
    }
}

async fn serve_connection(incoming: quinn::Incoming, shared: Arc<Shared>, mut drain: watch::Receiver<bool>) {
    let from = incoming.remote_address();
    let config = if from.ip().is_loopback() { &shared.loopback } else { &shared.network };
    let connecting = match incoming.accept_with(config.clone()) {
        Ok(connecting) => connecting,
        Err(error) => return tracing::debug!(%from, %error, "connection refused"),
    };
    let connection = match tokio::time::timeout(shared.connect_timeout, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            metrics::counter!(names::TRANSPORT_REFUSED).increment(1);
            match explain(&error) {
                Refusal::Identity(reason) => tracing::warn!(%from, "connection refused: {reason}"),
                Refusal::Broken(reason) => tracing::debug!(%from, "handshake failed: {reason}"),
            }
            return;
        }
        Err(_) => return tracing::debug!(%from, "handshake too slow"),
    };
    let peer = match identify(&connection, shared.cluster) {
        Ok(peer) => Arc::new(peer),
        Err(reason) => {
            metrics::counter!(names::TRANSPORT_REFUSED).increment(1);
            tracing::warn!(%from, "connection refused: {reason}");
            return connection.close(CLOSE_NOBODY, reason.as_bytes());
        }
    };
    tracing::debug!(%from, peer = %peer.name, role = peer.role.as_str(), "connection accepted");
    let gauge = metrics::gauge!(names::TRANSPORT_CONNECTIONS, "side" => "server", "lane" => peer.role.as_str());
    gauge.increment(1.0);
    let ended = loop {
        let (mut send, mut recv) = match connection.accept_bi().await {
            Ok(streams) => streams,
            Err(error) => break error,
        };
        if *drain.borrow_and_update() {
            let _ = recv.stop(STREAM_NOT_ACCEPTED);
            let _ = send.reset(STREAM_NOT_ACCEPTED);
            continue;
        }
        tokio::spawn(serve_stream(shared.clone(), peer.clone(), send, recv, drain.clone()));
    };
    gauge.decrement(1.0);
    let path = connection.stats().path;
    tracing::debug!(
        %from, peer = %peer.name, rtt_us = path.rtt.as_micros(), mtu = path.current_mtu, sent = path.sent_packets,
        lost = path.lost_packets, congestion = path.congestion_events, window = path.cwnd, "connection ended"
    );
    match explain(&ended) {
        // The client threw this server out.
        Refusal::Identity(reason) => tracing::warn!(%from, peer = %peer.name, "connection ended: {reason}"),
        Refusal::Broken(reason) => tracing::debug!(%from, peer = %peer.name, "connection ended: {reason}"),
    }
}

/// Who the peer is, from the certificate that TLS has verified.
fn identify(connection: &Connection, cluster: ClusterId) -> Result<PeerIdentity, String> {
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or("no certificate was shown")?;
    let certificate = chain.first().ok_or("no certificate was shown")?;
    let peer = peer_of_certificate(certificate).map_err(|e| e.to_string())?;
    if peer.cluster != cluster {
        return Err(format!("the certificate is of cluster {}, this is cluster {cluster}", peer.cluster));
    }
    Ok(peer)
}

async fn serve_stream(
    shared: Arc<Shared>,
    peer: Arc<PeerIdentity>,
    mut send: SendStream,
    recv: RecvStream,
    drain: watch::Receiver<bool>,
) {
    let _active = Active::new(&shared.active);
    let mut reader = FrameReader::new(recv);
    let read = tokio::time::timeout(STREAM_TIMEOUT, read_request(&mut reader, &peer)).await;
    let started = Instant::now();
    let (frame, result) = match read {
        Ok(Ok((frame, Ok(incoming)))) => {
            let span = tracing::debug_span!(
                "request",
                request = frame.request.0,
                service = ?frame.service,
                peer = %peer.name
            );
            (frame, handle(&*shared.handler, peer.clone(), incoming).instrument(span).await)
        }
        Ok(Ok((frame, Err(refused)))) => {
            tracing::warn!(peer = %peer.name, request = frame.request.0, "{refused}");
            let _ = reader.stream().stop(STREAM_GIVEN_UP);
            (frame, Err(refused))
        }
        Ok(Err(ReadFrameError::Frame(error))) => {
            tracing::warn!(peer = %peer.name, %error, "invalid frame");
            let _ = reader.stream().stop(STREAM_GIVEN_UP);
            let error = ServiceError::Invalid { reason: error.to_string() };
            return answer(&mut send, Err(error), STREAM_TIMEOUT).await;
        }
        // The caller gave up, or its connection is gone.
        Ok(Err(ReadFrameError::Stream(_))) | Err(_) => {
            let _ = reader.stream().stop(STREAM_GIVEN_UP);
            let _ = send.reset(STREAM_GIVEN_UP);
            return;
        }
    };
    let took = started.elapsed();
    names::record_request(frame.service, result.is_ok(), took);
    if took > frame.timeout {
        tracing::debug!(peer = %peer.name, request = frame.request.0, "the answer comes too late and is dropped");
        let _ = send.reset(STREAM_GIVEN_UP);
        return;
    }
    answer(&mut send, result, STREAM_TIMEOUT).await;
    if *drain.borrow() {
        // Closing the connection would drop what the peer has not acknowledged.
        let _ = tokio::time::timeout(STREAM_TIMEOUT, send.stopped()).await;
    }
}

/// A request, or the refusal of one whose peer may not make it (its data is not read).
async fn read_request(
    reader: &mut FrameReader,
    peer: &PeerIdentity,
) -> Result<(RequestFrame, Result<Incoming, ServiceError>), ReadFrameError> {
    let frame = reader.request().await?;
    if !frame.service.admits(peer.role) {
        let reason = format!(
            "{} has the role {:?} in its certificate, which may not use the service {:?}",
            peer.name,
            peer.role.as_str(),
            frame.service
        );
        return Ok((frame, Err(ServiceError::Forbidden { reason })));
    }
    let (header, payload) = reader.body(frame.header_bytes, frame.payload_bytes).await?;
    let incoming = Incoming { service: frame.service, request: frame.request, timeout: frame.timeout, header, payload };
    Ok((frame, Ok(incoming)))
}

async fn handle(
    handler: &dyn RequestHandler,
    peer: Arc<PeerIdentity>,
    incoming: Incoming,
) -> Result<Answer, ServiceError> {
    // A panic is one request's failure; the panic hook has logged where.
    AssertUnwindSafe(handler.handle(peer, incoming)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("the handler panicked");
        Err(ServiceError::Internal { reason: "the handler panicked; the server's log says where".to_owned() })
    })
}

async fn answer(send: &mut SendStream, result: Result<Answer, ServiceError>, timeout: Duration) {
    let (status, header, payload) = match result {
        Ok(answer) => (Status::Answer, answer.header, answer.payload),
        Err(error) => match codec::encode(&error) {
            Ok(bytes) => (Status::Error, bytes.into(), Vec::new()),
            Err(error) => return tracing::error!(%error, "an error cannot be encoded"),
        },
    };
    match tokio::time::timeout(timeout, write_answer(send, status, &header, &payload)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the answer was not taken"),
        Err(_) => {
            let _ = send.reset(STREAM_GIVEN_UP);
        }
    }
}
