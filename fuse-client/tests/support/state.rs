//! The namespace of the test cluster: what a change does, and what a question is answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use cairn_common::block::BlockId;
use cairn_common::clock::Timestamp;
use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::{DataVersion, InodeId, SessionId};
use cairn_common::limits::INLINE_MAX_BYTES;
use cairn_common::name::Name;
use cairn_common::posix_acl::{AclKind, PosixAcl};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{
    AllocateMode, Attributes, DirectoryEntry, Mutation, MutationResult, NewNode, NodeKind, OpenMode, Query,
    QueryResult, Statfs, TimeChange, XattrPresence,
};

use super::locks::Locks;

pub(crate) struct State {
    pub(crate) names: BTreeMap<(InodeId, Name), (InodeId, u64)>,
    pub(crate) nodes: BTreeMap<InodeId, Node>,
    pub(crate) blocks: HashMap<BlockId, Bytes>,
    pub(crate) opens: BTreeSet<(InodeId, SessionId, OpenMode)>,
    pub(crate) exclusive: BTreeMap<InodeId, SessionId>,
    pub(crate) opens_sent: u32,
    pub(crate) locks: Locks,
    next: u64,
    clock: u32,
}

pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) extents: BTreeMap<u64, Extent>,
    xattrs: BTreeMap<Bytes, Bytes>,
    target: Bytes,
    parent: InodeId,
}

impl Default for State {
    fn default() -> Self {
        let mut state = Self {
            names: BTreeMap::new(),
            nodes: BTreeMap::new(),
            blocks: HashMap::new(),
            opens: BTreeSet::new(),
            exclusive: BTreeMap::new(),
            opens_sent: 0,
            locks: Locks::default(),
            next: 1,
            clock: 0,
        };
        state.make(InodeId::ROOT, &NewNode::Directory, 0o755);
        state
    }
}

impl State {
    fn now(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp { seconds: 1_000_000_000, nanos: self.clock }
    }

    fn make(&mut self, parent: InodeId, node: &NewNode, mode: u32) -> Attributes {
        let (inode, now) = (InodeId(self.next), self.now());
        self.next += 1;
        let (kind, target) = match node {
            NewNode::Directory => (NodeKind::Directory, Bytes::new()),
            NewNode::Symlink(target) => (NodeKind::Symlink, target.clone()),
            _ => (NodeKind::File, Bytes::new()),
        };
        let attributes = Attributes {
            inode,
            kind,
            mode,
            links: 1,
            uid: 0,
            gid: 0,
            device: 0,
            size: 0,
            allocated: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            data_version: DataVersion(1),
            xattrs: XattrPresence::default(),
        };
        let (extents, xattrs) = (BTreeMap::new(), BTreeMap::new());
        self.nodes.insert(inode, Node { attributes, extents, xattrs, target, parent });
        attributes
    }

    pub(crate) fn node(&mut self, inode: InodeId) -> Result<&mut Node, FsError> {
        self.nodes.get_mut(&inode).ok_or(FsError::Stale)
    }

    fn stands_for(&self, parent: InodeId, name: &Name) -> Option<InodeId> {
        self.names.get(&(parent, name.clone())).map(|(inode, _)| *inode)
    }

    /// What a change writes, as things are now, and the inode whose last name goes.
    pub(crate) fn touched(&self, session: SessionId, mutation: &Mutation) -> (BTreeSet<InodeId>, Option<InodeId>) {
        let mut touched = BTreeSet::new();
        let mut last = None;
        match mutation {
            Mutation::Create { parent, name, .. } => {
                touched.insert(*parent);
                touched.extend(self.stands_for(*parent, name));
            }
            Mutation::Unlink { parent, name } | Mutation::RemoveDirectory { parent, name } => {
                touched.insert(*parent);
                last = self.stands_for(*parent, name);
                touched.extend(last);
            }
            Mutation::Rename { parent, name, new_parent, new_name, .. } => {
                last = self.stands_for(*new_parent, new_name);
                touched.extend([*parent, *new_parent]);
                touched.extend(self.stands_for(*parent, name).into_iter().chain(last));
            }
            Mutation::Link { inode, parent, .. } => touched.extend([*inode, *parent]),
            Mutation::Open { inode, exclusive_lease: true, .. } | Mutation::AcquireExclusive { inode } => {
                if self.exclusive.get(inode) != Some(&session) {
                    touched.insert(*inode);
                }
            }
            Mutation::SetAttributes { inode, .. }
            | Mutation::Commit { inode, .. }
            | Mutation::SetXattr { inode, .. }
            | Mutation::RemoveXattr { inode, .. }
            | Mutation::SetAcl { inode, .. }
            | Mutation::Allocate { inode, .. }
            | Mutation::CopyRange { inode, .. } => drop(touched.insert(*inode)),
            Mutation::Open { .. }
            | Mutation::GiveUpExclusive { .. }
            | Mutation::Release { .. }
            | Mutation::SetLock { .. }
            | Mutation::Unlock { .. }
            | Mutation::Accessed { .. } => {}
        }
        let last = last.filter(|inode| self.nodes.get(inode).is_some_and(|node| node.attributes.links == 1));
        (touched, last)
    }

