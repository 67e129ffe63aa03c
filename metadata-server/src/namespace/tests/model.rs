//! The reference model: inodes, names and bytes in plain maps, nothing incremental. Link counts are
//! counted, what nothing names and nobody has open is swept away after every change.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_common::block::BlockId;
use cairn_common::clock::Timestamp;
use cairn_common::ids::{DataVersion, InodeId, SessionId};
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Attributes, Mutation, MutationResult, NodeKind, OpenMode};

pub(super) type Answer = Result<MutationResult, FsError>;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) device: u64,
    pub(super) target: Bytes,
    /// Bytes of a file; None where nothing is allocated.
    pub(super) bytes: Vec<Option<u8>>,
    pub(super) times: [Timestamp; 4],
    pub(super) data_version: u64,
    pub(super) entries: BTreeMap<Vec<u8>, (u64, u64)>,
    pub(super) next_cookie: u64,
    pub(super) xattrs: BTreeMap<Vec<u8>, Bytes>,
}

pub(super) const ATIME: usize = 0;
pub(super) const MTIME: usize = 1;
pub(super) const CTIME: usize = 2;

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) last_inode: u64,
    /// (inode, session) → readers, writers.
    pub(super) opens: BTreeMap<(u64, u64), (u32, u32)>,
    /// inode → session that holds it exclusively.
    pub(super) exclusive: BTreeMap<u64, u64>,
    /// What blocks hold.
    pub(super) blocks: BTreeMap<BlockId, Bytes>,
}

impl Model {
    pub(super) fn new(time: Timestamp) -> Self {
        let mut model = Self { last_inode: 1, ..Self::default() };
        model.nodes.insert(1, Node::new(NodeKind::Directory, 0o755, 0, 0, time));
        model
    }

    /// Carries a change out; an error must change nothing.
    pub(super) fn mutate(
        &mut self,
        session: SessionId,
        time: Timestamp,
        mutation: &Mutation,
        keep_open: &[SessionId],
    ) -> Answer {
        let before = self.clone();
        let result = self.change(session, time, mutation);
        match result {
            Ok(_) => {
                let is_file = |id: &u64| before.nodes[id].kind == NodeKind::File;
                let nameless = |id: &u64| before.names_of(*id) > 0 && self.names_of(*id) == 0;
                let lost: Vec<u64> = before.nodes.keys().copied().filter(is_file).filter(nameless).collect();
                for id in lost {
                    keep_open.iter().for_each(|session| self.open(*session, id, OpenMode::Read));
                }
                self.sweep();
            }
            Err(_) => *self = Self { blocks: std::mem::take(&mut self.blocks), ..before },
        }
        result
    }

    pub(super) fn end_session(&mut self, session: SessionId) {
        self.opens.retain(|(_, holder), _| *holder != session.0);
        self.sweep();
    }

    /// What nothing names and nobody has open is gone.
    fn sweep(&mut self) {
        let opens = &self.opens;
        self.exclusive.retain(|inode, session| opens.get(&(*inode, *session)).is_some_and(|counts| counts.1 > 0));
        let ids: Vec<u64> = self.nodes.keys().copied().filter(|id| *id != 1).collect();
        for id in ids {
            let opened = self.opens.keys().any(|(inode, _)| *inode == id);
            if self.names_of(id) == 0 && !opened {
                self.nodes.remove(&id);
            }
        }
    }

    pub(super) fn names_of(&self, id: u64) -> u32 {
        let all = self.nodes.values().flat_map(|node| node.entries.values());
        all.filter(|(inode, _)| *inode == id).count() as u32
    }

    pub(super) fn parent_of(&self, id: u64) -> u64 {
        let named = |node: &Node| node.entries.values().any(|(inode, _)| *inode == id);
        self.nodes.iter().find(|(_, node)| named(node)).map_or(1, |(parent, _)| *parent)
    }

    pub(super) fn attributes(&self, id: u64) -> Attributes {
        let node = &self.nodes[&id];
        let directory = node.kind == NodeKind::Directory;
        let subdirectories = || node.entries.values().filter(|(i, _)| self.is_directory(*i)).count() as u32;
        Attributes {
            inode: InodeId(id),
            kind: node.kind,
            mode: node.mode,
            links: if directory { 2 + subdirectories() } else { self.names_of(id) },
            uid: node.uid,
            gid: node.gid,
            device: node.device,
            size: (node.bytes.len() + node.entries.len() + node.target.len()) as u64,
            allocated: node.bytes.iter().flatten().count() as u64,
            atime: node.times[0],
            mtime: node.times[1],
            ctime: node.times[2],
            btime: node.times[3],
            data_version: DataVersion(node.data_version),
            xattrs: node.xattr_presence(),
        }
    }

    pub(super) fn is_directory(&self, id: u64) -> bool {
        self.nodes[&id].kind == NodeKind::Directory
    }

    /// An inode that a request names.
    pub(super) fn requested(&self, id: InodeId) -> Result<u64, FsError> {
        self.nodes.contains_key(&id.0).then_some(id.0).ok_or(FsError::Stale)
    }

    /// A directory that a request names.
    pub(super) fn directory(&self, id: InodeId) -> Result<u64, FsError> {
        match self.nodes.get(&id.0) {
            None => Err(FsError::NotFound),
            Some(node) if node.kind != NodeKind::Directory => Err(FsError::NotDirectory),
            Some(_) => Ok(id.0),
        }
    }

