//! Leases for people: `cairnctl leases`, `cairnctl session list`.

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::limits::MAX_LEASES_PER_MESSAGE;
use cairn_common::name::Name;
use cairn_common::protocol::ServiceError;
use cairn_common::protocol::admin::{HeldLease, InodeLeaseStatus, LeaseReport, LeasesOf, SessionLeaseStatus};
use cairn_common::protocol::metadata::{Query, QueryResult};

use super::context::{Context, broken};
use super::leader::Leader;
use crate::namespace::cluster::SessionRecord;
use crate::namespace::{self, cluster};
use crate::storage::ReadView;

/// What the leader knows now.
pub(super) async fn report(context: &Context, leader: &Leader, of: &LeasesOf) -> Result<LeaseReport, ServiceError> {
    let view = context.fresh_view().await?;
    let totals = leader.leases.with(|table| table.totals());
    let mut report = LeaseReport {
        leases: totals.leases as u64,
        pinned: totals.pinned as u64,
        recalls: totals.recalls as u64,
        ..LeaseReport::default()
    };
    match of {
        LeasesOf::Cluster => {
            for record in cluster::sessions(&*view).map_err(broken)? {
                report.sessions.push(session(context, leader, &*view, record)?);
            }
        }
        LeasesOf::Session(id) => {
            let record = cluster::session(&*view, *id).map_err(broken)?.ok_or_else(|| no_session(*id))?;
            report.held = held(leader, &*view, *id)?;
            report.sessions.push(session(context, leader, &*view, record)?);
        }
        LeasesOf::Path(path) => report.inode = Some(inode(context, leader, &*view, resolve(&*view, path)?)?),
    }
    Ok(report)
}

/// The error for a session that is not there.
pub(super) fn no_session(session: SessionId) -> ServiceError {
    ServiceError::Invalid { reason: format!("there is no session {session}") }
}

fn session(
    context: &Context,
    leader: &Leader,
    view: &dyn ReadView,
    record: SessionRecord,
) -> Result<SessionLeaseStatus, ServiceError> {
    let (id, now) = (record.session, context.clock.monotonic());
    let exclusive = cluster::held_exclusively(view, id, usize::MAX).map_err(broken)?.len() as u64;
    let leases = leader.leases.with(|table| table.session(id));
    Ok(SessionLeaseStatus {
        session: id,
        client: record.client,
        silent_ms: leader.sessions.silence(id, now).map(|silence| silence.as_millis() as u64),
        open_files: cluster::open_files(view, id).map_err(broken)?,
        checked_in: leases.as_ref().is_some_and(|leases| leases.checked_in),
        valid_ms: leases.as_ref().map_or(0, |leases| leases.horizon.saturating_sub(now).as_millis() as u64),
        shared: leases.as_ref().map_or(0, |leases| leases.held as u64),
        exclusive,
        recalls: leases.as_ref().map_or(0, |leases| leases.recalls as u64),
    })
}

fn held(leader: &Leader, view: &dyn ReadView, session: SessionId) -> Result<Vec<HeldLease>, ServiceError> {
    let exclusive = cluster::held_exclusively(view, session, MAX_LEASES_PER_MESSAGE).map_err(broken)?;
    let shared = leader.leases.with(|table| table.held_by(session, MAX_LEASES_PER_MESSAGE));
    let exclusive = exclusive.into_iter().map(|inode| HeldLease { inode, exclusive: true });
    Ok(exclusive.chain(shared.into_iter().map(|inode| HeldLease { inode, exclusive: false })).collect())
}

fn inode(
    context: &Context,
    leader: &Leader,
    view: &dyn ReadView,
    inode: InodeId,
) -> Result<InodeLeaseStatus, ServiceError> {
    let exclusive = cluster::exclusive_holder(view, inode).map_err(broken)?;
    let now = context.clock.monotonic();
    Ok(leader.leases.with(|table| InodeLeaseStatus {
        inode,
        shared: table.holders_of(inode),
        exclusive,
        pinned: table.is_pinned(inode),
        contended: table.is_contended(inode, now),
    }))
}

/// The inode of a path below the root.
pub(super) fn resolve(view: &dyn ReadView, path: &[u8]) -> Result<InodeId, ServiceError> {
    let unknown = || ServiceError::Invalid { reason: format!("there is no {:?}", String::from_utf8_lossy(path)) };
    let mut parent = InodeId::ROOT;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let name = Name::new(name.to_vec()).map_err(|_| unknown())?;
        match namespace::answer(view, &Query::Lookup { parent, name }).map_err(broken)? {
            Ok(QueryResult::Attributes(found)) => parent = found.inode,
            _ => return Err(unknown()),
        }
    }
    Ok(parent)
}
