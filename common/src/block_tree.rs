//! Verified partial reads by the BLAKE3 tree: a server sends the groups of a block that a reader
//! asked for and a proof of logarithmic size, and the reader checks both against the block's name.
//!
//! The algorithm is section 2.1 of the BLAKE3 paper (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020)
//! with groups of [`VERIFY_GROUP_BYTES`] as leaves, as in the Bao construction. A *chaining value*
//! is the hash of a subtree that is not the root.
//!
//! The proof holds the chaining values of the largest subtrees that the data do not touch, in the
//! order of a left-to-right walk of the tree; a proof for the whole block, and any proof of a block
//! of one group, is empty.
//!
//! What is proven: the data are the block's bytes at `data_offset`. The *length* of the block is
//! proven only when the data reach its end; a reader takes the length from its own metadata, never
//! from the server. Nothing here does IO or allocates by a number that came from a peer.

use std::ops::Range;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};

use crate::block::BlockHash;
use crate::limits::VERIFY_GROUP_BYTES;

/// Bytes of a chaining value, in a proof and on disk.
pub const CHAINING_VALUE_BYTES: usize = 32;

const GROUP: u32 = VERIFY_GROUP_BYTES as u32;

/// Why data from a server are not the block's bytes. All of them mean: ask another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The data are not whole groups of a block of this length.
    #[error("{data_bytes} bytes at {data_offset} are not whole groups of a block of {block_bytes} bytes")]
    Shape {
        /// Length of the block.
        block_bytes: u32,
        /// Where the data begin.
        data_offset: u32,
        /// How many there are.
        data_bytes: usize,
    },
    /// The proof has another length than these groups need.
    #[error("proof of {have} bytes where {want} are needed")]
    ProofLength {
        /// Bytes that it has.
        have: usize,
        /// Bytes that it must have.
        want: usize,
    },
    /// Data and proof do not hash to the block's name.
    #[error("data do not hash to the block's name")]
    Hash,
}

/// The hash of a block and the chaining values of its groups, computed in one pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTree {
    /// The block's name in its pool.
    pub hash: BlockHash,
    /// One chaining value a group, in order; empty for a block of one group, which its hash checks.
    pub groups: Vec<ChainingValue>,
}

impl BlockTree {
    /// Hashes a block, which has at least 1 byte and at most `u32::MAX`.
    pub fn of(block: &[u8]) -> Self {
        if block.len() <= VERIFY_GROUP_BYTES {
            return Self { hash: BlockHash::of(block), groups: Vec::new() };
        }
        let groups: Vec<_> = block
            .chunks(VERIFY_GROUP_BYTES)
            .enumerate()
            .map(|(index, group)| subtree(group, (index * VERIFY_GROUP_BYTES) as u64))
            .collect();
        Self { hash: root_of(&groups, block.len() as u32), groups }
    }
}

/// Groups of a block; a block has at least one.
pub fn group_count(block_bytes: u32) -> u32 {
    block_bytes.div_ceil(GROUP).max(1)
}

/// Chaining values that are kept for a block: none for a block of one group.
pub fn stored_group_count(block_bytes: u32) -> u32 {
    match group_count(block_bytes) {
        1 => 0,
        more => more,
    }
}

/// Bytes `[start, end)` of the groups that cover `length` bytes from `offset` on, cut at the end of
/// the block; None when there are no such bytes.
pub fn covering_groups(block_bytes: u32, offset: u32, length: u32) -> Option<Range<u32>> {
    if offset >= block_bytes || length == 0 {
        return None;
    }
    let last = offset.saturating_add(length).min(block_bytes) - 1;
    let end = (u64::from(last / GROUP) + 1) * u64::from(GROUP);
    Some(offset / GROUP * GROUP..end.min(u64::from(block_bytes)) as u32)
}

