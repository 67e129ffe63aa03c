//! Makes a name and what it stands for.

use bytes::Bytes;
use cairn_common::ids::{InodeId, SessionId};
use cairn_common::limits::SYMLINK_MAX_BYTES;
use cairn_common::mode::SETGID;
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{MutationResult, NewNode, NodeKind, OpenMode};

use super::acl;
use super::directory::{self, NewEntry};
use super::initialize::new_inode;
use super::opens;
use crate::namespace::fault::Fault;
use crate::namespace::keys::{self, Counter};
use crate::namespace::read;
use crate::namespace::records::{Inode, Opaque};
use crate::namespace::state::State;

/// Bits 48..63 of an inode number are reserved for a shard.
const LAST_INODE: u64 = (1 << 48) - 1;

/// The fields of `Mutation::Create`.
pub(super) struct Create<'m> {
    pub(super) parent: InodeId,
    pub(super) name: &'m Name,
    pub(super) node: &'m NewNode,
    pub(super) mode: u32,
    pub(super) umask: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) exclusive: bool,
    pub(super) open: Option<OpenMode>,
    pub(super) exclusive_lease: bool,
}

pub(super) fn create(state: &mut State<'_, '_>, session: SessionId, new: &Create<'_>) -> Result<MutationResult, Fault> {
    let (kind, device, target) = node_parts(new.node)?;
    if new.open.is_some() && kind != NodeKind::File {
        return Err(FsError::Invalid.into());
    }
    new.name.check()?;
    let parent = read::directory(state.view(), new.parent)?;
    if let Some(existing) = read::entry(state.view(), new.parent, new.name.as_bytes())? {
        if new.exclusive || kind != NodeKind::File || existing.kind != NodeKind::File {
            return Err(FsError::Exists.into());
        }
        let inode = read::named_inode(state.view(), existing.inode)?;
        state.touched.shown.insert(existing.inode);
        let exclusive = open(state, session, existing.inode, new)?;
        return Ok(MutationResult::Node { attributes: inode.attributes(existing.inode), created: false, exclusive });
    }
    let id = InodeId(state.next(Counter::LastInode, InodeId::ROOT.0)?);
    if id.0 > LAST_INODE {
        return Err(FsError::NoSpace.into());
    }
    state.next(Counter::Inodes, 0)?;
    state.touched.made.insert(id);
    let mut inode = new_inode(kind, new.mode, new.uid, new.gid, state.time);
    inherit_group(&parent, &mut inode);
    inode.device = device;
    if kind == NodeKind::Directory {
        inode.parent = new.parent;
    }
    if let Some(target) = target {
        inode.mode = 0o777;
        inode.size = target.len() as u64;
        state.put_versioned(keys::symlink(id), &Opaque(target.clone()));
    } else {
        acl::inherit(state, (new.parent, &parent), (id, &mut inode), new.umask)?;
    }
    state.put_inode(id, &inode);
    directory::insert(state, new.parent, new.name.as_bytes(), NewEntry { inode: id, kind, cookie: None })?;
    let exclusive = open(state, session, id, new)?;
    Ok(MutationResult::Node { attributes: inode.attributes(id), created: true, exclusive })
}

/// Opens the file if that is asked for; whether the session holds it exclusively now.
fn open(state: &mut State<'_, '_>, session: SessionId, id: InodeId, new: &Create<'_>) -> Result<bool, Fault> {
    match new.open {
        Some(mode) => opens::register(state, session, id, mode, new.exclusive_lease),
        None => opens::holds(state, session, id),
    }
}

/// A setgid directory hands its group down, and to directories the bit as well.
fn inherit_group(parent: &Inode, inode: &mut Inode) {
    if parent.mode & SETGID != 0 {
        inode.gid = parent.gid;
        if inode.is_directory() {
            inode.mode |= SETGID;
        }
    }
}

/// Kind, device number and symlink target of a new node.
fn node_parts(node: &NewNode) -> Result<(NodeKind, u64, Option<&Bytes>), FsError> {
    Ok(match node {
        NewNode::File => (NodeKind::File, 0, None),
        NewNode::Directory => (NodeKind::Directory, 0, None),
        NewNode::Fifo => (NodeKind::Fifo, 0, None),
        NewNode::Socket => (NodeKind::Socket, 0, None),
        NewNode::CharDevice(number) => (NodeKind::CharDevice, *number, None),
        NewNode::BlockDevice(number) => (NodeKind::BlockDevice, *number, None),
        NewNode::Symlink(target) if target.is_empty() || target.contains(&0) => return Err(FsError::Invalid),
        NewNode::Symlink(target) if target.len() > SYMLINK_MAX_BYTES => return Err(FsError::NameTooLong),
        NewNode::Symlink(target) => (NodeKind::Symlink, 0, Some(target)),
    })
}
