//! What the leader and the state machine do: the real table, with the service around it.

use std::time::Duration;

use cairn_common::ids::{CommitSequence, InodeId};
use cairn_common::protocol::metadata::SessionEvent;
use cairn_meta::lease::{ChangeId, Horizons, LeaseTable, Need, Output, Renewal, Standing};

use super::state::{Cluster, Command, Eviction, KeepAlive, Lane, QueryStage, Stage, Work, inode, rules, session};
use super::{Leases, Without};

pub(super) fn failover(model: &Leases, cluster: &mut Cluster) {
    cluster.term += 1;
    let live: Vec<usize> = (0..cluster.mounts.len()).filter(|mount| !cluster.ended[*mount]).collect();
    let (term, now) = (cluster.term, cluster.now());
    if model.without == Without::FailoverWait {
        cluster.table = LeaseTable::new(rules(), term, now, []);
        live.iter().for_each(|mount| cluster.table.open_session(session(*mount), now));
    } else {
        cluster.table = LeaseTable::new(rules(), term, now, live.into_iter().map(session));
    }
    cluster.evicting.fill(None);
    for mount in &mut cluster.mounts {
        // What the old leader was at is asked of the new one. What it has answered is on its way.
        if let Some(query) = &mut mount.query
            && !matches!(query.stage, QueryStage::Answered { .. })
        {
            query.stage = QueryStage::Sent;
        }
        for work in mount.work.iter_mut().flatten() {
            if !matches!(work.stage, Stage::Answered { .. } | Stage::Fenced) {
                work.stage = Stage::Sent;
            }
        }
    }
}

/// Whoever is to be evicted gets nothing more, and is ended when it acts on nothing any more.
pub(super) fn note_evictions(model: &Leases, cluster: &mut Cluster) {
    for output in cluster.table.drain() {
        if let Output::Evict(evicted) = output {
            let mount = (0..cluster.mounts.len()).find(|mount| session(*mount) == evicted);
            if let Some(mount) = mount {
                evict(model, cluster, mount);
            }
        }
    }
    cluster.table.drain();
}

/// `service/sessions.rs`: fences the session, at once.
pub(super) fn evict(model: &Leases, cluster: &mut Cluster, mount: usize) {
    let Some(until) = cluster.table.fence(session(mount)) else { return };
    let at_once = Horizons { shared: Duration::ZERO, exclusive: Duration::ZERO };
    let until = if model.without == Without::EvictLate { at_once } else { until };
    cluster.evicting[mount] = Some(Eviction { until, is_due: false });
}

/// When it uses no shared lease any more, the leader looks whether it holds anything exclusively.
pub(super) fn find_due(cluster: &mut Cluster, mount: usize) {
    let (now, holds) = (cluster.now(), cluster.holder == Some(mount));
    if let Some(eviction) = &mut cluster.evicting[mount] {
        eviction.is_due |= eviction.until.shared <= now && (!holds || eviction.until.exclusive <= now);
    }
}

pub(super) fn end_session(cluster: &mut Cluster, mount: usize) {
    cluster.ended[mount] = true;
    cluster.evicting[mount] = None;
    cluster.holder = cluster.holder.filter(|holder| *holder != mount);
    cluster.table.end_session(session(mount));
}

pub(super) fn answer_keep_alive(cluster: &mut Cluster, mount: usize) {
    let Some(KeepAlive::Sent { carried, at }) = cluster.mounts[mount].keep_alive else { return };
    let now = cluster.now();
    let renewal = cluster.table.keep_alive(session(mount), carried, now, now);
    // Not answered before the recall is, or later.
    if !matches!(renewal, Renewal::Overdue { .. }) {
        cluster.mounts[mount].keep_alive = Some(KeepAlive::Answered { carried, at, renewal });
    }
}

/// The leader's poll and the mount's taking in are one step: what is under way could as well not have
/// been handed out yet.
pub(super) fn hand_out(cluster: &mut Cluster, mount: usize) {
    let now = cluster.now();
    for SessionEvent::Recall { inode, ticket, exclusive, .. } in cluster.table.mail(session(mount), now) {
        if super::mount::is_recalled(cluster, mount, inode, ticket, exclusive) {
            recall_done(cluster, mount, ticket);
        }
    }
}