/// The hash of a block of more than one group from the chaining values of all its groups. With
/// another number of values than the length asks for the answer is the hash of nothing, which
/// equals no name.
pub fn root_of(groups: &[ChainingValue], block_bytes: u32) -> BlockHash {
    if groups.len() < 2 || groups.len() != group_count(block_bytes) as usize {
        return BlockHash([0; 32]);
    }
    let split = left_groups(u64::from(block_bytes));
    let left = fold(&groups[..split], left_subtree_len(u64::from(block_bytes)));
    let right = fold(&groups[split..], u64::from(block_bytes) - left_subtree_len(u64::from(block_bytes)));
    BlockHash(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
}

/// The proof for the groups in `data` (see [`covering_groups`]) from the chaining values of all
/// groups ([`BlockTree::groups`]).
pub fn proof(groups: &[ChainingValue], block_bytes: u32, data: &Range<u32>) -> Vec<u8> {
    let mut proof = Vec::new();
    if groups.len() == group_count(block_bytes) as usize {
        walk(0, u64::from(block_bytes), data, &mut |offset, length, inside| {
            if !inside {
                let first = (offset / u64::from(GROUP)) as usize;
                let count = length.div_ceil(u64::from(GROUP)) as usize;
                proof.extend_from_slice(&fold(&groups[first..first + count], length));
            }
        });
    }
    proof
}

/// Checks that `data` are the bytes from `data_offset` on of the block named `hash`, which is
/// `block_bytes` long. A whole block costs one plain hash.
pub fn verify(
    hash: &BlockHash,
    block_bytes: u32,
    data_offset: u32,
    data: &[u8],
    proof: &[u8],
) -> Result<(), VerifyError> {
    let end = u64::from(data_offset) + data.len() as u64;
    let whole_groups =
        data_offset.is_multiple_of(GROUP) && (end == u64::from(block_bytes) || end.is_multiple_of(u64::from(GROUP)));
    if data.is_empty() || !whole_groups || end > u64::from(block_bytes) {
        return Err(VerifyError::Shape { block_bytes, data_offset, data_bytes: data.len() });
    }
    let range = data_offset..end as u32;
    let mut siblings = 0;
    walk(0, u64::from(block_bytes), &range, &mut |_, _, inside| siblings += usize::from(!inside));
    let want = siblings * CHAINING_VALUE_BYTES;
    if proof.len() != want {
        return Err(VerifyError::ProofLength { have: proof.len(), want });
    }
    let found = if siblings == 0 {
        BlockHash::of(data)
    } else {
        let length = u64::from(block_bytes);
        let split = left_subtree_len(length);
        let mut source = Source { range, data, proof: proof.as_chunks().0.iter() };
        let left = source.chaining_value(0, split);
        let right = source.chaining_value(split, length - split);
        BlockHash(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
    };
    if found == *hash { Ok(()) } else { Err(VerifyError::Hash) }
}

/// Checks one group against its stored chaining value, or against the block's hash if it is the only
/// one (`groups` empty). `offset` is a multiple of [`VERIFY_GROUP_BYTES`].
pub fn group_is_whole(hash: &BlockHash, groups: &[ChainingValue], offset: u32, group: &[u8]) -> bool {
    match groups.get((offset / GROUP) as usize) {
        Some(value) => !group.is_empty() && subtree(group, u64::from(offset)) == *value,
        None => groups.is_empty() && offset == 0 && BlockHash::of(group) == *hash,
    }
}

/// Data and proof of an answer, consumed along the walk.
struct Source<'a> {
    range: Range<u32>,
    data: &'a [u8],
    proof: std::slice::Iter<'a, [u8; CHAINING_VALUE_BYTES]>,
}

impl Source<'_> {
    fn chaining_value(&mut self, offset: u64, length: u64) -> ChainingValue {
        match position(offset, length, &self.range) {
            // The number of siblings was checked against the length of the proof; zeros hash to no name.
            Position::Outside => self.proof.next().copied().unwrap_or_default(),
            Position::Inside => {
                let start = (offset - u64::from(self.range.start)) as usize;
                subtree(&self.data[start..start + length as usize], offset)
            }
            Position::Across => {
                let split = left_subtree_len(length);
                let left = self.chaining_value(offset, split);
                let right = self.chaining_value(offset + split, length - split);
                merge_subtrees_non_root(&left, &right, Mode::Hash)
            }
        }
    }
}

