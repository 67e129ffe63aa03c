//! Names and inodes as the running system sees them, and the operations on them that are not
//! durable yet. It gives the backing folder exactly what a sync asks for.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};

use super::file_data::FileData;
use super::operation::{Change, NodeId, Operation};

/// The root directory; FUSE fixes the number.
pub(super) const ROOT: NodeId = 1;

/// What an inode is.
pub(super) enum Kind {
    /// A regular file.
    File(Arc<Mutex<FileData>>),
    /// A directory.
    Directory(Directory),
    /// A symlink and its target.
    Symlink(PathBuf),
}

/// The kinds without their contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
}

impl Kind {
    /// The kind without its contents.
    pub(super) fn form(&self) -> Form {
        match self {
            Self::File(_) => Form::File,
            Self::Directory(_) => Form::Directory,
            Self::Symlink(_) => Form::Symlink,
        }
    }
}

/// A directory.
pub(super) struct Directory {
    /// Its entries.
    pub(super) entries: BTreeMap<OsString, NodeId>,
    /// Its parent; its own for the root.
    pub(super) parent: NodeId,
    /// The directory in the backing folder, once it is there.
    durable: Option<OwnedFd>,
}

/// An inode.
pub(super) struct Node {
    /// What it is.
    pub(super) kind: Kind,
    /// Permission bits.
    pub(super) mode: u32,
    /// Owner and group.
    pub(super) owner: (u32, u32),
    /// Last change of a directory's entries or of the attributes.
    pub(super) changed: SystemTime,
    /// Names of it.
    pub(super) links: u32,
    /// Open handles.
    pub(super) opens: u32,
}

/// The tree.
pub(super) struct Namespace {
    nodes: HashMap<NodeId, Node>,
    pending: Vec<Operation>,
    next: NodeId,
    durable: PathBuf,
    scratch: PathBuf,
}

