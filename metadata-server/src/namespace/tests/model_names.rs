//! The reference model's operations on names.

use cairn_common::clock::Timestamp;
use cairn_common::ids::{InodeId, SessionId};
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Mutation, MutationResult, NewNode, NodeKind, RenameMode};

use super::model::{Answer, CTIME, MTIME, Model, Node};

impl Model {
    fn put_entry(&mut self, time: Timestamp, parent: u64, name: &Name, id: u64, cookie: Option<u64>) {
        let node = self.node(parent);
        let cookie = cookie.unwrap_or_else(|| {
            node.next_cookie += 1;
            node.next_cookie - 1
        });
        node.entries.insert(name.as_bytes().to_vec(), (id, cookie));
        self.directory_changed(time, parent);
    }

    fn take_entry(&mut self, time: Timestamp, parent: u64, name: &Name) {
        self.node(parent).entries.remove(name.as_bytes()).unwrap();
        self.directory_changed(time, parent);
    }

    fn directory_changed(&mut self, time: Timestamp, id: u64) {
        self.node(id).times[MTIME] = time;
        self.node(id).times[CTIME] = time;
    }

    pub(super) fn create(&mut self, session: SessionId, time: Timestamp, mutation: &Mutation) -> Answer {
        let Mutation::Create { parent, name, node, mode, umask, uid, gid, exclusive, open, exclusive_lease } = mutation
        else {
            unreachable!()
        };
        let is_file = *node == NewNode::File;
        if let NewNode::Symlink(target) = node
            && target.is_empty()
        {
            return Err(FsError::Invalid);
        }
        if open.is_some() && !is_file {
            return Err(FsError::Invalid);
        }
        name.check()?;
        let parent = self.directory(*parent)?;
        if let Some((id, _)) = self.entry(parent, name) {
            if *exclusive || !is_file || self.nodes[&id].kind != NodeKind::File {
                return Err(FsError::Exists);
            }
            let exclusive = match open {
                Some(mode) => self.register(session, id, *mode, *exclusive_lease),
                None => self.holds(session, id),
            };
            return Ok(MutationResult::Node { attributes: self.attributes(id), created: false, exclusive });
        }
        self.last_inode += 1;
        let id = self.last_inode;
        let mut new = Node::new(NodeKind::File, *mode, *uid, *gid, time);
        match node {
            NewNode::File => {}
            NewNode::Directory => new.kind = NodeKind::Directory,
            NewNode::Symlink(target) => {
                new.kind = NodeKind::Symlink;
                new.mode = 0o777;
                new.target = target.clone();
            }
            NewNode::Fifo => new.kind = NodeKind::Fifo,
            NewNode::Socket => new.kind = NodeKind::Socket,
            NewNode::CharDevice(device) => (new.kind, new.device) = (NodeKind::CharDevice, *device),
            NewNode::BlockDevice(device) => (new.kind, new.device) = (NodeKind::BlockDevice, *device),
        }
        if self.nodes[&parent].mode & 0o2000 != 0 {
            new.gid = self.nodes[&parent].gid;
            if new.kind == NodeKind::Directory {
                new.mode |= 0o2000;
            }
        }
        new.inherit(&self.nodes[&parent], *umask);
        self.nodes.insert(id, new);
        self.put_entry(time, parent, name, id, None);
        let exclusive = open.is_some_and(|mode| self.register(session, id, mode, *exclusive_lease));
        Ok(MutationResult::Node { attributes: self.attributes(id), created: true, exclusive })
    }

    pub(super) fn link(
        &mut self,
        session: SessionId,
        time: Timestamp,
        id: InodeId,
        parent: InodeId,
        name: &Name,
    ) -> Answer {
        name.check()?;
        let id = self.requested(id)?;
        let parent = self.directory(parent)?;
        if self.entry(parent, name).is_some() {
            return Err(FsError::Exists);
        }
        if self.is_directory(id) {
            return Err(FsError::NotPermitted);
        }
        if self.names_of(id) == 0 {
            return Err(FsError::NotFound);
        }
        self.put_entry(time, parent, name, id, None);
        self.node(id).times[CTIME] = time;
        let exclusive = self.holds(session, id);
        Ok(MutationResult::Node { attributes: self.attributes(id), created: true, exclusive })
    }

    pub(super) fn unlink(&mut self, time: Timestamp, parent: InodeId, name: &Name, directory: bool) -> Answer {
        name.check()?;
        let parent = self.directory(parent)?;
        let (id, _) = self.entry(parent, name).ok_or(FsError::NotFound)?;
        match (directory, self.is_directory(id)) {
            (false, true) => return Err(FsError::IsDirectory),
            (true, false) => return Err(FsError::NotDirectory),
            (true, true) if !self.nodes[&id].entries.is_empty() => return Err(FsError::NotEmpty),
            _ => {}
        }
        self.take_entry(time, parent, name);
        self.node(id).times[CTIME] = time;
        Ok(MutationResult::Done)
    }

    fn is_within(&self, mut id: u64, above: u64) -> bool {
        while id != above && id != 1 {
            id = self.parent_of(id);
        }
        id == above
    }

    pub(super) fn rename(
        &mut self,
        time: Timestamp,
        (parent, name): (InodeId, &Name),
        (new_parent, new_name): (InodeId, &Name),
        mode: RenameMode,
    ) -> Answer {
        name.check()?;
        new_name.check()?;
        let (parent, new_parent) = (self.directory(parent)?, self.directory(new_parent)?);
        let (source, source_cookie) = self.entry(parent, name).ok_or(FsError::NotFound)?;
        let target = self.entry(new_parent, new_name);
        if mode == RenameMode::NoReplace && target.is_some() {
            return Err(FsError::Exists);
        }
        if mode == RenameMode::Exchange && target.is_none() {
            return Err(FsError::NotFound);
        }
        if self.is_directory(source) && self.is_within(new_parent, source) {
            return Err(FsError::Invalid);
        }
        let Some((target, target_cookie)) = target else {
            self.take_entry(time, parent, name);
            let cookie = (parent == new_parent).then_some(source_cookie);
            self.put_entry(time, new_parent, new_name, source, cookie);
            self.node(source).times[CTIME] = time;
            return Ok(MutationResult::Done);
        };
        if self.is_directory(target) && self.is_within(parent, target) {
            // Two names of one directory do not exist, so the target is a true ancestor, or it
            // is the parent itself: never empty.
            return Err(if mode == RenameMode::Exchange { FsError::Invalid } else { FsError::NotEmpty });
        }
        if source == target {
            return Ok(MutationResult::Done);
        }
        if mode == RenameMode::Exchange {
            self.put_entry(time, parent, name, target, Some(source_cookie));
            self.put_entry(time, new_parent, new_name, source, Some(target_cookie));
        } else {
            match (self.is_directory(source), self.is_directory(target)) {
                (true, false) => return Err(FsError::NotDirectory),
                (false, true) => return Err(FsError::IsDirectory),
                (true, true) if !self.nodes[&target].entries.is_empty() => return Err(FsError::NotEmpty),
                _ => {}
            }
            self.take_entry(time, parent, name);
            self.put_entry(time, new_parent, new_name, source, Some(target_cookie));
        }
        self.node(source).times[CTIME] = time;
        self.node(target).times[CTIME] = time;
        Ok(MutationResult::Done)
    }
}