enum Position {
    Inside,
    Outside,
    Across,
}

fn position(offset: u64, length: u64, range: &Range<u32>) -> Position {
    let (start, end) = (u64::from(range.start), u64::from(range.end));
    if start <= offset && offset + length <= end {
        Position::Inside
    } else if end <= offset || offset + length <= start {
        Position::Outside
    } else {
        Position::Across
    }
}

/// Visits, left to right, the largest subtrees that lie wholly inside or outside of `range`.
fn walk(offset: u64, length: u64, range: &Range<u32>, visit: &mut impl FnMut(u64, u64, bool)) {
    match position(offset, length, range) {
        Position::Inside => visit(offset, length, true),
        Position::Outside => visit(offset, length, false),
        Position::Across => {
            let split = left_subtree_len(length);
            walk(offset, split, range, visit);
            walk(offset + split, length - split, range, visit);
        }
    }
}

/// Chaining value of the subtree that begins at `offset` and has these bytes.
fn subtree(bytes: &[u8], offset: u64) -> ChainingValue {
    Hasher::new().set_input_offset(offset).update(bytes).finalize_non_root()
}

/// Chaining value of a subtree of `length` bytes from those of its groups.
fn fold(groups: &[ChainingValue], length: u64) -> ChainingValue {
    match groups {
        [only] => *only,
        _ => {
            let (left, right) = groups.split_at(left_groups(length));
            let split = left_subtree_len(length);
            merge_subtrees_non_root(&fold(left, split), &fold(right, length - split), Mode::Hash)
        }
    }
}

