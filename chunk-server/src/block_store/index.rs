//! The index: which record holds a block. A RocksDB without a write-ahead log, and no truth of its
//! own: whatever it does not know is found again in the segments from its durable position on.
//!
//! Durability: an entry is written only after its record is durable, in one batch with the position
//! behind it, so that what a crash leaves of the index is a prefix, never ahead of the segments. The
//! prefix grows when RocksDB flushes or [`Index::flush`] is called. Damage marks are lost with the
//! unflushed rest; the next read or scrub finds the damage again.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use cairn_common::block::{BlockHash, BlockId};
use cairn_common::ids::{DiskUuid, PartitionId, PoolId};
use parking_lot::Mutex;

use super::disk::SegmentId;
use super::index_database::{IndexDatabase, RocksIndex};
use super::index_entry::{IndexEntry, Table, block_of_key, key};

const KEY_FORMAT: [u8; 2] = [Table::Single as u8, 0];
const KEY_STATE: [u8; 2] = [Table::Single as u8, 1];
const KEY_SCRUB: [u8; 2] = [Table::Single as u8, 2];
const FORMAT_VERSION: u8 = 1;

/// The index failed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database below failed.
    #[error("index: {0}")]
    Database(String),
    /// It is not this disk's index, or of a version that is not known: it must be rebuilt.
    #[error("index is {0}")]
    Foreign(&'static str),
    /// A value that no version of this program wrote.
    #[error("index entry of {0} is unreadable")]
    Value(BlockId),
}

/// What is durable in the segments and reflected in the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Segment up to which all is known.
    pub segment: SegmentId,
    /// Offset in it.
    pub offset: u64,
    /// The last group commit.
    pub batch: u64,
}

/// Numbers of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Blocks that are known, damaged ones included.
    pub blocks: u64,
    /// Blocks that are damaged.
    pub damaged: u64,
}

/// One change of the index.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// A record became durable. It replaces what was known of the block unless that is whole and this
    /// is damaged.
    Stored(BlockId, IndexEntry),
    /// The record of this entry was found damaged. Does nothing if the block has another one by now.
    Damaged(BlockId, IndexEntry),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    position: Position,
    counters: Counters,
}

/// The index of one disk.
pub struct Index {
    db: Box<dyn IndexDatabase>,
    /// Held over a read-modify-write of the memtable, never over IO on segments.
    state: Mutex<State>,
}

impl Index {
    /// Opens the index in `folder`, or makes an empty one. An error of kind `Foreign` or a corrupt
    /// database is mended by [`Index::destroy`] and opening again.
    pub fn open(folder: &Path, disk: DiskUuid) -> Result<Self, IndexError> {
        Self::open_on(Box::new(RocksIndex::open(folder)?), disk)
    }

    /// The same in a database that is open.
    pub fn open_on(db: Box<dyn IndexDatabase>, disk: DiskUuid) -> Result<Self, IndexError> {
        let mut format = [0; 17];
        format[0] = FORMAT_VERSION;
        format[1..].copy_from_slice(&disk.0.to_le_bytes());
        match db.get(&KEY_FORMAT)? {
            None => db.write(vec![(KEY_FORMAT.to_vec(), Some(format.to_vec()))])?,
            Some(found) if found[..] == format => {}
            Some(found) if found.first() == Some(&FORMAT_VERSION) => {
                return Err(IndexError::Foreign("the index of another disk"));
            }
            Some(_) => return Err(IndexError::Foreign("of an unknown version")),
        }
        let state = match db.get(&KEY_STATE)? {
            None => State::default(),
            Some(bytes) => State::decode(&bytes).ok_or(IndexError::Foreign("without a readable position"))?,
        };
        Ok(Self { db, state: Mutex::new(state) })
    }

    /// Deletes an index; the next [`Index::open`] makes an empty one.
    pub fn destroy(folder: &Path) -> Result<(), IndexError> {
        RocksIndex::destroy(folder)
    }

