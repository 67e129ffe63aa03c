//! From names to inodes, and what leads from an inode elsewhere.

use cairn_common::ids::InodeId;
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{NodeKind, QueryResult};

use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::keys;
use crate::namespace::read;
use crate::namespace::records::Opaque;
use crate::storage::ReadView;

pub(super) fn lookup(view: &dyn ReadView, parent: InodeId, name: &Name) -> Result<QueryResult, Fault> {
    name.check()?;
    read::directory(view, parent)?;
    let entry = read::entry(view, parent, name.as_bytes())?.ok_or(FsError::NotFound)?;
    Ok(QueryResult::Attributes(read::named_inode(view, entry.inode)?.attributes(entry.inode)))
}

pub(super) fn read_link(view: &dyn ReadView, id: InodeId) -> Result<QueryResult, Fault> {
    if read::requested_inode(view, id)?.kind != NodeKind::Symlink {
        return Err(FsError::Invalid.into());
    }
    let (_, Opaque(target)) =
        read::latest(view, &keys::symlink(id))?.ok_or_else(|| corrupt(format!("symlink {id} has no target")))?;
    Ok(QueryResult::Bytes(target))
}

pub(super) fn parent(view: &dyn ReadView, id: InodeId) -> Result<QueryResult, Fault> {
    let inode = read::requested_inode(view, id)?;
    if !inode.is_directory() {
        return Err(FsError::NotDirectory.into());
    }
    Ok(QueryResult::Attributes(read::named_inode(view, inode.parent)?.attributes(inode.parent)))
}
