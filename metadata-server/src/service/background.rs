//! What the leader does unasked: ends silent sessions, keeps the partition table in step with the
//! disks, fills moves, walks the repair queue, removes garbage records. All of it ends with the
//! leadership, and all of it may be repeated by the next leader without harm.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::RequestId;
use cairn_common::limits::{KEEP_ALIVE_INTERVAL, SHARED_LEASE};
use cairn_common::protocol::ServiceError;
use cairn_common::telemetry::metric_names as names;

use super::chunk_control::reload_roster;
use super::context::{Context, broken};
use super::filling::Filling;
use super::leader::Leader;
use super::movement::Movement;
use super::{repair, reserve, sessions};
use crate::lease::LeaseTable;
use crate::namespace::cluster;
use crate::namespace::command::Action;
use crate::write_reserve::Ledger;

/// A session whose mount was started anew is ended when it was silent for so long: a living mount
/// would have renewed it, and its shared leases are over.
const SUPERSEDED_TIMEOUT: Duration = SHARED_LEASE.saturating_add(KEEP_ALIVE_INTERVAL);
/// Silent sessions are looked for this often.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);
/// Sessions of the state are compared with those in memory every so many looks.
const LEARN_EVERY: u32 = 5;
/// A task that wakes up this much later than it should was not run: the leader was away.
const AWAY: Duration = Duration::from_secs(2);
/// The disks are looked at this often, even if nothing rang.
const PLACEMENT_INTERVAL: Duration = Duration::from_millis(500);
/// Pause between two steps of moves under way.
const MOVE_INTERVAL: Duration = Duration::from_millis(250);
/// Pause between two rounds, and between two pages, of the walk through the repair queue.
const WALK_INTERVAL: Duration = Duration::from_millis(250);
const PAGE_INTERVAL: Duration = Duration::from_millis(20);
/// Garbage is looked for this often; while there is some, the pause is short.
const GARBAGE_INTERVAL: Duration = Duration::from_millis(500);
const GARBAGE_PAUSE: Duration = Duration::from_millis(10);
/// Records that one proposal removes.
const GARBAGE_BATCH: u32 = 1000;
/// Pause after an error that may go away.
const RETRY: Duration = Duration::from_millis(200);
/// Gauges are set this often.
const GAUGE_INTERVAL: Duration = Duration::from_secs(2);

/// Begins and ends leaderships as the group says, for as long as the server runs.
pub(super) async fn follow_leadership(context: Arc<Context>) {
    let mut leadership = context.group.leadership();
    loop {
        let term = *leadership.borrow_and_update();
        let changed = match term {
            None => leadership.changed().await,
            Some(term) => {
                tokio::select! {
                    () = lead(&context, term) => return,
                    changed = leadership.changed() => changed,
                }
            }
        };
        context.set_leader(None);
        super::status::clear_gauges();
        if changed.is_err() {
            return;
        }
    }
}

