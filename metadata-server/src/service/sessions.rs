//! Sessions of mounts: they begin, are kept alive with their leases, and end: by themselves, for
//! silence, or evicted because they hold something exclusively and do nothing.

use std::time::Duration;

use cairn_common::ids::{InodeId, LeaseGeneration, RequestId, SessionEpoch, SessionId};
use cairn_common::limits::{MAX_LEASES_PER_MESSAGE, SESSION_SLOTS};
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::metadata::{MetadataReply, SessionEvent};
use cairn_common::protocol::write_reserve::ReserveReport;
use cairn_common::telemetry::metric_names as names;
use tokio::time::Instant;

use super::changes;
use super::context::{Context, broken, unexpected};
use super::leader::Leader;
use crate::lease::Renewal;
use crate::namespace::cluster;
use crate::namespace::command::{Action, Outcome};

/// Longest name of a client that is kept, in bytes.
const CLIENT_NAME_MAX_BYTES: usize = 512;
/// Pause between two attempts to end a session that must end.
const RETRY: Duration = Duration::from_millis(200);

pub(super) async fn open(
    context: &Context,
    leader: &Leader,
    request: RequestId,
    mut client: String,
) -> Result<MetadataReply, ServiceError> {
    let mut cut = client.len().min(CLIENT_NAME_MAX_BYTES);
    while !client.is_char_boundary(cut) {
        cut -= 1;
    }
    client.truncate(cut);
    tracing::info!(request = request.0, %client, "opens a session");
    match context.group.propose(request, Action::OpenSession { client: client.clone(), slots: SESSION_SLOTS }).await? {
        Outcome::Session { session, epoch } => {
            let now = context.clock.monotonic();
            leader.leases.with(|table| table.open_session(session, now));
            leader.sessions.touch(session, now);
            leader.reserve.open(session);
            let known = cluster::sessions(&*context.group.view()).map_err(broken)?;
            // The same host, mount point and name: what had them before was killed, or is on its way out.
            for older in known.iter().filter(|older| older.client == client && older.session < session) {
                leader.sessions.supersede(older.session);
            }
            Ok(MetadataReply::Session {
                session,
                epoch,
                slots: SESSION_SLOTS,
                timeout_ms: context.options.timings.session_timeout.as_millis() as u32,
                servers: servers(context),
            })
        }
        other => Err(unexpected(&other)),
    }
}

/// A keep-alive as it came.
pub(super) struct KeepAlive {
    pub(super) session: SessionId,
    pub(super) epoch: SessionEpoch,
    pub(super) leases: LeaseGeneration,
    pub(super) reserve: ReserveReport,
    /// On the leader's clock.
    pub(super) received: Duration,
}

/// A session is kept alive only by a leader that a majority confirms, so that no session and no lease
/// lives on with a deposed one.
pub(super) async fn keep_alive(
    context: &Context,
    leader: &Leader,
    deadline: Instant,
    sent: KeepAlive,
) -> Result<MetadataReply, ServiceError> {
    let fenced = ServiceError::SessionFenced { session: sent.session };
    let table = {
        let view = context.fresh_view().await?;
        let record = cluster::session(&*view, sent.session).map_err(broken)?;
        if record.is_none_or(|record| record.epoch != sent.epoch) {
            return Err(fenced);
        }
        cluster::table_epoch(&*view).map_err(broken)?
    };
    leader.sessions.touch(sent.session, context.clock.monotonic());
    let bell = leader.leases.bell(sent.session);
    let ended = leader.ended();
    tokio::pin!(ended);
    let (leases, exclusive, reserve) = loop {
        let rung = bell.notified();
        let now = context.clock.monotonic();
        let renewal = leader.leases.with(|table| table.keep_alive(sent.session, sent.leases, sent.received, now));
        let until = match renewal {
            Renewal::Renewed { generation, exclusive } => {
                break (generation, exclusive, leader.reserve.report(sent.session, sent.reserve));
            }
            Renewal::Changed { generation } => break (generation, Duration::ZERO, None),
            Renewal::Overdue { until } => Instant::now() + until.saturating_sub(now),
            Renewal::Fenced => return Err(fenced),
        };
        if Instant::now() >= deadline {
            return Err(ServiceError::Unavailable { reason: "a recall is not answered".into() });
        }
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep_until(until.min(deadline)) => {}
            () = &mut ended => return Err(ServiceError::NotLeader { leader: None }),
        }
    };
    Ok(MetadataReply::KeptAlive {
        time: context.group.clock().now(),
        table,
        servers: servers(context),
        leases,
        shared_lease_ms: context.options.timings.leases.shared.as_millis() as u32,
        exclusive_lease_ms: exclusive.as_millis() as u32,
        reserve,
    })
}

/// Leases on open files, after a change of the generation: grant first, read second.
pub(super) async fn reclaim(
    context: &Context,
    leader: &Leader,
    session: SessionId,
    inodes: Vec<InodeId>,
) -> Result<MetadataReply, ServiceError> {
    check_count(&inodes)?;
    let (refused, generation) = leader.leases.with(|table| {
        let refused = table.grant(session, &inodes, context.clock.monotonic());
        (refused, table.generation(session))
    });
    let view = context.fresh_view().await?;
    let exists = cluster::session(&*view, session).map_err(broken)?.is_some();
    let Some(generation) = generation.filter(|_| exists) else {
        return Err(ServiceError::SessionFenced { session });
    };
    let mut held = Vec::with_capacity(inodes.len());
    for inode in inodes.into_iter().filter(|inode| !refused.contains(inode)) {
        let holder = cluster::exclusive_holder(&*view, inode).map_err(broken)?;
        if holder.is_none_or(|holder| holder == session) {
            held.extend(changes::attributes(&*view, inode).map_err(broken)?);
        }
    }
    metrics::counter!(names::LEASE_GRANTS).increment(held.len() as u64);
    let sequence = cluster::commit_sequence(&*view).map_err(broken)?;
    Ok(MetadataReply::Reclaimed { held, sequence, generation })
}

