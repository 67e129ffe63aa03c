//! Names of blocks. A block is named by its pool and the BLAKE3 hash of its bytes as stored on the
//! wire, so equal bytes in one pool have one name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{PartitionId, PoolId};

/// BLAKE3 hash (32 bytes) of a block's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockHash(pub [u8; 32]);

impl BlockHash {
    /// Hashes the bytes of a block.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The name of a block: {pool, hash}.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockId {
    /// The pool that the block belongs to.
    pub pool: PoolId,
    /// Hash of the stored bytes.
    pub hash: BlockHash,
}

impl BlockId {
    /// The partition that the block falls into: the leading bits of its hash.
    /// `partitions` is a power of two between 1 and 2^32.
    pub fn partition(&self, partitions: u32) -> PartitionId {
        debug_assert!(partitions.is_power_of_two());
        let lead = u32::from_be_bytes([self.hash.0[0], self.hash.0[1], self.hash.0[2], self.hash.0[3]]);
        let bits = partitions.trailing_zeros();
        PartitionId(if bits == 0 { 0 } else { lead >> (32 - bits) })
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.pool, self.hash)
    }
}
