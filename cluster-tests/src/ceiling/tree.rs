//! Names and inodes in memory. Errors are errno values.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use fuser::{FileAttr, FileType, INodeNo};

use super::contents::Contents;

/// An errno.
pub(super) type Error = i32;

/// A directory's entries by name, and in the order of their making for listings: a cookie stays
/// with its entry, so a listing goes on rightly while entries are removed.
#[derive(Debug, Default)]
pub(super) struct Directory {
    cookies: HashMap<OsString, u64>,
    entries: BTreeMap<u64, (OsString, u64)>,
    parent: u64,
}

impl Directory {
    fn find(&self, name: &OsStr) -> Option<u64> {
        Some(self.entries[self.cookies.get(name)?].1)
    }

    fn insert(&mut self, name: &OsStr, number: u64, cookie: u64) {
        self.cookies.insert(name.to_owned(), cookie);
        self.entries.insert(cookie, (name.to_owned(), number));
    }

    fn remove(&mut self, name: &OsStr) -> Option<u64> {
        let cookie = self.cookies.remove(name)?;
        self.entries.remove(&cookie).map(|(_, number)| number)
    }
}

/// What an inode is.
#[derive(Debug)]
pub(super) enum Body {
    File(Contents),
    Directory(Directory),
    Symlink(Vec<u8>),
    Other,
}

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) attr: FileAttr,
    pub(super) body: Body,
    /// How often the kernel was told of it and has not forgotten it.
    lookups: u64,
}

