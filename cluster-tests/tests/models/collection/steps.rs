//! What can happen next, and what it does. The judgements are the real rules'.

use cairn_chunk::collection::{Replica, Step as Change};
use cairn_common::ids::Generation;
use cairn_meta::collection::{Verdict, may_refer};

use super::state::{Block, OWNERS, Writer};
use super::{Collection, Without};

/// One step of one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A writer sends its puts to all owners.
    Begin { writer: usize },
    /// A writer asks an owner whether it has the block already.
    Ask { writer: usize, owner: usize },
    /// A writer's commit is applied.
    Commit { writer: usize },
    /// A file is removed.
    Remove { writer: usize },
    /// The leader sees that nothing refers to the block.
    Nominate,
    /// The leader's command to condemn it is applied.
    Condemn,
    /// The record is forgotten.
    Close,
    /// A put arrives whose writer waits for it.
    PutArrives { writer: usize, owner: usize },
    /// A put arrives whose writer has gone on, or that arrived before.
    LatePutArrives { owner: usize, generation: Generation },
    /// A delete arrives.
    DeleteArrives { owner: usize, condemned: Generation },
    /// A copy that repair has read arrives.
    CopyArrives { owner: usize, generation: Generation },
    /// A replica is found to be rotten.
    Rot { owner: usize },
    /// Repair finds good bytes and looks no further.
    TakeAsRepaired { owner: usize },
    /// An owner loses power and comes back.
    PowerLoss { owner: usize },
}

/// All steps that can be taken.
pub(super) fn possible(model: &Collection, block: &Block, steps: &mut Vec<Step>) {
    for (writer, doing) in block.writers[..model.writers].iter().enumerate() {
        match doing {
            Writer::Idle => steps.push(Step::Begin { writer }),
            Writer::Putting(_) => putting(block, writer, steps),
            Writer::Referring => steps.push(Step::Remove { writer }),
            Writer::Removed => {}
        }
    }
    if block.sent.newest().is_some() && block.horizon.generation.0 <= model.condemned {
        match model.without {
            Without::CheckAtApply if !block.is_nominated => {
                steps.extend((!block.is_referenced()).then_some(Step::Nominate));
            }
            _ => steps.push(Step::Condemn),
        }
    }
    steps.extend(block.condemned.map(|_| Step::Close));
    for (number, owner) in block.owners.iter().enumerate() {
        steps.extend(block.sent.iter().map(|generation| Step::LatePutArrives { owner: number, generation }));
        let condemned = (2..=block.horizon.generation.0).map(Generation);
        steps.extend(condemned.map(|condemned| Step::DeleteArrives { owner: number, condemned }));
        match model.without {
            _ if owner.repair.is_none() => {}
            Without::CopyKeepsAge => {
                steps.push(Step::CopyArrives { owner: number, generation: block.horizon.generation });
            }
            Without::RepairedAge if owner.is_whole() => steps.push(Step::TakeAsRepaired { owner: number }),
            // A copy that nothing asks for any more is like a late put.
            _ => steps.extend(block.sent.iter().map(|generation| Step::CopyArrives { owner: number, generation })),
        }
        if block.rotted < model.rot && owner.is_whole() {
            steps.push(Step::Rot { owner: number });
        }
        if owner.durable != owner.replica {
            steps.push(Step::PowerLoss { owner: number });
        }
    }
}

fn putting(block: &Block, writer: usize, steps: &mut Vec<Step>) {
    let mut confirmed = 0;
    for (owner, state) in block.owners.iter().enumerate() {
        if state.counted[writer].is_some() {
            confirmed += 1;
        } else {
            steps.push(Step::PutArrives { writer, owner });
            steps.push(Step::Ask { writer, owner });
        }
    }
    if confirmed > OWNERS / 2 {
        steps.push(Step::Commit { writer });
    }
}

/// Takes one.
pub(super) fn take(model: &Collection, block: &mut Block, step: Step) {
    match step {
        Step::Begin { writer } => begin(block, writer),
        Step::Ask { writer, owner } => ask(model, block, writer, owner),
        Step::Commit { writer } => commit(model, block, writer),
        Step::Remove { writer } => block.writers[writer] = Writer::Removed,
        Step::Nominate => block.is_nominated = true,
        Step::Condemn => condemn(model, block),
        Step::Close => {
            if let Some(condemned) = block.condemned.take() {
                block.horizon.close(condemned);
            }
        }
        Step::PutArrives { writer, owner } => {
            if let Writer::Putting(generation) = block.writers[writer] {
                put(model, block, owner, generation);
                // What is there may be newer than the put; it is at least as new.
                block.owners[owner].counted[writer] = Some(generation);
            }
        }
        Step::LatePutArrives { owner, generation } => put(model, block, owner, generation),
        Step::DeleteArrives { owner, condemned } => delete(model, block, owner, condemned),
        Step::CopyArrives { owner, generation } => copy(model, block, owner, generation),
        Step::Rot { owner } => rot(block, owner),
        Step::TakeAsRepaired { owner } => block.owners[owner].repair = None,
        Step::PowerLoss { owner } => block.owners[owner].replica = block.owners[owner].durable,
    }
}

