//! A mount's change: pin and recall what it touches, wait, propose, answer with what it did. On the
//! common path nobody holds anything: one lock before the proposal, one behind it, and no wait.
//!
//! The pins of a command whose outcome is not known stay until it is: a leader that granted a lease
//! meanwhile would have the command change what is cached.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::metadata::{
    Attributes, ChangeEffects, MetadataReply, Mutation, MutationResult, Query, QueryResult, Stamp,
};
use cairn_common::protocol::{FsError, ServiceError};
use cairn_common::telemetry::metric_names as names;
use tokio::time::Instant;

use super::context::{Context, broken, unexpected};
use super::leader::Leader;
use super::pins::Pins;
use crate::lease::{ChangeId, LeaseTable, Need, Standing};
use crate::namespace::command::{Action, Outcome};
use crate::namespace::plan::{self, Touch};
use crate::namespace::{self, cluster};
use crate::storage::{ReadView, StorageError};

/// Pause between two attempts to find out what became of a command.
const SETTLE_INTERVAL: Duration = Duration::from_millis(200);

/// A change as it was asked for.
pub(super) struct Change {
    pub(super) stamp: Stamp,
    pub(super) mutation: Mutation,
    pub(super) covered: Vec<InodeId>,
}

/// Makes a change and answers it.
pub(super) async fn mutate(
    context: &Arc<Context>,
    leader: &Arc<Leader>,
    request: RequestId,
    deadline: Instant,
    change: Change,
) -> Result<MetadataReply, ServiceError> {
    let session = change.stamp.session;
    let mut touches = touches(context, &change, &[])?;
    let mut pins = Pins::begin(leader, session, |table, id| enter(context, table, id, &mut touches, &change))?;
    loop {
        let asked = touches.iter().any(|touch| touch.last_name);
        let keep_open = pins.clear(context, deadline).await?;
        let pinned = touches.iter().filter(|touch| touch.change || touch.take).map(|touch| touch.inode).collect();
        let (stamp, mutation) = (change.stamp, change.mutation.clone());
        let action = Action::Mutate { stamp, mutation, pinned, keep_open: asked.then_some(keep_open) };
        let outcome;
        (pins, outcome) = propose(context, leader, request, pins, action).await?;
        match outcome {
            Outcome::Mutated { result, changed, remembered } => {
                leader.locks.changed(context, session, &change.mutation, &result);
                return answer(context, pins, &change, result, changed, remembered).map_err(broken);
            }
            // Something came in between: what is refused now is needed, too.
            Outcome::NotPinned { inodes } => {
                touches = self::touches(context, &change, &inodes)?;
                pins.again(|table, id| enter(context, table, id, &mut touches, &change));
            }
            Outcome::Fenced => return Err(ServiceError::SessionFenced { session }),
            Outcome::BadSequence => return Err(ServiceError::BadSequence),
            other => return Err(unexpected(&other)),
        }
        if Instant::now() >= deadline {
            return Err(ServiceError::Unavailable { reason: "what the change touches changes too often".into() });
        }
    }
}

/// What the change touches as the leader's state is now, and what the state machine has refused.
fn touches(context: &Context, change: &Change, refused: &[InodeId]) -> Result<Vec<Touch>, ServiceError> {
    let view = context.group.view();
    let mut touches = plan::plan(&*view, &change.mutation).map_err(broken)?;
    for inode in refused {
        if touches.iter().all(|touch| touch.inode != *inode) {
            let exclusive = cluster::exclusive_holder(&*view, *inode).map_err(broken)?;
            touches.push(Touch { inode: *inode, change: true, take: false, last_name: false, exclusive });
        }
    }
    Ok(touches)
}

/// Pins and recalls; an exclusive lease that the sender may not get is not asked for any more.
fn enter(context: &Context, table: &mut LeaseTable, id: ChangeId, touches: &mut [Touch], change: &Change) -> Standing {
    let now = context.clock.monotonic();
    let mut needs = Vec::with_capacity(touches.len());
    for touch in touches {
        touch.take &= table.may_take_exclusive(id, touch.inode, now);
        needs.push(Need {
            inode: touch.inode,
            change: touch.change || touch.take,
            exclusive: touch.exclusive,
            last_name: touch.last_name,
            covered: change.covered.contains(&touch.inode),
        });
    }
    table.need(id, &needs, now);
    table.look(id, now)
}

