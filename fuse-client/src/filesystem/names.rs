//! Calls about names. What leases allow is told from memory; all else is one linearizable request to the
//! metadata group.

use std::sync::Arc;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::InodeId;
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Attributes, Mutation, MutationResult, NewNode, Query, QueryResult, RenameMode};

use super::{Caller, Filesystem};
use crate::backend::unexpected;

impl Filesystem {
    /// The inode of a name.
    pub async fn lookup(&self, caller: Caller, parent: InodeId, name: Name) -> Result<Attributes, ClientError> {
        if let Some(answer) = self.try_lookup(parent, &name) {
            return answer;
        }
        match self.ask(caller.request, Query::Lookup { parent, name }).await? {
            QueryResult::Attributes(attributes) => Ok(self.observe(attributes)),
            _ => Err(unexpected("a lookup")),
        }
    }

    /// Makes anything but an open file.
    pub async fn make_node(
        &self,
        caller: Caller,
        parent: InodeId,
        name: Name,
        node: NewNode,
        mode: u32,
    ) -> Result<Attributes, ClientError> {
        let Caller { request, uid, gid, umask } = caller;
        let mutation = Mutation::Create {
            parent,
            name,
            node,
            mode: mode & 0o7777,
            umask,
            uid,
            gid,
            exclusive: true,
            open: None,
            exclusive_lease: false,
        };
        match self.change(request, mutation).await? {
            MutationResult::Node { attributes, .. } => Ok(self.observe(attributes)),
            _ => Err(unexpected("a create")),
        }
    }

    /// A further name of a file. What this mount has written goes first: data before names (P3).
    pub async fn link(
        self: &Arc<Self>,
        caller: Caller,
        inode: InodeId,
        parent: InodeId,
        name: Name,
    ) -> Result<Attributes, ClientError> {
        self.flush_inode(caller.request, inode).await?;
        match self.change(caller.request, Mutation::Link { inode, parent, name }).await? {
            MutationResult::Node { attributes, .. } => Ok(self.observe(attributes)),
            _ => Err(unexpected("a link")),
        }
    }

    /// Removes a name of anything but a directory.
    pub async fn unlink(&self, caller: Caller, parent: InodeId, name: Name) -> Result<(), ClientError> {
        let last = self.try_lookup(parent, &name).and_then(Result::ok).filter(|attributes| attributes.links == 1);
        self.change(caller.request, Mutation::Unlink { parent, name }).await?;
        if let Some(gone) = last {
            self.discard_if_unused(gone.inode);
            self.departed.add(gone);
        }
        Ok(())
    }

    /// The last name of a file is gone. If no program has it open, here or elsewhere, nobody will ever
    /// read what is dirty.
    fn discard_if_unused(&self, inode: InodeId) {
        let Some(file) = self.files.get(inode).filter(|file| !file.is_open()) else { return };
        {
            let mut inner = file.lock();
            if !inner.exclusive.is_unseen(&self.leases.time()) {
                return;
            }
            inner.dirty.clear();
            inner.pending_times = None;
        }
        self.files.unmark_if_clean(&file);
    }

    /// Removes an empty directory.
    pub async fn remove_directory(&self, caller: Caller, parent: InodeId, name: Name) -> Result<(), ClientError> {
        // The kernel has just looked it up, so this is in memory.
        let gone = self.try_lookup(parent, &name).and_then(Result::ok);
        self.change(caller.request, Mutation::RemoveDirectory { parent, name }).await?;
        if let Some(gone) = gone {
            self.departed.add(gone);
        }
        Ok(())
    }

    /// Renames. A file whose bytes are not committed is flushed first, so that a crash never leaves
    /// the new name with less than the old contents or all of the new (P3).
    pub async fn rename(
        self: &Arc<Self>,
        caller: Caller,
        (parent, name): (InodeId, Name),
        (new_parent, new_name): (InodeId, Name),
        mode: RenameMode,
    ) -> Result<(), ClientError> {
        if self.files.any_dirty() {
            self.flush_named(caller, parent, &name).await?;
            if mode == RenameMode::Exchange {
                self.flush_named(caller, new_parent, &new_name).await?;
            }
        }
        let known = |parent, name| self.try_lookup(parent, name).and_then(Result::ok);
        let replaced = if mode == RenameMode::Replace { known(new_parent, &new_name) } else { None };
        // Onto another name of the same inode nothing changes.
        let moved = replaced.and_then(|_| known(parent, &name)).map(|moved| moved.inode);
        let mutation = Mutation::Rename { parent, name, new_parent, new_name, mode };
        self.change(caller.request, mutation).await?;
        if let Some(replaced) = replaced.filter(|replaced| moved.is_some_and(|moved| moved != replaced.inode)) {
            self.departed.add(replaced);
        }
        Ok(())
    }

    async fn flush_named(self: &Arc<Self>, caller: Caller, parent: InodeId, name: &Name) -> Result<(), ClientError> {
        match self.lookup(caller, parent, name.clone()).await {
            Ok(attributes) => self.flush_inode(caller.request, attributes.inode).await,
            Err(ClientError::Fs(FsError::NotFound)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Target of a symlink.
    pub async fn read_link(&self, caller: Caller, inode: InodeId) -> Result<Bytes, ClientError> {
        let target = match self.try_read_link(inode) {
            Some(target) => target,
            None => match self.ask(caller.request, Query::ReadLink { inode }).await? {
                QueryResult::Bytes(target) => target,
                _ => return Err(unexpected("a readlink")),
            },
        };
        self.accessed(inode);
        Ok(target)
    }
}
