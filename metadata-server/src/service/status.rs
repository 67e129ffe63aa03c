//! The state of the cluster, for `cairnctl status` and for metrics.

use std::time::Duration;

use cairn_common::ids::RequestId;
use cairn_common::protocol::admin::{
    AdminReply, AdminRequest, ChunkStatus, ClusterStatus, LocalStatus, MetadataStatus, NodeState, SessionStatus,
};
use cairn_common::protocol::{Service, ServiceError};
use cairn_common::telemetry::metric_names as names;
use cairn_common::transport;
use futures::future::join_all;

use super::context::{Context, broken};
use super::leader::Leader;
use super::reserve::ReserveDesk;
use super::roster::Server;
use crate::namespace::cluster;
use crate::raft::{MemberRole, MemberStatus};

/// A member that has not answered the leader for so long is shown as down.
const MEMBER_TIMEOUT_MS: u64 = 1500;
/// Longest wait for a member's clock.
const CLOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// The whole cluster, as the leader knows it.
pub(super) async fn cluster_status(context: &Context, leader: &Leader) -> Result<ClusterStatus, ServiceError> {
    context.group.linearize().await?;
    let group = context.group.status();
    let members = group.members.iter().map(|member| metadata_status(context, member, group.member.node));
    let metadata = join_all(members).await;
    let now = context.clock.monotonic();
    let view = context.group.view();
    let record = cluster::cluster(&*view).map_err(broken)?.unwrap_or_else(|| leader.cluster.clone());
    let table = context.table.table(&*view).map_err(broken)?;
    let mut sessions = Vec::new();
    for session in cluster::sessions(&*view).map_err(broken)? {
        let silent = leader.sessions.silence(session.session, now);
        sessions.push(SessionStatus {
            session: session.session,
            open_files: cluster::open_files(&*view, session.session).map_err(broken)?,
            client: session.client,
            silent_ms: silent.map(|silence| silence.as_millis() as u64),
        });
    }
    let timeout = context.options.timings.chunk_timeout;
    Ok(ClusterStatus {
        cluster: record.cluster,
        leader: group.member.node,
        term: group.term,
        applied_index: group.applied_index,
        metadata,
        chunk: leader.roster.servers().into_iter().map(|server| chunk_status(server, timeout, now)).collect(),
        table: table.epoch,
        replicas: record.replicas,
        moving_partitions: table.rows.iter().filter(|row| !row.next.is_empty()).count() as u64,
        under_replicated_blocks: cluster::under_replicated_blocks(&*view).map_err(broken)?,
        sessions,
        write_reserve: leader.reserve.status(),
        feature_level: record.feature_level,
    })
}

/// This server, leader or not.
pub(super) fn local(context: &Context) -> LocalStatus {
    let group = context.group.status();
    LocalStatus {
        member: group.member,
        leader: group.leader.map(|leader| leader.node),
        term: group.term,
        applied_index: group.applied_index,
        wall_nanos: context.clock.wall().as_nanos().clamp(i64::MIN.into(), i64::MAX.into()) as i64,
    }
}

async fn metadata_status(
    context: &Context,
    member: &MemberStatus,
    own: cairn_common::ids::MetadataNodeId,
) -> MetadataStatus {
    let itself = member.member.node == own;
    let answers = itself || member.silent_ms.is_some_and(|silent| silent <= MEMBER_TIMEOUT_MS);
    let skew = match (itself, answers) {
        (true, _) => Some(0),
        (false, true) => clock_skew_ms(context, member).await,
        (false, false) => None,
    };
    let state = match (answers, member.role) {
        (false, _) => NodeState::Down,
        (true, MemberRole::Learner) => NodeState::Learner,
        (true, MemberRole::Voter) => NodeState::Up,
    };
    let lag_entries = if itself { Some(0) } else { member.lag_entries };
    MetadataStatus { member: member.member.clone(), state, lag_entries, clock_skew_ms: skew }
}

/// How far the member's wall clock is ahead of this one, give or take half the time of the question.
async fn clock_skew_ms(context: &Context, member: &MemberStatus) -> Option<i64> {
    let (asked, wall) = (context.clock.monotonic(), context.clock.wall().as_nanos());
    let answer = transport::request::<_, AdminReply>(
        &*context.transport,
        member.member.address,
        Service::Admin,
        RequestId::random(),
        CLOCK_TIMEOUT,
        &AdminRequest::Local,
        Vec::new(),
    );
    let Ok((AdminReply::Local(status), _)) = answer.await else { return None };
    let took = context.clock.monotonic().saturating_sub(asked).as_nanos() as i128;
    Some(((i128::from(status.wall_nanos) - wall - took / 2) / 1_000_000) as i64)
}

fn chunk_status(server: Server, timeout: Duration, now: Duration) -> ChunkStatus {
    let damaged = server.reports.iter().any(|disk| disk.failure.is_some() || disk.damaged_blocks > 0);
    let state = match server.seen {
        Some(_) if server.silence(now) <= timeout && damaged => NodeState::Degraded,
        Some(_) if server.silence(now) <= timeout => NodeState::Up,
        _ => NodeState::Down,
    };
    let silent_ms = server.seen.map(|_| server.silence(now).as_millis() as u64);
    ChunkStatus {
        node: server.record.node,
        name: server.record.name,
        address: server.record.address,
        failure_domain: server.record.failure_domain,
        state,
        silent_ms,
        disks: server.reports,
    }
}

/// Gauges that only the leader knows.
pub(super) fn set_gauges(context: &Context, leader: &Leader) {
    let leases = leader.leases.with(|table| table.totals().leases);
    metrics::gauge!(names::LEASES).set(leases as f64);
    leader.reserve.set_gauges();
    let view = context.group.view();
    if let Ok(sessions) = cluster::sessions(&*view) {
        metrics::gauge!(names::SESSIONS).set(sessions.len() as f64);
    }
    if let Ok(blocks) = cluster::under_replicated_blocks(&*view) {
        metrics::gauge!(names::REPAIR_QUEUE_BLOCKS).set(blocks as f64);
    }
}

/// This server does not lead any more: the next leader tells.
pub(super) fn clear_gauges() {
    metrics::gauge!(names::SESSIONS).set(0.0);
    metrics::gauge!(names::LEASES).set(0.0);
    ReserveDesk::default().set_gauges();
    metrics::gauge!(names::REPAIR_QUEUE_BLOCKS).set(0.0);
}
