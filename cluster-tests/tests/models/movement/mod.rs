//! The move of one partition between two sets of owners, with one block in it: what is built in
//! `metadata-server/src/service/{movement,filling,repair}.rs`, `namespace/ops/{commit,repair}.rs` and
//! `common/src/client/block_write.rs`, without any assumption about time, and with the deletion of
//! replicas by ex-owners, which is not built.
//!
//! Writers place the block by the table that they know, count confirmations, and commit; puts and
//! commits may be late by anything. The leader starts, cancels and finishes moves; its memory of a move
//! is lost with it. Replicas are lost and repaired. A chunk server needs no table to take a put.
//!
//! Always, for a block that a file refers to:
//! - *durable*: it is on a write quorum of the current owners, less replicas that were lost;
//! - *accounted*: each current owner has it or is in the repair queue;
//!
//! and it must be possible that a move is finished and cancelled under a block, that a commit is told
//! to put again, and that an ex-owner deletes.

mod state;
mod steps;

use stateright::{Model, Property};

use crate::check;
use state::{Partition, row};
use steps::Step;

/// A rule that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// A commit is refused if the row has got owners since the epoch that its puts were placed by.
    CommitEpoch,
    /// A commit names the owners that it missed.
    Missed,
    /// During a move a put needs a quorum of both sets.
    BothQuorums,
    /// What files refer to is queued for the new owners.
    Filling,
    /// A move is finished only when the new owners lack nothing.
    WaitForQueue,
    /// What an ex-owner wanted to delete it keeps when it has heard of a newer table, by a put or a
    /// repair, too.
    NewerTable,
    /// Confirmations do not outlive the table that they were given under.
    FreshConfirmations,
    /// An ex-owner asks the owners before it deletes.
    Asking,
}

#[derive(Clone, Debug)]
struct Movement {
    without: Without,
    /// The two sets of disks.
    sets: [&'static [u32]; 2],
    writers: usize,
    /// Changes of the row.
    changes: usize,
    /// Replicas that are lost.
    losses: u8,
    /// Whether ex-owners delete.
    ex_owners_delete: bool,
}

impl Model for Movement {
    type State = Partition;
    type Action = Step;

    fn init_states(&self) -> Vec<Partition> {
        vec![Partition::new(self.writers)]
    }

    fn actions(&self, state: &Partition, actions: &mut Vec<Step>) {
        steps::possible(self, state, actions);
    }

    fn next_state(&self, state: &Partition, step: Step) -> Option<Partition> {
        let mut next = state.clone();
        steps::take(self, &mut next, step);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("durable", |model: &Self, state: &Partition| {
                let good = state.holders.or(state.excused);
                let current = cairn_common::partition_table::PartitionRow { next: vec![], ..row(model, state.now()) };
                !state.is_referenced() || current.is_quorum(|disk| good.contains(disk.0))
            }),
            Property::always("accounted", |model: &Self, state: &Partition| {
                let known = state.holders.or(state.queue);
                !state.is_referenced() || row(model, state.now()).current.iter().all(|disk| known.contains(disk.0))
            }),
            Property::sometimes("moved", |_, state: &Partition| {
                state.is_referenced() && state.now().current == 1 && !state.now().is_moving
            }),
            Property::sometimes("cancelled", |_, state: &Partition| state.is_referenced() && state.was_cancelled()),
            Property::sometimes("told to put again", |_, state: &Partition| state.was_refused),
        ];
        if self.ex_owners_delete {
            properties.push(Property::sometimes("deleted by an ex-owner", |_, state: &Partition| state.was_dropped));
        }
        properties
    }
}

type Sets = [&'static [u32]; 2];
const ONE: Sets = [&[0], &[1]];
const TWO: Sets = [&[0, 1], &[2, 3]];
const THREE: Sets = [&[0, 1, 2], &[0, 3, 4]];

/// Today's code, with the epoch in commits.
fn built(without: Without, writers: usize, changes: usize, losses: u8) -> Movement {
    Movement { without, sets: THREE, writers, changes, losses, ex_owners_delete: false }
}

/// With deletion by ex-owners.
fn deleting(without: Without, sets: Sets, writers: usize, changes: usize) -> Movement {
    Movement { without, sets, writers, changes, losses: 0, ex_owners_delete: true }
}

#[test]
fn a_move_loses_nothing() {
    let full = check::at_full_size();
    let bounds: &[_] = if full { &[(2, 4, 0), (1, 5, 1), (2, 3, 1)] } else { &[(2, 2, 0), (1, 3, 1)] };
    for &(writers, changes, losses) in bounds {
        let name = format!("movement: {writers} writers, {changes} changes of the row, {losses} replicas lost");
        check::holds(&name, built(Without::Nothing, writers, changes, losses));
    }
    let bounds: &[_] =
        if full { &[(ONE, 2, 6), (TWO, 1, 5), (TWO, 2, 3)] } else { &[(ONE, 1, 6), (ONE, 2, 4), (TWO, 1, 3)] };
    for &(sets, writers, changes) in bounds {
        let owners = sets[0].len();
        let name = format!("movement, ex-owners delete: {owners} owners, {writers} writers, {changes} changes");
        check::holds(&name, deleting(Without::Nothing, sets, writers, changes));
    }
}

/// To ask the owners is a second line: alone it does not suffice (`NewerTable`), and without it nothing
/// is lost either as long as the first holds.
#[test]
fn asking_before_deleting_is_a_second_line() {
    check::holds("movement, ex-owners do not ask", deleting(Without::Asking, ONE, 2, 4));
}

#[test]
fn each_rule_of_a_move_is_needed() {
    for (without, property) in [
        (Without::CommitEpoch, "durable"),
        (Without::Missed, "accounted"),
        (Without::BothQuorums, "durable"),
        (Without::Filling, "durable"),
        (Without::WaitForQueue, "durable"),
    ] {
        check::breaks(&format!("{without:?}"), built(without, 1, 2, 0), property);
    }
    check::breaks("NewerTable", deleting(Without::NewerTable, ONE, 1, 4), "durable");
    check::breaks("FreshConfirmations", deleting(Without::FreshConfirmations, ONE, 1, 4), "durable");
}
