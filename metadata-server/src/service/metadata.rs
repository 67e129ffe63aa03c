//! `Service::Metadata`: what mounts ask. Only the leader answers.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::TableEpoch;
use cairn_common::partition_table::PartitionTable;
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::metadata::{MetadataReply, MetadataRequest};
use cairn_common::transport::Incoming;
use tokio::time::Instant;

use super::changes::{self, Change};
use super::context::{Context, broken};
use super::locks;
use super::queries::{self, Asked};
use super::repair;
use super::sessions::{self, KeepAlive};

/// Longest wait of a poll, in milliseconds.
const MAX_POLL_MS: u32 = 30_000;
/// A poll returns this long before its caller gives up.
const POLL_MARGIN: Duration = Duration::from_millis(200);

/// Answers one request of a mount.
pub(super) async fn handle(context: &Arc<Context>, incoming: &Incoming) -> Result<MetadataReply, ServiceError> {
    let leader = context.leader()?;
    let request = incoming.request;
    let received = context.clock.monotonic();
    // A request that waits for other mounts ends unanswered when its caller gives up: an error would
    // tell the caller to look for another leader.
    let deadline = Instant::now() + incoming.timeout;
    match incoming.message::<MetadataRequest>()? {
        MetadataRequest::OpenSession { client } => sessions::open(context, &leader, request, client).await,
        MetadataRequest::KeepAlive { session, epoch, leases, reserve } => {
            let sent = KeepAlive { session, epoch, leases, reserve, received };
            sessions::keep_alive(context, &leader, deadline, sent).await
        }
        MetadataRequest::CloseSession { session, epoch } => {
            sessions::close(context, &leader, request, session, epoch).await
        }
        MetadataRequest::Mutate { stamp, mutation, covered } => {
            leader.sessions.beat(stamp.session, received);
            let mutation = leader.locks.enqueue(context, stamp.session, mutation);
            let change = Change { stamp, mutation, covered };
            changes::mutate(context, &leader, request, deadline, change).await
        }
        MetadataRequest::Query { session, query, lease } => {
            leader.sessions.beat(session, received);
            let asked = Asked { session, query: &query, lease };
            queries::answer(context, &leader, deadline, &asked).await
        }
        MetadataRequest::Reclaim { session, inodes } => {
            leader.sessions.beat(session, received);
            sessions::reclaim(context, &leader, session, inodes).await
        }
        MetadataRequest::ReturnLeases { session, generation, number, inodes } => {
            leader.sessions.beat(session, received);
            sessions::check_count(&inodes)?;
            leader.leases.with(|table| table.return_leases(session, generation, number, &inodes));
            Ok(MetadataReply::Done)
        }
        MetadataRequest::PollEvents { session, wait_ms } => {
            let wait = poll_wait(incoming, wait_ms);
            Ok(MetadataReply::Events(sessions::poll(context, &leader, session, wait).await?))
        }
        MetadataRequest::RecallDone { session, ticket, open } => {
            sessions::recall_done(context, &leader, session, ticket, open);
            Ok(MetadataReply::Done)
        }
        MetadataRequest::AwaitLock { session, ticket, lock, wait_ms } => {
            leader.sessions.beat(session, received);
            locks::wait(context, &leader, (session, ticket), &lock, poll_wait(incoming, wait_ms)).await
        }
        MetadataRequest::LeaveLockQueue { session, ticket } => {
            leader.sessions.beat(session, received);
            leader.locks.leave(context, (session, ticket));
            Ok(MetadataReply::Done)
        }
        MetadataRequest::PartitionTable { known } => Ok(MetadataReply::Table(newer_table(context, known)?)),
        MetadataRequest::ReportDamage { damaged } => {
            repair::record_damage(context, request, damaged).await?;
            Ok(MetadataReply::Done)
        }
    }
}

/// How long a poll waits.
fn poll_wait(incoming: &Incoming, wait_ms: u32) -> Duration {
    let longest = incoming.timeout.saturating_sub(POLL_MARGIN);
    Duration::from_millis(u64::from(wait_ms.min(MAX_POLL_MS))).min(longest)
}

/// The newest table, unless the caller has it.
pub(super) fn newer_table(context: &Context, known: TableEpoch) -> Result<Option<PartitionTable>, ServiceError> {
    let view = context.group.view();
    let table = context.table.table(&*view).map_err(broken)?;
    Ok((table.epoch > known).then(|| (*table).clone()))
}
