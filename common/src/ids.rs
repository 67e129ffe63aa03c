//! Newtypes for every id that crosses a process or is stored. An id is never reused.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u128);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self(Uuid::new_v4().as_u128())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_u128(self.0).fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self(Uuid::parse_str(text)?.as_u128()))
            }
        }
    };
}

uuid_id!(
    /// A whole cluster; part of every certificate.
    ClusterId
);
uuid_id!(
    /// One life of a data folder: made when the folder is formatted. A wiped server comes back with
    /// another incarnation and is not believed to hold what it held.
    Incarnation
);
uuid_id!(
    /// One formatted disk folder of a chunk server.
    DiskUuid
);

numeric_id!(
    /// A metadata server in the Raft group.
    MetadataNodeId(u64)
);
numeric_id!(
    /// A chunk server, numbered by the cluster when its incarnation first registers.
    ChunkNodeId(u32)
);
numeric_id!(
    /// A disk of a chunk server, numbered by the cluster when its UUID first registers. Owners of
    /// partitions are disks.
    DiskId(u32)
);
numeric_id!(
    /// A volume: one root directory. [`VolumeId::DEFAULT`] is the only one today.
    VolumeId(u32)
);
numeric_id!(
    /// A storage pool: replica count, failure rule, deduplication domain.
    PoolId(u16)
);
numeric_id!(
    /// An inode, below 2^63. Bits 48..63 are zero today and reserved for a shard number.
    InodeId(u64)
);
numeric_id!(
    /// A client's session with the metadata group.
    SessionId(u64)
);
numeric_id!(
    /// Fencing epoch of a session: a command stamped with an older epoch changes nothing.
    SessionEpoch(u32)
);
numeric_id!(
    /// Which leader granted a session's shared leases, and how often it has taken all of them back:
    /// the term in the upper 40 bits, the count in the lower 24. 0: none.
    LeaseGeneration(u64)
);
numeric_id!(
    /// A slot of a session (NFSv4.1 style): holds the last sequence number and its outcome.
    SlotId(u16)
);
numeric_id!(
    /// Of a put: what the cluster's generation was, as far as its sender knew, when it began. Of a
    /// replica: the highest of its puts. The generation grows each time that blocks are condemned.
    Generation(u64)
);
numeric_id!(
    /// Version of the partition table.
    TableEpoch(u64)
);
numeric_id!(
    /// A partition of the block name space: leading bits of the hash.
    PartitionId(u32)
);
numeric_id!(
    /// Follows one FUSE call through every server that it touches.
    RequestId(u64)
);
numeric_id!(
    /// Number of the commit that last changed a record; a snapshot is such a number.
    CommitSequence(u64)
);
numeric_id!(
    /// Counts changes of a file's bytes or size. A cache of extents is valid for one version.
    DataVersion(u64)
);

impl VolumeId {
    /// The volume that every cluster starts with.
    pub const DEFAULT: Self = Self(1);
}

impl PoolId {
    /// The pool that every cluster starts with.
    pub const DEFAULT: Self = Self(1);
}

impl InodeId {
    /// The root directory of a volume. FUSE fixes this number.
    pub const ROOT: Self = Self(1);
}

impl RequestId {
    /// A new random request id, never zero.
    pub fn random() -> Self {
        Self(rand::random::<u64>() | 1)
    }
}
