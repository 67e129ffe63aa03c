//! A block whose bytes were checked against its name. The only thing that the writer takes, so that
//! data that are not what they are called never reach the disk. Hashing is done by who makes it, not
//! on the writer's thread.

use bytes::Bytes;
use cairn_common::block::BlockId;
use cairn_common::block_tree::BlockTree;
use cairn_common::protocol::chunk::Encoding;

/// A block that is ready to be stored.
#[derive(Clone, Debug)]
pub struct PreparedBlock {
    block: BlockId,
    encoding: Encoding,
    logical_bytes: u32,
    data: Bytes,
    tree: BlockTree,
    may_use_reserve: bool,
}

impl PreparedBlock {
    /// Hashes the data; None if they do not hash to the name, or no name allows their length.
    pub fn check(block: BlockId, encoding: Encoding, logical_bytes: u32, data: Bytes) -> Option<Self> {
        if data.is_empty() || data.len() > cairn_common::limits::MAX_BLOCK_BYTES {
            return None;
        }
        let tree = BlockTree::of(&data);
        (tree.hash == block.hash).then_some(Self { block, encoding, logical_bytes, data, tree, may_use_reserve: false })
    }

    /// The same block; `may`: it may use the disk's write reserve, because a program was told that it is written.
    pub fn using_reserve(mut self, may: bool) -> Self {
        self.may_use_reserve = may;
        self
    }

    /// Whether it may use the disk's write reserve.
    pub fn may_use_reserve(&self) -> bool {
        self.may_use_reserve
    }

    /// Its name.
    pub fn block(&self) -> BlockId {
        self.block
    }

    /// How it is encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Bytes after decoding.
    pub fn logical_bytes(&self) -> u32 {
        self.logical_bytes
    }

    /// Its bytes; their number fits in u32.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Hash and chaining values of its bytes.
    pub fn tree(&self) -> &BlockTree {
        &self.tree
    }
}
