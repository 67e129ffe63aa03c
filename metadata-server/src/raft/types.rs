//! The types that openraft is instantiated with. A Raft entry carries a [`CommandBatch`]; applying
//! it gives an [`OutcomeBatch`].
//!
//! Node ids are plain numbers here because openraft's test suite makes them from numbers; at the edges
//! of this module they are `MetadataNodeId`. At most one leader per term (the Raft paper's rule).

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cairn_common::codec::{self, CodecError};
use cairn_common::ids::{Incarnation, MetadataNodeId};
use cairn_common::protocol::admin::MetadataMember;
use openraft::impls::leader_id_std;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::namespace::command::{Command, Outcome};

openraft::declare_raft_types!(
    /// The metadata group.
    pub TypeConfig:
        D = CommandBatch,
        R = OutcomeBatch,
        NodeId = u64,
        Node = Member,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

/// openraft's types for this group.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// Term and index of an entry.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// A vote as it is stored and sent.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// A configuration of the group and the entry that made it.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// A member in Raft's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member(pub MetadataMember);

/// For openraft's test suite only: nobody.
impl Default for Member {
    fn default() -> Self {
        Self(MetadataMember {
            node: MetadataNodeId(0),
            incarnation: Incarnation(0),
            name: String::new(),
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
        })
    }
}

/// The commands of one entry: encoded once by the proposer, and decoded again only where they are
/// applied, so that log and network copy bytes.
#[derive(Clone)]
pub struct CommandBatch {
    encoded: Bytes,
    decoded: Arc<OnceLock<Vec<Command>>>,
}

impl CommandBatch {
    /// Encodes the commands.
    pub fn new(commands: Vec<Command>) -> Result<Self, CodecError> {
        let encoded = codec::encode(&commands)?.into();
        let decoded = Arc::new(OnceLock::from(commands));
        Ok(Self { encoded, decoded })
    }

    /// The commands; an error means that the entry is corrupt.
    pub fn commands(&self) -> Result<&[Command], CodecError> {
        if let Some(commands) = self.decoded.get() {
            return Ok(commands);
        }
        let commands = codec::decode(&self.encoded)?;
        Ok(self.decoded.get_or_init(|| commands))
    }

    /// Encoded size, in bytes.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded.len()
    }
}

impl PartialEq for CommandBatch {
    fn eq(&self, other: &Self) -> bool {
        self.encoded == other.encoded
    }
}

impl Eq for CommandBatch {}

impl fmt::Debug for CommandBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandBatch({} bytes)", self.encoded.len())
    }
}

impl fmt::Display for CommandBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Serialize for CommandBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encoded.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CommandBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { encoded: Bytes::deserialize(deserializer)?, decoded: Arc::default() })
    }
}

/// Outcomes of the commands of one entry, in their order; empty for entries without commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeBatch(pub Vec<Outcome>);