    /// `openers`: sessions that have the inode open whose last name goes. Answers what it changed, too.
    pub(crate) fn apply(
        &mut self,
        session: SessionId,
        mutation: Mutation,
        may_take: bool,
        openers: &[SessionId],
    ) -> (Result<MutationResult, FsError>, BTreeSet<InodeId>) {
        let (mut changed, last) = self.touched(session, &mutation);
        if let Mutation::Rename { parent, name, new_parent, new_name, .. } = &mutation {
            let inode = self.stands_for(*parent, name);
            if inode.is_some() && inode == self.stands_for(*new_parent, new_name) {
                // Two names of one inode: both stay.
                return (Ok(MutationResult::Done), BTreeSet::new());
            }
        }
        if let Some(last) = last {
            self.opens.extend(openers.iter().map(|session| (last, *session, OpenMode::Read)));
        }
        let made = match self.try_apply(session, mutation, may_take) {
            Ok((result, made)) => {
                changed.extend(made);
                Ok(result)
            }
            Err(error) => {
                changed.clear();
                Err(error)
            }
        };
        (made, changed)
    }

    fn try_apply(
        &mut self,
        session: SessionId,
        mutation: Mutation,
        may_take: bool,
    ) -> Result<(MutationResult, Option<InodeId>), FsError> {
        let now = self.now();
        let result = match mutation {
            Mutation::Create { parent, name, node, mode, exclusive, open, exclusive_lease, .. } => {
                self.node(parent)?;
                let existing = self.stands_for(parent, &name);
                if existing.is_some() && exclusive {
                    return Err(FsError::Exists);
                }
                let inode = match existing {
                    Some(inode) => inode,
                    None => {
                        let made = self.make(parent, &node, mode).inode;
                        let cookie = 10 + made.0;
                        self.names.insert((parent, name), (made, cookie));
                        self.touch_directory(parent, now);
                        made
                    }
                };
                if let Some(mode) = open {
                    self.opens.insert((inode, session, mode));
                }
                let exclusive = exclusive_lease && self.take(inode, session, may_take);
                let attributes = self.node(inode)?.attributes;
                let result = MutationResult::Node { attributes, created: existing.is_none(), exclusive };
                return Ok((result, existing.is_none().then_some(inode)));
            }
            Mutation::Open { inode, mode, exclusive_lease } => {
                self.opens_sent += 1;
                let attributes = self.node(inode)?.attributes;
                self.opens.insert((inode, session, mode));
                let exclusive = exclusive_lease && self.take(inode, session, may_take);
                MutationResult::Opened { attributes, exclusive, extents: None }
            }
            Mutation::AcquireExclusive { inode } => {
                let attributes = self.node(inode)?.attributes;
                if !self.opens.contains(&(inode, session, OpenMode::Write)) {
                    return Err(FsError::Stale);
                }
                let exclusive = self.take(inode, session, may_take);
                MutationResult::Opened { attributes, exclusive, extents: None }
            }
            Mutation::GiveUpExclusive { inodes } => {
                self.exclusive.retain(|inode, holder| *holder != session || !inodes.contains(inode));
                MutationResult::Done
            }
            Mutation::SetLock { lock, .. } => self.locks.set(session, &lock),
            Mutation::Unlock { inode, owners, range } => {
                self.locks.unlock(session, inode, &owners, range);
                MutationResult::Done
            }
            Mutation::Accessed { accesses } => {
                for (inode, at) in accesses {
                    if let Some(node) = self.nodes.get_mut(&inode).filter(|node| node.attributes.access_is_due(at)) {
                        node.attributes.atime = at;
                    }
                }
                MutationResult::Done
            }
            Mutation::Release { opens } => {
                for (inode, mode) in opens {
                    self.opens.remove(&(inode, session, mode));
                    if mode == OpenMode::Write && self.exclusive.get(&inode) == Some(&session) {
                        self.exclusive.remove(&inode);
                    }
                    self.drop_orphan(inode);
                }
                MutationResult::Done
            }
            Mutation::SetAttributes { inode, changes } => {
                let node = self.node(inode)?;
                if let Some(size) = changes.size {
                    node.cut(size, u64::MAX);
                    node.attributes.size = size;
                    node.attributes.data_version.0 += 1;
                    node.attributes.mtime = now;
                }
                let at = |change: TimeChange| change.at(now);
                node.attributes.mode = changes.mode.unwrap_or(node.attributes.mode);
                node.attributes.mtime = changes.mtime.map_or(node.attributes.mtime, at);
                node.attributes.atime = changes.atime.map_or(node.attributes.atime, at);
                node.attributes.ctime = now;
                MutationResult::Attributes(node.attributes)
            }
            Mutation::Unlink { parent, name } | Mutation::RemoveDirectory { parent, name } => {
                let (inode, _) = self.names.remove(&(parent, name)).ok_or(FsError::NotFound)?;
                self.touch_directory(parent, now);
                self.lose_name(inode, now);
                MutationResult::Done
            }
            Mutation::Link { inode, parent, name } => {
                let cookie = 10_000 + u64::from(self.clock);
                if self.names.contains_key(&(parent, name.clone())) {
                    return Err(FsError::Exists);
                }
                self.names.insert((parent, name), (inode, cookie));
                self.touch_directory(parent, now);
                let attributes = &mut self.node(inode)?.attributes;
                (attributes.links, attributes.ctime) = (attributes.links + 1, now);
                MutationResult::Node { attributes: *attributes, created: true, exclusive: false }
            }
            Mutation::Rename { parent, name, new_parent, new_name, .. } => {
                let (inode, _) = self.names.remove(&(parent, name)).ok_or(FsError::NotFound)?;
                let cookie = 10_000 + u64::from(self.clock);
                if let Some((gone, _)) = self.names.insert((new_parent, new_name), (inode, cookie)) {
                    self.lose_name(gone, now);
                }
                self.touch_directory(parent, now);
                self.touch_directory(new_parent, now);
                self.node(inode)?.attributes.ctime = now;
                MutationResult::Done
            }
            Mutation::Commit { inode, extents, append, minimum_size, mtime } => {
                self.check_extents(&extents);
                let node = self.node(inode)?;
                let base = if append { node.attributes.size } else { 0 };
                for new in extents {
                    let mut extent = new.extent;
                    extent.offset += base;
                    node.cut(extent.offset, extent.end());
                    node.attributes.size = node.attributes.size.max(extent.end());
                    node.extents.insert(extent.offset, extent);
                }
                if !append {
                    node.attributes.size = node.attributes.size.max(minimum_size);
                }
                node.attributes.data_version.0 += 1;
                node.attributes.ctime = now;
                node.attributes.mtime = mtime.unwrap_or(now);
                MutationResult::Committed { attributes: node.attributes, appended_at: base }
            }
            Mutation::SetXattr { inode, name, value, .. } => {
                let node = self.node(inode)?;
                node.xattrs.insert(name, value);
                node.attributes.ctime = now;
                node.attributes.xattrs.others = true;
                MutationResult::Done
            }
            Mutation::SetAcl { inode, kind, acl, clear_sgid } => {
                let node = self.node(inode)?;
                let acl = PosixAcl::from_xattr(&acl.unwrap_or_default())?;
                let name = Bytes::from_static(kind.xattr_name().as_bytes());
                let there = match kind {
                    AclKind::Access => &mut node.attributes.xattrs.access_acl,
                    AclKind::Default => &mut node.attributes.xattrs.default_acl,
                };
                *there = acl.is_some();
                match &acl {
                    Some(acl) => drop(node.xattrs.insert(name, acl.to_xattr())),
                    None => drop(node.xattrs.remove(&name)),
                }
                if let Some(acl) = acl.filter(|_| kind == AclKind::Access) {
                    node.attributes.mode = node.attributes.mode & !0o777 | acl.permission_bits();
                }
                if clear_sgid {
                    node.attributes.mode &= !0o2000;
                }
                node.attributes.ctime = now;
                MutationResult::Attributes(node.attributes)
            }
            Mutation::Allocate { inode, offset, length, mode, keep_size } => {
                let node = self.node(inode)?;
                if !keep_size && mode != AllocateMode::Punch {
                    node.attributes.size = node.attributes.size.max(offset + length);
                }
                let end = (offset + length).min(node.attributes.size);
                // What it allocates reads as the zeros of a hole does.
                if mode != AllocateMode::Fill {
                    node.cut(offset, end);
                }
                node.ranged(now, length)
            }
            Mutation::CopyRange { source, source_offset, inode, offset, length } => {
                let from = self.node(source)?;
                let end = (source_offset + length).min(from.attributes.size).max(source_offset);
                let parts: Vec<Extent> = from.extents.values().filter_map(|e| e.slice(source_offset, end)).collect();
                let node = self.node(inode)?;
                node.cut(offset, offset + (end - source_offset));
                for part in parts {
                    let offset = part.offset - source_offset + offset;
                    node.extents.insert(offset, Extent { offset, ..part });
                }
                if end > source_offset {
                    node.attributes.size = node.attributes.size.max(offset + (end - source_offset));
                }
                node.ranged(now, end - source_offset)
            }
            other => panic!("the test cluster does not know {other:?}"),
        };
        Ok((result, None))
    }