/// One leadership; returns only if the group is gone.
async fn lead(context: &Arc<Context>, term: u64) {
    let leader = loop {
        match begin(context, term).await {
            Ok(leader) => break leader,
            Err(error) => {
                tracing::warn!(term, %error, "cannot begin to lead yet; tries again");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    tracing::info!(term, "leads the metadata group");
    context.set_leader(Some(leader.clone()));
    tokio::join!(
        expire_sessions(context, &leader),
        sessions::evict_stuck(context, &leader),
        place(context, &leader),
        reserve::follow_disks(context, &leader),
        walk_repair_queue(context, &leader),
        collect_garbage(context),
        set_gauges(context, &leader),
    );
}

/// Sees to it that the cluster exists, and takes over what the state knows.
async fn begin(context: &Context, term: u64) -> Result<Arc<Leader>, ServiceError> {
    // No leader before this one renews any lease from here on.
    let began = context.clock.monotonic();
    let options = &context.options;
    let (cluster, partitions, replicas) = (options.cluster, options.partitions, options.replicas);
    context.propose(Action::Initialize { cluster, partitions, replicas }).await?;
    let (record, sessions) = {
        let view = context.group.view();
        (cluster::cluster(&*view).map_err(broken)?, cluster::sessions(&*view).map_err(broken)?)
    };
    let record =
        record.ok_or_else(|| ServiceError::Internal { reason: "the cluster has no record after Initialize".into() })?;
    if record.cluster != cluster {
        let reason = format!(
            "the state belongs to cluster {}, this server to {cluster}: the data folder is another cluster's",
            record.cluster
        );
        return Err(ServiceError::Internal { reason });
    }
    let known = || sessions.iter().map(|record| record.session);
    let leases = LeaseTable::new(options.timings.leases.clone(), term, began, known());
    let leader = Arc::new(Leader::new(record, leases, Ledger::new(known())));
    let now = context.clock.monotonic();
    sessions.iter().for_each(|record| leader.sessions.learn(record.session, now));
    reload_roster(context, &leader)?;
    Ok(leader)
}

/// Ends sessions that were silent for too long.
async fn expire_sessions(context: &Context, leader: &Leader) {
    let timeout = context.options.timings.session_timeout;
    let pause = EXPIRY_INTERVAL.min(timeout / 4);
    let mut last = context.clock.monotonic();
    for round in 0u32.. {
        tokio::time::sleep(pause).await;
        let now = context.clock.monotonic();
        let gap = now.saturating_sub(last).saturating_sub(pause);
        last = now;
        if gap > AWAY {
            tracing::warn!(?gap, "this server did not run: no silence during that time counts");
            leader.sessions.excuse(gap);
            leader.roster.excuse(gap);
            continue;
        }
        if round % LEARN_EVERY == 0
            && let Err(error) = learn_sessions(context, leader, now)
        {
            tracing::warn!(%error, "cannot read the sessions");
        }
        for (session, silence) in leader.sessions.expired(timeout, SUPERSEDED_TIMEOUT.min(timeout), now) {
            tracing::warn!(%session, ?silence, "ends a silent session: its open files are released");
            match sessions::end(context, leader, RequestId::random(), session).await {
                Ok(()) => metrics::counter!(names::SESSIONS_EXPIRED).increment(1),
                Err(error) => tracing::warn!(%session, %error, "cannot end the session; tries again"),
            }
        }
    }
}

fn learn_sessions(context: &Context, leader: &Leader, now: Duration) -> Result<(), ServiceError> {
    let sessions = {
        let view = context.group.view();
        cluster::sessions(&*view).map_err(broken)?
    };
    let known: std::collections::BTreeSet<_> = sessions.iter().map(|record| record.session).collect();
    known.iter().for_each(|session| leader.sessions.learn(*session, now));
    leader.leases.retain(|session| known.contains(&session));
    leader.reserve.retain(|session| known.contains(&session));
    Ok(())
}

/// Keeps the table in step with the disks.
async fn place(context: &Arc<Context>, leader: &Leader) {
    let (mut movement, mut filling) = (Movement::default(), Filling::default());
    loop {
        let moving = async {
            movement.step(context, leader).await?;
            filling.step(context).await
        };
        let pause = match moving.await {
            Ok(true) => MOVE_INTERVAL,
            Ok(false) => PLACEMENT_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "the partition table cannot be brought up to date yet; tries again");
                PLACEMENT_INTERVAL
            }
        };
        tokio::select! {
            () = leader.disks_changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Finds work for the chunk servers.
async fn walk_repair_queue(context: &Context, leader: &Leader) {
    loop {
        let pause = match repair::walk(context, leader).await {
            Ok(true) => WALK_INTERVAL,
            Ok(false) => PAGE_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "the repair queue cannot be read; tries again");
                WALK_INTERVAL
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Removes records that deleted files left behind.
async fn collect_garbage(context: &Context) {
    loop {
        let has_garbage = {
            let view = context.group.view();
            cluster::has_garbage(&*view).map_err(broken)
        };
        let collected = match has_garbage {
            Ok(true) => context.propose(Action::CollectGarbage { limit: GARBAGE_BATCH }).await.map(|_| true),
            Ok(false) => Ok(false),
            Err(error) => Err(error),
        };
        let pause = match collected {
            Ok(true) => GARBAGE_PAUSE,
            Ok(false) => GARBAGE_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "garbage records cannot be removed yet; tries again");
                GARBAGE_INTERVAL
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn set_gauges(context: &Context, leader: &Leader) {
    loop {
        super::status::set_gauges(context, leader);
        tokio::time::sleep(GAUGE_INTERVAL).await;
    }
}
