//! What can happen next.

use super::state::{Cluster, KeepAlive, Lane, QueryStage, Stage, session};
use super::{Leases, leader, mount};

/// One step of one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Time goes on.
    Tick,
    /// The name leads to the other file.
    Rename,
    /// Another leader takes over.
    Failover,
    /// An administrator evicts a mount.
    Evict { mount: usize },
    /// The leader looks whether an evicted session acts on anything.
    FindDue { mount: usize },
    /// A session is ended.
    EndSession { mount: usize },
    /// A mount sends a keep-alive.
    SendKeepAlive { mount: usize },
    /// The leader answers it.
    AnswerKeepAlive { mount: usize },
    /// The answer arrives.
    TakeKeepAlive { mount: usize },
    /// A mount sends a query.
    SendQuery { mount: usize },
    /// The leader grants (and reads, where that is the wrong way round).
    GrantQuery { mount: usize },
    /// The leader reads, or recalls an exclusive lease.
    ReadQuery { mount: usize },
    /// The leader sees whether it was given up.
    LookAgainQuery { mount: usize },
    /// The answer arrives.
    TakeAnswer { mount: usize },
    /// A mount sends a change of its own.
    SendChange { mount: usize },
    /// A mount asks for the exclusive lease.
    SendAcquire { mount: usize },
    /// A mount writes under its exclusive lease.
    Buffer { mount: usize },
    /// A mount goes on with what an exclusive recall asks for.
    Obey { mount: usize },
    /// The leader pins and recalls for a command.
    Pin { mount: usize, lane: Lane },
    /// The leader looks whether it may be proposed.
    Look { mount: usize, lane: Lane },
    /// It is applied.
    Apply { mount: usize, lane: Lane },
    /// The leader answers it.
    Answer { mount: usize, lane: Lane },
    /// The answer arrives.
    TakeDone { mount: usize, lane: Lane },
    /// Recalls arrive; the answer to shared ones goes back at once.
    TakeMail { mount: usize },
}

/// All steps that can be taken. One that changes nothing is dropped by the caller.
pub(super) fn possible(model: &Leases, cluster: &Cluster, steps: &mut Vec<Step>) {
    if cluster.ticks < model.ticks {
        steps.push(Step::Tick);
    }
    if model.renames && cluster.name == 0 {
        steps.push(Step::Rename);
    }
    if cluster.term <= u64::from(model.failovers) {
        steps.push(Step::Failover);
    }
    for (mount, state) in cluster.mounts.iter().enumerate() {
        match cluster.evicting[mount] {
            None if cluster.evictions > 0 && !cluster.ended[mount] => steps.push(Step::Evict { mount }),
            Some(eviction) if eviction.is_due => steps.push(Step::EndSession { mount }),
            Some(_) => steps.push(Step::FindDue { mount }),
            None => {}
        }
        at_leader(cluster, mount, steps);
        if !state.is_over {
            at_mount(cluster, mount, steps);
        }
    }
}

fn at_leader(cluster: &Cluster, mount: usize, steps: &mut Vec<Step>) {
    let state = &cluster.mounts[mount];
    if matches!(state.keep_alive, Some(KeepAlive::Sent { .. })) {
        steps.push(Step::AnswerKeepAlive { mount });
    }
    match state.query.as_ref().map(|query| query.stage) {
        Some(QueryStage::Sent) => steps.push(Step::GrantQuery { mount }),
        Some(QueryStage::Granted { .. }) => steps.push(Step::ReadQuery { mount }),
        Some(QueryStage::Recalling(_)) => steps.push(Step::LookAgainQuery { mount }),
        Some(QueryStage::Answered { .. }) | None => {}
    }
    for lane in [Lane::Own, Lane::Recall] {
        match state.work[lane as usize].as_ref().map(|work| &work.stage) {
            Some(Stage::Sent) => steps.push(Step::Pin { mount, lane }),
            Some(Stage::Waiting { .. }) => steps.push(Step::Look { mount, lane }),
            Some(Stage::Proposed { .. }) => steps.push(Step::Apply { mount, lane }),
            Some(Stage::Applied { .. }) => steps.push(Step::Answer { mount, lane }),
            Some(Stage::Answered { .. } | Stage::Fenced) | None => {}
        }
    }
}

