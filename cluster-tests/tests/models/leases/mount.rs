//! What a mount does: the real cache and the real exclusive lease, with the file system around them.

use std::time::Duration;

use cairn_common::clock::Timestamp;
use cairn_common::ids::{CommitSequence, DataVersion, InodeId};
use cairn_common::protocol::metadata::{Attributes, ChangeEffects, LeaseGrant, NodeKind, XattrPresence};
use cairn_meta::lease::Renewal;
use cairn_mount::lease::{Fact, Grant, Touch};

use super::state::{Cluster, Command, KeepAlive, Lane, Mount, Query, QueryStage, Stage, Work, inode, rules};
use super::{Leases, Without, leader};

/// The length is the value.
fn attributes(inode: InodeId, value: u8) -> Attributes {
    let time = Timestamp::default();
    Attributes {
        inode,
        kind: NodeKind::File,
        mode: 0o644,
        links: 1,
        uid: 0,
        gid: 0,
        device: 0,
        size: u64::from(value),
        allocated: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        data_version: DataVersion(u64::from(value)),
        xattrs: XattrPresence::default(),
    }
}

// --- Keep-alives.

pub(super) fn send_keep_alive(cluster: &mut Cluster, mount: usize) {
    let at = cluster.now();
    let mount = &mut cluster.mounts[mount];
    mount.budget.keep_alives -= 1;
    mount.keep_alive = Some(KeepAlive::Sent { carried: mount.checked_in, at });
}

pub(super) fn take_keep_alive(model: &Leases, cluster: &mut Cluster, mount: usize) {
    let now = cluster.now();
    let mount = &mut cluster.mounts[mount];
    let Some(KeepAlive::Answered { carried, at, renewal }) = mount.keep_alive.take() else { return };
    let from = if model.without == Without::HorizonFromSending { now } else { at };
    match renewal {
        Renewal::Renewed { generation, exclusive } => {
            if generation == carried && mount.checked_in == generation && mount.adopted == generation {
                mount.horizon = mount.horizon.max(from + rules().shared);
                mount.exclusive_horizon = mount.exclusive_horizon.max(from + exclusive);
            }
        }
        // All at once: it has no kernel to talk to and no open files to reclaim.
        Renewal::Changed { generation } => {
            mount.horizon = Duration::ZERO;
            let _ = mount.cache.adopt(generation, now);
            mount.adopted = generation;
            mount.checked_in = generation;
        }
        Renewal::Fenced => end(mount),
        Renewal::Overdue { .. } => {}
    }
}

/// The mount learns that its session is over: what is dirty is lost, and reported.
fn end(mount: &mut Mount) {
    mount.is_over = true;
    mount.horizon = Duration::ZERO;
    mount.exclusive_horizon = Duration::ZERO;
    mount.exclusive.ended();
    mount.dirty = None;
}

// --- Queries.

pub(super) fn send_query(cluster: &mut Cluster, mount: usize) {
    let mount = &mut cluster.mounts[mount];
    mount.budget.queries -= 1;
    mount.query = Some(Query { question: mount.cache.ask(), stage: QueryStage::Sent });
}

pub(super) fn take_answer(model: &Leases, cluster: &mut Cluster, mount: usize) {
    let number = usize::from(model.renames);
    let mount = &mut cluster.mounts[mount];
    let Some(Query { mut question, stage: QueryStage::Answered { value, sequence, refused, mut generation } }) =
        mount.query.take()
    else {
        return;
    };
    match model.without {
        // As if it had been asked just now.
        Without::RecallStamp => {
            mount.cache.abandoned(question);
            question = mount.cache.ask();
        }
        Without::Generation => {
            mount.cache.abandoned(question);
            question = mount.cache.ask();
            generation = mount.adopted;
        }
        _ => {}
    }
    let grant = LeaseGrant { generation, refused: if refused { vec![inode(number)] } else { Vec::new() } };
    let facts = vec![Fact::Attributes(attributes(inode(number), value))];
    mount.cache.answered(question, Some(&grant), sequence, facts);
}

// --- Changes.

