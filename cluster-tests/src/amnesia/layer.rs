//! One forgetful folder: the operations that the FUSE adapter calls, and the loss of power.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::AddAssign;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::file_data::FileData;
use super::namespace::{Form, Kind, Namespace, errno};
use super::operation::NodeId;

/// What a loss of power took, and what happened to be written already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Unsynced operations on names that survived.
    pub operations_kept: usize,
    /// Unsynced operations on names that are gone.
    pub operations_lost: usize,
    /// Unsynced bytes that survived.
    pub bytes_kept: u64,
    /// Unsynced bytes that are gone.
    pub bytes_lost: u64,
}

impl AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.operations_kept += other.operations_kept;
        self.operations_lost += other.operations_lost;
        self.bytes_kept += other.bytes_kept;
        self.bytes_lost += other.bytes_lost;
    }
}

/// What `stat` shows, without FUSE's types.
pub(super) struct Stat {
    pub(super) node: NodeId,
    pub(super) form: Form,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) links: u32,
    pub(super) modified: SystemTime,
    pub(super) changed: SystemTime,
}

/// An open file.
#[derive(Clone)]
pub(super) struct OpenFile {
    node: NodeId,
    data: Arc<Mutex<FileData>>,
}

/// A backing folder with its volatile part.
pub struct Layer {
    /// Held for reading by every operation, for writing by the loss of power.
    power: RwLock<()>,
    namespace: Mutex<Namespace>,
}

impl Layer {
    /// Opens the folder `backing`: `durable/` in it is what survives; `scratch/` holds files
    /// without names. Both are made if they are not there.
    pub fn open(backing: &Path) -> io::Result<Arc<Self>> {
        let (durable, scratch) = (backing.join("durable"), backing.join("scratch"));
        std::fs::create_dir_all(&durable)?;
        std::fs::create_dir_all(&scratch)?;
        let namespace = Mutex::new(Namespace::open(&durable, &scratch, 0)?);
        Ok(Arc::new(Self { power: RwLock::new(()), namespace }))
    }

    /// Power goes, for all these folders in one instant. How much of what was not synced survives
    /// is a matter of chance, from nothing to all, as `seed` says.
    pub fn lose_power(layers: &[Arc<Self>], seed: u64) -> io::Result<Loss> {
        let _dark: Vec<_> = layers.iter().map(|layer| layer.power.write()).collect();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut total = Loss::default();
        for layer in layers {
            let mut namespace = layer.namespace.lock();
            let keep = [0.0, 0.0, 0.2, 0.5, 0.8, 1.0][rng.random_range(0..6)];
            let files: Vec<Arc<Mutex<FileData>>> = namespace.files().cloned().collect();
            for data in files {
                let (bytes_kept, bytes_lost) = data.lock().lose_power(&mut rng, keep)?;
                total += Loss { bytes_kept, bytes_lost, ..Loss::default() };
            }
            let (operations_kept, operations_lost) = namespace.lose_power(&mut rng, keep)?;
            total += Loss { operations_kept, operations_lost, ..Loss::default() };
            namespace.reopen()?;
        }
        Ok(total)
    }

    /// What a loss of power would take at most: operations on names, bytes.
    pub fn volatile(&self) -> (usize, u64) {
        let _power = self.power.read();
        let namespace = self.namespace.lock();
        let files: Vec<_> = namespace.files().cloned().collect();
        (namespace.pending(), files.iter().map(|data| data.lock().dirty_bytes()).sum())
    }

    pub(super) fn lookup(&self, parent: NodeId, name: &OsStr) -> io::Result<Stat> {
        let _power = self.power.read();
        let namespace = self.namespace.lock();
        let node = namespace.lookup(parent, name)?;
        stat(&namespace, node)
    }

    pub(super) fn stat(&self, node: NodeId) -> io::Result<Stat> {
        let _power = self.power.read();
        stat(&self.namespace.lock(), node)
    }

    pub(super) fn change(
        &self,
        node: NodeId,
        mode: Option<u32>,
        owner: (Option<u32>, Option<u32>),
        size: Option<u64>,
        modified: Option<SystemTime>,
    ) -> io::Result<Stat> {
        let _power = self.power.read();
        let mut namespace = self.namespace.lock();
        let target = namespace.node_mut(node)?;
        target.changed = SystemTime::now();
        target.owner = (owner.0.unwrap_or(target.owner.0), owner.1.unwrap_or(target.owner.1));
        if let Some(mode) = mode {
            target.mode = mode & 0o7777;
        }
        if let Kind::File(data) = &target.kind {
            let mut data = data.lock();
            if let Some(mode) = mode {
                data.durable().set_permissions(std::fs::Permissions::from_mode(mode & 0o7777))?;
            }
            if let Some(size) = size {
                data.truncate(size);
            }
            if let Some(modified) = modified {
                data.modified = modified;
            }
        }
        stat(&namespace, node)
    }

