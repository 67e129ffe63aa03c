//! What can happen next, and what it does.

use cairn_common::ids::DiskId;

use super::state::{Disks, Drop, Filling, Partition, Row, Writer, row};
use super::{Movement, Without};

/// One step of one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A writer sends its puts.
    Begin { writer: usize },
    /// A put arrives, and its confirmation.
    PutArrives { writer: usize, disk: u32 },
    /// A put arrives whose writer does not hear of it.
    LatePutArrives { disk: u32 },
    /// A writer without a quorum goes on by the newest table.
    Refresh { writer: usize },
    /// A writer's commit is applied.
    Commit { writer: usize },
    /// A file is removed.
    Remove { writer: usize },
    /// The row gets other owners to be.
    StartMove,
    /// The row stays with its owners.
    CancelMove,
    /// What files refer to is queued for the new owners.
    Queue,
    /// The leader sees that the new owners lack nothing.
    LookComplete,
    /// The new owners are the owners.
    FinishMove,
    /// Another leader.
    Failover,
    /// A replica is made, and the queue's entry removed.
    Repair { disk: u32 },
    /// An entry of the queue that no row asks for is removed.
    Tidy { disk: u32 },
    /// A replica is lost.
    Lose { disk: u32 },
    /// A disk learns of a table by which it owns nothing, and wants to delete.
    StartDrop { disk: u32, epoch: usize },
    /// An owner by that table has the block.
    ConfirmDrop { disk: u32, owner: u32 },
    /// The ex-owner deletes.
    FinishDrop { disk: u32 },
}

/// All steps that can be taken.
pub(super) fn possible(model: &Movement, state: &Partition, steps: &mut Vec<Step>) {
    for (writer, doing) in state.writers.iter().enumerate() {
        match doing {
            Writer::Idle => steps.push(Step::Begin { writer }),
            Writer::Putting { epoch, confirmed } => {
                let owners = Disks::of(&row(model, state.rows[*epoch]).write_set());
                steps.extend(owners.without(*confirmed).iter().map(|disk| Step::PutArrives { writer, disk }));
                if is_quorum(model, state.rows[*epoch], *confirmed) {
                    steps.push(Step::Commit { writer });
                } else if *epoch < state.epoch() {
                    steps.push(Step::Refresh { writer });
                }
            }
            Writer::Referring => steps.push(Step::Remove { writer }),
            Writer::Removed => {}
        }
    }
    let now = row(model, state.now());
    if state.epoch() < model.changes {
        match state.now().is_moving {
            false => steps.push(Step::StartMove),
            true => steps.push(Step::CancelMove),
        }
        if state.filling == Filling::Complete {
            steps.push(Step::FinishMove);
        }
    }
    match state.filling {
        Filling::Nothing if state.now().is_moving => steps.push(Step::Queue),
        Filling::Queued => steps.push(Step::LookComplete),
        _ => {}
    }
    if state.filling != Filling::Nothing {
        steps.push(Step::Failover);
    }
    steps.extend(state.sent.without(state.holders).iter().map(|disk| Step::LatePutArrives { disk }));
    for disk in state.queue.iter() {
        let owners = Disks::of(&now.write_set());
        match now.owns(DiskId(disk)) {
            false => steps.push(Step::Tidy { disk }),
            // It has it already, or an owner has it.
            true if owners.and(state.holders).0 != 0 => steps.push(Step::Repair { disk }),
            true => {}
        }
    }
    if state.losses < model.losses {
        steps.extend(state.holders.iter().map(|disk| Step::Lose { disk }));
    }
    if model.ex_owners_delete {
        drops(model, state, steps);
    }
}

fn drops(model: &Movement, state: &Partition, steps: &mut Vec<Step>) {
    for disk in state.holders.iter() {
        match state.drops[disk as usize] {
            None => {
                let epochs = state.heard[disk as usize]..=state.epoch();
                let foreign = epochs.filter(|epoch| !row(model, state.rows[*epoch]).owns(DiskId(disk)));
                steps.extend(foreign.map(|epoch| Step::StartDrop { disk, epoch }));
            }
            Some(Drop { epoch, confirmed }) => {
                let owners = Disks::of(&row(model, state.rows[epoch]).current);
                let others = owners.without(confirmed).and(state.holders);
                steps.extend(others.iter().map(|owner| Step::ConfirmDrop { disk, owner }));
                let asked = is_quorum(model, Row { is_moving: false, ..state.rows[epoch] }, confirmed);
                if asked || model.without == Without::Asking {
                    steps.push(Step::FinishDrop { disk });
                }
            }
        }
    }
}

fn is_quorum(model: &Movement, at: Row, confirmed: Disks) -> bool {
    let at = Row { is_moving: at.is_moving && model.without != Without::BothQuorums, ..at };
    row(model, at).is_quorum(|disk| confirmed.contains(disk.0))
}

