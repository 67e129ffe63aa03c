//! Leases on a file or two: the real rules of the leader (`metadata-server/src/lease`) and of the mount
//! (`fuse-client/src/lease`), with what lies between them: messages that are late, lost (never taken
//! in) and asked for again, mounts that stop (take no step while time goes on), another leader. The
//! state machine and the service around the rules are the model's own, after `namespace/touched.rs`,
//! `namespace/ops/{mutate,opens}.rs`, `service/{changes,queries}.rs`, `filesystem/recalls.rs`.
//!
//! Time goes in ticks; a shared lease is two, an exclusive one three, as the leader counts them one
//! more. Clocks do not drift: that is what the leader's count allows for.
//!
//! Always:
//! - *memory is true*: what a mount may answer from memory now is what the last applied change made
//!   (stronger than linearizable: also before that change is answered);
//! - *one actor*: who may act on an exclusive lease has it in the state, and then nobody else may
//!   answer anything about the file from memory;
//! - *no late flush*: bytes that were written under an exclusive lease are applied under it or not at all;
//! - *no circle*: a change that waits knows until when, or waits for an eviction that is under way.

mod leader;
mod mount;
mod state;
mod steps;

use stateright::{Model, Property};

use crate::check;
use state::{Cluster, INODES};
use steps::Step;

/// A rule that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// What a change touches stays pinned until the change is applied.
    Pins,
    /// A query is granted its lease first and read second.
    GrantFirst,
    /// A new leader waits for mounts that have not checked in.
    FailoverWait,
    /// A horizon counts from the sending of the keep-alive (kernel caches: no TTL beyond it).
    HorizonFromSending,
    /// An answer that was asked before a recall installs nothing.
    RecallStamp,
    /// What an own change touches is busy.
    Busy,
    /// Grants of another generation install nothing.
    Generation,
    /// A change that touches more than is pinned is refused.
    NotPinned,
    /// The lease that the sender of a change gets with the answer is given back if another has taken the
    /// exclusive one since.
    ExclusiveInAnswer,
    /// What is dirty is flushed before the lease is given up and the recall answered.
    FlushBeforeAnswer,
    /// A session is ended only when it acts on nothing any more.
    EvictLate,
    /// A session that was ended changes nothing.
    Fence,
}

/// Bounds.
#[derive(Clone, Debug)]
struct Leases {
    without: Without,
    mounts: usize,
    ticks: u64,
    /// Changes of leader.
    failovers: u8,
    /// What each mount may do: queries, changes, exclusive leases, buffered writes.
    budgets: &'static [state::Budget],
    /// Queries are about the second file, and changes go to whichever a name leads to, which changes.
    renames: bool,
    /// The first mount begins with the exclusive lease.
    held: bool,
    /// Evictions by an administrator.
    evictions: u8,
}

impl Model for Leases {
    type State = Cluster;
    type Action = Step;

    fn init_states(&self) -> Vec<Cluster> {
        vec![Cluster::new(self)]
    }

    fn actions(&self, state: &Cluster, actions: &mut Vec<Step>) {
        steps::possible(self, state, actions);
    }

    fn next_state(&self, state: &Cluster, step: Step) -> Option<Cluster> {
        let mut next = state.clone();
        steps::take(self, &mut next, step);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("memory is true", |_, cluster: &Cluster| {
                let told = |mount: usize, inode: usize| cluster.told(mount, inode);
                let is_true = |mount: usize, inode: usize| {
                    told(mount, inode).is_none_or(|value| value == cluster.values[inode])
                        || cluster.mounts[mount].dirty.is_some()
                };
                (0..cluster.mounts.len()).all(|mount| (0..INODES).all(|inode| is_true(mount, inode)))
            }),
            Property::always("one actor", |_, cluster: &Cluster| {
                let mut actors = (0..cluster.mounts.len()).filter(|mount| cluster.may_buffer(*mount));
                let Some(actor) = actors.next() else { return true };
                let silent = |mount: usize| mount == actor || cluster.told(mount, 0).is_none();
                cluster.holder == Some(actor) && actors.next().is_none() && (0..cluster.mounts.len()).all(silent)
            }),
            Property::always("no late flush", |_, cluster: &Cluster| !cluster.flushed_late),
            Property::always("no circle", |_, cluster: &Cluster| cluster.nobody_waits_for_ever()),
            Property::sometimes("told from memory", |_, cluster: &Cluster| {
                (0..cluster.mounts.len()).any(|mount| cluster.told(mount, 0).or(cluster.told(mount, 1)).is_some())
            }),
        ]
    }
}

