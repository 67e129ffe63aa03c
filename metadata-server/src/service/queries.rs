//! Linearizable reads of a mount.

use std::sync::Arc;

use cairn_common::ids::{InodeId, RequestId, SessionId};
use cairn_common::protocol::metadata::{Query, QueryResult};
use cairn_common::protocol::{FsError, ServiceError};

use super::context::{Context, broken};
use super::flush::{self, DirtyFile};
use super::leader::Leader;
use crate::namespace::{self, cluster};
use crate::storage::{ReadView, StorageError};

/// A name may come to mean another file while the first one is flushed; after so many the newest
/// answer is given.
const ROUNDS: usize = 4;

/// Answers a read, after other mounts have flushed what it tells about.
pub(super) async fn answer(
    context: &Context,
    leader: &Arc<Leader>,
    request: RequestId,
    session: SessionId,
    query: &Query,
) -> Result<Result<QueryResult, FsError>, ServiceError> {
    let mut flushed: Option<InodeId> = None;
    for _ in 0..ROUNDS {
        let view = context.fresh_view().await?;
        let looked = look(&*view, session, query).map_err(broken)?;
        drop(view);
        let Some((answer, dirty)) = looked else { return Err(ServiceError::SessionFenced { session }) };
        match dirty {
            Some(file) if flushed != Some(file.inode) => {
                flush::flush(context, leader, request, &file).await;
                flushed = Some(file.inode);
            }
            _ => return Ok(finish(leader, answer)),
        }
    }
    let view = context.fresh_view().await?;
    let answer = namespace::answer(&*view, query).map_err(broken)?;
    Ok(finish(leader, answer))
}

type Looked = (Result<QueryResult, FsError>, Option<DirtyFile>);

/// The answer of one view; None if the session does not exist.
fn look(view: &dyn ReadView, session: SessionId, query: &Query) -> Result<Option<Looked>, StorageError> {
    if cluster::session(view, session)?.is_none() {
        return Ok(None);
    }
    let answer = namespace::answer(view, query)?;
    let dirty = flush::dirty_file(view, session, query, &answer)?;
    Ok(Some((answer, dirty)))
}

/// Adds what only the leader knows.
fn finish(leader: &Leader, answer: Result<QueryResult, FsError>) -> Result<QueryResult, FsError> {
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
