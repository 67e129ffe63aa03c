//! Everything that the state machine, the leader and the mounts know, and what is under way between
//! them.

use std::time::Duration;

use cairn_common::client::LeaseTime;
use cairn_common::ids::{CommitSequence, InodeId, LeaseGeneration, SessionId};
use cairn_meta::lease::{ChangeId, Horizons, LeaseRules, LeaseTable, Output, Renewal, Standing};
use cairn_mount::lease::{CacheLimits, Exclusive, LeaseCache, OwnChange, Question};

use super::Leases;

/// Files.
pub(super) const INODES: usize = 2;
const TICK: Duration = Duration::from_millis(20);

/// What a mount may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// Keep-alives, after the one at the beginning.
    pub(super) keep_alives: u8,
    pub(super) queries: u8,
    pub(super) changes: u8,
    pub(super) acquires: u8,
    pub(super) writes: u8,
}

pub(super) fn rules() -> LeaseRules {
    LeaseRules {
        shared: 2 * TICK,
        exclusive: 3 * TICK,
        patience: TICK,
        redeliver: 100 * TICK,
        // Contention is about speed.
        hot_recalls: 100,
        hot_window: Duration::ZERO,
        most_leases: 100,
    }
}

pub(super) fn session(mount: usize) -> SessionId {
    SessionId(mount as u64 + 1)
}

pub(super) fn inode(number: usize) -> InodeId {
    InodeId(number as u64 + 1)
}

/// A keep-alive under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeepAlive {
    Sent { carried: LeaseGeneration, at: Duration },
    Answered { carried: LeaseGeneration, at: Duration, renewal: Renewal },
}

/// A session that is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Eviction {
    /// When it uses nothing any more.
    pub(super) until: Horizons,
    /// The leader has seen that it is over.
    pub(super) is_due: bool,
}

/// A query under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Query {
    pub(super) question: Question,
    pub(super) stage: QueryStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum QueryStage {
    /// Sent, or lost and sent again.
    Sent,
    /// The lease is granted (where the order is wrong: what was read).
    Granted {
        refused: bool,
        read: Option<(u8, CommitSequence)>,
    },
    /// Waits for what another mount holds exclusively.
    Recalling(ChangeId),
    Answered {
        value: u8,
        sequence: CommitSequence,
        refused: bool,
        generation: LeaseGeneration,
    },
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Command {
    Change(u8),
    Acquire,
    Flush(u8),
    GiveUp,
}

/// A command under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Work {
    pub(super) command: Command,
    pub(super) own: Option<OwnChange>,
    /// Of one that may bring an exclusive lease.
    pub(super) question: Option<Question>,
    pub(super) stage: Stage,
    /// Applied; what it changed.
    pub(super) outcome: Option<Vec<InodeId>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Sent, or lost and sent again.
    Sent,
    /// The leader waits for leases.
    Waiting {
        change: ChangeId,
        pinned: Vec<InodeId>,
    },
    /// In the log.
    Proposed {
        change: ChangeId,
        pinned: Vec<InodeId>,
    },
    /// Applied, not answered.
    Applied {
        change: ChangeId,
    },
    Answered {
        sequence: CommitSequence,
        held: Vec<(InodeId, u8)>,
        generation: LeaseGeneration,
        exclusive: bool,
    },
    /// The session is over.
    Fenced,
}

/// Which of a mount's two commands under way: its own, or the one that a recall asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Own = 0,
    Recall = 1,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mount {
    pub(super) budget: Budget,
    pub(super) cache: LeaseCache,
    pub(super) checked_in: LeaseGeneration,
    pub(super) adopted: LeaseGeneration,
    pub(super) horizon: Duration,
    pub(super) exclusive_horizon: Duration,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) query: Option<Query>,
    pub(super) work: [Option<Work>; 2],
    /// The exclusive recall that it obeys.
    pub(super) obeying: Option<u64>,
    /// The cluster thinks that it has an exclusive lease that a recall has overtaken.
    pub(super) owes_give_up: bool,
    pub(super) exclusive: Exclusive,
    pub(super) dirty: Option<u8>,
    /// It knows that its session is over.
    pub(super) is_over: bool,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cluster {
    pub(super) ticks: u64,
    /// The state machine: what each file has, which one the name leads to, who holds the first one
    /// exclusively, whose session was ended.
    pub(super) values: [u8; INODES],
    pub(super) name: usize,
    pub(super) sequence: u64,
    pub(super) holder: Option<usize>,
    pub(super) ended: Vec<bool>,
    /// The leader.
    pub(super) term: u64,
    pub(super) table: LeaseTable,
    /// Sessions that are to be ended.
    pub(super) evicting: Vec<Option<Eviction>>,
    /// Evictions that an administrator may still ask for.
    pub(super) evictions: u8,
    pub(super) mounts: Vec<Mount>,
    pub(super) flushed_late: bool,
}