    /// What is known of a block.
    pub fn entry(&self, block: &BlockId) -> Result<Option<IndexEntry>, IndexError> {
        match self.db.get(&key(Table::Blocks, block))? {
            None => Ok(None),
            Some(bytes) => IndexEntry::decode(&bytes).map(Some).ok_or(IndexError::Value(*block)),
        }
    }

    /// Carries changes out in order, at once; `position` says that everything before it is known.
    pub fn apply(&self, changes: &[Change], position: Option<Position>) -> Result<(), IndexError> {
        let mut state = self.state.lock();
        let mut next = *state;
        let mut batch = Vec::new();
        // What earlier changes of this call made of a block.
        let mut fresh: HashMap<BlockId, IndexEntry> = HashMap::new();
        for change in changes {
            let (block, entry) = match change {
                Change::Stored(block, entry) | Change::Damaged(block, entry) => (*block, *entry),
            };
            let known = match fresh.get(&block) {
                Some(known) => Some(*known),
                None => self.entry(&block)?,
            };
            let new = match change {
                Change::Stored(..) if known.is_some_and(|known| entry.damaged && !known.damaged) => continue,
                Change::Stored(..) => entry,
                Change::Damaged(..) if known.is_none_or(|known| known.damaged || !known.same_record(&entry)) => {
                    continue;
                }
                Change::Damaged(..) => IndexEntry { damaged: true, ..entry },
            };
            next.counters.blocks += u64::from(known.is_none());
            next.counters.damaged += u64::from(new.damaged);
            next.counters.damaged -= u64::from(known.is_some_and(|known| known.damaged));
            batch.push((key(Table::Blocks, &block).to_vec(), Some(new.encode().to_vec())));
            if new.damaged {
                batch.push((key(Table::Damaged, &block).to_vec(), Some(Vec::new())));
            } else if known.is_some_and(|known| known.damaged) {
                batch.push((key(Table::Damaged, &block).to_vec(), None));
            }
            fresh.insert(block, new);
        }
        if let Some(position) = position {
            next.position = position;
        }
        batch.push((KEY_STATE.to_vec(), Some(next.encode().to_vec())));
        self.db.write(batch)?;
        *state = next;
        Ok(())
    }

    /// Makes all that was applied durable.
    pub fn flush(&self) -> Result<(), IndexError> {
        self.db.flush()
    }

    /// Up to where the segments are known.
    pub fn position(&self) -> Position {
        self.state.lock().position
    }

    /// Numbers of blocks.
    pub fn counters(&self) -> Counters {
        self.state.lock().counters
    }

    /// Up to `limit` whole blocks of a partition in order, after `after`, and whether there are no more.
    pub fn list(
        &self,
        partition: PartitionId,
        partitions: u32,
        after: Option<&BlockId>,
        limit: usize,
    ) -> Result<(Vec<BlockId>, bool), IndexError> {
        let mut blocks = Vec::new();
        let mut pool = after.map_or(PoolId(0), |after| after.pool);
        let mut from = after.map_or_else(|| first_of(pool, partition, partitions), |after| *after);
        loop {
            let start = key(Table::Blocks, &from);
            let mut past_partition = false;
            let mut next_pool = None;
            let mut full = false;
            self.db.scan(&start, &mut |name, value| {
                let Some(block) = block_of_key(Table::Blocks, name) else { return ControlFlow::Break(()) };
                if block.pool != pool {
                    next_pool = Some(block.pool);
                    return ControlFlow::Break(());
                }
                match block.partition(partitions).cmp(&partition) {
                    std::cmp::Ordering::Less => return ControlFlow::Continue(()),
                    std::cmp::Ordering::Equal => {}
                    std::cmp::Ordering::Greater => {
                        past_partition = true;
                        return ControlFlow::Break(());
                    }
                }
                if after == Some(&block) || IndexEntry::decode(value).is_none_or(|entry| entry.damaged) {
                    return ControlFlow::Continue(());
                }
                if blocks.len() == limit {
                    full = true;
                    return ControlFlow::Break(());
                }
                blocks.push(block);
                ControlFlow::Continue(())
            })?;
            if full {
                return Ok((blocks, false));
            }
            pool = match (next_pool, past_partition) {
                (Some(next), _) => next,
                (None, true) if pool.0 < u16::MAX => PoolId(pool.0 + 1),
                _ => return Ok((blocks, true)),
            };
            from = first_of(pool, partition, partitions);
        }
    }

