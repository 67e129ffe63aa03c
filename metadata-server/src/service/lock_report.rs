//! Locks for people: `cairnctl locks`.

use std::collections::BTreeSet;

use cairn_common::limits::MAX_LOCKS_PER_REPORT;
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::admin::LockReport;

use super::context::{Context, broken};
use super::leader::Leader;
use super::lease_report::resolve;
use crate::namespace::{cluster, locks};

/// Locks of a path, or all.
pub(super) async fn report(
    context: &Context,
    leader: &Leader,
    path: Option<&[u8]>,
) -> Result<LockReport, ServiceError> {
    let view = context.fresh_view().await?;
    let inode = path.map(|path| resolve(&*view, path)).transpose()?;
    let mut held = match inode {
        Some(inode) => locks::held(&*view, inode).map(|held| held.into_iter().map(|lock| (inode, lock)).collect()),
        None => locks::all(&*view, MAX_LOCKS_PER_REPORT + 1),
    }
    .map_err(broken)?;
    let mut waiting = leader.locks.waiting(inode);
    let more = held.len().max(waiting.len()) > MAX_LOCKS_PER_REPORT;
    held.truncate(MAX_LOCKS_PER_REPORT);
    waiting.truncate(MAX_LOCKS_PER_REPORT);
    let named = held.iter().map(|(_, lock)| lock.session).chain(waiting.iter().map(|(session, _)| *session));
    let mut clients = Vec::new();
    for session in named.collect::<BTreeSet<_>>() {
        if let Some(record) = cluster::session(&*view, session).map_err(broken)? {
            clients.push((session, record.client));
        }
    }
    Ok(LockReport { held, waiting, clients, more })
}
