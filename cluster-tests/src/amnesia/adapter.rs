//! FUSE over a [`Layer`]. Names are asked for every time (TTL 0), because a power loss changes what
//! they stand for; bytes and attributes may stay in the kernel's cache, because an inode number is
//! never used again.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, Session, TimeOrNow,
    WriteFlags,
};
use parking_lot::RwLock;

use super::layer::{Layer, OpenFile, Stat};
use super::namespace::{Form, errno};
use super::operation::NodeId;

const NAME_TTL: Duration = Duration::ZERO;
const ATTRIBUTE_TTL: Duration = Duration::from_secs(60);
const THREADS: usize = 3;

/// Mounts a layer; dropping the session unmounts it.
pub fn mount(layer: Arc<Layer>, backing: &Path, mount: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("cairn-amnesia".into()),
        MountOption::Subtype("cairn-amnesia".into()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
    ];
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    let adapter =
        Adapter { layer, backing: backing.to_owned(), handles: RwLock::default(), next_handle: AtomicU64::new(1) };
    Session::new(adapter, mount, &config)?.spawn()
}

struct Adapter {
    layer: Arc<Layer>,
    backing: PathBuf,
    handles: RwLock<HashMap<u64, Handle>>,
    next_handle: AtomicU64,
}

#[derive(Clone)]
enum Handle {
    File { file: OpenFile, sync: bool },
    Directory(Arc<Vec<(NodeId, Form, OsString)>>),
}

impl Adapter {
    fn add_handle(&self, handle: Handle) -> FileHandle {
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.handles.write().insert(number, handle);
        FileHandle(number)
    }

    fn file(&self, handle: FileHandle) -> io::Result<(OpenFile, bool)> {
        match self.handles.read().get(&handle.0) {
            Some(Handle::File { file, sync }) => Ok((file.clone(), *sync)),
            _ => Err(errno(libc::EBADF)),
        }
    }

    fn open_file(&self, node: NodeId, flags: i32) -> io::Result<FileHandle> {
        let file = self.layer.open_file(node)?;
        if flags & libc::O_TRUNC != 0 {
            self.layer.with_data(&file, |data| {
                data.truncate(0);
                Ok(())
            })?;
        }
        // O_SYNC contains O_DSYNC.
        Ok(self.add_handle(Handle::File { file, sync: flags & libc::O_DSYNC != 0 }))
    }

    fn attributes(&self, stat: &Stat) -> FileAttr {
        FileAttr {
            ino: INodeNo(stat.node),
            size: stat.size,
            blocks: stat.size.div_ceil(512),
            atime: stat.modified,
            mtime: stat.modified,
            ctime: stat.changed.max(stat.modified),
            crtime: stat.modified,
            kind: file_type(stat.form),
            perm: stat.mode as u16,
            nlink: stat.links,
            uid: stat.owner.0,
            gid: stat.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn entry(&self, stat: io::Result<Stat>, reply: ReplyEntry) {
        match stat {
            Ok(stat) => {
                reply.entry_with_ttls(&ATTRIBUTE_TTL, &NAME_TTL, &self.attributes(&stat), Generation(0));
            }
            Err(error) => reply.error(error.into()),
        }
    }
}

fn file_type(form: Form) -> FileType {
    match form {
        Form::File => FileType::RegularFile,
        Form::Directory => FileType::Directory,
        Form::Symlink => FileType::Symlink,
    }
}

fn answer(result: io::Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

fn owner(request: &Request) -> (u32, u32) {
    (request.uid(), request.gid())
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Refused ones only make it slower.
        let _ = config.set_max_write(1 << 20);
        let _ = config.set_max_background(64);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(self.layer.lookup(parent.0, name), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.layer.stat(ino.0) {
            Ok(stat) => reply.attr(&ATTRIBUTE_TTL, &self.attributes(&stat)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let modified = mtime.map(|time| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        });
        match self.layer.change(ino.0, mode, (uid, gid), size, modified) {
            Ok(stat) => reply.attr(&ATTRIBUTE_TTL, &self.attributes(&stat)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.layer.read_link(ino.0) {
            Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
            Err(error) => reply.error(error.into()),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(Errno::EPERM);
        }
        let made = self
            .layer
            .make(parent.0, name, |names| names.create(parent.0, name, mode & !umask & 0o7777, owner(request)));
        self.entry(made, reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let made = self.layer.make(parent.0, name, |names| names.mkdir(parent.0, name, mode & !umask, owner(request)));
        self.entry(made, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.layer.remove(parent.0, name, false), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.layer.remove(parent.0, name, true), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let made = self.layer.make(parent.0, name, |names| names.symlink(parent.0, name, target, owner(request)));
        self.entry(made, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(RenameFlags::RENAME_WHITEOUT) {
            return reply.error(Errno::EINVAL);
        }
        let no_replace = flags.contains(RenameFlags::RENAME_NOREPLACE);
        let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
        answer(self.layer.rename((parent.0, name), (new_parent.0, new_name), no_replace, exchange), reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.layer.make(parent.0, name, |names| names.link(ino.0, parent.0, name).map(|()| ino.0));
        self.entry(linked, reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(ino.0, flags.0) {
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error.into()),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.layer.make(parent.0, name, |names| names.create(parent.0, name, mode & !umask, owner(request)));
        match made.and_then(|stat| Ok((self.open_file(stat.node, flags)?, stat))) {
            Ok((handle, stat)) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&NAME_TTL, &self.attributes(&stat), Generation(0), handle, flags);
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let bytes = self
            .file(handle)
            .and_then(|(file, _)| self.layer.with_data(&file, |data| data.read(offset, u64::from(size))));
        match bytes {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.file(handle).and_then(|(file, sync)| {
            self.layer.with_data(&file, |data| data.write(offset, bytes))?;
            if sync { self.layer.sync_file(&file) } else { Ok(()) }
        });
        match written {
            Ok(()) => reply.written(bytes.len() as u32),
            Err(error) => reply.error(error.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(Handle::File { file, .. }) = self.handles.write().remove(&handle.0) {
            self.layer.close_file(&file);
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.file(handle).and_then(|(file, _)| self.layer.sync_file(&file)), reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.layer.list(ino.0) {
            Ok(list) => reply.opened(self.add_handle(Handle::Directory(Arc::new(list))), FopenFlags::empty()),
            Err(error) => reply.error(error.into()),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(Handle::Directory(list)) = self.handles.read().get(&handle.0).cloned() else {
            return reply.error(Errno::EBADF);
        };
        for (index, (node, form, name)) in list.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*node), index as u64 + 1, file_type(*form), name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.handles.write().remove(&handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.layer.sync_directory(ino.0), reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match rustix::fs::statvfs(&self.backing) {
            Ok(s) => {
                let (block, fragment) = (s.f_bsize as u32, s.f_frsize as u32);
                reply.statfs(s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, block, 255, fragment);
            }
            Err(error) => reply.error(io::Error::from(error).into()),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let end = offset.saturating_add(length);
        let zeroes = mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0;
        let keeps_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let known = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        if mode & !known != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let done = self.file(handle).and_then(|(file, _)| {
            self.layer.with_data(&file, |data| {
                if !keeps_size {
                    data.extend(end);
                }
                if zeroes { data.zero(offset..end) } else { Ok(()) }
            })
        });
        answer(done, reply);
    }
}
