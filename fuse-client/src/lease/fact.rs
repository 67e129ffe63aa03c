//! What an answer of the cluster tells about an inode.

use bytes::Bytes;
use cairn_common::extent::Extent;
use cairn_common::ids::{DataVersion, InodeId};
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Attributes, DirectoryEntry, Query, QueryResult};

/// One thing told about one inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Its attributes.
    Attributes(Attributes),
    /// What a name in a directory stands for; None: it does not exist.
    Name {
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Name,
        /// What it stands for.
        inode: Option<InodeId>,
    },
    /// Where `..` of a directory leads.
    Parent {
        /// The directory.
        inode: InodeId,
        /// Its parent.
        parent: InodeId,
    },
    /// The target of a symlink.
    Target {
        /// The symlink.
        inode: InodeId,
        /// Its target.
        target: Bytes,
    },
    /// An extended attribute; None: it does not exist.
    Xattr {
        /// The inode.
        inode: InodeId,
        /// Full name.
        name: Bytes,
        /// The value.
        value: Option<Bytes>,
    },
    /// Names of all extended attributes.
    XattrNames {
        /// The inode.
        inode: InodeId,
        /// The names.
        names: Vec<Bytes>,
    },
    /// Entries of a directory behind a cookie, without a gap.
    Page {
        /// The directory.
        inode: InodeId,
        /// The cookie.
        after: u64,
        /// The entries.
        entries: Vec<DirectoryEntry>,
        /// None is behind these.
        end: bool,
    },
    /// All extents of a file.
    Extents {
        /// The file.
        inode: InodeId,
        /// Their version.
        version: DataVersion,
        /// Ascending; gaps are holes.
        extents: Vec<Extent>,
    },
}

impl Fact {
    /// The inode whose lease covers it.
    pub fn inode(&self) -> InodeId {
        match self {
            Self::Attributes(attributes) => attributes.inode,
            Self::Name { parent, .. } => *parent,
            Self::Parent { inode, .. }
            | Self::Target { inode, .. }
            | Self::Xattr { inode, .. }
            | Self::XattrNames { inode, .. }
            | Self::Page { inode, .. }
            | Self::Extents { inode, .. } => *inode,
        }
    }

    /// Everything that the answer to a query tells.
    pub fn of(query: &Query, result: &Result<QueryResult, FsError>) -> Vec<Self> {
        match (query, result) {
            (Query::Lookup { parent, name }, Ok(QueryResult::Attributes(child))) => {
                let name = Self::Name { parent: *parent, name: name.clone(), inode: Some(child.inode) };
                vec![name, Self::Attributes(*child)]
            }
            (Query::Lookup { parent, name }, Err(FsError::NotFound)) => {
                vec![Self::Name { parent: *parent, name: name.clone(), inode: None }]
            }
            (Query::Attributes { .. }, Ok(QueryResult::Attributes(attributes))) => vec![Self::Attributes(*attributes)],
            (Query::Parent { inode }, Ok(QueryResult::Attributes(parent))) => {
                vec![Self::Parent { inode: *inode, parent: parent.inode }, Self::Attributes(*parent)]
            }
            (Query::ReadLink { inode }, Ok(QueryResult::Bytes(target))) => {
                vec![Self::Target { inode: *inode, target: target.clone() }]
            }
            (Query::Xattr { inode, name }, Ok(QueryResult::Bytes(value))) => {
                vec![Self::Xattr { inode: *inode, name: name.clone(), value: Some(value.clone()) }]
            }
            (Query::Xattr { inode, name }, Err(FsError::NoAttribute)) => {
                vec![Self::Xattr { inode: *inode, name: name.clone(), value: None }]
            }
            (Query::Xattrs { inode }, Ok(QueryResult::Names(names))) => {
                vec![Self::XattrNames { inode: *inode, names: names.clone() }]
            }
            (
                Query::ReadDirectory { inode, after, up_to, .. },
                Ok(QueryResult::Entries { entries, end, last_cookie }),
            ) => {
                let attributes = entries.iter().filter_map(|entry| entry.attributes).map(Self::Attributes);
                // The end of what was asked for; there may be newer entries.
                let end = *end && up_to >= last_cookie;
                let page = Self::Page { inode: *inode, after: *after, entries: entries.clone(), end };
                std::iter::once(page).chain(attributes).collect()
            }
            (
                Query::Extents { inode, from: 0, .. },
                Ok(QueryResult::Extents { extents, complete_to: u64::MAX, data_version, .. }),
            ) => vec![Self::Extents { inode: *inode, version: *data_version, extents: extents.clone() }],
            _ => Vec::new(),
        }
    }
}