/// A message about leases names only so many.
pub(super) fn check_count(inodes: &[InodeId]) -> Result<(), ServiceError> {
    if inodes.len() > MAX_LEASES_PER_MESSAGE {
        let reason = format!("{} inodes in one message; at most {MAX_LEASES_PER_MESSAGE}", inodes.len());
        return Err(ServiceError::Invalid { reason });
    }
    Ok(())
}

/// Waits until there is something for the session to do, at most `wait`.
pub(super) async fn poll(
    context: &Context,
    leader: &Leader,
    session: SessionId,
    wait: Duration,
) -> Result<Vec<SessionEvent>, ServiceError> {
    leader.sessions.beat(session, context.clock.monotonic());
    let redeliver = context.options.timings.leases.redeliver;
    let deadline = Instant::now() + wait;
    let ended = leader.ended();
    tokio::pin!(ended);
    loop {
        {
            let view = context.group.view();
            if cluster::session(&*view, session).map_err(broken)?.is_none() {
                return Err(ServiceError::SessionFenced { session });
            }
        }
        // Mail comes with the bell that was there when the mailbox was looked into: what is put in
        // from now on rings it.
        let bell = leader.leases.bell(session);
        let rung = bell.notified();
        let events = leader.leases.mail(session, context.clock.monotonic());
        if !events.is_empty() || Instant::now() >= deadline {
            return Ok(events);
        }
        let pause = deadline.min(Instant::now() + redeliver);
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep_until(pause) => {}
            () = &mut ended => return Err(ServiceError::NotLeader { leader: None }),
        }
    }
}

/// The mount has done what a recall asked for.
pub(super) fn recall_done(context: &Context, leader: &Leader, session: SessionId, ticket: u64, open: bool) {
    let now = context.clock.monotonic();
    leader.sessions.beat(session, now);
    if let Some(took) = leader.leases.with(|table| table.recall_done(session, ticket, open, now)) {
        metrics::histogram!(names::LEASE_RECALL_SECONDS).record(took);
    }
}

pub(super) async fn close(
    context: &Context,
    leader: &Leader,
    request: RequestId,
    session: SessionId,
    epoch: SessionEpoch,
) -> Result<MetadataReply, ServiceError> {
    let record = {
        let view = context.fresh_view().await?;
        cluster::session(&*view, session).map_err(broken)?
    };
    // Gone already: a retry of a close that was answered to nobody.
    if let Some(record) = record {
        if record.epoch != epoch {
            return Err(ServiceError::SessionFenced { session });
        }
        tracing::info!(request = request.0, %session, client = record.client, "closes its session");
        end(context, leader, request, session).await?;
    }
    Ok(MetadataReply::Done)
}

/// Ends a session in the state, then tells all who wait for it. It uses nothing any more: it said so,
/// or its horizons are over.
pub(super) async fn end(
    context: &Context,
    leader: &Leader,
    request: RequestId,
    session: SessionId,
) -> Result<(), ServiceError> {
    context.group.propose(request, Action::EndSession { session }).await?;
    leader.sessions.forget(session);
    leader.leases.end_session(session);
    leader.reserve.end(session);
    leader.locks.end_session(context, session);
    Ok(())
}

/// Ends a session against its will: first nothing is renewed any more, then what it has runs out, then
/// it ends in the state.
pub(super) async fn evict(
    context: &Context,
    leader: &Leader,
    request: RequestId,
    session: SessionId,
) -> Result<(), ServiceError> {
    if let Some(until) = leader.leases.with(|table| table.fence(session)) {
        pause_until(context, leader, until.shared).await?;
        // What was under way when it was fenced is applied by now.
        let holds = !cluster::held_exclusively(&*context.group.view(), session, 1).map_err(broken)?.is_empty();
        if holds {
            pause_until(context, leader, until.exclusive).await?;
        }
    }
    end(context, leader, request, session).await?;
    metrics::counter!(names::LEASE_EVICTIONS).increment(1);
    Ok(())
}

/// Evicts those that the lease table is done with, for as long as this server leads.
pub(super) async fn evict_stuck(context: &Context, leader: &Leader) {
    loop {
        let session = leader.leases.next_eviction().await;
        tracing::warn!(%session, "a mount has not given up an exclusive lease in time: its session is ended");
        while let Err(error) = evict(context, leader, RequestId::random(), session).await {
            tracing::warn!(%session, %error, "cannot evict the session; tries again");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn pause_until(context: &Context, leader: &Leader, until: Duration) -> Result<(), ServiceError> {
    loop {
        let left = until.saturating_sub(context.clock.monotonic());
        if left.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = leader.ended() => return Err(ServiceError::NotLeader { leader: None }),
        }
    }
}

fn servers(context: &Context) -> Vec<std::net::SocketAddr> {
    context.group.status().members.iter().map(|member| member.member.address).collect()
}
