//! `Service::Metadata`: what mounts ask. Only the leader answers.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::{RequestId, SessionEpoch, SessionId, TableEpoch};
use cairn_common::limits::SESSION_SLOTS;
use cairn_common::partition_table::PartitionTable;
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::metadata::{MetadataReply, MetadataRequest, Mutation, SessionEvent, Stamp};
use cairn_common::transport::Incoming;

use super::context::{Context, broken, unexpected};
use super::leader::Leader;
use super::{flush, queries, repair};
use crate::namespace::cluster;
use crate::namespace::command::{Action, Outcome};

/// Longest wait of a poll, in milliseconds.
const MAX_POLL_MS: u32 = 30_000;
/// A poll returns this long before its caller gives up.
const POLL_MARGIN: Duration = Duration::from_millis(200);
/// Longest name of a client that is kept, in bytes.
const CLIENT_NAME_MAX_BYTES: usize = 512;

/// Answers one request of a mount.
pub(super) async fn handle(context: &Context, incoming: &Incoming) -> Result<MetadataReply, ServiceError> {
    let leader = context.leader()?;
    let request = incoming.request;
    match incoming.message::<MetadataRequest>()? {
        MetadataRequest::OpenSession { client } => open_session(context, &leader, request, client).await,
        MetadataRequest::KeepAlive { session, epoch } => keep_alive(context, &leader, session, epoch).await,
        MetadataRequest::CloseSession { session, epoch } => {
            close_session(context, &leader, request, session, epoch).await
        }
        MetadataRequest::Mutate { stamp, mutation } => mutate(context, &leader, request, stamp, mutation).await,
        MetadataRequest::Query { session, query } => {
            leader.sessions.beat(session, context.clock.monotonic());
            Ok(MetadataReply::Answered(queries::answer(context, &leader, request, session, &query).await?))
        }
        MetadataRequest::PollEvents { session, wait_ms } => {
            let longest = incoming.timeout.saturating_sub(POLL_MARGIN);
            let wait = Duration::from_millis(u64::from(wait_ms.min(MAX_POLL_MS))).min(longest);
            Ok(MetadataReply::Events(poll(context, &leader, session, wait).await?))
        }
        MetadataRequest::FlushDone { session, ticket } => {
            let now = context.clock.monotonic();
            leader.sessions.beat(session, now);
            leader.events.confirm(session, ticket, now);
            Ok(MetadataReply::Done)
        }
        MetadataRequest::PartitionTable { known } => Ok(MetadataReply::Table(newer_table(context, known)?)),
        MetadataRequest::ReportDamage { damaged } => {
            repair::record_damage(context, request, damaged).await?;
            Ok(MetadataReply::Done)
        }
    }
}

async fn open_session(
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
            leader.sessions.touch(session, context.clock.monotonic());
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

/// A session is kept alive only by a leader that a majority confirms, so that no session lives on
/// with a deposed one.
async fn keep_alive(
    context: &Context,
    leader: &Leader,
    session: SessionId,
    epoch: SessionEpoch,
) -> Result<MetadataReply, ServiceError> {
    let view = context.fresh_view().await?;
    let record = cluster::session(&*view, session).map_err(broken)?;
    if record.is_none_or(|record| record.epoch != epoch) {
        return Err(ServiceError::SessionFenced { session });
    }
    leader.sessions.touch(session, context.clock.monotonic());
    let table = cluster::table_epoch(&*view).map_err(broken)?;
    Ok(MetadataReply::KeptAlive { time: context.group.clock().now(), table, servers: servers(context) })
}

async fn close_session(
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
        end_session(context, leader, request, session).await?;
    }
    Ok(MetadataReply::Done)
}

/// Ends a session in the state, then tells all who wait for it.
pub(super) async fn end_session(
    context: &Context,
    leader: &Leader,
    request: RequestId,
    session: SessionId,
) -> Result<(), ServiceError> {
    context.group.propose(request, Action::EndSession { session }).await?;
    leader.sessions.forget(session);
    leader.events.end(session);
    Ok(())
}

async fn mutate(
    context: &Context,
    leader: &Arc<Leader>,
    request: RequestId,
    stamp: Stamp,
    mutation: Mutation,
) -> Result<MetadataReply, ServiceError> {
    leader.sessions.beat(stamp.session, context.clock.monotonic());
    flush::flush_before(context, leader, request, stamp.session, &mutation).await?;
    match context.group.propose(request, Action::Mutate { stamp, mutation }).await? {
        Outcome::Mutated(result) => Ok(MetadataReply::Mutated(result)),
        Outcome::Fenced => Err(ServiceError::SessionFenced { session: stamp.session }),
        Outcome::BadSequence => Err(ServiceError::BadSequence),
        other => Err(unexpected(&other)),
    }
}

/// Waits until there is an event for the session, at most `wait`.
async fn poll(
    context: &Context,
    leader: &Leader,
    session: SessionId,
    wait: Duration,
) -> Result<Vec<SessionEvent>, ServiceError> {
    let start = context.clock.monotonic();
    leader.sessions.beat(session, start);
    let redeliver = context.options.timings.redeliver;
    let deadline = tokio::time::Instant::now() + wait;
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
        let bell = leader.events.bell(session);
        let rung = bell.notified();
        let events = leader.events.take(session, context.clock.monotonic(), redeliver);
        if !events.is_empty() || tokio::time::Instant::now() >= deadline {
            return Ok(events);
        }
        let pause = deadline.min(tokio::time::Instant::now() + redeliver);
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep_until(pause) => {}
            () = &mut ended => return Err(ServiceError::NotLeader { leader: None }),
        }
    }
}

/// The newest table, unless the caller has it.
pub(super) fn newer_table(context: &Context, known: TableEpoch) -> Result<Option<PartitionTable>, ServiceError> {
    let view = context.group.view();
    let table = context.table.table(&*view).map_err(broken)?;
    Ok((table.epoch > known).then(|| (*table).clone()))
}

fn servers(context: &Context) -> Vec<std::net::SocketAddr> {
    context.group.status().members.iter().map(|member| member.member.address).collect()
}