pub(super) fn recall_done(cluster: &mut Cluster, mount: usize, ticket: u64) {
    let now = cluster.now();
    cluster.table.recall_done(session(mount), ticket, false, now);
}

// --- Queries.

fn asked(model: &Leases) -> usize {
    usize::from(model.renames)
}

pub(super) fn grant_query(model: &Leases, cluster: &mut Cluster, mount: usize) {
    let (now, number) = (cluster.now(), asked(model));
    let early = (cluster.values[number], CommitSequence(cluster.sequence));
    let wrong_way = model.without == Without::GrantFirst;
    let Some(query) = &mut cluster.mounts[mount].query else { return };
    query.stage = match query.stage {
        QueryStage::Sent if wrong_way => QueryStage::Granted { refused: true, read: Some(early) },
        _ => {
            let refused = !cluster.table.grant(session(mount), &[inode(number)], now).is_empty();
            QueryStage::Granted { refused, read: None }
        }
    };
}

pub(super) fn read_query(model: &Leases, cluster: &mut Cluster, mount: usize) {
    let (now, number) = (cluster.now(), asked(model));
    let Some(query) = &mut cluster.mounts[mount].query else { return };
    let QueryStage::Granted { mut refused, read } = query.stage else { return };
    if read.is_some() {
        refused = !cluster.table.grant(session(mount), &[inode(number)], now).is_empty();
    }
    let other = cluster.holder.filter(|holder| number == 0 && *holder != mount);
    if let Some(holder) = other {
        if !refused {
            cluster.table.give_back(session(mount), &[inode(number)]);
        }
        let change = cluster.table.begin(session(mount));
        let exclusive = Some(session(holder));
        let need = Need { inode: inode(number), change: false, exclusive, last_name: false, covered: false };
        cluster.table.need(change, &[need], now);
        query.stage = QueryStage::Recalling(change);
        return;
    }
    let (value, sequence) = read.unwrap_or((cluster.values[number], CommitSequence(cluster.sequence)));
    // A session that the leader does not know is told nothing.
    let Some(generation) = cluster.table.generation(session(mount)) else { return };
    query.stage = QueryStage::Answered { value, sequence, refused, generation };
}

pub(super) fn look_again(cluster: &mut Cluster, mount: usize) {
    let now = cluster.now();
    let Some(query) = &mut cluster.mounts[mount].query else { return };
    let QueryStage::Recalling(change) = query.stage else { return };
    if let Standing::Clear { .. } = cluster.table.look(change, now) {
        cluster.table.abandon(change);
        query.stage = QueryStage::Sent;
    }
}

// --- Changes.

/// What a command touches, as the state is now: inodes that change, and whether the exclusive lease is
/// asked for.
fn touches(cluster: &Cluster, command: Command) -> (Vec<InodeId>, bool) {
    match command {
        Command::Change(_) => (vec![inode(cluster.name)], false),
        Command::Flush(_) => (vec![inode(0)], false),
        Command::Acquire => (vec![inode(0)], true),
        Command::GiveUp => (Vec::new(), false),
    }
}

/// `service/changes.rs`, `enter`.
fn enter(cluster: &mut Cluster, change: ChangeId, command: Command, more: &[InodeId]) -> Vec<InodeId> {
    let now = cluster.now();
    let (mut inodes, takes) = touches(cluster, command);
    inodes.extend(more);
    inodes.sort_unstable();
    inodes.dedup();
    let mut pinned = Vec::new();
    let mut needs = Vec::new();
    for touched in inodes {
        let pins = !takes || cluster.table.may_take_exclusive(change, touched, now);
        if pins {
            pinned.push(touched);
        }
        needs.push(Need {
            inode: touched,
            change: pins,
            exclusive: cluster.holder.filter(|_| touched == inode(0)).map(session),
            last_name: false,
            // Mounts know of the first file only.
            covered: touched == inode(0),
        });
    }
    cluster.table.need(change, &needs, now);
    pinned
}

fn set_stage(cluster: &mut Cluster, mount: usize, lane: Lane, stage: Stage) {
    if let Some(work) = &mut cluster.mounts[mount].work[lane as usize] {
        work.stage = stage;
    }
}

fn work(cluster: &Cluster, mount: usize, lane: Lane) -> Option<Work> {
    cluster.mounts[mount].work[lane as usize].clone()
}

