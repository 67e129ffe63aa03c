//! One partition and one block in it: what the metadata state, the leader, the disks and the writers
//! know and have.

use cairn_common::ids::DiskId;
use cairn_common::partition_table::PartitionRow;

use super::Movement;

/// Most disks.
pub(super) const DISKS: usize = 5;

/// A set of disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Disks(pub(super) u8);

impl Disks {
    pub(super) fn of<'d>(disks: impl IntoIterator<Item = &'d DiskId>) -> Self {
        Self(disks.into_iter().fold(0, |set, disk| set | 1 << disk.0))
    }

    pub(super) fn contains(self, disk: u32) -> bool {
        self.0 >> disk & 1 == 1
    }

    pub(super) fn insert(&mut self, disk: u32) {
        self.0 |= 1 << disk;
    }

    pub(super) fn remove(&mut self, disk: u32) {
        self.0 &= !(1 << disk);
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u32> {
        (0..DISKS as u32).filter(move |disk| self.contains(*disk))
    }
}

/// A row of the partition table, in terms of the two sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) current: usize,
    /// To the other set.
    pub(super) is_moving: bool,
}

/// The row as the code has it.
pub(super) fn row(model: &Movement, row: Row) -> PartitionRow {
    let disks = |set: usize| model.sets[set].iter().copied().map(DiskId).collect();
    PartitionRow { current: disks(row.current), next: if row.is_moving { disks(1 - row.current) } else { Vec::new() } }
}

/// What a writer is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Writer {
    #[default]
    Idle,
    /// Its puts are placed by the row of this epoch.
    Putting {
        epoch: usize,
        confirmed: Disks,
    },
    Referring,
    Removed,
}

/// How far this leader is with the move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Filling {
    #[default]
    Nothing,
    /// Everything that files refer to is queued for the new owners.
    Queued,
    /// The new owners lacked nothing when it looked.
    Complete,
}

/// An ex-owner that wants to delete its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Drop {
    /// Table by which it owns nothing.
    pub(super) epoch: usize,
    /// Owners by that table that have the block.
    pub(super) confirmed: Disks,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Partition {
    /// The row at each epoch; the last is in force.
    pub(super) rows: Vec<Row>,
    /// Puts that were placed at this epoch or later make a quorum of the row in force.
    pub(super) since: usize,
    pub(super) queue: Disks,
    pub(super) filling: Filling,
    pub(super) holders: Disks,
    /// Disks that lost their replica.
    pub(super) excused: Disks,
    pub(super) losses: u8,
    /// Disks that some put was sent to: it may arrive at any later time, and more than once.
    pub(super) sent: Disks,
    pub(super) writers: Vec<Writer>,
    /// For each disk the newest epoch that it has heard of (where ex-owners delete).
    pub(super) heard: [usize; DISKS],
    pub(super) drops: [Option<Drop>; DISKS],
    pub(super) was_refused: bool,
    pub(super) was_dropped: bool,
}

impl Partition {
    /// Nobody has the block.
    pub(super) fn new(writers: usize) -> Self {
        Self {
            rows: vec![Row { current: 0, is_moving: false }],
            since: 0,
            queue: Disks::default(),
            filling: Filling::Nothing,
            holders: Disks::default(),
            excused: Disks::default(),
            losses: 0,
            sent: Disks::default(),
            writers: vec![Writer::Idle; writers],
            heard: [0; DISKS],
            drops: [None; DISKS],
            was_refused: false,
            was_dropped: false,
        }
    }

    /// The epoch in force.
    pub(super) fn epoch(&self) -> usize {
        self.rows.len() - 1
    }

    /// The row in force.
    pub(super) fn now(&self) -> Row {
        self.rows[self.epoch()]
    }

    pub(super) fn is_referenced(&self) -> bool {
        self.writers.contains(&Writer::Referring)
    }

    /// The last change ended a move where it began.
    pub(super) fn was_cancelled(&self) -> bool {
        let [.., before, now] = self.rows[..] else { return false };
        before.is_moving && !now.is_moving && before.current == now.current
    }
}
