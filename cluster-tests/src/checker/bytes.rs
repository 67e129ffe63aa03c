//! The bytes of one file: a row of cells. What a client writes or appends is in its memory until
//! something makes it durable: its own sync or truncate, or a call of another client that meets the file
//! (the lease is recalled). When the client is lost, the newest of those in memory may be gone, never one
//! before them (P3).
//!
//! A read is no more atomic than Linux's: its length and each cell are seen at one moment of the call
//! each, not all at the same one.

use std::collections::BTreeSet;

use super::history::{Call, Life, Operation, Reply, Value};
use super::search::Model;

/// Cells of one file.
pub(super) struct FileBytes {
    /// Lives that are lost at some time; of the others nothing can be missing.
    pub(super) lost: BTreeSet<Life>,
}

/// The state of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FileState {
    cells: Vec<Value>,
    /// What `cells` were before the writes in memory, and these.
    durable: Vec<Value>,
    memory: Vec<(Life, Change)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Change {
    cell: u32,
    cells: u32,
    value: Value,
}

fn apply(row: &mut Vec<Value>, change: &Change) {
    let Change { cell, cells, value } = change;
    let end = (cell + cells) as usize;
    if row.len() < end {
        row.resize(end, 0);
    }
    row[*cell as usize..end].fill(*value);
}

impl FileState {
    /// All that is in memory is durable from here on.
    fn settle(&mut self) {
        self.durable.clone_from(&self.cells);
        self.memory.clear();
    }

    fn settle_if(mut self, settles: bool) -> Self {
        if settles {
            self.settle();
        }
        self
    }

    /// Whether all that is in memory is this life's.
    fn only(&self, life: Life) -> bool {
        self.memory.iter().all(|(owner, _)| *owner == life)
    }

    /// The states after a life is lost: with the first `k` of its writes, for each `k`.
    fn lose(&self, life: Life) -> Vec<Self> {
        let mine = self.memory.iter().filter(|(owner, _)| *owner == life).count();
        (0..=mine)
            .rev()
            .map(|kept| {
                let mut state = Self { cells: self.durable.clone(), durable: self.durable.clone(), memory: Vec::new() };
                let mut seen = 0;
                for (owner, change) in &self.memory {
                    if *owner == life {
                        seen += 1;
                        if seen > kept {
                            continue;
                        }
                    }
                    apply(&mut state.cells, change);
                    if *owner != life {
                        state.memory.push((*owner, change.clone()));
                    }
                }
                if state.memory.is_empty() {
                    state.durable.clone_from(&state.cells);
                }
                state
            })
            .collect()
    }
}

impl FileBytes {
    /// Bytes that a client writes.
    fn write(&self, mut state: FileState, life: Life, change: Change) -> FileState {
        apply(&mut state.cells, &change);
        if self.lost.contains(&life) || !state.memory.is_empty() {
            state.memory.push((life, change));
        } else {
            apply(&mut state.durable, &change);
        }
        state
    }
}

impl Model for FileBytes {
    type State = FileState;

    fn step(&self, state: &FileState, event: &Operation) -> Vec<FileState> {
        let life = event.life;
        // Another client's call meets what is durable: what it has met cannot be taken back.
        let seen_by_other = !state.only(life);
        match (&event.call, &event.reply) {
            (_, Reply::Refused(_)) => vec![state.clone()],
            (Call::Write { cell, cells, value, .. }, _) => {
                let change = Change { cell: *cell, cells: *cells, value: *value };
                vec![self.write(state.clone().settle_if(seen_by_other), life, change)]
            }
            (Call::Append { cells, value, .. }, _) => {
                let change = Change { cell: state.cells.len() as u32, cells: *cells, value: *value };
                vec![self.write(state.clone().settle_if(seen_by_other), life, change)]
            }
            (Call::Truncate { cells, .. }, _) => {
                let mut next = state.clone();
                next.cells.resize(*cells as usize, 0);
                next.settle();
                vec![next]
            }
            (Call::Read { cell, cells, .. }, Reply::Cells(found)) => {
                // Its length; what it saw of the cells are events of their own.
                let from = (*cell as usize).min(state.cells.len());
                let to = ((cell + cells) as usize).min(state.cells.len());
                let right = to - from == found.len();
                right.then(|| state.clone().settle_if(seen_by_other)).into_iter().collect()
            }
            (Call::Cell { cell, .. }, Reply::Cells(found)) => {
                // Behind the end, which another moment of the read has seen elsewhere, there are zeros.
                let right = found[..] == [state.cells.get(*cell as usize).copied().unwrap_or(0)];
                right.then(|| state.clone().settle_if(seen_by_other)).into_iter().collect()
            }
            (Call::Size { .. }, Reply::Size(found)) => {
                let right = state.cells.len() == *found as usize;
                right.then(|| state.clone().settle_if(seen_by_other)).into_iter().collect()
            }
            // What another client has in memory was written later.
            (Call::Sync { .. }, Reply::Done) => vec![state.clone().settle_if(state.only(life))],
            (Call::Lose, _) => state.lose(life),
            _ => vec![state.clone()],
        }
    }
}