pub(super) fn pin(model: &Leases, cluster: &mut Cluster, mount: usize, lane: Lane) {
    let Some(work) = work(cluster, mount, lane) else { return };
    if cluster.ended[mount] && model.without != Without::Fence {
        return set_stage(cluster, mount, lane, Stage::Fenced);
    }
    if !cluster.table.is_live(session(mount)) && model.without != Without::Fence {
        return set_stage(cluster, mount, lane, Stage::Fenced);
    }
    let change = cluster.table.begin(session(mount));
    let pinned = enter(cluster, change, work.command, &[]);
    set_stage(cluster, mount, lane, Stage::Waiting { change, pinned });
}

pub(super) fn look(model: &Leases, cluster: &mut Cluster, mount: usize, lane: Lane) {
    let now = cluster.now();
    let Some(Stage::Waiting { change, pinned }) = work(cluster, mount, lane).map(|work| work.stage) else { return };
    if let Standing::Clear { .. } = cluster.table.look(change, now) {
        if model.without == Without::Pins {
            cluster.table.abandon(change);
        }
        set_stage(cluster, mount, lane, Stage::Proposed { change, pinned });
    }
}

/// The state machine.
pub(super) fn apply(model: &Leases, cluster: &mut Cluster, mount: usize, lane: Lane) {
    let Some(Work { command, stage: Stage::Proposed { change, pinned }, outcome, .. }) = work(cluster, mount, lane)
    else {
        return;
    };
    if cluster.ended[mount] && model.without != Without::Fence {
        cluster.table.abandon(change);
        return set_stage(cluster, mount, lane, Stage::Fenced);
    }
    if outcome.is_some() {
        // The slot remembers.
        return set_stage(cluster, mount, lane, Stage::Applied { change });
    }
    let (touched, takes) = touches(cluster, command);
    let is_refused = |touched: &&InodeId| {
        let is_held = cluster.holder.is_some_and(|holder| holder != mount) && **touched == inode(0);
        is_held || (!takes && !pinned.contains(touched))
    };
    let refused: Vec<InodeId> = touched.iter().filter(is_refused).copied().collect();
    if !refused.is_empty() && model.without != Without::NotPinned && command != Command::GiveUp {
        let pinned = enter(cluster, change, command, &refused);
        return set_stage(cluster, mount, lane, Stage::Waiting { change, pinned });
    }
    let changed = match command {
        Command::Change(value) => {
            cluster.values[cluster.name] = value;
            touched
        }
        Command::Flush(value) => {
            cluster.flushed_late |= cluster.holder != Some(mount);
            cluster.values[0] = value;
            touched
        }
        Command::Acquire => {
            if pinned.contains(&inode(0)) {
                cluster.holder = Some(mount);
            }
            Vec::new()
        }
        Command::GiveUp => {
            cluster.holder = cluster.holder.filter(|holder| *holder != mount);
            Vec::new()
        }
    };
    cluster.sequence += 1;
    if let Some(work) = &mut cluster.mounts[mount].work[lane as usize] {
        work.outcome = Some(changed);
        work.stage = Stage::Applied { change };
    }
}

/// Writes the sender down as a holder of what it changed, then reads that.
pub(super) fn answer(model: &Leases, cluster: &mut Cluster, mount: usize, lane: Lane) {
    let now = cluster.now();
    let Some(Work { command, stage: Stage::Applied { change }, outcome, .. }) = work(cluster, mount, lane) else {
        return;
    };
    let changed = outcome.unwrap_or_default();
    let mut held = cluster.table.finish(change, &changed, now);
    let is_taken = cluster.holder.is_some_and(|holder| holder != mount);
    if is_taken && held.contains(&inode(0)) && model.without != Without::ExclusiveInAnswer {
        cluster.table.give_back(session(mount), &[inode(0)]);
        held.retain(|held| *held != inode(0));
    }
    if command != Command::GiveUp {
        cluster.table.progress(session(mount), now);
    }
    let generation = cluster.table.generation(session(mount)).unwrap_or_default();
    let number = |held: InodeId| usize::from(held != inode(0));
    let held = held.into_iter().map(|held| (held, cluster.values[number(held)])).collect();
    let sequence = CommitSequence(cluster.sequence);
    let exclusive = cluster.holder == Some(mount);
    set_stage(cluster, mount, lane, Stage::Answered { sequence, held, generation, exclusive });
}
