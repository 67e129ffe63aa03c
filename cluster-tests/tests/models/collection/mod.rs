//! Collection of one block against writers, dedup and repair: three owners, quorum two, one metadata
//! state (commands are atomic: that is Raft's part, and a new leader only forgets what it has asked).
//!
//! Writers put the block on all owners, or count what they are told is there, and commit a file when
//! two are durable; their commits and puts may be late by anything. Files are removed. The leader
//! condemns the block when nothing refers to it, sends deletes (again and again, also late ones), and
//! closes the record at any time: to wait for the owners' confirmation saves space, not blocks.
//! Replicas rot; repair copies what any owner ever had, as its copies may be late, too.
//!
//! Always:
//! - *durable*: a block that a file refers to is whole on a write quorum of its owners, less those
//!   whose replica rotted after it was counted;
//! - *accounted*: each owner that lacks it is in the repair queue;
//! - *no revival by repair*: no replica is newer than the newest put of a writer;
//!
//! and it must be possible that the block is collected, put again afterwards, revived while it is
//! condemned, and repaired.

mod state;
mod steps;

use stateright::{Model, Property};

use crate::check;
use state::{Block, OWNERS};
use steps::Step;

/// A rule that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// `may_refer`: a commit looks at the record of a condemned block.
    Record,
    /// `may_refer`: a commit looks at the floor when there is no record any more.
    Floor,
    /// `Horizon::condemn`: references are looked at when the command is applied, not before.
    CheckAtApply,
    /// `Replica::put`: a put raises the generation of a replica that is there.
    Raise,
    /// The raised generation is durable before the answer.
    DurableRaise,
    /// `Replica::delete`: a delete names a generation.
    NamedDelete,
    /// `Replica::has`: the answer says how old the replica is.
    AgeOfReplica,
    /// `Replica::has`: a quarantined replica is not there.
    Quarantine,
    /// A commit names the owners that it missed.
    Missed,
    /// `Replica::copy`: a copy is as old as its source, not new.
    CopyKeepsAge,
    /// `Replica::is_repaired`: good bytes that are too old are not repaired.
    RepairedAge,
    /// `Replica::put`: bad bytes that are replaced keep their generation.
    QuarantinedAge,
}

#[derive(Clone, Debug)]
struct Collection {
    without: Without,
    /// Mounts, each of which writes a file once and may remove it; at most `WRITERS`.
    writers: usize,
    /// Times that something is condemned.
    condemned: u64,
    /// Replicas that rot.
    rot: u8,
}

impl Model for Collection {
    type State = Block;
    type Action = Step;

    fn init_states(&self) -> Vec<Block> {
        vec![Block::new()]
    }

    fn actions(&self, state: &Block, actions: &mut Vec<Step>) {
        steps::possible(self, state, actions);
    }

    fn next_state(&self, state: &Block, step: Step) -> Option<Block> {
        let mut next = state.clone();
        steps::take(self, &mut next, step);
        // Not where a path is wanted: its steps would change numbers from line to line.
        if self.without == Without::Nothing {
            next = next.canonical(self.writers);
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("durable", |_, block: &Block| {
                !block.is_referenced() || block.whole() + block.excused() > OWNERS / 2
            }),
            Property::always("accounted", |_, block: &Block| {
                !block.is_referenced() || block.owners.iter().all(|owner| owner.is_whole() || owner.repair.is_some())
            }),
            Property::always("no revival by repair", |_, block: &Block| {
                block
                    .owners
                    .iter()
                    .filter_map(|o| o.replica)
                    .all(|replica| Some(replica.generation) <= block.sent.newest())
            }),
            Property::sometimes("collected", |_, block: &Block| block.is_collected()),
            Property::sometimes("collected, and put again", |_, block: &Block| {
                block.horizon.floor.0 > 1 && block.condemned.is_none() && block.is_referenced()
            }),
            Property::sometimes("revived while condemned", |_, block: &Block| {
                block.condemned.is_some() && block.is_referenced()
            }),
            Property::sometimes("repaired", |model: &Self, block: &Block| {
                block.rotted == model.rot && block.is_referenced() && block.whole() == OWNERS
            }),
        ]
    }
}

#[test]
fn collection_loses_nothing() {
    let full = [(2, 2, 1), (3, 1, 0), (1, 4, 1)];
    let bounds: &[_] = if check::at_full_size() { &full } else { &[(2, 1, 1), (1, 3, 1)] };
    for &(writers, condemned, rot) in bounds {
        let name = format!("collection: {writers} writers, condemned {condemned} times, {rot} replicas rot");
        check::holds(&name, Collection { without: Without::Nothing, writers, condemned, rot });
    }
}

#[test]
fn each_rule_of_collection_is_needed() {
    for (without, writers, rot, property) in [
        (Without::Record, 1, 0, "durable"),
        (Without::Floor, 1, 0, "durable"),
        (Without::CheckAtApply, 1, 0, "durable"),
        (Without::Raise, 2, 0, "durable"),
        (Without::DurableRaise, 2, 0, "durable"),
        (Without::NamedDelete, 2, 0, "durable"),
        (Without::AgeOfReplica, 2, 0, "durable"),
        (Without::Quarantine, 1, 1, "durable"),
        (Without::Missed, 1, 0, "accounted"),
        (Without::CopyKeepsAge, 1, 1, "no revival by repair"),
        (Without::RepairedAge, 2, 0, "accounted"),
        (Without::QuarantinedAge, 2, 1, "accounted"),
    ] {
        check::breaks(&format!("{without:?}"), Collection { without, writers, condemned: 2, rot }, property);
    }
}
