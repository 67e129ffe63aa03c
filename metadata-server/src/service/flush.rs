//! Flush on demand, which gives promise P1 before there are leases: before a request about a file is
//! answered, every other mount that has it open for writing has flushed what it holds.
//!
//! Who waits for whom: lookups, attributes, extents, opens and changes of attributes wait for
//! flushes; a flush is made of commits and a `FlushDone`, which wait for nobody. So no two mounts
//! wait for each other. Every wait is bounded by `flush_wait` since the writer last confirmed
//! anything about the file, and by the end of its session.

use std::sync::Arc;

use cairn_common::ids::{InodeId, RequestId, SessionId};
use cairn_common::protocol::metadata::{Mutation, NodeKind, Query, QueryResult};
use cairn_common::protocol::{FsError, ServiceError};
use futures::future::join_all;

use super::context::{Context, broken};
use super::leader::Leader;
use crate::namespace::{self, cluster};
use crate::storage::{ReadView, StorageError};

/// A file whose writers must flush before somebody is answered.
pub(super) struct DirtyFile {
    pub(super) inode: InodeId,
    pub(super) writers: Vec<SessionId>,
}

/// The file that an answer tells about, if sessions other than `asker` have it open for writing.
pub(super) fn dirty_file(
    view: &dyn ReadView,
    asker: SessionId,
    query: &Query,
    answer: &Result<QueryResult, FsError>,
) -> Result<Option<DirtyFile>, StorageError> {
    match (query, answer) {
        (Query::Lookup { .. } | Query::Attributes { .. }, Ok(QueryResult::Attributes(found)))
            if found.kind == NodeKind::File =>
        {
            writers(view, asker, found.inode)
        }
        (Query::Extents { inode, .. }, Ok(_)) => writers(view, asker, *inode),
        _ => Ok(None),
    }
}

/// The file whose bytes or size a change looks at, if other sessions have it open for writing.
/// Commits are not among them: they are what a flush is made of.
pub(super) fn file_of_change(
    view: &dyn ReadView,
    asker: SessionId,
    mutation: &Mutation,
) -> Result<Option<DirtyFile>, StorageError> {
    match mutation {
        // A writer believes what it knows of `security.capability` until it is asked to flush.
        Mutation::Open { inode, .. } | Mutation::SetAttributes { inode, .. } | Mutation::SetXattr { inode, .. } => {
            writers(view, asker, *inode)
        }
        Mutation::Create { parent, name, exclusive: false, .. } => {
            let lookup = Query::Lookup { parent: *parent, name: name.clone() };
            let answer = namespace::answer(view, &lookup)?;
            dirty_file(view, asker, &lookup, &answer)
        }
        _ => Ok(None),
    }
}

fn writers(view: &dyn ReadView, asker: SessionId, inode: InodeId) -> Result<Option<DirtyFile>, StorageError> {
    let mut writers = cluster::writers_of(view, inode)?;
    writers.retain(|writer| *writer != asker);
    Ok((!writers.is_empty()).then_some(DirtyFile { inode, writers }))
}

/// Has the writers of a file flush, and waits for them.
pub(super) async fn flush(context: &Context, leader: &Arc<Leader>, request: RequestId, file: &DirtyFile) {
    let waits = file.writers.iter().map(|writer| async move {
        let now = context.clock.monotonic();
        let mut pending = leader.events.request_flush(*writer, file.inode, now);
        let left = (pending.stuck_since + context.options.timings.flush_wait).saturating_sub(now);
        if tokio::time::timeout(left, pending.finished()).await.is_err() {
            tracing::warn!(
                request = request.0, session = %writer, inode = %file.inode,
                "the mount has flushed nothing of the file for {:?}: answered without what it may still hold",
                context.options.timings.flush_wait
            );
        }
    });
    tokio::select! {
        _ = join_all(waits) => {}
        // The caller finds out with its next linearizable read or proposal.
        () = leader.ended() => {}
    }
}

/// [`file_of_change`] and [`flush`] for a change that is about to be proposed. The leader's own state
/// will do: it has all that was acknowledged, and the proposal fails if it does not lead any more.
pub(super) async fn flush_before(
    context: &Context,
    leader: &Arc<Leader>,
    request: RequestId,
    asker: SessionId,
    mutation: &Mutation,
) -> Result<(), ServiceError> {
    if !matches!(
        mutation,
        Mutation::Open { .. }
            | Mutation::SetAttributes { .. }
            | Mutation::SetXattr { .. }
            | Mutation::Create { exclusive: false, .. }
    ) {
        return Ok(());
    }
    let file = {
        let view = context.group.view();
        file_of_change(&*view, asker, mutation).map_err(broken)?
    };
    if let Some(file) = file {
        flush(context, leader, request, &file).await;
    }
    Ok(())
}