impl Cluster {
    /// Every mount has just sent its first keep-alive and been answered.
    pub(super) fn new(model: &Leases) -> Self {
        let mut table = LeaseTable::new(rules(), 1, Duration::ZERO, []);
        let mounts = (0..model.mounts).map(|mount| {
            table.open_session(session(mount), Duration::ZERO);
            let generation = table.generation(session(mount)).expect("it was opened");
            table.keep_alive(session(mount), generation, Duration::ZERO, Duration::ZERO);
            let mut cache = LeaseCache::new(CacheLimits { inodes: 100, names: 100 });
            let _ = cache.adopt(generation, Duration::ZERO);
            Mount {
                budget: model.budgets[mount],
                cache,
                checked_in: generation,
                adopted: generation,
                horizon: rules().shared,
                exclusive_horizon: rules().exclusive,
                keep_alive: None,
                query: None,
                work: [None, None],
                obeying: None,
                owes_give_up: false,
                exclusive: Exclusive::default(),
                dirty: None,
                is_over: false,
            }
        });
        let mut mounts: Vec<Mount> = mounts.collect();
        if model.held {
            mounts[0].exclusive.answered(true, false, Duration::ZERO);
        }
        table.drain();
        Self {
            ticks: 0,
            values: [0; INODES],
            name: 0,
            sequence: 1,
            holder: model.held.then_some(0),
            ended: vec![false; model.mounts],
            term: 1,
            table,
            evicting: vec![None; model.mounts],
            evictions: model.evictions,
            mounts,
            flushed_late: false,
        }
    }

    pub(super) fn now(&self) -> Duration {
        TICK * self.ticks as u32
    }

    pub(super) fn time(&self, mount: usize) -> LeaseTime {
        let Mount { adopted, horizon, exclusive_horizon, .. } = self.mounts[mount];
        LeaseTime { generation: adopted, horizon, exclusive_horizon, now: self.now() }
    }

    /// What a mount may answer from memory now.
    pub(super) fn told(&self, mount: usize, number: usize) -> Option<u8> {
        let mut cache = self.mounts[mount].cache.clone();
        cache.attributes(inode(number), &self.time(mount)).map(|attributes| attributes.size as u8)
    }

    /// Whether a mount may act on its exclusive lease now.
    pub(super) fn may_buffer(&self, mount: usize) -> bool {
        self.mounts[mount].exclusive.may_buffer(&self.time(mount))
    }

    /// Whoever waits knows until when, or for whose eviction.
    pub(super) fn nobody_waits_for_ever(&self) -> bool {
        let works = self.mounts.iter().flat_map(|mount| mount.work.iter().flatten());
        let changes = works.filter_map(|work| match work.stage {
            Stage::Waiting { change, .. } => Some(change),
            _ => None,
        });
        let queries = self.mounts.iter().filter_map(|mount| match mount.query.as_ref()?.stage {
            QueryStage::Recalling(change) => Some(change),
            _ => None,
        });
        changes.chain(queries).all(|change| {
            let mut table = self.table.clone();
            let is_evicting = self.evicting.iter().any(Option::is_some);
            match table.look(change, self.now()) {
                Standing::Wait { until: None } => {
                    is_evicting || table.drain().iter().any(|output| matches!(output, Output::Evict(_)))
                }
                Standing::Wait { until: Some(_) } | Standing::Clear { .. } => true,
            }
        })
    }
}