    fn take(&mut self, inode: InodeId, session: SessionId, may_take: bool) -> bool {
        if may_take {
            self.exclusive.entry(inode).or_insert(session);
        }
        self.exclusive.get(&inode) == Some(&session)
    }

    fn touch_directory(&mut self, inode: InodeId, now: Timestamp) {
        let entries = self.names.range((inode, first_name())..).take_while(|((parent, _), _)| *parent == inode).count();
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.attributes.size = entries as u64;
            (node.attributes.mtime, node.attributes.ctime) = (now, now);
        }
    }

    fn lose_name(&mut self, inode: InodeId, now: Timestamp) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.attributes.links -= 1;
            node.attributes.ctime = now;
        }
        self.drop_orphan(inode);
    }

    fn drop_orphan(&mut self, inode: InodeId) {
        let open = self.opens.iter().any(|(open, ..)| *open == inode);
        if !open && self.nodes.get(&inode).is_some_and(|node| node.attributes.links == 0) {
            self.nodes.remove(&inode);
        }
    }

    fn check_extents(&self, extents: &[cairn_common::extent::NewExtent]) {
        let mut last = 0;
        for new in extents {
            assert!(new.extent.offset >= last, "extents of a commit ascend");
            last = new.extent.end();
            match &new.extent.content {
                ExtentContent::Block(reference) => {
                    assert!(self.blocks.contains_key(&reference.block), "a commit names a block that is not durable");
                }
                ExtentContent::Inline(bytes) => {
                    assert!(bytes.len() <= INLINE_MAX_BYTES && bytes.len() as u64 == new.extent.length);
                }
                ExtentContent::Unwritten => {}
            }
        }
    }

    /// The answer, and the inodes that it tells about.
    pub(crate) fn answer(
        &mut self,
        query: &Query,
        may_tell: impl Fn(InodeId) -> bool,
    ) -> (Result<QueryResult, FsError>, Vec<InodeId>) {
        let mut about = Vec::new();
        let result = self.try_answer(query, may_tell, &mut about);
        (result, about)
    }

    fn try_answer(
        &mut self,
        query: &Query,
        may_tell: impl Fn(InodeId) -> bool,
        about: &mut Vec<InodeId>,
    ) -> Result<QueryResult, FsError> {
        about.extend(self.asked_about(query));
        Ok(match query {
            Query::Lookup { parent, name } => {
                let inode = self.stands_for(*parent, name).ok_or(FsError::NotFound)?;
                about.push(inode);
                QueryResult::Attributes(self.node(inode)?.attributes)
            }
            Query::Attributes { inode } => QueryResult::Attributes(self.node(*inode)?.attributes),
            Query::Parent { inode } => {
                let parent = self.node(*inode)?.parent;
                about.push(parent);
                QueryResult::Attributes(self.node(parent)?.attributes)
            }
            Query::ReadLink { inode } => QueryResult::Bytes(self.node(*inode)?.target.clone()),
            Query::Xattr { inode, name } => {
                let value = self.node(*inode)?.xattrs.get(name).cloned();
                QueryResult::Bytes(value.ok_or(FsError::NoAttribute)?)
            }
            Query::Xattrs { inode } => QueryResult::Names(self.node(*inode)?.xattrs.keys().cloned().collect()),
            Query::Extents { inode, from, to } => {
                let node = self.node(*inode)?;
                // Small pages, to have many.
                let touching = node.extents.values().filter(|e| e.offset < *to && e.end() > *from);
                let extents: Vec<Extent> = touching.take(3).cloned().collect();
                let complete_to = if extents.len() < 3 { u64::MAX } else { extents[2].end() };
                let (size, data_version) = (node.attributes.size, node.attributes.data_version);
                QueryResult::Extents { extents, complete_to, size, data_version }
            }
            Query::ReadDirectory { inode, after, up_to, limit, attributes } => {
                let all = self.names.range((*inode, first_name())..).take_while(|((parent, _), _)| parent == inode);
                let last_cookie = all.clone().map(|(_, (_, cookie))| *cookie).max().unwrap_or(2);
                let mut entries: Vec<_> = all
                    .filter(|(_, (_, cookie))| cookie > after && cookie <= up_to)
                    .map(|((_, name), (child, cookie))| {
                        let node = &self.nodes[child].attributes;
                        let told = *attributes && may_tell(*child);
                        DirectoryEntry {
                            name: name.clone(),
                            inode: *child,
                            kind: node.kind,
                            cookie: *cookie,
                            attributes: told.then_some(*node),
                        }
                    })
                    .collect();
                entries.sort_by_key(|entry| entry.cookie);
                let limit = (*limit as usize).min(3);
                let end = entries.len() <= limit;
                entries.truncate(limit);
                about.extend(entries.iter().filter(|entry| entry.attributes.is_some()).map(|entry| entry.inode));
                QueryResult::Entries { entries, end, last_cookie }
            }
            Query::LockInTheWay { session, lock } => QueryResult::Lock(self.locks.in_the_way(*session, lock)),
            Query::Statfs => {
                let (total_bytes, free_bytes, inodes) = (1 << 40, 1 << 40, self.nodes.len() as u64);
                QueryResult::Statfs(Statfs { total_bytes, free_bytes, inodes })
            }
        })
    }

    /// The inode that a question is about, before its answer is known.
    pub(crate) fn asked_about(&self, query: &Query) -> Vec<InodeId> {
        match query {
            Query::Lookup { parent, .. } => vec![*parent],
            Query::Attributes { inode }
            | Query::Parent { inode }
            | Query::ReadLink { inode }
            | Query::Xattr { inode, .. }
            | Query::Xattrs { inode }
            | Query::Extents { inode, .. }
            | Query::ReadDirectory { inode, .. } => vec![*inode],
            Query::Statfs | Query::LockInTheWay { .. } => Vec::new(),
        }
    }

    /// All of it whose exclusive lease must be free before the answer.
    pub(crate) fn told_about(&self, query: &Query) -> Vec<InodeId> {
        let mut about = self.asked_about(query);
        if let Query::Lookup { parent, name } = query {
            about.extend(self.stands_for(*parent, name));
        }
        about
    }

    /// What the cluster holds of a file, by its extents.
    pub(crate) fn contents(&self, inode: InodeId) -> Vec<u8> {
        let file = &self.nodes[&inode];
        let mut bytes = vec![0; file.attributes.size as usize];
        for extent in file.extents.values() {
            let target = &mut bytes[extent.offset as usize..extent.end() as usize];
            match &extent.content {
                ExtentContent::Inline(inline) => target.copy_from_slice(inline),
                ExtentContent::Unwritten => {}
                ExtentContent::Block(reference) => {
                    let from = reference.block_offset as usize;
                    let block = &self.blocks[&reference.block];
                    assert_eq!(block.len(), reference.block_length as usize);
                    target.copy_from_slice(&block[from..from + extent.length as usize]);
                }
            }
        }
        bytes
    }
}

fn first_name() -> Name {
    Name::new(vec![1]).expect("a name")
}

impl Node {
    fn ranged(&mut self, now: Timestamp, done: u64) -> MutationResult {
        self.attributes.data_version.0 += 1;
        (self.attributes.mtime, self.attributes.ctime) = (now, now);
        MutationResult::Ranged { attributes: self.attributes, done }
    }

    fn cut(&mut self, from: u64, to: u64) {
        let touched: Vec<u64> =
            self.extents.iter().filter(|(_, e)| e.offset < to && e.end() > from).map(|(o, _)| *o).collect();
        for offset in touched {
            let extent = self.extents.remove(&offset).expect("found above");
            for part in [extent.slice(0, from), extent.slice(to, u64::MAX)].into_iter().flatten() {
                self.extents.insert(part.offset, part);
            }
        }
    }
}