/// The whole file system.
#[derive(Debug)]
pub(super) struct Tree {
    inodes: HashMap<u64, Inode>,
    next: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut tree = Self { inodes: HashMap::new(), next: 1 };
        tree.add(Body::Directory(Directory { parent: 1, ..Directory::default() }), FileType::Directory, 0o755, (0, 0));
        tree
    }

    pub(super) fn inode(&mut self, number: u64) -> Result<&mut Inode, Error> {
        self.inodes.get_mut(&number).ok_or(libc::ESTALE)
    }

    fn directory(&mut self, number: u64) -> Result<&mut Directory, Error> {
        match &mut self.inode(number)?.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(libc::ENOTDIR),
        }
    }

    /// Attributes of a name's inode, counted as told to the kernel.
    pub(super) fn lookup(&mut self, parent: u64, name: &OsStr) -> Result<FileAttr, Error> {
        let number = self.directory(parent)?.find(name).ok_or(libc::ENOENT)?;
        self.tell(number)
    }

    /// Attributes of an inode, counted as told to the kernel.
    pub(super) fn tell(&mut self, number: u64) -> Result<FileAttr, Error> {
        let inode = self.inode(number)?;
        inode.lookups += 1;
        Ok(inode.attr)
    }

    pub(super) fn forget(&mut self, number: u64, count: u64) {
        if let Ok(inode) = self.inode(number) {
            inode.lookups = inode.lookups.saturating_sub(count);
            self.drop_if_unused(number);
        }
    }

    pub(super) fn make(
        &mut self,
        (parent, name): (u64, &OsStr),
        body: Body,
        kind: FileType,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<FileAttr, Error> {
        if self.directory(parent)?.find(name).is_some() {
            return Err(libc::EEXIST);
        }
        let body = match body {
            Body::Directory(directory) => Body::Directory(Directory { parent, ..directory }),
            body => body,
        };
        let number = self.add(body, kind, mode, owner);
        self.enter(parent, name, number)?;
        if kind == FileType::Directory {
            self.inode(parent)?.attr.nlink += 1;
        }
        self.tell(number)
    }

    pub(super) fn link(&mut self, number: u64, parent: u64, name: &OsStr) -> Result<FileAttr, Error> {
        if self.directory(parent)?.find(name).is_some() {
            return Err(libc::EEXIST);
        }
        self.inode(number)?.attr.nlink += 1;
        self.enter(parent, name, number)?;
        self.tell(number)
    }

    /// Removes a name; `directory` says what it must be.
    pub(super) fn remove(&mut self, parent: u64, name: &OsStr, directory: bool) -> Result<(), Error> {
        let number = self.directory(parent)?.find(name).ok_or(libc::ENOENT)?;
        match (&self.inode(number)?.body, directory) {
            (Body::Directory(victim), true) if !victim.entries.is_empty() => return Err(libc::ENOTEMPTY),
            (Body::Directory(_), false) => return Err(libc::EISDIR),
            (Body::Directory(_), true) => self.inode(parent)?.attr.nlink -= 1,
            (_, true) => return Err(libc::ENOTDIR),
            (_, false) => {}
        }
        self.leave(parent, name)?;
        let inode = self.inode(number)?;
        inode.attr.nlink = if directory { 0 } else { inode.attr.nlink - 1 };
        inode.attr.ctime = SystemTime::now();
        self.drop_if_unused(number);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), replace: bool) -> Result<(), Error> {
        let number = self.directory(from.0)?.find(from.1).ok_or(libc::ENOENT)?;
        let is_directory = matches!(self.inode(number)?.body, Body::Directory(_));
        if let Some(victim) = self.directory(to.0)?.find(to.1) {
            if !replace {
                return Err(libc::EEXIST);
            }
            if victim == number {
                return Ok(());
            }
            self.remove(to.0, to.1, is_directory)?;
        }
        self.leave(from.0, from.1)?;
        self.enter(to.0, to.1, number)?;
        if is_directory {
            self.inode(from.0)?.attr.nlink -= 1;
            self.inode(to.0)?.attr.nlink += 1;
            self.directory(number)?.parent = to.0;
        }
        Ok(())
    }

    /// Gives the entries behind a cookie to `take` until it refuses one.
    pub(super) fn list(
        &mut self,
        number: u64,
        after: u64,
        mut take: impl FnMut(u64, &OsStr, &FileAttr) -> bool,
    ) -> Result<(), Error> {
        let parent = self.directory(number)?.parent;
        for (cookie, name, of) in [(1, ".", number), (2, "..", parent)] {
            if after < cookie && !take(cookie, name.as_ref(), &self.inode(of)?.attr) {
                return Ok(());
            }
        }
        let Some(Inode { body: Body::Directory(directory), .. }) = self.inodes.get(&number) else {
            return Err(libc::ENOTDIR);
        };
        for (cookie, (name, of)) in directory.entries.range(after.max(2) + 1..) {
            if !take(*cookie, name, &self.inodes[of].attr) {
                break;
            }
        }
        Ok(())
    }

    fn add(&mut self, body: Body, kind: FileType, mode: u32, (uid, gid): (u32, u32)) -> u64 {
        let (number, now) = (self.next, SystemTime::now());
        self.next += 1;
        let size = if let Body::Symlink(target) = &body { target.len() as u64 } else { 0 };
        let attr = FileAttr {
            ino: INodeNo(number),
            size,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind,
            perm: (mode & 0o7777) as u16,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid,
            gid,
            rdev: 0,
            blksize: 128 << 10,
            flags: 0,
        };
        self.inodes.insert(number, Inode { attr, body, lookups: 0 });
        number
    }

    fn enter(&mut self, parent: u64, name: &OsStr, number: u64) -> Result<(), Error> {
        let cookie = self.next + 2;
        self.next += 1;
        self.directory(parent)?.insert(name, number, cookie);
        self.touch(parent)
    }

    fn leave(&mut self, parent: u64, name: &OsStr) -> Result<(), Error> {
        self.directory(parent)?.remove(name).ok_or(libc::ENOENT)?;
        self.touch(parent)
    }

    fn touch(&mut self, parent: u64) -> Result<(), Error> {
        let now = SystemTime::now();
        let attr = &mut self.inode(parent)?.attr;
        (attr.mtime, attr.ctime) = (now, now);
        Ok(())
    }

    fn drop_if_unused(&mut self, number: u64) {
        if self.inodes.get(&number).is_some_and(|inode| inode.lookups == 0 && inode.attr.nlink == 0) {
            self.inodes.remove(&number);
        }
    }
}