    /// A regular file that a request names.
    pub(super) fn file(&self, id: InodeId) -> Result<u64, FsError> {
        match self.nodes[&self.requested(id)?].kind {
            NodeKind::File => Ok(id.0),
            NodeKind::Directory => Err(FsError::IsDirectory),
            _ => Err(FsError::Invalid),
        }
    }

    pub(super) fn entry(&self, parent: u64, name: &Name) -> Option<(u64, u64)> {
        self.nodes[&parent].entries.get(name.as_bytes()).copied()
    }

    pub(super) fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub(super) fn open(&mut self, session: SessionId, id: u64, mode: OpenMode) {
        let counts = self.opens.entry((id, session.0)).or_default();
        match mode {
            OpenMode::Read => counts.0 += 1,
            OpenMode::Write => counts.1 += 1,
        }
    }

    /// Opens and, if that is asked for, takes the exclusive lease; whether the session has it now.
    pub(super) fn register(&mut self, session: SessionId, id: u64, mode: OpenMode, lease: bool) -> bool {
        self.open(session, id, mode);
        if lease && mode == OpenMode::Write {
            self.exclusive.insert(id, session.0);
        }
        self.holds(session, id)
    }

    pub(super) fn holds(&self, session: SessionId, id: u64) -> bool {
        self.exclusive.get(&id) == Some(&session.0)
    }

    fn opened(&self, session: SessionId, id: u64) -> Answer {
        let exclusive = self.holds(session, id);
        Ok(MutationResult::Opened { attributes: self.attributes(id), exclusive, extents: None })
    }

    fn release(&mut self, session: SessionId, opens: &[(InodeId, OpenMode)]) {
        for (id, mode) in opens {
            let Some(counts) = self.opens.get_mut(&(id.0, session.0)) else { continue };
            match mode {
                OpenMode::Read => counts.0 = counts.0.saturating_sub(1),
                OpenMode::Write => counts.1 = counts.1.saturating_sub(1),
            }
            if *counts == (0, 0) {
                self.opens.remove(&(id.0, session.0));
            }
        }
    }

    fn change(&mut self, session: SessionId, time: Timestamp, mutation: &Mutation) -> Answer {
        match mutation {
            Mutation::Create { .. } => self.create(session, time, mutation),
            Mutation::Open { inode, mode, exclusive_lease } => {
                let id = self.file(*inode)?;
                self.register(session, id, *mode, *exclusive_lease);
                self.opened(session, id)
            }
            Mutation::AcquireExclusive { inode } => {
                let id = self.file(*inode)?;
                if self.opens.get(&(id, session.0)).is_none_or(|counts| counts.1 == 0) {
                    return Err(FsError::Stale);
                }
                self.exclusive.insert(id, session.0);
                self.opened(session, id)
            }
            Mutation::GiveUpExclusive { inodes } => {
                self.exclusive.retain(|id, holder| *holder != session.0 || !inodes.contains(&InodeId(*id)));
                Ok(MutationResult::Done)
            }
            Mutation::Release { opens } => {
                self.release(session, opens);
                Ok(MutationResult::Done)
            }
            Mutation::SetAttributes { inode, changes } => self.set_attributes(time, *inode, changes),
            Mutation::Link { inode, parent, name } => self.link(session, time, *inode, *parent, name),
            Mutation::Unlink { parent, name } => self.unlink(time, *parent, name, false),
            Mutation::RemoveDirectory { parent, name } => self.unlink(time, *parent, name, true),
            Mutation::Rename { parent, name, new_parent, new_name, mode } => {
                self.rename(time, (*parent, name), (*new_parent, new_name), *mode)
            }
            Mutation::Commit { inode, extents, append, minimum_size, mtime } => {
                self.commit(time, *inode, extents, *append, *minimum_size, *mtime)
            }
            Mutation::SetXattr { inode, name, value, mode } => self.set_xattr(time, *inode, name, value, *mode),
            Mutation::RemoveXattr { inode, name } => self.remove_xattr(time, *inode, name),
            Mutation::SetAcl { inode, kind, acl, clear_sgid } => {
                self.set_acl(time, *inode, *kind, acl.as_ref(), *clear_sgid)
            }
            Mutation::Allocate { inode, offset, length, mode, keep_size } => {
                self.allocate(time, *inode, (*offset, *length), *mode, *keep_size)
            }
            Mutation::CopyRange { source, source_offset, inode, offset, length } => {
                self.copy_range(time, (*source, *source_offset), (*inode, *offset), *length)
            }
            Mutation::Accessed { accesses } => self.accessed(time, accesses),
            Mutation::SetLock { .. } | Mutation::Unlock { .. } => panic!("locks have a model of their own"),
        }
    }
}

impl Node {
    pub(super) fn new(kind: NodeKind, mode: u32, uid: u32, gid: u32, time: Timestamp) -> Self {
        Self {
            kind,
            mode,
            uid,
            gid,
            device: 0,
            target: Bytes::new(),
            bytes: Vec::new(),
            times: [time; 4],
            data_version: 0,
            entries: BTreeMap::new(),
            next_cookie: 3,
            xattrs: BTreeMap::new(),
        }
    }
}
