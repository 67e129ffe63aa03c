//! Linearizable reads of a mount, with shared leases on what they tell about. Grant first, read
//! second: a change that was checked before the grant shows as a pin, one that is checked later
//! recalls. A query waits for exclusive leases of other mounts, never for a pin.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::protocol::metadata::{LeaseGrant, MetadataReply, NodeKind, Query, QueryResult};
use cairn_common::protocol::{FsError, ServiceError};
use cairn_common::telemetry::metric_names as names;
use tokio::time::Instant;

use super::context::{Context, broken};
use super::leader::Leader;
use super::pins::Pins;
use crate::lease::{LeaseTable, Need};
use crate::namespace::{self, cluster};
use crate::storage::{ReadView, StorageError};

type View = Box<dyn ReadView + Send + Sync>;
type Answer = Result<QueryResult, FsError>;

/// A query as it was asked.
pub(super) struct Asked<'q> {
    pub(super) session: SessionId,
    pub(super) query: &'q Query,
    pub(super) lease: bool,
}

/// Answers a read, after other mounts have flushed what it tells about.
pub(super) async fn answer(
    context: &Context,
    leader: &Arc<Leader>,
    deadline: Instant,
    asked: &Asked<'_>,
) -> Result<MetadataReply, ServiceError> {
    // Before anything is granted: the flush that this waits for would recall the grant, and a kernel throws
    // away an answer that its mount was told to forget meanwhile. Old news do no harm: it is looked at again.
    if let Some(inode) = subject(asked.query).filter(|inode| shows_state(asked.query, *inode))
        && let Some(holder) = held_by_another(&*context.group.view(), asked.session, Some(inode)).map_err(broken)?
    {
        recall_exclusive(context, leader, deadline, asked.session, inode, holder).await?;
    }
    loop {
        let mut grants = Grants::new(context, leader, asked);
        grants.take(&subject(asked.query).into_iter().collect());
        let view = context.fresh_view().await?;
        if cluster::session(&*view, asked.session).map_err(broken)?.is_none() {
            return Err(ServiceError::SessionFenced { session: asked.session });
        }
        match read(context, &mut grants, view).map_err(broken)? {
            Read::Answer { answer, view } => {
                let sequence = cluster::commit_sequence(&*view).map_err(broken)?;
                let grant = grants.finish(&answer);
                return Ok(MetadataReply::Answered { answer: complete(leader, answer), sequence, grant });
            }
            Read::Exclusive { inode, holder } => {
                recall_exclusive(context, leader, deadline, asked.session, inode, holder).await?;
            }
        }
        if Instant::now() >= deadline {
            return Err(ServiceError::Unavailable { reason: "the file is written by others all the time".into() });
        }
    }
}

/// Waits until the holder has flushed the file and given its lease up, or is no holder any more.
async fn recall_exclusive(
    context: &Context,
    leader: &Arc<Leader>,
    deadline: Instant,
    session: SessionId,
    inode: InodeId,
    holder: SessionId,
) -> Result<(), ServiceError> {
    let need = Need { inode, change: false, exclusive: Some(holder), last_name: false, covered: false };
    let recall = |table: &mut LeaseTable, id| {
        let now = context.clock.monotonic();
        table.need(id, &[need], now);
        table.look(id, now)
    };
    Pins::begin(leader, session, recall)?.clear(context, deadline).await?;
    Ok(())
}

/// What a reading came to.
enum Read {
    Answer {
        answer: Answer,
        view: View,
    },
    /// Another session holds the file exclusively: only that one knows what to answer.
    Exclusive {
        inode: InodeId,
        holder: SessionId,
    },
}

fn read(context: &Context, grants: &mut Grants<'_>, mut view: View) -> Result<Read, StorageError> {
    let Asked { session, query, lease } = *grants.asked;
    let mut answer = namespace::answer(&*view, &first_look(query, lease))?;
    if lease {
        // What turned up only in the answer is written down, and read again.
        let mut found = told(query, &answer);
        if found.iter().any(|inode| !grants.granted.contains(inode)) {
            for inode in found.clone() {
                if held_by_another(&*view, session, file_of(query, &answer, inode))?.is_some() {
                    found.remove(&inode);
                }
            }
            grants.take(&found);
            view = context.group.view();
            answer = namespace::answer(&*view, query)?;
        }
    }
    for inode in told(query, &answer) {
        let Some(holder) = held_by_another(&*view, session, file_of(query, &answer, inode))? else { continue };
        if shows_state(query, inode) {
            return Ok(Read::Exclusive { inode, holder });
        }
        grants.granted.remove(&inode);
        if let Ok(QueryResult::Entries { entries, .. }) = &mut answer {
            entries.iter_mut().filter(|entry| entry.inode == inode).for_each(|entry| entry.attributes = None);
        }
    }
    Ok(Read::Answer { answer, view })
}

