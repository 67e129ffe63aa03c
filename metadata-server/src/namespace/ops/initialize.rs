//! The beginning of a cluster, and the few numbers that it gives out later.

use cairn_common::clock::Timestamp;
use cairn_common::ids::{ClusterId, DataVersion, InodeId, MetadataNodeId};
use cairn_common::protocol::metadata::NodeKind;

use crate::namespace::keys::{self, Counter};
use crate::namespace::read;
use crate::namespace::records::{Cluster, FIRST_COOKIE, Inode};
use crate::namespace::state::State;
use crate::storage::StorageError;

/// The feature level of a new cluster.
const FIRST_FEATURE_LEVEL: u32 = 1;
/// Node ids up to this one belong to the founding members, who bring theirs along.
const LAST_FOUNDING_NODE: u64 = 100;

/// Makes the root directory, unless the cluster is there already.
pub(crate) fn initialize(
    state: &mut State<'_, '_>,
    cluster: ClusterId,
    partitions: u32,
    replicas: u8,
) -> Result<(), StorageError> {
    if read::plain::<Cluster>(state.view(), &keys::cluster())?.is_some() {
        return Ok(());
    }
    state.put(keys::cluster(), &Cluster { cluster, partitions, replicas, feature_level: FIRST_FEATURE_LEVEL });
    state.next(Counter::LastInode, InodeId::ROOT.0 - 1)?;
    state.next(Counter::Inodes, 0)?;
    let root = new_inode(NodeKind::Directory, 0o755, 0, 0, state.time);
    state.put_inode(InodeId::ROOT, &Inode { parent: InodeId::ROOT, ..root });
    Ok(())
}

/// An inode without a name or content.
pub(super) fn new_inode(kind: NodeKind, mode: u32, uid: u32, gid: u32, time: Timestamp) -> Inode {
    let directory = kind == NodeKind::Directory;
    Inode {
        kind,
        mode: mode & 0o7777,
        links: if directory { 2 } else { 1 },
        uid,
        gid,
        size: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        data_version: DataVersion(0),
        xattr_list_bytes: 0,
        access_acl: false,
        default_acl: false,
        device: 0,
        allocated: 0,
        trim: None,
        parent: InodeId(0),
        next_cookie: if directory { FIRST_COOKIE } else { 0 },
    }
}

/// Gives out a node id behind those of the founding members.
pub(crate) fn allocate_metadata_node(state: &mut State<'_, '_>) -> Result<MetadataNodeId, StorageError> {
    state.next(Counter::LastMetadataNode, LAST_FOUNDING_NODE).map(MetadataNodeId)
}

/// Raises the feature level; before the cluster is made there is none to raise.
pub(crate) fn raise_feature_level(state: &mut State<'_, '_>, level: u32) -> Result<(), StorageError> {
    if let Some(cluster) = read::plain::<Cluster>(state.view(), &keys::cluster())?
        && cluster.feature_level < level
    {
        state.put(keys::cluster(), &Cluster { feature_level: level, ..cluster });
    }
    Ok(())
}
