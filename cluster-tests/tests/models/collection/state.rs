//! One block: what the metadata state, its owners, the writers and the network have of it. What is the
//! same but for the numbers of owners and writers is one state.

use cairn_chunk::collection::Replica;
use cairn_common::ids::Generation;
use cairn_meta::collection::Horizon;

/// Owners of the block; a write quorum is a majority of them.
pub(super) const OWNERS: usize = 3;
/// Most writers.
pub(super) const WRITERS: usize = 3;

/// A set of generations below 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Generations(u8);

impl Generations {
    pub(super) fn insert(&mut self, generation: Generation) {
        self.0 |= 1 << generation.0;
    }

    pub(super) fn newest(self) -> Option<Generation> {
        self.iter().last()
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Generation> {
        (0..8).filter(move |generation| self.0 >> generation & 1 == 1).map(Generation)
    }
}

/// What a writer is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Writer {
    /// It has not begun, or there is no such writer.
    #[default]
    Idle,
    /// It has sent its puts.
    Putting(Generation),
    /// Its file refers to the block.
    Referring,
    /// It has removed the file.
    Removed,
}

/// An owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Owner {
    pub(super) replica: Option<Replica>,
    /// What would be left of the replica after a loss of power.
    pub(super) durable: Option<Replica>,
    /// Its entry in the repair queue: generation that its replica must reach.
    pub(super) repair: Option<Generation>,
    /// For each writer that is putting: the owner has the block, and how old the replica is.
    pub(super) counted: [Option<Generation>; WRITERS],
    /// Its replica rotted after somebody had counted it.
    pub(super) is_excused: bool,
}

impl Owner {
    /// It has good bytes.
    pub(super) fn is_whole(&self) -> bool {
        Replica::has(self.replica).is_some()
    }
}

/// Everything. Deletes are not in it: one of each generation that was ever condemned may arrive
/// anywhere, at any later time, any number of times, or never.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Block {
    pub(super) horizon: Horizon,
    /// The block's record in the state.
    pub(super) condemned: Option<Generation>,
    /// The leader has seen the block without references (where it looks too early).
    pub(super) is_nominated: bool,
    pub(super) owners: [Owner; OWNERS],
    pub(super) writers: [Writer; WRITERS],
    /// Replicas that rotted.
    pub(super) rotted: u8,
    /// Generations of all puts that were ever sent: each may arrive anywhere, at any later time,
    /// more than once, or never; so may a copy that repair has read from such a replica.
    pub(super) sent: Generations,
}

impl Block {
    /// Nobody has it.
    pub(super) fn new() -> Self {
        Self {
            horizon: Horizon { generation: Generation(1), floor: Generation(1) },
            condemned: None,
            is_nominated: false,
            owners: [Owner::default(); OWNERS],
            writers: [Writer::Idle; WRITERS],
            rotted: 0,
            sent: Generations::default(),
        }
    }

    pub(super) fn is_referenced(&self) -> bool {
        self.writers.contains(&Writer::Referring)
    }

    /// Owners that have good bytes.
    pub(super) fn whole(&self) -> usize {
        self.owners.iter().filter(|owner| owner.is_whole()).count()
    }

    /// Owners whose replica rotted after somebody had counted it.
    pub(super) fn excused(&self) -> usize {
        self.owners.iter().filter(|owner| owner.is_excused && !owner.is_whole()).count()
    }

    /// It was condemned, it is gone everywhere, and so is the record.
    pub(super) fn is_collected(&self) -> bool {
        self.condemned.is_none() && self.horizon.floor.0 > 1 && self.owners.iter().all(|owner| owner.replica.is_none())
    }

    /// The same state under the smallest numbering of owners and of writers, of whom there are `writers`.
    pub(super) fn canonical(&self, writers: usize) -> Self {
        const ORDERS: [[usize; WRITERS]; 6] = [[0, 1, 2], [1, 0, 2], [0, 2, 1], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let renumbered = |order: &[usize; WRITERS]| {
            let mut same = self.clone();
            same.writers = order.map(|writer| self.writers[writer]);
            for (owner, old) in same.owners.iter_mut().zip(&self.owners) {
                owner.counted = order.map(|writer| old.counted[writer]);
            }
            same.owners.sort_unstable();
            same
        };
        let orders = [1, 2, ORDERS.len()][writers - 1];
        ORDERS[..orders].iter().map(renumbered).min().expect("there is an order")
    }
}
