//! Messages between the programs, one module a service. Message enums are frozen per wire version:
//! variants and fields are only ever appended together with a new ALPN (`docs/wire-protocol.md`).
//! File data never goes through the codec: it is the raw payload behind a message.

pub mod admin;
pub mod chunk;
pub mod chunk_control;
pub mod errors;
mod lease_grant;
pub mod locks;
pub mod metadata;
pub mod write_reserve;
mod xattr_presence;

pub use errors::{FsError, ServiceError};

use serde::{Deserialize, Serialize};

/// ALPN of wire version 1, the only one so far.
pub const ALPN_V1: &[u8] = b"cairn/1";

/// What a connection's peer may be; part of its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// A metadata server.
    Metadata,
    /// A chunk server.
    Chunk,
    /// A mount.
    Mount,
    /// An administrator (`cairnctl`).
    Admin,
}

impl Role {
    /// The word in certificates and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Chunk => "chunk",
            Self::Mount => "mount",
            Self::Admin => "admin",
        }
    }

    /// The role of a word, if it is one.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Metadata, Self::Chunk, Self::Mount, Self::Admin].into_iter().find(|role| role.as_str() == word)
    }
}

/// What a request is addressed to; the first byte of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Service {
    /// Mounts to metadata servers: [`metadata`].
    Metadata,
    /// Chunk servers to metadata servers: [`chunk_control`].
    ChunkControl,
    /// Administrators to any server: [`admin`].
    Admin,
    /// Metadata servers among each other; messages live in `metadata-server/src/raft`.
    Raft,
    /// Mounts and chunk servers to chunk servers: [`chunk`].
    Chunk,
}

impl Service {
    /// The byte in the frame.
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Metadata => 1,
            Self::ChunkControl => 2,
            Self::Admin => 3,
            Self::Raft => 4,
            Self::Chunk => 5,
        }
    }

    /// The service of a byte, if it is one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Metadata, Self::ChunkControl, Self::Admin, Self::Raft, Self::Chunk]
            .into_iter()
            .find(|s| s.as_byte() == byte)
    }

    /// Whether a peer of this role may use the service at all (P8). The one place that says so.
    pub fn admits(self, role: Role) -> bool {
        match self {
            Self::Metadata => matches!(role, Role::Mount),
            Self::ChunkControl => matches!(role, Role::Chunk),
            // Metadata servers ask each other for their clocks; the handler refuses them the rest.
            Self::Admin => matches!(role, Role::Admin | Role::Metadata),
            Self::Raft => matches!(role, Role::Metadata),
            Self::Chunk => matches!(role, Role::Mount | Role::Chunk),
        }
    }

    /// The role of the server that offers the service, or None if every server does.
    pub fn server_role(self) -> Option<Role> {
        match self {
            Self::Metadata | Self::ChunkControl | Self::Raft => Some(Role::Metadata),
            Self::Chunk => Some(Role::Chunk),
            Self::Admin => None,
        }
    }
}