use state::Budget;

const IDLE: Budget = Budget { keep_alives: 0, queries: 0, changes: 0, acquires: 0, writes: 0 };
const READER: Budget = Budget { queries: 1, ..IDLE };
const WRITER: Budget = Budget { changes: 1, ..IDLE };

/// One mount reads, another changes.
fn shared(without: Without) -> Leases {
    let budgets = &[Budget { keep_alives: 1, ..READER }, WRITER];
    Leases { without, mounts: 2, ticks: 3, failovers: 0, budgets, renames: false, held: false, evictions: 0 }
}

/// The same with another leader.
fn failover(without: Without) -> Leases {
    Leases { failovers: 1, ..shared(without) }
}

/// A mount changes what it reads.
fn own(without: Without) -> Leases {
    Leases { budgets: &[Budget { changes: 1, ..READER }, WRITER], ..shared(without) }
}

/// A name leads from one file to another while a change goes through it.
fn renamed(without: Without) -> Leases {
    Leases { budgets: &[READER, WRITER], renames: true, ..shared(without) }
}

/// A mount with an exclusive lease, that keeps alive and does not obey, another changes.
fn stuck(without: Without) -> Leases {
    let budgets = &[Budget { keep_alives: 1, ..READER }, WRITER];
    Leases { budgets, held: true, ticks: 4, ..shared(without) }
}

/// A mount asks for an exclusive lease while it is evicted, another changes.
fn evicted(without: Without) -> Leases {
    let budgets = &[Budget { acquires: 1, ..IDLE }, WRITER];
    Leases { budgets, evictions: 1, ..shared(without) }
}

/// A mount writes under an exclusive lease, another reads.
fn exclusive(without: Without) -> Leases {
    let budgets = &[Budget { acquires: 1, writes: 1, ..IDLE }, READER];
    Leases { budgets, ticks: 5, ..shared(without) }
}

#[test]
fn leases_are_coherent_for_a_reader_and_a_writer() {
    check::holds("leases: a reader and a writer", shared(Without::Nothing));
}

#[test]
fn leases_are_coherent_under_another_leader() {
    check::holds("leases: another leader", failover(Without::Nothing));
}

#[test]
fn leases_are_coherent_for_own_changes() {
    check::holds("leases: own changes", own(Without::Nothing));
}

#[test]
fn leases_are_coherent_when_a_name_leads_elsewhere() {
    check::holds("leases: a name that leads elsewhere", renamed(Without::Nothing));
}

#[test]
fn leases_are_coherent_for_an_exclusive_holder_and_a_reader() {
    check::holds("leases: an exclusive holder and a reader", exclusive(Without::Nothing));
}

#[test]
fn leases_are_coherent_when_a_mount_is_evicted() {
    check::holds("leases: an eviction", evicted(Without::Nothing));
    check::holds("leases: a holder that does not obey", stuck(Without::Nothing));
}

fn is_needed(model: Leases, property: &'static str) {
    check::breaks(&format!("{:?}", model.without), model, property);
}

const MEMORY: &str = "memory is true";

#[test]
fn each_rule_of_shared_leases_is_needed() {
    is_needed(shared(Without::Pins), MEMORY);
    is_needed(shared(Without::GrantFirst), MEMORY);
    is_needed(shared(Without::HorizonFromSending), MEMORY);
    is_needed(shared(Without::RecallStamp), MEMORY);
    is_needed(own(Without::Busy), MEMORY);
    is_needed(renamed(Without::NotPinned), MEMORY);
}

#[test]
fn each_rule_of_failover_is_needed() {
    is_needed(failover(Without::FailoverWait), MEMORY);
    is_needed(failover(Without::Generation), MEMORY);
}

#[test]
fn each_rule_of_exclusive_leases_is_needed() {
    is_needed(evicted(Without::ExclusiveInAnswer), "one actor");
    is_needed(exclusive(Without::FlushBeforeAnswer), "no late flush");
    is_needed(exclusive(Without::Fence), "no late flush");
}

#[test]
fn a_session_is_ended_late() {
    is_needed(stuck(Without::EvictLate), MEMORY);
}