fn at_mount(cluster: &Cluster, mount: usize, steps: &mut Vec<Step>) {
    let state = &cluster.mounts[mount];
    match state.keep_alive {
        None if state.budget.keep_alives > 0 => steps.push(Step::SendKeepAlive { mount }),
        Some(KeepAlive::Answered { .. }) => steps.push(Step::TakeKeepAlive { mount }),
        _ => {}
    }
    match &state.query {
        None if state.budget.queries > 0 => steps.push(Step::SendQuery { mount }),
        Some(query) if matches!(query.stage, QueryStage::Answered { .. }) => steps.push(Step::TakeAnswer { mount }),
        _ => {}
    }
    if state.work[Lane::Own as usize].is_none() {
        if state.budget.changes > 0 {
            steps.push(Step::SendChange { mount });
        }
        if state.budget.acquires > 0 && state.exclusive.may_ask(cluster.now()) {
            steps.push(Step::SendAcquire { mount });
        }
    }
    if state.budget.writes > 0 && cluster.may_buffer(mount) {
        steps.push(Step::Buffer { mount });
    }
    let owes = state.obeying.is_some() || state.owes_give_up || (state.dirty.is_some() && !state.exclusive.is_held());
    if state.work[Lane::Recall as usize].is_none() && owes {
        steps.push(Step::Obey { mount });
    }
    for lane in [Lane::Own, Lane::Recall] {
        let stage = state.work[lane as usize].as_ref().map(|work| &work.stage);
        if matches!(stage, Some(Stage::Answered { .. } | Stage::Fenced)) {
            steps.push(Step::TakeDone { mount, lane });
        }
    }
    // One exclusive recall after another.
    if state.obeying.is_none() && cluster.table.session(session(mount)).is_some_and(|session| session.recalls > 0) {
        steps.push(Step::TakeMail { mount });
    }
}

/// Takes one.
pub(super) fn take(model: &Leases, cluster: &mut Cluster, step: Step) {
    match step {
        Step::Tick => cluster.ticks += 1,
        Step::Rename => {
            cluster.name = 1;
            cluster.sequence += 1;
        }
        Step::Failover => leader::failover(model, cluster),
        Step::Evict { mount } => {
            cluster.evictions -= 1;
            leader::evict(model, cluster, mount);
        }
        Step::FindDue { mount } => leader::find_due(cluster, mount),
        Step::EndSession { mount } => leader::end_session(cluster, mount),
        Step::SendKeepAlive { mount } => mount::send_keep_alive(cluster, mount),
        Step::AnswerKeepAlive { mount } => leader::answer_keep_alive(cluster, mount),
        Step::TakeKeepAlive { mount } => mount::take_keep_alive(model, cluster, mount),
        Step::SendQuery { mount } => mount::send_query(cluster, mount),
        Step::GrantQuery { mount } => leader::grant_query(model, cluster, mount),
        Step::ReadQuery { mount } => leader::read_query(model, cluster, mount),
        Step::LookAgainQuery { mount } => leader::look_again(cluster, mount),
        Step::TakeAnswer { mount } => mount::take_answer(model, cluster, mount),
        Step::SendChange { mount } => mount::send_change(model, cluster, mount),
        Step::SendAcquire { mount } => mount::send_acquire(model, cluster, mount),
        Step::Buffer { mount } => mount::buffer(cluster, mount),
        Step::Obey { mount } => mount::obey(model, cluster, mount),
        Step::Pin { mount, lane } => leader::pin(model, cluster, mount, lane),
        Step::Look { mount, lane } => leader::look(model, cluster, mount, lane),
        Step::Apply { mount, lane } => leader::apply(model, cluster, mount, lane),
        Step::Answer { mount, lane } => leader::answer(model, cluster, mount, lane),
        Step::TakeDone { mount, lane } => mount::take_done(cluster, mount, lane),
        Step::TakeMail { mount } => leader::hand_out(cluster, mount),
    }
    leader::note_evictions(model, cluster);
}
