//! An operation on names that is not durable yet, and what it builds on.

use std::ffi::OsString;

/// Number of an inode of the layer; never reused, also not after a power loss.
pub(super) type NodeId = u64;

/// What happened to names.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A name for a file or symlink; `creates` if it is its first.
    Link {
        /// Whether the inode came into being with it.
        creates: bool,
    },
    /// A new directory.
    MakeDirectory,
    /// A name gone.
    Unlink,
    /// A directory gone.
    RemoveDirectory,
    /// A name moved, over what had the other name before.
    Rename {
        /// Directory of the new name.
        to: NodeId,
        /// The new name.
        to_name: OsString,
        /// What the new name stood for; after an exchange it has the old name.
        other: Option<NodeId>,
        /// Both names swap.
        exchange: bool,
    },
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// Directory of the name.
    pub(super) directory: NodeId,
    /// The name.
    pub(super) name: OsString,
    /// What the name stands for.
    pub(super) node: NodeId,
    /// What happened.
    pub(super) change: Change,
}

impl Operation {
    /// Whether it changes entries of the directory.
    pub(super) fn touches(&self, directory: NodeId) -> bool {
        self.directories().any(|touched| touched == directory)
    }

    /// Whether it brought the inode into being.
    pub(super) fn creates(&self, node: NodeId) -> bool {
        self.node == node && matches!(self.change, Change::Link { creates: true } | Change::MakeDirectory)
    }

    /// Whether one of two operations builds on the other, so that a power loss that takes the first
    /// takes the second, too: the same name, the same inode, or a directory that one makes or moves
    /// and the other works in.
    pub(super) fn builds_on(&self, earlier: &Self) -> bool {
        self.names().any(|mine| earlier.names().any(|theirs| mine == theirs))
            || self.objects().any(|mine| earlier.objects().chain(earlier.directories()).any(|theirs| mine == theirs))
            || self.directories().any(|mine| earlier.objects().any(|theirs| mine == theirs))
    }

    fn directories(&self) -> impl Iterator<Item = NodeId> {
        let to = match &self.change {
            Change::Rename { to, .. } => Some(*to),
            _ => None,
        };
        std::iter::once(self.directory).chain(to)
    }

    fn objects(&self) -> impl Iterator<Item = NodeId> {
        let other = match &self.change {
            Change::Rename { other, .. } => *other,
            _ => None,
        };
        std::iter::once(self.node).chain(other)
    }

    fn names(&self) -> impl Iterator<Item = (NodeId, &OsString)> {
        let to = match &self.change {
            Change::Rename { to, to_name, .. } => Some((*to, to_name)),
            _ => None,
        };
        std::iter::once((self.directory, &self.name)).chain(to)
    }
}