/// The inode that a query is about.
fn subject(query: &Query) -> Option<InodeId> {
    match query {
        Query::Lookup { parent, .. } => Some(*parent),
        Query::Attributes { inode }
        | Query::ReadLink { inode }
        | Query::ReadDirectory { inode, .. }
        | Query::Extents { inode, .. }
        | Query::Xattr { inode, .. }
        | Query::Xattrs { inode }
        | Query::Parent { inode } => Some(*inode),
        // Locks are told as they are now, and are no part of what leases cover.
        Query::Statfs | Query::LockInTheWay { .. } => None,
    }
}

/// A listing is read twice if leases are asked for: the first time for its inodes only.
fn first_look(query: &Query, lease: bool) -> std::borrow::Cow<'_, Query> {
    use std::borrow::Cow;
    match query {
        Query::ReadDirectory { inode, after, up_to, limit, attributes: true } if lease => {
            let (inode, after, up_to, limit) = (*inode, *after, *up_to, *limit);
            Cow::Owned(Query::ReadDirectory { inode, after, up_to, limit, attributes: false })
        }
        other => Cow::Borrowed(other),
    }
}

/// All inodes that an answer tells about.
fn told(query: &Query, answer: &Answer) -> BTreeSet<InodeId> {
    let mut told: BTreeSet<InodeId> = subject(query).into_iter().collect();
    match (query, answer) {
        (_, Ok(QueryResult::Attributes(found))) => drop(told.insert(found.inode)),
        (Query::ReadDirectory { attributes: true, .. }, Ok(QueryResult::Entries { entries, .. })) => {
            told.extend(entries.iter().map(|entry| entry.inode));
        }
        _ => {}
    }
    told
}

/// The inode, if it may be a file: only these are held exclusively.
fn file_of(query: &Query, answer: &Answer, inode: InodeId) -> Option<InodeId> {
    let is_file = match answer {
        Ok(QueryResult::Attributes(found)) if found.inode == inode => found.kind == NodeKind::File,
        Ok(QueryResult::Entries { entries, .. }) => {
            entries.iter().any(|entry| entry.inode == inode && entry.kind == NodeKind::File)
        }
        _ => matches!(
            query,
            Query::Attributes { .. } | Query::Extents { .. } | Query::Xattr { .. } | Query::Xattrs { .. }
        ),
    };
    is_file.then_some(inode)
}

/// Which other session holds a file exclusively.
fn held_by_another(
    view: &dyn ReadView,
    session: SessionId,
    file: Option<InodeId>,
) -> Result<Option<SessionId>, StorageError> {
    let Some(file) = file else { return Ok(None) };
    Ok(cluster::exclusive_holder(view, file)?.filter(|holder| *holder != session))
}

/// Whether the answer is wrong without what an exclusive holder of the inode knows.
fn shows_state(query: &Query, inode: InodeId) -> bool {
    match query {
        Query::Lookup { parent, .. } => inode != *parent,
        Query::Attributes { .. } | Query::Extents { .. } => true,
        _ => false,
    }
}

/// Leases that are taken for an answer.
struct Grants<'a> {
    context: &'a Context,
    leader: &'a Leader,
    asked: &'a Asked<'a>,
    granted: BTreeSet<InodeId>,
}

impl<'a> Grants<'a> {
    fn new(context: &'a Context, leader: &'a Leader, asked: &'a Asked<'a>) -> Self {
        Self { context, leader, asked, granted: BTreeSet::new() }
    }

    fn take(&mut self, inodes: &BTreeSet<InodeId>) {
        if !self.asked.lease || inodes.is_empty() {
            return;
        }
        let wanted: Vec<InodeId> = inodes.difference(&self.granted).copied().collect();
        let now = self.context.clock.monotonic();
        let refused = self.leader.leases.with(|table| table.grant(self.asked.session, &wanted, now));
        self.granted.extend(wanted.iter().filter(|inode| !refused.contains(inode)));
    }

    /// What the session is told. What it was written down for and is not told of stays so: another
    /// question of the same session may have been answered with it.
    fn finish(self, answer: &Answer) -> Option<LeaseGrant> {
        if self.granted.is_empty() {
            return None;
        }
        let leases = &self.leader.leases;
        if let (Some(inode), Err(FsError::Stale)) = (subject(self.asked.query), answer) {
            // It is gone for ever: nobody is ever told anything about it.
            leases.with(|table| table.give_back(self.asked.session, &[inode]));
            return None;
        }
        let told = told(self.asked.query, answer);
        let refused: Vec<InodeId> = told.difference(&self.granted).copied().collect();
        metrics::counter!(names::LEASE_GRANTS).increment((told.len() - refused.len()) as u64);
        let generation = leases.with(|table| table.generation(self.asked.session))?;
        Some(LeaseGrant { generation, refused })
    }
}

/// Adds what only the leader knows.
fn complete(leader: &Leader, answer: Answer) -> Answer {
    match answer {
        Ok(QueryResult::Statfs(mut statfs)) => {
            let replicas = u64::from(leader.cluster.replicas.max(1));
            let (total, free) = leader.roster.space();
            statfs.total_bytes = total / replicas;
            statfs.free_bytes = free / replicas;
            Ok(QueryResult::Statfs(statfs))
        }
        other => other,
    }
}
