//! Messages between the metadata servers (`Service::Raft`), wire version 1. Entries and snapshot data
//! travel as raw payload: an append's payload is a run of `{length u32, little-endian}{entry}`.
//!
//! Each message names the lives (node id and incarnation) of both ends. A receiver refuses what is
//! not meant for its own life, and what comes from a life that its configuration contradicts: a
//! server that was wiped does not answer for what it promised before.

use bytes::{BufMut, Bytes};
use cairn_common::codec;
use cairn_common::ids::{ClusterId, Incarnation, MetadataNodeId};
use cairn_common::protocol::admin::MetadataMember;
use openraft::raft::{
    AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::types::{Entry, LogId, SnapshotMeta, TypeConfig, Vote};

/// Largest piece of a snapshot in one request, in bytes.
pub(super) const SNAPSHOT_PIECE_BYTES: usize = 1 << 20;

/// One life of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Its number.
    pub node: MetadataNodeId,
    /// The life of its data folder.
    pub incarnation: Incarnation,
}

impl Life {
    /// The life of a member.
    pub fn of(member: &MetadataMember) -> Self {
        Self { node: member.node, incarnation: member.incarnation }
    }
}

/// A request with its ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The cluster of both.
    pub cluster: ClusterId,
    /// Who asks.
    pub from: Life,
    /// Who is asked.
    pub to: Life,
    /// What.
    pub request: RaftRequest,
}

/// A request of the leader or a candidate.
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftRequest {
    /// Entries, in the payload; or a heartbeat. Answer: `Append`.
    Append {
        /// The leader's vote.
        vote: Vote,
        /// What precedes the entries.
        previous: Option<LogId>,
        /// What is committed.
        committed: Option<LogId>,
        /// How many entries.
        entries: u32,
    },
    /// A candidate asks for a vote. Answer: `Vote`.
    Vote(VoteRequest<TypeConfig>),
    /// Asks whether a vote would be given, changes nothing. Answer: `Vote`.
    PreVote(VoteRequest<TypeConfig>),
    /// The leader asks the receiver to stand for election. Answer: `TransferLeader`.
    TransferLeader(TransferLeaderRequest<TypeConfig>),
    /// A snapshot begins; an unfinished one before it is forgotten. Answer: `Ready`.
    SnapshotBegin {
        /// Names this transfer.
        transfer: u128,
        /// What it covers.
        meta: SnapshotMeta,
        /// Names and lengths of its files.
        files: Vec<(String, u64)>,
    },
    /// A piece of a file, in the payload. May be repeated. Answer: `Ready`.
    SnapshotPiece {
        /// The transfer.
        transfer: u128,
        /// Which file of the list.
        file: u32,
        /// Where in the file.
        offset: u64,
        /// BLAKE3 of the piece.
        hash: [u8; 32],
    },
    /// All pieces are sent: install it. Answer: `SnapshotInstalled`.
    SnapshotInstall {
        /// The transfer.
        transfer: u128,
        /// The leader's vote.
        vote: Vote,
    },
}

/// Answer to a [`RaftRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftReply {
    /// To entries and heartbeats.
    Append(AppendEntriesResponse<TypeConfig>),
    /// To votes and pre-votes.
    Vote(VoteResponse<TypeConfig>),
    /// To a transfer of leadership.
    TransferLeader(TransferLeaderResponse<TypeConfig>),
    /// The snapshot goes on.
    Ready,
    /// The snapshot is installed, or refused because of a newer vote.
    SnapshotInstalled(SnapshotResponse<TypeConfig>),
}

/// Entries as payload.
pub(super) fn encode_entries(entries: &[Entry]) -> Result<Vec<Bytes>, codec::CodecError> {
    let encode = |entry| {
        let body = codec::encode(entry)?;
        let mut out = Vec::with_capacity(4 + body.len());
        out.put_u32_le(body.len() as u32);
        out.put_slice(&body);
        Ok(out.into())
    };
    entries.iter().map(encode).collect()
}

/// Exactly `count` entries of a payload.
pub(super) fn decode_entries(count: u32, payload: &Bytes) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut rest = &payload[..];
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (body, after) = after.split_at_checked(length).ok_or("an entry is cut short")?;
        entries.push(codec::decode(body).map_err(|e| e.to_string())?);
        rest = after;
    }
    if !rest.is_empty() || entries.len() != count as usize {
        return Err(format!("{count} entries were announced, {} came, {} bytes follow", entries.len(), rest.len()));
    }
    Ok(entries)
}
