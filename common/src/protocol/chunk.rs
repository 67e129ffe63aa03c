//! Service `Chunk`: blocks on a chunk server, for mounts and for other chunk servers. The payload of
//! a put and of a get answer is raw bytes, in the order of the message.

use serde::{Deserialize, Serialize};

use crate::block::BlockId;
use crate::ids::{DiskId, PartitionId, TableEpoch};

/// How a block's bytes are encoded on the wire and on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// As the program wrote them.
    Plain,
}

/// A request. Answered by [`ChunkReply`] or a `ServiceError`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkRequest {
    /// Stores blocks; answered when each is on stable storage (one fdatasync for all who wait).
    /// Payload: the blocks' bytes one after another. Answer: `Put`.
    Put {
        /// Table that the sender placed them by.
        table: TableEpoch,
        /// The blocks.
        blocks: Vec<PutBlock>,
    },
    /// Reads ranges of blocks. Answer: `Got`; payload: for each range that is there, its groups
    /// (see `GotRange`) and then its proof.
    Get {
        /// The ranges.
        ranges: Vec<GetRange>,
    },
    /// Whether blocks are here, durable and whole as far as is known. Answer: `Has`.
    Has {
        /// The disk asked about.
        disk: DiskId,
        /// The blocks.
        blocks: Vec<BlockId>,
    },
    /// Names of the blocks of a partition, in order. Answer: `Listed`.
    List {
        /// The disk asked about.
        disk: DiskId,
        /// The partition.
        partition: PartitionId,
        /// Number of partitions that the sender counts by.
        partitions: u32,
        /// Names after this one only.
        after: Option<BlockId>,
        /// Most names to answer.
        limit: u32,
    },
}

/// A block to store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBlock {
    /// Its name: the server refuses bytes that do not hash to it.
    pub block: BlockId,
    /// The disk to store it on.
    pub disk: DiskId,
    /// How the bytes are encoded.
    pub encoding: Encoding,
    /// Length of the decoded bytes.
    pub logical_bytes: u32,
    /// Length of its bytes in the payload, 1 to `MAX_BLOCK_BYTES`.
    pub stored_bytes: u32,
    /// The bytes were acknowledged to a program already: they may use the disk's write reserve.
    pub reserve: bool,
}

/// A range of a block to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetRange {
    /// The block.
    pub block: BlockId,
    /// The disk to read it from.
    pub disk: DiskId,
    /// First byte.
    pub offset: u32,
    /// Bytes; at least 1. Cut at the end of the block.
    pub length: u32,
}

/// What became of a block of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutOutcome {
    /// On stable storage.
    Durable,
    /// The bytes do not hash to the name.
    HashMismatch,
    /// The disk is full: but for its write reserve, if the put may not use that.
    NoSpace,
    /// This server does not have the disk, or the disk failed.
    NoDisk,
    /// The disk does not own the block's partition by this server's newer table.
    NotOwner,
}

/// What became of a range of a get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GotRange {
    /// The payload has `data_bytes` bytes from `data_offset` on: the whole verification groups
    /// (`VERIFY_GROUP_BYTES`) that the range touches, then `proof_bytes` of proof
    /// ([`crate::block_tree`]).
    Found {
        /// Length of the whole block.
        block_bytes: u32,
        /// Where the groups begin in the block.
        data_offset: u32,
        /// Bytes of the groups.
        data_bytes: u32,
        /// Bytes of the proof.
        proof_bytes: u32,
    },
    /// Not here.
    Missing,
    /// Here but damaged; the server has put it on its list for repair.
    Damaged,
    /// This server does not have the disk, or the disk failed.
    NoDisk,
}

/// Answer to a [`ChunkRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkReply {
    /// One outcome a block, in the order of the request.
    Put(Vec<PutOutcome>),
    /// One outcome a range, in the order of the request.
    Got(Vec<GotRange>),
    /// One answer a block, in the order of the request.
    Has(Vec<bool>),
    /// Names of blocks.
    Listed {
        /// In order.
        blocks: Vec<BlockId>,
        /// No more behind these.
        end: bool,
    },
}