/// Takes one.
pub(super) fn take(model: &Movement, state: &mut Partition, step: Step) {
    match step {
        Step::Begin { writer } => put_by(model, state, writer, Disks::default()),
        Step::PutArrives { writer, disk } => {
            if let Writer::Putting { epoch, mut confirmed } = state.writers[writer] {
                hold(state, disk);
                hear(model, state, disk, epoch);
                confirmed.insert(disk);
                state.writers[writer] = Writer::Putting { epoch, confirmed };
            }
        }
        Step::LatePutArrives { disk } => hold(state, disk),
        Step::Refresh { writer } => {
            let kept = match state.writers[writer] {
                // `block_write.rs` keeps them, which is right as long as nobody deletes.
                Writer::Putting { confirmed, .. }
                    if !model.ex_owners_delete || model.without == Without::FreshConfirmations =>
                {
                    confirmed
                }
                _ => Disks::default(),
            };
            put_by(model, state, writer, kept);
        }
        Step::Commit { writer } => commit(model, state, writer),
        Step::Remove { writer } => state.writers[writer] = Writer::Removed,
        Step::StartMove => {
            let row = Row { is_moving: true, ..state.now() };
            change(state, row);
            // It has got owners.
            state.since = state.epoch();
        }
        Step::CancelMove => {
            let row = Row { is_moving: false, ..state.now() };
            change(state, row);
        }
        Step::Queue => {
            state.filling = Filling::Queued;
            if state.is_referenced() && model.without != Without::Filling {
                state.queue = state.queue.or(new_owners(model, state));
            }
        }
        Step::LookComplete => {
            if state.queue.and(new_owners(model, state)).0 == 0 || model.without == Without::WaitForQueue {
                state.filling = Filling::Complete;
            }
        }
        Step::FinishMove => {
            let row = Row { current: 1 - state.now().current, is_moving: false };
            change(state, row);
        }
        Step::Failover => state.filling = Filling::Nothing,
        Step::Repair { disk } => {
            hold(state, disk);
            hear(model, state, disk, state.epoch());
            state.queue.remove(disk);
        }
        Step::Tidy { disk } => state.queue.remove(disk),
        Step::Lose { disk } => lose(model, state, disk),
        Step::StartDrop { disk, epoch } => {
            hear(model, state, disk, epoch);
            state.drops[disk as usize] = Some(Drop { epoch, confirmed: Disks::default() });
        }
        Step::ConfirmDrop { disk, owner } => confirm(model, state, disk, owner),
        Step::FinishDrop { disk } => {
            state.drops[disk as usize] = None;
            state.holders.remove(disk);
            state.was_dropped = true;
        }
    }
}

fn hold(state: &mut Partition, disk: u32) {
    state.holders.insert(disk);
    state.excused.remove(disk);
}

/// Places puts by the newest row.
fn put_by(model: &Movement, state: &mut Partition, writer: usize, confirmed: Disks) {
    let owners = Disks::of(&row(model, state.now()).write_set());
    state.sent = state.sent.or(owners);
    state.writers[writer] = Writer::Putting { epoch: state.epoch(), confirmed: confirmed.and(owners) };
}

/// `namespace/ops/commit.rs`.
fn commit(model: &Movement, state: &mut Partition, writer: usize) {
    let Writer::Putting { epoch, confirmed } = state.writers[writer] else { return };
    if epoch < state.since && model.without != Without::CommitEpoch {
        state.was_refused = true;
        put_by(model, state, writer, Disks::default());
        return;
    }
    state.writers[writer] = Writer::Referring;
    let now = Disks::of(&row(model, state.now()).write_set());
    if model.without != Without::Missed {
        let missed = Disks::of(&row(model, state.rows[epoch]).write_set()).without(confirmed);
        state.queue = state.queue.or(missed.and(now));
    }
    if state.now().is_moving {
        state.queue = state.queue.or(new_owners(model, state));
    }
}

fn new_owners(model: &Movement, state: &Partition) -> Disks {
    let row = row(model, state.now());
    Disks::of(&row.next).without(Disks::of(&row.current))
}

fn change(state: &mut Partition, row: Row) {
    state.rows.push(row);
    state.filling = Filling::Nothing;
}

fn lose(model: &Movement, state: &mut Partition, disk: u32) {
    state.losses += 1;
    state.holders.remove(disk);
    state.excused.insert(disk);
    state.drops[disk as usize] = None;
    if row(model, state.now()).owns(DiskId(disk)) {
        state.queue.insert(disk);
    }
}

/// The disk's server hears of a table, by fetching it or from a request that was placed by it.
fn hear(model: &Movement, state: &mut Partition, disk: u32, epoch: usize) {
    if !model.ex_owners_delete || epoch <= state.heard[disk as usize] {
        return;
    }
    state.heard[disk as usize] = epoch;
    if model.without != Without::NewerTable {
        state.drops[disk as usize] = None;
    }
}

/// An owner answers by the newest table that it has heard of, that of the question at least.
fn confirm(model: &Movement, state: &mut Partition, disk: u32, owner: u32) {
    let Some(mut drop) = state.drops[disk as usize] else { return };
    hear(model, state, owner, drop.epoch);
    let by = row(model, state.rows[state.heard[owner as usize]]);
    if by.current.contains(&DiskId(owner)) {
        drop.confirmed.insert(owner);
        state.drops[disk as usize] = Some(drop);
    }
}
