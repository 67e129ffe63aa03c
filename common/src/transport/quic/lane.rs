//! Which connection to a server a request takes. Pure.

use crate::protocol::Service;

/// Raft messages with more data than this, in bytes, leave the lane of the heartbeats.
const RAFT_BULK_BYTES: usize = 256 << 10;

/// A connection of its own to the same server: what is in one lane does not wait for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// Heartbeats, votes and log entries.
    Raft,
    /// Snapshots and the like.
    RaftBulk,
    /// Metadata, chunk control, administration.
    Metadata,
    /// File data; one of several connections.
    Bulk(u8),
}

impl Lane {
    /// The lane of a request; `turn` spreads file data over `bulk` connections.
    pub(super) fn of(service: Service, payload_bytes: usize, bulk: u8, turn: usize) -> Self {
        match service {
            Service::Raft if payload_bytes > RAFT_BULK_BYTES => Self::RaftBulk,
            Service::Raft => Self::Raft,
            Service::Metadata | Service::ChunkControl | Service::Admin => Self::Metadata,
            // The remainder is less than a u8.
            Service::Chunk => Self::Bulk((turn % usize::from(bulk.max(1))) as u8),
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::RaftBulk => "raft_bulk",
            Self::Metadata => "metadata",
            Self::Bulk(_) => "bulk",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_do_not_share_with_data() {
        assert_eq!(Lane::of(Service::Raft, 0, 2, 5), Lane::Raft);
        assert_eq!(Lane::of(Service::Raft, 1 << 20, 2, 5), Lane::RaftBulk);
        assert_eq!(Lane::of(Service::Admin, 0, 2, 5), Lane::Metadata);
        assert_eq!(Lane::of(Service::Chunk, 0, 2, 5), Lane::Bulk(1));
        assert_eq!(Lane::of(Service::Chunk, 0, 0, 5), Lane::Bulk(0));
    }
}