/// The writer may have heard of the generation long before its puts arrive: they wait in the network.
fn begin(block: &mut Block, writer: usize) {
    let generation = block.horizon.generation;
    block.writers[writer] = Writer::Putting(generation);
    block.owners.iter_mut().for_each(|owner| owner.counted[writer] = None);
    block.sent.insert(generation);
}

fn ask(model: &Collection, block: &mut Block, writer: usize, owner: usize) {
    let Writer::Putting(asker) = block.writers[writer] else { return };
    let here = block.owners[owner].replica;
    let answer = match model.without {
        Without::Quarantine => here.map(|here| here.generation),
        _ => Replica::has(here),
    };
    block.owners[owner].counted[writer] = match model.without {
        Without::AgeOfReplica => answer.map(|_| asker),
        // A replica that is newer than the writer's other puts is no better than they are.
        _ => answer.map(|age| age.min(asker)),
    };
}

fn commit(model: &Collection, block: &mut Block, writer: usize) {
    let counted = block.owners.map(|owner| owner.counted[writer]);
    let Some(put) = counted.iter().flatten().min().copied() else { return };
    let (mut horizon, mut condemned) = (block.horizon, block.condemned);
    match model.without {
        Without::Record => condemned = None,
        Without::Floor => horizon.floor = Generation(0),
        _ => {}
    }
    match may_refer(&horizon, condemned, block.is_referenced(), put) {
        Verdict::Accept => {
            block.writers[writer] = Writer::Referring;
            block.owners.iter_mut().for_each(|owner| owner.counted[writer] = None);
            if model.without != Without::Missed {
                let missed = block.owners.iter_mut().zip(counted).filter(|(_, counted)| counted.is_none());
                missed.for_each(|(owner, _)| owner.repair = owner.repair.max(Some(put)));
            }
        }
        Verdict::PutAgain { .. } => begin(block, writer),
    }
}

fn condemn(model: &Collection, block: &mut Block) {
    block.is_nominated = false;
    let is_referenced = block.is_referenced() && model.without != Without::CheckAtApply;
    if let Some(condemned) = block.horizon.condemn(is_referenced) {
        block.condemned = Some(condemned);
        // Nobody needs a replica of it.
        block.owners.iter_mut().for_each(|owner| owner.repair = None);
    }
}

fn rot(block: &mut Block, owner: usize) {
    let is_referenced = block.is_referenced();
    let owner = &mut block.owners[owner];
    owner.replica = owner.replica.map(|replica| Replica { is_quarantined: true, ..replica });
    owner.durable = owner.replica;
    owner.is_excused = is_referenced || owner.counted.iter().any(Option::is_some);
    block.rotted += 1;
    // Reported whether anything refers to the block or not: somebody may be about to.
    owner.repair = owner.repair.max(Some(Generation(0)));
}

fn put(model: &Collection, block: &mut Block, owner: usize, generation: Generation) {
    let mut change = Replica::put(block.owners[owner].replica, generation);
    if model.without == Without::Raise && matches!(change, Change::Raise(_)) {
        change = Change::Nothing;
    }
    store(model, block, owner, change);
}

fn delete(model: &Collection, block: &mut Block, owner: usize, condemned: Generation) {
    let named = if model.without == Without::NamedDelete { Generation(u64::MAX) } else { condemned };
    let change = Replica::delete(block.owners[owner].replica, named);
    store(model, block, owner, change);
}

fn copy(model: &Collection, block: &mut Block, owner: usize, generation: Generation) {
    let here = block.owners[owner].replica;
    let known = match model.without {
        Without::QuarantinedAge => here.filter(|here| !here.is_quarantined),
        _ => here,
    };
    let change = Replica::copy(known, generation);
    store(model, block, owner, change);
    let owner = &mut block.owners[owner];
    if owner.repair.is_some_and(|wanted| Replica::is_repaired(owner.replica, wanted)) {
        owner.repair = None;
    }
}

fn store(model: &Collection, block: &mut Block, owner: usize, change: Change) {
    let owner = &mut block.owners[owner];
    owner.replica = Replica::after(owner.replica, change);
    let is_lazy = model.without == Without::DurableRaise && matches!(change, Change::Raise(_));
    if !is_lazy {
        owner.durable = owner.replica;
    }
}