/// Groups in the left half of a subtree of more than one group.
fn left_groups(length: u64) -> usize {
    (left_subtree_len(length) / u64::from(GROUP)) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(bytes: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        (0..bytes)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    }

    /// Sizes around every group boundary of a small tree, and a few of large ones.
    fn sizes() -> Vec<usize> {
        let mut sizes: Vec<usize> = vec![1, 2, 1023, 1024, 1025, 4096];
        for groups in (1..=17).chain([31, 32, 33, 64, 255, 256]) {
            let edge: usize = groups * VERIFY_GROUP_BYTES;
            sizes.extend([edge - 1025, edge - 1024, edge - 1023, edge - 1, edge, edge + 1, edge + 1024, edge + 1025]);
        }
        sizes
    }

    #[test]
    fn tree_hash_is_the_plain_hash() {
        for size in sizes() {
            let bytes = block(size, 7);
            let tree = BlockTree::of(&bytes);
            assert_eq!(tree.hash, BlockHash::of(&bytes), "{size} bytes");
            assert_eq!(tree.groups.len(), stored_group_count(size as u32) as usize, "{size} bytes");
            if !tree.groups.is_empty() {
                assert_eq!(root_of(&tree.groups, size as u32), tree.hash, "{size} bytes");
            }
        }
    }

    #[test]
    fn every_single_group_verifies() {
        for size in sizes().into_iter().filter(|size| *size <= 18 * VERIFY_GROUP_BYTES) {
            let bytes = block(size, 3);
            let tree = BlockTree::of(&bytes);
            for offset in (0..size as u32).step_by(VERIFY_GROUP_BYTES) {
                let range = covering_groups(size as u32, offset, 1).unwrap();
                let data = &bytes[range.start as usize..range.end as usize];
                let proof = proof(&tree.groups, size as u32, &range);
                assert_eq!(verify(&tree.hash, size as u32, offset, data, &proof), Ok(()), "{size} at {offset}");
                assert!(group_is_whole(&tree.hash, &tree.groups, offset, data), "{size} at {offset}");
            }
        }
    }

    #[test]
    fn proof_of_a_large_block_is_logarithmic() {
        let size = crate::limits::MAX_BLOCK_BYTES as u32;
        let tree = BlockTree::of(&block(size as usize, 1));
        let range = covering_groups(size, 1 << 20, 4096).unwrap();
        assert_eq!(range.len(), VERIFY_GROUP_BYTES);
        assert_eq!(proof(&tree.groups, size, &range).len(), 8 * CHAINING_VALUE_BYTES);
        assert!(proof(&tree.groups, size, &(0..size)).is_empty());
    }

    #[test]
    fn covering_groups_are_cut_at_the_end() {
        assert_eq!(covering_groups(100, 0, 1), Some(0..100));
        assert_eq!(covering_groups(100, 99, u32::MAX), Some(0..100));
        assert_eq!(covering_groups(100, 100, 1), None);
        assert_eq!(covering_groups(100, 0, 0), None);
        assert_eq!(covering_groups(u32::MAX, u32::MAX - 1, 9), Some(u32::MAX / GROUP * GROUP..u32::MAX));
        assert_eq!(covering_groups(3 * GROUP, GROUP - 1, 2), Some(0..2 * GROUP));
    }

    #[test]
    fn misshapen_answers_are_refused() {
        let bytes = block(5 * VERIFY_GROUP_BYTES + 7, 9);
        let tree = BlockTree::of(&bytes);
        let size = bytes.len() as u32;
        let shape =
            |offset, data: &[u8]| matches!(verify(&tree.hash, size, offset, data, &[]), Err(VerifyError::Shape { .. }));
        assert!(shape(0, &[]));
        assert!(shape(1, &bytes[1..]));
        assert!(shape(0, &bytes[..100]));
        assert!(shape(5 * GROUP, &[0; 8]));
        assert!(shape(6 * GROUP, &[0; 8]));
        assert_eq!(verify(&tree.hash, size, 0, &bytes, &[]), Ok(()));
        assert_eq!(verify(&tree.hash, size, 0, &bytes, &[0; 32]), Err(VerifyError::ProofLength { have: 32, want: 0 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn random_ranges_verify_and_no_flip_does(
            size in 1usize..40 * VERIFY_GROUP_BYTES,
            place in 0.0f64..1.0,
            length in 1u32..10 * GROUP,
            flip in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let bytes = block(size, size as u64);
            let tree = BlockTree::of(&bytes);
            let size = size as u32;
            let range = covering_groups(size, (f64::from(size) * place) as u32, length).unwrap();
            let mut data = bytes[range.start as usize..range.end as usize].to_vec();
            let mut proof = proof(&tree.groups, size, &range);
            prop_assert_eq!(verify(&tree.hash, size, range.start, &data, &proof), Ok(()));

            // A wrong length: refused if the data reach the end, or if it changes the tree around them;
            // else the data are right all the same.
            for wrong in [size - 1, size + 1, size + GROUP, size * 2] {
                let reaches_end = range.end == size;
                prop_assert!(!reaches_end || verify(&tree.hash, wrong, range.start, &data, &proof).is_err());
            }
            // Right groups in the wrong place.
            if range.end + GROUP <= size {
                prop_assert!(verify(&tree.hash, size, range.start + GROUP, &data, &proof).is_err());
            }

            let at = flip.index(data.len() + proof.len());
            let byte = if at < data.len() { &mut data[at] } else { &mut proof[at - range.len()] };
            *byte ^= 1 << bit;
            prop_assert_eq!(verify(&tree.hash, size, range.start, &data, &proof), Err(VerifyError::Hash));
            if at < data.len() {
                let group = at / VERIFY_GROUP_BYTES * VERIFY_GROUP_BYTES;
                let end = (group + VERIFY_GROUP_BYTES).min(data.len());
                prop_assert!(!group_is_whole(&tree.hash, &tree.groups, range.start + group as u32, &data[group..end]));
            }
        }
    }
}
