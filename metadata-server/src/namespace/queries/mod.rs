//! Reads of the namespace: one view, no change, and no work beyond what the answer holds.

mod extents;
mod names;
mod read_directory;
mod xattrs;

use cairn_common::ids::InodeId;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Query, QueryResult, Statfs};

use super::fault::Fault;
use super::keys::Counter;
use super::locks;
use super::read;
use crate::storage::{ReadView, StorageError};
use read_directory::Page;

pub(crate) fn answer(view: &dyn ReadView, query: &Query) -> Result<Result<QueryResult, FsError>, StorageError> {
    Fault::split(match query {
        Query::Lookup { parent, name } => names::lookup(view, *parent, name),
        Query::Attributes { inode } => attributes(view, *inode),
        Query::ReadLink { inode } => names::read_link(view, *inode),
        Query::ReadDirectory { inode, after, up_to, limit, attributes } => read_directory::read_directory(
            view,
            &Page { inode: *inode, after: *after, up_to: *up_to, limit: *limit, attributes: *attributes },
        ),
        Query::Extents { inode, from, to } => extents::extents(view, *inode, (*from, *to)),
        Query::Xattr { inode, name } => xattrs::value(view, *inode, name),
        Query::Xattrs { inode } => xattrs::names(view, *inode),
        Query::Statfs => statfs(view),
        Query::Parent { inode } => names::parent(view, *inode),
        Query::LockInTheWay { session, lock } => {
            let other = locks::in_the_way(view, *session, lock)?;
            Ok(QueryResult::Lock(other))
        }
    })
}

fn attributes(view: &dyn ReadView, id: InodeId) -> Result<QueryResult, Fault> {
    Ok(QueryResult::Attributes(read::requested_inode(view, id)?.attributes(id)))
}

fn statfs(view: &dyn ReadView) -> Result<QueryResult, Fault> {
    Ok(QueryResult::Statfs(Statfs { inodes: read::counter(view, Counter::Inodes, 0)?, ..Statfs::default() }))
}
