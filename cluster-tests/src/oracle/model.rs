//! A file system as POSIX describes it, in memory, small enough to be right by reading it. Two
//! mounts of one cluster, driven in turn, must agree with it at every step.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

/// Number of an inode of the model.
pub type Id = u32;

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file and its bytes.
    File(Vec<u8>),
    /// A directory and its entries.
    Directory(BTreeMap<String, Id>),
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub content: Content,
    /// Permission bits.
    pub mode: u32,
}

/// A change or a question, by paths from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// open(O_CREAT | O_EXCL), mode 0644.
    Create(String),
    /// mkdir, mode 0755.
    MakeDirectory(String),
    /// pwrite of bytes at an offset of an existing file.
    Write(String, u64, Vec<u8>),
    /// write to an existing file opened with O_APPEND.
    Append(String, Vec<u8>),
    /// truncate.
    Truncate(String, u64),
    /// rename.
    Rename(String, String),
    /// link.
    Link(String, String),
    /// unlink.
    Unlink(String),
    /// rmdir.
    RemoveDirectory(String),
    /// chmod.
    ChangeMode(String, u32),
}

/// The tree.
pub struct Model {
    inodes: BTreeMap<Id, Inode>,
    next: Id,
}

/// The root directory.
pub const ROOT: Id = 0;
/// Names that steps use: few, so that they meet.
const NAMES: &[&str] = &["a", "b", "c", "d", "e"];
/// Largest file, in bytes.
const MAX_BYTES: u64 = 200_000;

impl Default for Model {
    fn default() -> Self {
        let root = Inode { content: Content::Directory(BTreeMap::new()), mode: 0o755 };
        Self { inodes: BTreeMap::from([(ROOT, root)]), next: 1 }
    }
}

impl Model {
    /// A step that often succeeds.
    pub fn random_step(&self, rng: &mut StdRng) -> Step {
        let path = |rng: &mut StdRng| self.random_path(rng);
        match rng.random_range(0..100) {
            0..18 => Step::Create(path(rng)),
            18..25 => Step::MakeDirectory(path(rng)),
            25..40 => {
                let offset = if rng.random_bool(0.5) { 0 } else { rng.random_range(0..MAX_BYTES / 2) };
                Step::Write(self.random_file(rng), offset, random_bytes(rng))
            }
            40..55 => Step::Append(self.random_file(rng), random_bytes(rng)),
            55..63 => Step::Truncate(self.random_file(rng), rng.random_range(0..MAX_BYTES / 4)),
            63..77 => Step::Rename(path(rng), path(rng)),
            77..82 => Step::Link(self.random_file(rng), path(rng)),
            82..90 => Step::Unlink(path(rng)),
            90..94 => Step::RemoveDirectory(path(rng)),
            _ => Step::ChangeMode(path(rng), [0o600, 0o644, 0o755, 0o711][rng.random_range(0..4)]),
        }
    }

    /// Does a step; the error is the errno that Linux gives (for root, on ext4).
    pub fn apply(&mut self, step: &Step) -> Result<(), i32> {
        match step {
            Step::Create(path) => self.add(path, Content::File(Vec::new()), 0o644),
            Step::MakeDirectory(path) => self.add(path, Content::Directory(BTreeMap::new()), 0o755),
            Step::Write(path, offset, bytes) => {
                let file = self.file_mut(path)?;
                write(file, *offset as usize, bytes);
                Ok(())
            }
            Step::Append(path, bytes) => {
                self.file_mut(path)?.extend(bytes);
                Ok(())
            }
            Step::Truncate(path, size) => {
                self.file_mut(path)?.resize(*size as usize, 0);
                Ok(())
            }
            Step::Rename(from, to) => self.rename(from, to),
            Step::Link(from, to) => {
                let id = self.lookup(from)?;
                let (parent, name) = self.parent(to)?;
                if self.directory(parent)?.contains_key(&name) {
                    return Err(libc::EEXIST);
                }
                if self.is_directory(id) {
                    return Err(libc::EPERM);
                }
                self.directory_mut(parent)?.insert(name, id);
                Ok(())
            }
            Step::Unlink(path) => {
                let (parent, name) = self.parent(path)?;
                let id = *self.directory(parent)?.get(&name).ok_or(libc::ENOENT)?;
                if self.is_directory(id) {
                    return Err(libc::EISDIR);
                }
                self.directory_mut(parent)?.remove(&name);
                Ok(())
            }
            Step::RemoveDirectory(path) => {
                let (parent, name) = self.parent(path)?;
                let id = *self.directory(parent)?.get(&name).ok_or(libc::ENOENT)?;
                if !self.directory(id)?.is_empty() {
                    return Err(libc::ENOTEMPTY);
                }
                self.directory_mut(parent)?.remove(&name);
                Ok(())
            }
            Step::ChangeMode(path, mode) => {
                let id = self.lookup(path)?;
                self.inode_mut(id).mode = *mode;
                Ok(())
            }
        }
    }