/// Proposes on a task of its own, which the end of the request does not end: the pins stay until the
/// outcome is known.
async fn propose(
    context: &Arc<Context>,
    leader: &Arc<Leader>,
    request: RequestId,
    pins: Pins,
    action: Action,
) -> Result<(Pins, Outcome), ServiceError> {
    let (context, leader) = (context.clone(), leader.clone());
    let proposing = tokio::spawn(async move {
        match context.group.propose(request, action).await {
            Ok(outcome) => Ok((pins, outcome)),
            Err(error @ ServiceError::Invalid { .. }) => Err(error),
            Err(error) => {
                tokio::spawn(async move { settle(&context, &leader, pins).await });
                Err(error)
            }
        }
    });
    proposing.await.unwrap_or_else(|panic| Err(ServiceError::Internal { reason: panic.to_string() }))
}

/// Keeps pins until a later command is applied, and with it, or never, the one that they are for.
async fn settle(context: &Context, leader: &Leader, pins: Pins) {
    let settled = async {
        // It looks at nothing and changes nothing.
        while context.propose(Action::CollectGarbage { limit: 0 }).await.is_err() {
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    };
    tokio::select! {
        () = settled => {}
        // Nobody is granted anything by this leader any more.
        () = leader.ended() => {}
    }
    drop(pins);
}

/// The answer: the sender is written down as a holder of what it changed, then that is read. Not after an
/// outcome that is remembered: a lease of now does not cover what the change did then, names above all.
fn answer(
    context: &Context,
    mut pins: Pins,
    change: &Change,
    mut result: Result<MutationResult, FsError>,
    changed: Vec<InodeId>,
    remembered: bool,
) -> Result<MetadataReply, StorageError> {
    let session = change.stamp.session;
    let progress = matches!(change.mutation, Mutation::Commit { .. } | Mutation::GiveUpExclusive { .. });
    let tells = plan::needs_pins(&change.mutation) && !remembered;
    let written = if tells { &changed[..] } else { &[] };
    let (granted, generation) = pins.finish(context, written, progress);
    let view = context.group.view();
    let mut held = Vec::with_capacity(granted.len());
    for inode in granted {
        // Another mount may have taken it exclusively since the change was applied: the pins of that are
        // gone, and the table does not know who holds what exclusively. The session is not told of a
        // lease then, and stays written down: another question of its may be answered with one by now.
        if cluster::exclusive_holder(&*view, inode)?.is_some_and(|holder| holder != session) {
            continue;
        }
        match attributes(&*view, inode)? {
            Some(attributes) => held.push(attributes),
            // Its number is never used again: nobody is ever told anything about it.
            None => pins.leader().leases.with(|table| table.give_back(session, &[inode])),
        }
    }
    metrics::counter!(names::LEASE_GRANTS).increment(held.len() as u64);
    if let Ok(
        MutationResult::Node { attributes, exclusive, .. } | MutationResult::Opened { attributes, exclusive, .. },
    ) = &mut result
    {
        // A remembered result may tell of a lease that was recalled since.
        *exclusive = *exclusive && cluster::exclusive_holder(&*view, attributes.inode)? == Some(session);
    }
    let sequence = cluster::commit_sequence(&*view)?;
    Ok(MetadataReply::Mutated { result, effects: ChangeEffects { sequence, changed, held, generation } })
}

/// Attributes of an inode, if it is there.
pub(super) fn attributes(view: &dyn ReadView, inode: InodeId) -> Result<Option<Attributes>, StorageError> {
    Ok(match namespace::answer(view, &Query::Attributes { inode })? {
        Ok(QueryResult::Attributes(attributes)) => Some(attributes),
        _ => None,
    })
}
