//! The real transport: QUIC over UDP with TLS 1.3 on both sides. One bidirectional stream a request.
//!
//! [`QuicTransport`] sends, [`QuicServer`] answers. Raft, metadata and bulk data to the same server
//! travel on connections of their own ([`lane::Lane`]), because a connection has one lock and one
//! driver task. It retries a request only if not one byte of it was sent; whether anything else may
//! be repeated is the caller's knowledge. It stores nothing.

mod client;
mod lane;
mod link;
mod pool;
mod refusal;
mod reset_key;
mod server;
mod socket;
mod stream;
mod tuning;

pub use client::QuicTransport;
pub use server::{QuicServer, QuicServerHandle};
pub use tuning::Tuning;

use quinn::VarInt;

use crate::identity::IdentityError;

/// An endpoint that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The UDP socket.
    #[error("cannot open UDP socket {address}: {source}; is the address this machine's, and free?")]
    Socket {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Certificates and keys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The TLS configuration does not fit QUIC.
    #[error("TLS cannot be used for QUIC: {reason}")]
    Tls {
        /// Why not.
        reason: String,
    },
}

/// Closes a connection that is not needed any more.
const CLOSE_DONE: VarInt = VarInt::from_u32(0);
/// Closes a connection whose peer's port is unreachable (seen only on this side).
const CLOSE_UNREACHABLE: VarInt = VarInt::from_u32(1);
/// Closes a connection whose peer's certificate names nobody.
const CLOSE_NOBODY: VarInt = VarInt::from_u32(2);
/// Ends a stream whose request was not looked at, because the server is ending.
const STREAM_NOT_ACCEPTED: VarInt = VarInt::from_u32(16);
/// Ends a stream that is no valid frame, or whose answer comes too late.
const STREAM_GIVEN_UP: VarInt = VarInt::from_u32(17);