/// An errno as an error.
pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Namespace {
    /// Reads the tree of the folder `durable`; scratch files go to the folder `scratch`. Inode
    /// numbers begin at `next`.
    pub(super) fn open(durable: &Path, scratch: &Path, next: NodeId) -> io::Result<Self> {
        let mut namespace = Self {
            nodes: HashMap::new(),
            pending: Vec::new(),
            next: next.max(ROOT + 1),
            durable: durable.to_owned(),
            scratch: scratch.to_owned(),
        };
        namespace.read_directory(durable, ROOT, ROOT, &mut HashMap::new())?;
        Ok(namespace)
    }

    /// Drops everything that the backing folder does not have, and reads that again.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(&self.durable, &self.scratch, self.next)?;
        Ok(())
    }

    /// An inode; ESTALE if it is gone, also by a loss of power.
    pub(super) fn node(&self, id: NodeId) -> io::Result<&Node> {
        self.nodes.get(&id).ok_or_else(|| errno(libc::ESTALE))
    }

    /// An inode, to be changed.
    pub(super) fn node_mut(&mut self, id: NodeId) -> io::Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or_else(|| errno(libc::ESTALE))
    }

    /// All regular files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<Mutex<FileData>>> {
        self.nodes.values().filter_map(|node| match &node.kind {
            Kind::File(data) => Some(data),
            _ => None,
        })
    }

    /// Operations that a power loss would take.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// A directory.
    pub(super) fn directory(&self, id: NodeId) -> io::Result<&Directory> {
        match &self.node(id)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(errno(libc::ENOTDIR)),
        }
    }

    /// The inode of a name; ENOENT.
    pub(super) fn lookup(&self, directory: NodeId, name: &OsStr) -> io::Result<NodeId> {
        self.directory(directory)?.entries.get(name).copied().ok_or_else(|| errno(libc::ENOENT))
    }

    /// Makes a regular file.
    pub(super) fn create(&mut self, parent: NodeId, name: &OsStr, mode: u32, owner: (u32, u32)) -> io::Result<NodeId> {
        self.refuse_existing(parent, name)?;
        let durable = temporary_file(&self.durable)?;
        durable.set_permissions(std::fs::Permissions::from_mode(mode & 0o7777))?;
        let data = Arc::new(Mutex::new(self.file_data(durable)?));
        let node = self.add_node(Kind::File(data), mode, owner);
        self.add_entry(parent, name, node)?;
        self.log(parent, name, node, Change::Link { creates: true });
        Ok(node)
    }

    /// Makes a symlink.
    pub(super) fn symlink(
        &mut self,
        parent: NodeId,
        name: &OsStr,
        target: &Path,
        owner: (u32, u32),
    ) -> io::Result<NodeId> {
        self.refuse_existing(parent, name)?;
        let node = self.add_node(Kind::Symlink(target.to_owned()), 0o777, owner);
        self.add_entry(parent, name, node)?;
        self.log(parent, name, node, Change::Link { creates: true });
        Ok(node)
    }

    /// Makes a directory.
    pub(super) fn mkdir(&mut self, parent: NodeId, name: &OsStr, mode: u32, owner: (u32, u32)) -> io::Result<NodeId> {
        self.refuse_existing(parent, name)?;
        let directory = Directory { entries: BTreeMap::new(), parent, durable: None };
        let node = self.add_node(Kind::Directory(directory), mode, owner);
        self.add_entry(parent, name, node)?;
        self.log(parent, name, node, Change::MakeDirectory);
        Ok(node)
    }

    /// Gives a file a further name.
    pub(super) fn link(&mut self, node: NodeId, parent: NodeId, name: &OsStr) -> io::Result<()> {
        self.refuse_existing(parent, name)?;
        if !matches!(self.node(node)?.kind, Kind::File(_)) {
            return Err(errno(libc::EPERM));
        }
        self.add_entry(parent, name, node)?;
        self.log(parent, name, node, Change::Link { creates: false });
        Ok(())
    }

    /// Takes a name of a file or symlink away.
    pub(super) fn unlink(&mut self, parent: NodeId, name: &OsStr) -> io::Result<()> {
        let node = self.lookup(parent, name)?;
        if matches!(self.node(node)?.kind, Kind::Directory(_)) {
            return Err(errno(libc::EISDIR));
        }
        self.remove_entry(parent, name)?;
        self.log(parent, name, node, Change::Unlink);
        Ok(())
    }

    /// Takes an empty directory away.
    pub(super) fn rmdir(&mut self, parent: NodeId, name: &OsStr) -> io::Result<()> {
        let node = self.lookup(parent, name)?;
        if !self.directory(node)?.entries.is_empty() {
            return Err(errno(libc::ENOTEMPTY));
        }
        self.remove_entry(parent, name)?;
        self.log(parent, name, node, Change::RemoveDirectory);
        Ok(())
    }

    /// renameat2 without WHITEOUT; the kernel has checked permissions and cycles.
    pub(super) fn rename(
        &mut self,
        from: (NodeId, &OsStr),
        to: (NodeId, &OsStr),
        no_replace: bool,
        exchange: bool,
    ) -> io::Result<()> {
        let node = self.lookup(from.0, from.1)?;
        let other = self.lookup(to.0, to.1).ok();
        match other {
            Some(_) if no_replace => return Err(errno(libc::EEXIST)),
            None if exchange => return Err(errno(libc::ENOENT)),
            Some(other) if other == node => return Ok(()),
            Some(other) if !exchange => self.check_replace(node, other)?,
            _ => {}
        }
        self.remove_entry(from.0, from.1)?;
        if other.is_some() {
            self.remove_entry(to.0, to.1)?;
        }
        self.add_entry(to.0, to.1, node)?;
        if let (Some(other), true) = (other, exchange) {
            self.add_entry(from.0, from.1, other)?;
        }
        self.log(from.0, from.1, node, Change::Rename { to: to.0, to_name: to.1.to_owned(), other, exchange });
        Ok(())
    }

    /// fsync of a directory: what touches it becomes durable, with what that builds on.
    pub(super) fn sync_directory(&mut self, directory: NodeId) -> io::Result<()> {
        self.persist(|operation| operation.touches(directory) || operation.creates(directory))
    }

    /// fsync of a file: its creation becomes durable.
    pub(super) fn sync_creation(&mut self, node: NodeId) -> io::Result<()> {
        self.persist(|operation| operation.creates(node))
    }

    /// Power goes: each operation survives with the probability `keep`, if those that it builds on
    /// do. Answers how many survive and how many are lost.
    pub(super) fn lose_power(&mut self, rng: &mut StdRng, keep: f64) -> io::Result<(usize, usize)> {
        let pending = std::mem::take(&mut self.pending);
        let (mut lost, mut kept): (Vec<Operation>, usize) = (Vec::new(), 0);
        for operation in pending {
            if rng.random_bool(keep) && !lost.iter().any(|earlier| operation.builds_on(earlier)) {
                self.apply(&operation)?;
                kept += 1;
            } else {
                lost.push(operation);
            }
        }
        Ok((kept, lost.len()))
    }

    /// Forgets an inode that has neither names nor handles nor operations that need it.
    pub(super) fn forget_unused(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else { return };
        if node.links == 0 && node.opens == 0 && !self.pending.iter().any(|operation| operation.node == id) {
            self.nodes.remove(&id);
        }
    }

    fn persist(&mut self, asked_for: impl Fn(&Operation) -> bool) -> io::Result<()> {
        let mut chosen = vec![false; self.pending.len()];
        for index in (0..self.pending.len()).rev() {
            let operation = &self.pending[index];
            chosen[index] = asked_for(operation)
                || (index + 1..self.pending.len())
                    .any(|later| chosen[later] && self.pending[later].builds_on(operation));
        }
        if !chosen.contains(&true) {
            return Ok(());
        }
        let mut left = Vec::new();
        for (operation, chosen) in std::mem::take(&mut self.pending).into_iter().zip(chosen) {
            if chosen {
                self.apply(&operation)?;
            } else {
                left.push(operation);
            }
        }
        self.pending = left;
        let unused: Vec<NodeId> = self.nodes.iter().filter(|(_, n)| n.links == 0).map(|(id, _)| *id).collect();
        unused.into_iter().for_each(|id| self.forget_unused(id));
        Ok(())
    }

    /// Does an operation in the backing folder.
    fn apply(&mut self, operation: &Operation) -> io::Result<()> {
        let directory = self.durable_directory(operation.directory)?;
        let name = &operation.name;
        match &operation.change {
            Change::Link { .. } => match &self.node(operation.node)?.kind {
                Kind::File(data) => {
                    let source = format!("/proc/self/fd/{}", data.lock().durable().as_raw_fd());
                    rustix::fs::linkat(rustix::fs::CWD, source, directory, name, AtFlags::SYMLINK_FOLLOW)?;
                }
                Kind::Symlink(target) => rustix::fs::symlinkat(target, directory, name)?,
                Kind::Directory(_) => return Err(errno(libc::EPERM)),
            },
            Change::MakeDirectory => {
                let mode = Mode::from_raw_mode(self.node(operation.node)?.mode & 0o7777);
                rustix::fs::mkdirat(directory, name, mode)?;
                let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(directory, name, flags, Mode::empty())?;
                if let Kind::Directory(made) = &mut self.node_mut(operation.node)?.kind {
                    made.durable = Some(opened);
                }
            }
            Change::Unlink => rustix::fs::unlinkat(directory, name, AtFlags::empty())?,
            Change::RemoveDirectory => rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?,
            Change::Rename { to, to_name, exchange, .. } => {
                let flags = if *exchange { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
                rustix::fs::renameat_with(directory, name, self.durable_directory(*to)?, to_name, flags)?;
            }
        }
        Ok(())
    }

    fn durable_directory(&self, id: NodeId) -> io::Result<&OwnedFd> {
        self.directory(id)?.durable.as_ref().ok_or_else(|| io::Error::other("a directory is used before it is durable"))
    }

    fn check_replace(&self, node: NodeId, other: NodeId) -> io::Result<()> {
        match (&self.node(node)?.kind, &self.node(other)?.kind) {
            (Kind::Directory(_), Kind::Directory(replaced)) if !replaced.entries.is_empty() => {
                Err(errno(libc::ENOTEMPTY))
            }
            (Kind::Directory(_), Kind::Directory(_)) => Ok(()),
            (Kind::Directory(_), _) => Err(errno(libc::ENOTDIR)),
            (_, Kind::Directory(_)) => Err(errno(libc::EISDIR)),
            _ => Ok(()),
        }
    }

    fn refuse_existing(&self, parent: NodeId, name: &OsStr) -> io::Result<()> {
        match self.lookup(parent, name) {
            Ok(_) => Err(errno(libc::EEXIST)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn add_node(&mut self, kind: Kind, mode: u32, owner: (u32, u32)) -> NodeId {
        let id = self.next;
        self.next += 1;
        let mode = mode & 0o7777;
        self.nodes.insert(id, Node { kind, mode, owner, changed: SystemTime::now(), links: 0, opens: 0 });
        id
    }

    fn add_entry(&mut self, parent: NodeId, name: &OsStr, node: NodeId) -> io::Result<()> {
        self.directory_mut(parent)?.entries.insert(name.to_owned(), node);
        let target = self.node_mut(node)?;
        target.links += 1;
        if let Kind::Directory(directory) = &mut target.kind {
            directory.parent = parent;
        }
        Ok(())
    }

    fn remove_entry(&mut self, parent: NodeId, name: &OsStr) -> io::Result<()> {
        if let Some(node) = self.directory_mut(parent)?.entries.remove(name) {
            self.node_mut(node)?.links -= 1;
        }
        Ok(())
    }

    fn directory_mut(&mut self, id: NodeId) -> io::Result<&mut Directory> {
        let node = self.node_mut(id)?;
        node.changed = SystemTime::now();
        match &mut node.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(errno(libc::ENOTDIR)),
        }
    }

    fn log(&mut self, directory: NodeId, name: &OsStr, node: NodeId, change: Change) {
        self.pending.push(Operation { directory, name: name.to_owned(), node, change });
    }

    fn file_data(&self, durable: File) -> io::Result<FileData> {
        let scratch = self.scratch.clone();
        FileData::new(durable, move || temporary_file(&scratch))
    }

    fn read_directory(
        &mut self,
        path: &Path,
        id: NodeId,
        parent: NodeId,
        by_inode: &mut HashMap<u64, NodeId>,
    ) -> io::Result<()> {
        let metadata = std::fs::metadata(path)?;
        let mut entries = BTreeMap::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let (name, path, found) = (entry.file_name(), entry.path(), entry.metadata()?);
            let owner = (found.uid(), found.gid());
            let node = if found.is_dir() {
                let child = self.next;
                self.next += 1;
                self.read_directory(&path, child, id, by_inode)?;
                child
            } else if let Some(known) = by_inode.get(&found.ino()) {
                *known
            } else if found.is_file() {
                let durable = File::options().read(true).write(true).open(&path)?;
                let data = Arc::new(Mutex::new(self.file_data(durable)?));
                self.add_node(Kind::File(data), found.mode(), owner)
            } else if found.is_symlink() {
                self.add_node(Kind::Symlink(std::fs::read_link(&path)?), 0o777, owner)
            } else {
                continue;
            };
            by_inode.insert(found.ino(), node);
            if let Some(node) = self.nodes.get_mut(&node) {
                node.links += 1;
            }
            entries.insert(OsString::from_vec(name.into_vec()), node);
        }
        let durable = Some(OwnedFd::from(File::open(path)?));
        let node = Node {
            kind: Kind::Directory(Directory { entries, parent, durable }),
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            changed: metadata.modified()?,
            links: u32::from(id == ROOT),
            opens: 0,
        };
        self.nodes.insert(id, node);
        Ok(())
    }
}

/// A file without a name.
fn temporary_file(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?))
}
