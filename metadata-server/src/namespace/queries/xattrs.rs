//! Extended attributes of an inode. An inode without any is not searched: Linux asks for
//! `security.capability` before every write.

use std::ops::ControlFlow;

use bytes::Bytes;
use cairn_common::ids::InodeId;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::QueryResult;

use crate::namespace::fault::Fault;
use crate::namespace::keys::{self, KeyFields};
use crate::namespace::ops::check_xattr_name;
use crate::namespace::read::{self, Direction};
use crate::namespace::records::Opaque;
use crate::storage::ReadView;

pub(super) fn value(view: &dyn ReadView, id: InodeId, name: &[u8]) -> Result<QueryResult, Fault> {
    check_xattr_name(name)?;
    if read::requested_inode(view, id)?.xattr_list_bytes == 0 {
        return Err(FsError::NoAttribute.into());
    }
    let (_, Opaque(value)) = read::latest(view, &keys::xattr(id, name))?.ok_or(FsError::NoAttribute)?;
    Ok(QueryResult::Bytes(value))
}

pub(super) fn names(view: &dyn ReadView, id: InodeId) -> Result<QueryResult, Fault> {
    let mut names = Vec::new();
    if read::requested_inode(view, id)?.xattr_list_bytes > 0 {
        read::scan(view, keys::xattrs(id), Direction::Forward, &mut |key, _| {
            let mut fields = KeyFields::of(key);
            fields.u64()?;
            names.push(Bytes::copy_from_slice(fields.rest()));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(QueryResult::Names(names))
}