    /// The inode of a path; ENOENT, ENOTDIR.
    pub fn lookup(&self, path: &str) -> Result<Id, i32> {
        let mut id = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            id = *self.directory(id)?.get(name).ok_or(libc::ENOENT)?;
        }
        Ok(id)
    }

    /// An inode.
    pub fn inode(&self, id: Id) -> &Inode {
        &self.inodes[&id]
    }

    /// Names of an inode that is a file.
    pub fn links(&self, id: Id) -> u64 {
        let entries = self.inodes.values().filter_map(|inode| match &inode.content {
            Content::Directory(entries) => Some(entries),
            Content::File(_) => None,
        });
        entries.flat_map(BTreeMap::values).filter(|entry| **entry == id).count() as u64
    }

    /// Writes through a handle, whether the file has a name or not.
    pub fn write_inode(&mut self, id: Id, offset: u64, bytes: &[u8]) {
        if let Content::File(file) = &mut self.inode_mut(id).content {
            write(file, offset as usize, bytes);
        }
    }

    /// Paths that a step is about, and their parents: where its effects can be seen.
    pub fn touched(step: &Step) -> Vec<String> {
        let paths = match step {
            Step::Rename(from, to) | Step::Link(from, to) => vec![from, to],
            Step::Create(path)
            | Step::MakeDirectory(path)
            | Step::Write(path, ..)
            | Step::Append(path, _)
            | Step::Truncate(path, _)
            | Step::Unlink(path)
            | Step::RemoveDirectory(path)
            | Step::ChangeMode(path, _) => vec![path],
        };
        let parent = |path: &String| path.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned());
        paths.iter().flat_map(|path| [(*path).clone(), parent(path)]).collect()
    }

    fn random_path(&self, rng: &mut StdRng) -> String {
        let mut path = NAMES[rng.random_range(0..NAMES.len())].to_owned();
        while rng.random_bool(0.5) && path.len() < 6 {
            path = format!("{path}/{}", NAMES[rng.random_range(0..NAMES.len())]);
        }
        path
    }

    /// A file if one is found soon, else any path.
    fn random_file(&self, rng: &mut StdRng) -> String {
        for _ in 0..20 {
            let path = self.random_path(rng);
            if self.lookup(&path).is_ok_and(|id| !self.is_directory(id)) {
                return path;
            }
        }
        self.random_path(rng)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), i32> {
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        let id = *self.directory(from_parent)?.get(&from_name).ok_or(libc::ENOENT)?;
        if to.starts_with(&format!("{from}/")) {
            return Err(libc::EINVAL);
        }
        let replaced = self.directory(to_parent)?.get(&to_name).copied();
        if from.starts_with(&format!("{to}/")) {
            return Err(libc::ENOTEMPTY);
        }
        if let Some(replaced) = replaced {
            match (self.is_directory(id), self.is_directory(replaced)) {
                _ if replaced == id => return Ok(()),
                (true, false) => return Err(libc::ENOTDIR),
                (false, true) => return Err(libc::EISDIR),
                (true, true) if !self.directory(replaced)?.is_empty() => return Err(libc::ENOTEMPTY),
                _ => {}
            }
        }
        self.directory_mut(from_parent)?.remove(&from_name);
        self.directory_mut(to_parent)?.insert(to_name, id);
        Ok(())
    }

    fn add(&mut self, path: &str, content: Content, mode: u32) -> Result<(), i32> {
        let (parent, name) = self.parent(path)?;
        if self.directory(parent)?.contains_key(&name) {
            return Err(libc::EEXIST);
        }
        let id = self.next;
        self.next += 1;
        self.inodes.insert(id, Inode { content, mode });
        self.directory_mut(parent)?.insert(name, id);
        Ok(())
    }

    fn parent(&self, path: &str) -> Result<(Id, String), i32> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.lookup(parent)?;
        self.directory(parent)?;
        Ok((parent, name.to_owned()))
    }

    fn is_directory(&self, id: Id) -> bool {
        matches!(self.inodes[&id].content, Content::Directory(_))
    }

    fn directory(&self, id: Id) -> Result<&BTreeMap<String, Id>, i32> {
        match &self.inodes[&id].content {
            Content::Directory(entries) => Ok(entries),
            Content::File(_) => Err(libc::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, id: Id) -> Result<&mut BTreeMap<String, Id>, i32> {
        match &mut self.inode_mut(id).content {
            Content::Directory(entries) => Ok(entries),
            Content::File(_) => Err(libc::ENOTDIR),
        }
    }

    fn file_mut(&mut self, path: &str) -> Result<&mut Vec<u8>, i32> {
        let id = self.lookup(path)?;
        match &mut self.inode_mut(id).content {
            Content::File(bytes) => Ok(bytes),
            Content::Directory(_) => Err(libc::EISDIR),
        }
    }

    fn inode_mut(&mut self, id: Id) -> &mut Inode {
        self.inodes.get_mut(&id).expect("ids are only handed out for inodes that are kept")
    }
}

fn write(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

fn random_bytes(rng: &mut StdRng) -> Vec<u8> {
    let length = if rng.random_bool(0.7) { rng.random_range(1..300) } else { rng.random_range(1..20_000) };
    let byte = rng.random();
    (0..length).map(|place: usize| (place as u8).wrapping_mul(7).wrapping_add(byte)).collect()
}
