//! The tree in memory as a FUSE file system, tuned as far as fuser goes.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    Session, SessionACL, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use super::contents::Contents;
use super::tree::{Body, Directory, Error, Tree};

/// As many as Cairn's mount has.
const THREADS: usize = 2;
/// Pages stay over opens, and a close asks nothing.
const OPENED: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

/// Mounts an empty file system; dropping the session unmounts it. The kernel believes names and
/// attributes for `lifetime`.
pub fn mount(path: &Path, lifetime: Duration) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("ceiling".into()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
        MountOption::Suid,
        MountOption::Dev,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    Session::new(Ceiling { tree: Mutex::new(Tree::new()), lifetime }, path, &config)?.spawn()
}

struct Ceiling {
    tree: Mutex<Tree>,
    lifetime: Duration,
}

fn errno(error: Error) -> Errno {
    Errno::from_i32(error)
}

fn reply_entry(reply: ReplyEntry, lifetime: Duration, result: Result<FileAttr, Error>) {
    match result {
        Ok(attr) => reply.entry(&lifetime, &attr, Generation(0)),
        Err(error) => reply.error(errno(error)),
    }
}

fn empty(reply: ReplyEmpty, result: Result<(), Error>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn owner(request: &Request) -> (u32, u32) {
    (request.uid(), request.gid())
}

fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::Now => SystemTime::now(),
        TimeOrNow::SpecificTime(time) => time,
    }
}

impl Filesystem for Ceiling {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_write(1 << 20);
        let _ = config.set_max_background(128);
        let wanted = [
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
        ];
        for capability in wanted {
            // An older kernel lacks one or the other, and is measured without.
            let _ = config.add_capabilities(capability);
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let result = self.tree.lock().lookup(parent.0, name);
        reply_entry(reply, self.lifetime, result);
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.tree.lock().forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let result = self.tree.lock().inode(ino.0).map(|inode| inode.attr);
        match result {
            Ok(attr) => reply.attr(&self.lifetime, &attr),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree.lock();
        let Ok(inode) = tree.inode(ino.0) else { return reply.error(Errno::ESTALE) };
        let attr = &mut inode.attr;
        attr.ctime = SystemTime::now();
        attr.perm = mode.map_or(attr.perm, |mode| (mode & 0o7777) as u16);
        attr.uid = uid.unwrap_or(attr.uid);
        attr.gid = gid.unwrap_or(attr.gid);
        if let (Some(size), Body::File(contents)) = (size, &mut inode.body) {
            contents.set_length(size);
            (attr.size, attr.mtime) = (size, attr.ctime);
            attr.blocks = contents.allocated().div_ceil(512);
        }
        attr.atime = atime.map_or(attr.atime, time);
        attr.mtime = mtime.map_or(attr.mtime, time);
        let attr = inode.attr;
        drop(tree);
        reply.attr(&self.lifetime, &attr);
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let mut tree = self.tree.lock();
        match tree.inode(ino.0).map(|inode| &inode.body) {
            Ok(Body::Symlink(target)) => reply.data(target),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let kind = match mode & libc::S_IFMT {
            libc::S_IFIFO => FileType::NamedPipe,
            libc::S_IFSOCK => FileType::Socket,
            libc::S_IFCHR => FileType::CharDevice,
            libc::S_IFBLK => FileType::BlockDevice,
            _ => FileType::RegularFile,
        };
        let body = if kind == FileType::RegularFile { Body::File(Contents::default()) } else { Body::Other };
        let mut tree = self.tree.lock();
        let result = tree.make((parent.0, name), body, kind, mode, owner(req)).and_then(|attr| {
            let inode = tree.inode(attr.ino.0)?;
            inode.attr.rdev = rdev;
            Ok(inode.attr)
        });
        reply_entry(reply, self.lifetime, result);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let body = Body::Directory(Directory::default());
        let result = self.tree.lock().make((parent.0, name), body, FileType::Directory, mode, owner(req));
        reply_entry(reply, self.lifetime, result);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let body = Body::Symlink(target.as_os_str().as_bytes().to_vec());
        let result = self.tree.lock().make((parent.0, name), body, FileType::Symlink, 0o777, owner(req));
        reply_entry(reply, self.lifetime, result);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.tree.lock().remove(parent.0, name, false);
        empty(reply, result);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.tree.lock().remove(parent.0, name, true);
        empty(reply, result);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            return reply.error(Errno::EINVAL);
        }
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let result = self.tree.lock().rename((parent.0, name), (newparent.0, newname), replace);
        empty(reply, result);
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let result = self.tree.lock().link(ino.0, newparent.0, newname);
        reply_entry(reply, self.lifetime, result);
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), OPENED);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let body = Body::File(Contents::default());
        let result = self.tree.lock().make((parent.0, name), body, FileType::RegularFile, mode, owner(req));
        match result {
            Ok(attr) => reply.created(&self.lifetime, &attr, Generation(0), FileHandle(0), OPENED),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut tree = self.tree.lock();
        match tree.inode(ino.0).map(|inode| &inode.body) {
            Ok(Body::File(contents)) => {
                let bytes = contents.read(offset, size as usize);
                drop(tree);
                reply.data(&bytes);
            }
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut tree = self.tree.lock();
        let Ok(inode) = tree.inode(ino.0) else { return reply.error(Errno::ESTALE) };
        let Body::File(contents) = &mut inode.body else { return reply.error(Errno::EINVAL) };
        contents.write(offset, data);
        (inode.attr.size, inode.attr.blocks) = (contents.length(), contents.allocated().div_ceil(512));
        inode.attr.mtime = SystemTime::now();
        inode.attr.ctime = inode.attr.mtime;
        drop(tree);
        reply.written(data.len() as u32);
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed =
            self.tree.lock().list(ino.0, offset, |cookie, name, attr| !reply.add(attr.ino, cookie, attr.kind, name));
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdirplus(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let mut tree = self.tree.lock();
        let mut told = Vec::new();
        let listed = tree.list(ino.0, offset, |cookie, name, attr| {
            let full = reply.add(attr.ino, cookie, name, &self.lifetime, attr, Generation(0));
            // The kernel counts every entry but these two as looked up.
            if !full && cookie > 2 {
                told.push(attr.ino.0);
            }
            !full
        });
        for number in told {
            // Under the same lock as the listing: it is there.
            let _ = tree.tell(number);
        }
        drop(tree);
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 4096, 255, 4096);
    }
}