fn send(model: &Leases, mount: &mut Mount, lane: Lane, command: Command) {
    let touched = match command {
        Command::GiveUp => None,
        _ if model.without == Without::Busy => Some(Vec::new()),
        _ => Some(vec![inode(0)]),
    };
    let own = touched.map(|inodes| mount.cache.begin(Touch { inodes, names: Vec::new() }));
    let question = (command == Command::Acquire).then(|| mount.cache.ask_exclusive());
    mount.work[lane as usize] = Some(Work { command, own, question, stage: Stage::Sent, outcome: None });
}

pub(super) fn send_change(model: &Leases, cluster: &mut Cluster, mount: usize) {
    let value = 10 * (mount as u8 + 1);
    let mount = &mut cluster.mounts[mount];
    mount.budget.changes -= 1;
    send(model, mount, Lane::Own, Command::Change(value + mount.budget.changes));
}

pub(super) fn send_acquire(model: &Leases, cluster: &mut Cluster, mount: usize) {
    let mount = &mut cluster.mounts[mount];
    mount.budget.acquires -= 1;
    send(model, mount, Lane::Own, Command::Acquire);
}

pub(super) fn buffer(cluster: &mut Cluster, mount: usize) {
    let value = 10 * (mount as u8 + 1) + 5;
    let mount = &mut cluster.mounts[mount];
    mount.budget.writes -= 1;
    mount.dirty = Some(value + mount.budget.writes);
}

pub(super) fn take_done(cluster: &mut Cluster, number: usize, lane: Lane) {
    let now = cluster.now();
    let mount = &mut cluster.mounts[number];
    let Some(work) = mount.work[lane as usize].take() else { return };
    let Stage::Answered { sequence, held, generation, exclusive } = work.stage else {
        // Fenced.
        if let Some(own) = work.own {
            mount.cache.refused(own);
        }
        return end(mount);
    };
    if let Some(own) = work.own {
        made(mount, own, sequence, work.outcome.unwrap_or_default(), &held, generation);
    }
    if let Some(question) = work.question {
        let recalled = mount.cache.exclusive_answered(question, Some(inode(0)));
        if mount.exclusive.answered(exclusive, recalled, now) == Grant::GiveUp {
            mount.owes_give_up = true;
        }
    }
    match work.command {
        Command::Flush(value) => mount.dirty = mount.dirty.filter(|dirty| *dirty != value),
        Command::GiveUp => {
            mount.exclusive.ended();
            mount.owes_give_up = false;
            if let Some(ticket) = mount.obeying.take() {
                leader::recall_done(cluster, number, ticket);
            }
        }
        Command::Change(_) | Command::Acquire => {}
    }
}

fn made(
    mount: &mut Mount,
    own: cairn_mount::lease::OwnChange,
    sequence: CommitSequence,
    changed: Vec<InodeId>,
    held: &[(InodeId, u8)],
    generation: cairn_common::ids::LeaseGeneration,
) {
    let held = held.iter().map(|(inode, value)| attributes(*inode, *value)).collect();
    mount.cache.made(own, &ChangeEffects { sequence, changed, held, generation }, Vec::new());
}

// --- Recalls.

/// A recall arrives. Whether it can be answered at once.
pub(super) fn is_recalled(cluster: &mut Cluster, mount: usize, inode: InodeId, ticket: u64, exclusive: bool) -> bool {
    let now = cluster.now();
    let mount = &mut cluster.mounts[mount];
    let _ = mount.cache.recall(inode, exclusive, now);
    if exclusive {
        mount.exclusive.recalled();
        mount.obeying = Some(ticket);
    }
    !exclusive
}

/// Flushes, then gives the lease up; the recall is answered when that is done.
pub(super) fn obey(model: &Leases, cluster: &mut Cluster, mount: usize) {
    let mount = &mut cluster.mounts[mount];
    let dirty = mount.dirty.filter(|_| model.without != Without::FlushBeforeAnswer || mount.obeying.is_none());
    match dirty {
        Some(value) => send(model, mount, Lane::Recall, Command::Flush(value)),
        // Where the order is wrong, the flush comes behind.
        None => send(model, mount, Lane::Recall, Command::GiveUp),
    }
}