    /// All blocks known to be damaged.
    pub fn damaged(&self) -> Result<Vec<BlockId>, IndexError> {
        let start = [Table::Damaged as u8];
        let mut blocks = Vec::new();
        self.db.scan(&start, &mut |name, _| match block_of_key(Table::Damaged, name) {
            Some(block) => {
                blocks.push(block);
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        })?;
        Ok(blocks)
    }

    /// Visits every block in order until `visit` says false. Walks the whole index: for scrub and tests.
    pub fn for_each(&self, mut visit: impl FnMut(BlockId, IndexEntry) -> bool) -> Result<(), IndexError> {
        let start = [Table::Blocks as u8];
        let mut unreadable = None;
        self.db.scan(&start, &mut |name, value| {
            let Some(block) = block_of_key(Table::Blocks, name) else { return ControlFlow::Break(()) };
            match IndexEntry::decode(value) {
                Some(entry) if visit(block, entry) => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
                None => {
                    unreadable = Some(block);
                    ControlFlow::Break(())
                }
            }
        })?;
        unreadable.map_or(Ok(()), |block| Err(IndexError::Value(block)))
    }

    /// Where the scrub goes on.
    pub fn scrub_position(&self) -> Result<(SegmentId, u64), IndexError> {
        let bytes = self.db.get(&KEY_SCRUB)?;
        let position = bytes.as_deref().and_then(|bytes| {
            let (segment, offset) = bytes.split_first_chunk::<8>()?;
            Some((SegmentId(u64::from_le_bytes(*segment)), u64::from_le_bytes(offset.try_into().ok()?)))
        });
        Ok(position.unwrap_or_default())
    }

    /// Keeps where the scrub goes on.
    pub fn set_scrub_position(&self, segment: SegmentId, offset: u64) -> Result<(), IndexError> {
        let value = [segment.0.to_le_bytes(), offset.to_le_bytes()].concat();
        self.db.write(vec![(KEY_SCRUB.to_vec(), Some(value))])
    }
}

impl State {
    fn encode(&self) -> [u8; 41] {
        let mut bytes = [0; 41];
        bytes[0] = FORMAT_VERSION;
        let fields = [
            self.position.segment.0,
            self.position.offset,
            self.position.batch,
            self.counters.blocks,
            self.counters.damaged,
        ];
        for (place, field) in bytes[1..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&FORMAT_VERSION, fields) = bytes.split_first()? else { return None };
        let ([segment, offset, batch, blocks, damaged], []) = fields.as_chunks::<8>() else { return None };
        Some(Self {
            position: Position {
                segment: SegmentId(u64::from_le_bytes(*segment)),
                offset: u64::from_le_bytes(*offset),
                batch: u64::from_le_bytes(*batch),
            },
            counters: Counters { blocks: u64::from_le_bytes(*blocks), damaged: u64::from_le_bytes(*damaged) },
        })
    }
}

/// The smallest name that a partition may hold in a pool.
fn first_of(pool: PoolId, partition: PartitionId, partitions: u32) -> BlockId {
    let bits = partitions.trailing_zeros();
    let lead = if bits == 0 { 0 } else { partition.0 << (32 - bits) };
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&lead.to_be_bytes());
    BlockId { pool, hash: BlockHash(hash) }
}