    pub(super) fn make(
        &self,
        parent: NodeId,
        name: &OsStr,
        make: impl FnOnce(&mut Namespace) -> io::Result<NodeId>,
    ) -> io::Result<Stat> {
        let _power = self.power.read();
        if name.len() > 255 {
            return Err(errno(libc::ENAMETOOLONG));
        }
        let mut namespace = self.namespace.lock();
        namespace.directory(parent)?;
        let node = make(&mut namespace)?;
        stat(&namespace, node)
    }

    pub(super) fn remove(&self, parent: NodeId, name: &OsStr, directory: bool) -> io::Result<()> {
        let _power = self.power.read();
        let mut namespace = self.namespace.lock();
        let node = namespace.lookup(parent, name)?;
        if directory { namespace.rmdir(parent, name) } else { namespace.unlink(parent, name) }?;
        namespace.forget_unused(node);
        Ok(())
    }

    pub(super) fn rename(
        &self,
        from: (NodeId, &OsStr),
        to: (NodeId, &OsStr),
        no_replace: bool,
        exchange: bool,
    ) -> io::Result<()> {
        let _power = self.power.read();
        self.namespace.lock().rename(from, to, no_replace, exchange)
    }

    pub(super) fn read_link(&self, node: NodeId) -> io::Result<std::path::PathBuf> {
        match &self.namespace.lock().node(node)?.kind {
            Kind::Symlink(target) => Ok(target.clone()),
            _ => Err(errno(libc::EINVAL)),
        }
    }

    pub(super) fn list(&self, node: NodeId) -> io::Result<Vec<(NodeId, Form, OsString)>> {
        let _power = self.power.read();
        let namespace = self.namespace.lock();
        let directory = namespace.directory(node)?;
        let mut list = vec![(node, Form::Directory, ".".into()), (directory.parent, Form::Directory, "..".into())];
        for (name, id) in &directory.entries {
            list.push((*id, namespace.node(*id)?.kind.form(), name.clone()));
        }
        Ok(list)
    }

    pub(super) fn open_file(&self, node: NodeId) -> io::Result<OpenFile> {
        let _power = self.power.read();
        let mut namespace = self.namespace.lock();
        let target = namespace.node_mut(node)?;
        let Kind::File(data) = &target.kind else { return Err(errno(libc::EISDIR)) };
        let data = data.clone();
        target.opens += 1;
        Ok(OpenFile { node, data })
    }

    pub(super) fn close_file(&self, file: &OpenFile) {
        let _power = self.power.read();
        let mut namespace = self.namespace.lock();
        if let Ok(node) = namespace.node_mut(file.node) {
            node.opens = node.opens.saturating_sub(1);
            namespace.forget_unused(file.node);
        }
    }

    /// Works on the bytes of an open file; EIO if it was opened before the power went.
    pub(super) fn with_data<T>(
        &self,
        file: &OpenFile,
        work: impl FnOnce(&mut FileData) -> io::Result<T>,
    ) -> io::Result<T> {
        let _power = self.power.read();
        if self.namespace.lock().node(file.node).is_err() {
            return Err(errno(libc::EIO));
        }
        work(&mut file.data.lock())
    }

    pub(super) fn sync_file(&self, file: &OpenFile) -> io::Result<()> {
        self.with_data(file, FileData::sync)?;
        let _power = self.power.read();
        self.namespace.lock().sync_creation(file.node)
    }

    pub(super) fn sync_directory(&self, node: NodeId) -> io::Result<()> {
        let _power = self.power.read();
        self.namespace.lock().sync_directory(node)
    }
}

fn stat(namespace: &Namespace, id: NodeId) -> io::Result<Stat> {
    let node = namespace.node(id)?;
    let (size, modified) = match &node.kind {
        Kind::File(data) => {
            let data = data.lock();
            (data.size(), data.modified)
        }
        Kind::Directory(directory) => (directory.entries.len() as u64, node.changed),
        Kind::Symlink(target) => (target.as_os_str().len() as u64, node.changed),
    };
    let form = node.kind.form();
    Ok(Stat {
        node: id,
        form,
        size,
        mode: node.mode,
        owner: node.owner,
        links: if form == Form::Directory { 2 } else { node.links },
        modified,
        changed: node.changed,
    })
}
