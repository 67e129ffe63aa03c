//! One method a request of the kernel.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::InodeId;
use cairn_common::posix_acl::AclKind;
use cairn_common::protocol::FsError;
use cairn_common::protocol::locks::LockRange;
use cairn_common::protocol::metadata::{AttributeChanges, NewNode, RenameMode};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::caller_groups::groups_of;
use super::caller_task::CallerTask;
use super::convert::{
    allocate_mode, bytes, file_attr, file_type, name, new_node, open_options, time_change, xattr_mode,
};
use super::dispatch::finish;
use super::locks::AskedLock;
use super::replies::{fopen_flags, reply_attr, reply_empty, reply_lookup, reply_made, reply_told, reply_xattr};
use super::unmounting::bounded_for_unmount;
use super::{FuseAdapter, caller, fuse_errno, meters};
use crate::errno::{errno, fs_errno};
use crate::filesystem::Caller;
use crate::kernel_caches::KernelCaches;
use crate::open_files::KernelPages;

/// Largest write of the kernel in one request, in bytes.
const MAX_WRITE_BYTES: u32 = 1 << 20;
/// Most bytes that one copy_file_range answers for: a multiple of every block size below 4 GiB.
const MAX_COPY_BYTES: u32 = 1 << 31;
/// Requests that the kernel sends without waiting (read-ahead, asynchronous direct IO).
const MAX_BACKGROUND: u16 = 128;
/// Reads that end before it are answered without a look at what the program may read next.
const SMALL_READ_BYTES: u64 = 128 << 10;
/// Bytes of a page of the kernel's, at least.
const PAGE_BYTES: u64 = 4096;
/// Capabilities that are asked for where the kernel has them. Not among them, on purpose: the
/// writeback cache and every form of caching that no lease ends, and what fuser 0.18 breaks.
const CAPABILITIES: [InitFlags; 9] = [
    InitFlags::FUSE_POSIX_LOCKS,
    InitFlags::FUSE_FLOCK_LOCKS,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_ABORT_ERROR,
];

/// Capabilities without which a mount would give access that nobody allowed, or refuse what is allowed: the
/// kernel enforces access control lists, and leaves the umask to the directory's default list.
const NEEDED: [InitFlags; 2] = [InitFlags::FUSE_POSIX_ACL, InitFlags::FUSE_DONT_MASK];

fn inode(number: INodeNo) -> InodeId {
    InodeId(number.0)
}

fn asked_lock(
    req: &Request,
    (ino, fh): (INodeNo, FileHandle),
    owner: LockOwner,
    (start, end): (u64, u64),
    pid: u32,
) -> AskedLock {
    let (task, range) = (CallerTask::of(req.pid()), LockRange { start, end });
    AskedLock { task, inode: inode(ino), handle: fh.0, kernel_owner: owner.0, range, pid }
}

/// Checks a name, or replies with its error and leaves.
macro_rules! checked {
    ($value:expr, $reply:ident) => {
        match $value {
            Ok(value) => value,
            Err(error) => return $reply.error(fuse_errno(fs_errno(error))),
        }
    };
}

impl fuser::Filesystem for FuseAdapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // The nearest possible value comes back as the error; it is as good.
        if let Err(possible) = config.set_max_write(MAX_WRITE_BYTES) {
            let _ = config.set_max_write(possible);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        for capability in NEEDED {
            config.add_capabilities(capability).map_err(|_| {
                io::Error::other(format!("this kernel's FUSE lacks {capability:?}; Linux 4.9 and later have it"))
            })?;
        }
        for capability in CAPABILITIES {
            if config.add_capabilities(capability).is_err() {
                tracing::warn!(?capability, "this kernel's FUSE lacks a capability");
            }
        }
        Ok(())
    }

    fn forget(&self, _req: &Request, ino: INodeNo, _nlookup: u64) {
        if self.filesystem.kernel_forgot(inode(ino)) {
            let kernel = self.kernel.clone();
            self.runtime.spawn(async move { kernel.acls(inode(ino)) });
        }
        // It may remember the inode from elsewhere, so this drops pages and does not just forget them.
        self.kernel.drop_unleased_soon(&self.runtime, inode(ino));
    }

    fn lookup(&self, req: &Request, parent: INodeNo, child: &OsStr, reply: ReplyEntry) {
        self.nearness.asked(req.pid(), 0);
        let begun = Instant::now();
        let (parent, child) = (inode(parent), checked!(name(child), reply));
        if let Some(told) = self.filesystem.tell_name(parent, &child) {
            meters::count("lookup", told.attributes.is_some(), begun.elapsed());
            return reply_told(reply, &self.kernel, &told);
        }
        let (filesystem, caller, believed) = (self.filesystem.clone(), caller(req), self.believed());
        let asked = child.clone();
        let work = async move { filesystem.lookup(caller, parent, asked).await };
        self.run("lookup", caller.request, work, move |result| reply_lookup(reply, &believed, parent, &child, result));
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.nearness.asked(req.pid(), 0);
        let begun = Instant::now();
        if let Some((attributes, ttl)) = self.filesystem.tell_attributes(inode(ino))
            && !self.kernel.has_unleased(inode(ino))
        {
            meters::count("getattr", true, begun.elapsed());
            return reply_attr(reply, self.kernel.attribute_ttl(attributes.inode, ttl), Ok(attributes));
        }
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let (pid, is_root, believed) = (req.pid(), ino == INodeNo::ROOT, self.believed());
        let kernel = self.kernel.clone();
        let work = async move {
            if is_root {
                let ask = filesystem.attributes(caller.request, inode(ino));
                return bounded_for_unmount(pid, "attributes of the mount point", ask).await;
            }
            let (attributes, drops_pages) = filesystem.attributes_for_kernel(caller.request, inode(ino)).await?;
            // The kernel throws away an answer that is overtaken by a notification: a read would then end at
            // the length of before. So only where the answer does not do it.
            if !drops_pages {
                kernel.drop_unleased(inode(ino)).await;
            }
            Ok(attributes)
        };
        self.run("getattr", caller.request, work, move |result| {
            let ttl = result.as_ref().map_or(Duration::ZERO, |attributes| believed.attributes(attributes));
            reply_attr(reply, ttl, result);
        });
    }

    fn setattr(
        &self,
        req: &Request,
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
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let changes = AttributeChanges {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(time_change),
            mtime: mtime.map(time_change),
            ctime: None,
        };
        let work = async move { filesystem.set_attributes(caller, inode(ino), changes).await };
        self.run("setattr", caller.request, work, |result| reply_attr(reply, Duration::ZERO, result));
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let work = async move { filesystem.read_link(caller, inode(ino)).await };
        self.run("readlink", caller.request, work, |result| match result {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        child: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let node = checked!(new_node(mode, rdev), reply);
        self.make("mknod", Caller { umask, ..caller(req) }, parent, child, node, mode, reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, child: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.make("mkdir", Caller { umask, ..caller(req) }, parent, child, NewNode::Directory, mode, reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, child: &OsStr, target: &Path, reply: ReplyEntry) {
        let node = NewNode::Symlink(bytes(target.as_os_str()));
        self.make("symlink", caller(req), parent, child, node, 0o777, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, child: &OsStr, reply: ReplyEmpty) {
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let (parent, child) = (inode(parent), checked!(name(child), reply));
        self.listings_read([parent]);
        let work = async move { filesystem.unlink(caller, parent, child).await };
        self.run("unlink", caller.request, work, |result| reply_empty(reply, result));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, child: &OsStr, reply: ReplyEmpty) {
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let (parent, child) = (inode(parent), checked!(name(child), reply));
        self.listings_read([parent]);
        let work = async move { filesystem.remove_directory(caller, parent, child).await };
        self.run("rmdir", caller.request, work, |result| reply_empty(reply, result));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        child: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let (from, to) = (checked!(name(child), reply), checked!(name(newname), reply));
        let mode = if flags.is_empty() {
            RenameMode::Replace
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            RenameMode::NoReplace
        } else if flags == RenameFlags::RENAME_EXCHANGE {
            RenameMode::Exchange
        } else {
            return reply.error(Errno::EINVAL);
        };
        let (parent, newparent) = (inode(parent), inode(newparent));
        self.listings_read([parent, newparent]);
        let work = async move { filesystem.rename(caller, (parent, from), (newparent, to), mode).await };
        self.run("rename", caller.request, work, |result| reply_empty(reply, result));
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let (parent, child) = (inode(newparent), checked!(name(newname), reply));
        let (made, believed) = (child.clone(), self.believed());
        self.listings_read([parent]);
        let work = async move { filesystem.link(caller, inode(ino), parent, made).await };
        self.run("link", caller.request, work, move |result| {
            reply_made(reply, &believed, parent, &child, result);
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.nearness.asked(req.pid(), 0);
        let (begun, ino, options) = (Instant::now(), inode(ino), open_options(flags.0));
        if let Some((number, handle)) = self.filesystem.try_open(ino, options) {
            meters::count("open", true, begun.elapsed());
            return reply.opened(FileHandle(number), fopen_flags(&handle));
        }
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let work = async move {
            let number = filesystem.open(caller, ino, options).await?;
            let handle = filesystem.handle(number)?;
            Ok((number, fopen_flags(&handle)))
        };
        self.run("open", caller.request, work, |result| match result {
            Ok((number, flags)) => reply.opened(FileHandle(number), flags),
            Err(errno) => reply.error(errno),
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        child: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (filesystem, options) = (self.filesystem.clone(), open_options(flags));
        let caller = Caller { umask, ..caller(req) };
        let (parent, child) = (inode(parent), checked!(name(child), reply));
        self.listings_read([parent]);
        let work = async move {
            let (attributes, number) = filesystem.create(caller, parent, child, mode, options).await?;
            let handle = filesystem.handle(number)?;
            Ok((attributes, number, fopen_flags(&handle)))
        };
        self.run("create", caller.request, work, |result| match result {
            Ok((attributes, number, flags)) => {
                // One lifetime for name and attributes, which may have none here.
                reply.created(&Duration::ZERO, &file_attr(&attributes), Generation(0), FileHandle(number), flags);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.nearness.asked(req.pid(), size);
        let begun = Instant::now();
        self.fills_pages(inode(ino), fh.0, offset, size);
        let is_small = offset + u64::from(size) <= SMALL_READ_BYTES;
        if is_small && let Some(data) = self.filesystem.try_read_of(fh.0, offset, size) {
            meters::count("read", true, begun.elapsed());
            return reply.data(&data);
        }
        let (filesystem, request) = (self.filesystem.clone(), caller(req).request);
        let work = async move {
            let handle = filesystem.handle(fh.0)?;
            filesystem.read(request, &handle, offset, size).await
        };
        self.run("read", request, work, |result| match result {
            Ok(data) => reply.data(&data),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.nearness.asked(req.pid(), data.len() as u32);
        let begun = Instant::now();
        self.fills_pages(inode(ino), fh.0, offset, data.len() as u32);
        let (filesystem, request) = (self.filesystem.clone(), caller(req).request);
        self.follow_append(fh, flags);
        // Room in the buffer: answered here, without a hop onto the runtime.
        if let Some(result) = filesystem.try_write(request, fh.0, offset, data) {
            return match finish("write", request, begun, result) {
                Ok(written) => reply.written(written),
                Err(errno) => reply.error(errno),
            };
        }
        let data = Bytes::copy_from_slice(data);
        let waiting = self.kernel.write_waits(inode(ino));
        let (kernel, runtime) = (self.kernel.clone(), self.runtime.clone());
        let work = async move {
            let handle = filesystem.handle(fh.0)?;
            filesystem.write(request, &handle, offset, data).await
        };
        self.run("write", request, work, move |result| {
            match result {
                Ok(written) => reply.written(written),
                Err(errno) => reply.error(errno),
            }
            drop(waiting);
            // What a recall has left meanwhile: mappings show it until it goes.
            kernel.drop_unleased_after_write(&runtime, inode(ino));
        });
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, lock_owner: LockOwner, reply: ReplyEmpty) {
        let (begun, ino) = (Instant::now(), inode(ino));
        let has_locks = self.filesystem.closes_locks(ino, lock_owner.0);
        if !has_locks && self.filesystem.handle(fh.0).is_ok_and(|handle| !handle.writable) {
            meters::count("flush", true, begun.elapsed());
            return reply.ok();
        }
        let (filesystem, request) = (self.filesystem.clone(), caller(req).request);
        let work = async move {
            let flush = async {
                let handle = filesystem.handle(fh.0)?;
                filesystem.flush(request, &handle).await
            };
            let unlock = async {
                if has_locks {
                    filesystem.close_locks(request, ino, lock_owner.0).await;
                }
            };
            // Locks go also if the bytes cannot.
            futures::join!(flush, unlock).0
        };
        self.run("flush", request, work, |result| reply_empty(reply, result));
    }

    fn fsync(&self, req: &Request, _ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let (filesystem, request) = (self.filesystem.clone(), caller(req).request);
        let work = async move {
            let handle = filesystem.handle(fh.0)?;
            filesystem.sync(request, &handle).await
        };
        self.run_apart("fsync", request, work, |result| reply_empty(reply, result));
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.filesystem.release(fh.0);
        reply.ok();
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let handle = self.filesystem.open_directory(inode(ino));
        reply.opened(FileHandle(handle), FopenFlags::empty());
    }

    fn readdir(&self, req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let work = async move {
            let listed = filesystem
                .list(caller, fh.0, offset, false, |entry| {
                    let name = OsStr::from_bytes(entry.name);
                    !reply.add(INodeNo(entry.inode.0), entry.cookie, file_type(entry.kind), name)
                })
                .await;
            // The reply is here, and goes along with the error.
            Ok((listed, reply))
        };
        self.run("readdir", caller.request, work, |result| match result {
            Ok((Ok(()), reply)) => reply.ok(),
            Ok((Err(error), reply)) => reply.error(fuse_errno(errno(&error))),
            // The bound is over and took the reply with it: fuser answers EIO.
            Err(_) => {}
        });
    }

    fn readdirplus(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        let directory = inode(ino);
        self.kernel.listings.read(directory, fh.0);
        let (caller, listing) = (caller(req), self.listing(directory, fh.0));
        let work = async move { Ok(listing.fill(caller, offset, reply).await) };
        self.run("readdirplus", caller.request, work, |result| match result {
            Ok((Ok(()), reply)) => reply.ok(),
            Ok((Err(error), reply)) => reply.error(fuse_errno(errno(&error))),
            Err(_) => {}
        });
    }

    fn releasedir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.kernel.listings.read(inode(ino), fh.0);
        self.filesystem.release_directory(fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let work = async move { filesystem.sync_directory(caller).await };
        self.run_apart("fsyncdir", caller.request, work, |result| reply_empty(reply, result));
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        const BLOCK: u64 = 4096;
        /// What a file system without a fixed number of inodes shows as free.
        const FREE_INODES: u64 = 1 << 40;
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let pid = req.pid();
        let work = async move { bounded_for_unmount(pid, "space", filesystem.statfs(caller)).await };
        self.run("statfs", caller.request, work, |result| match result {
            Ok(space) => {
                let (total, free) = (space.total_bytes / BLOCK, space.free_bytes / BLOCK);
                let inodes = space.inodes + FREE_INODES;
                reply.statfs(total, free, free, inodes, FREE_INODES, BLOCK as u32, 255, BLOCK as u32);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        key: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let mode = checked!(xattr_mode(flags), reply);
        let (key, value) = (bytes(key), Bytes::copy_from_slice(value));
        if let Some(kind) = AclKind::of_xattr(&key) {
            return self.set_acl(req, inode(ino), kind, Some(value), reply);
        }
        let work = async move { filesystem.set_xattr(caller, inode(ino), key, value, mode).await };
        self.run("setxattr", caller.request, work, |result| reply_empty(reply, result));
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, key: &OsStr, size: u32, reply: ReplyXattr) {
        self.nearness.asked(req.pid(), 0);
        let (filesystem, caller, key) = (self.filesystem.clone(), caller(req), bytes(key));
        let (asked, believed) = (AclKind::of_xattr(&key).map(|_| key.clone()), self.believed());
        let work = async move { filesystem.xattr(caller, inode(ino), key).await };
        self.run("getxattr", caller.request, work, move |result| {
            match (asked, &result) {
                (Some(name), Ok(value)) => believed.acl(inode(ino), &name, Some(value)),
                (Some(name), Err(errno)) if *errno == Errno::ENODATA => believed.acl(inode(ino), &name, None),
                // Errors are not kept.
                (Some(_), Err(_)) | (None, _) => {}
            }
            reply_xattr(reply, size, result);
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        // As Linux does it: names of this kind are the administrator's.
        let shows_trusted = caller.uid == 0;
        let work = async move { filesystem.xattr_names(caller, inode(ino), shows_trusted).await };
        self.run("listxattr", caller.request, work, move |result| reply_xattr(reply, size, result));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, key: &OsStr, reply: ReplyEmpty) {
        let (filesystem, caller, key) = (self.filesystem.clone(), caller(req), bytes(key));
        if let Some(kind) = AclKind::of_xattr(&key) {
            return self.set_acl(req, inode(ino), kind, None, reply);
        }
        let work = async move { filesystem.remove_xattr(caller, inode(ino), key).await };
        self.run("removexattr", caller.request, work, |result| reply_empty(reply, result));
    }

    fn lseek(&self, req: &Request, _ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (filesystem, request) = (self.filesystem.clone(), caller(req).request);
        let data = match whence {
            libc::SEEK_DATA => true,
            libc::SEEK_HOLE => false,
            _ => return reply.error(Errno::EINVAL),
        };
        let work = async move {
            let offset = u64::try_from(offset).map_err(|_| ClientError::Fs(FsError::NoSuchOffset))?;
            let handle = filesystem.handle(fh.0)?;
            filesystem.seek(request, &handle, offset, data).await
        };
        self.run("lseek", request, work, |result| match result {
            Ok(offset) => reply.offset(offset as i64),
            Err(errno) => reply.error(errno),
        });
    }

    fn getlk(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        self.get_lock(asked_lock(req, (ino, fh), lock_owner, (start, end), pid), typ, reply);
    }

    fn setlk(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        self.set_lock(asked_lock(req, (ino, fh), lock_owner, (start, end), pid), typ, sleep, reply);
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        // What isatty(3) asks, and all else: this is no such device.
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (filesystem, caller) = (self.filesystem.clone(), caller(req));
        let (mode, keep_size) = match allocate_mode(mode) {
            Some(mode) => mode,
            None => return reply.error(Errno::EOPNOTSUPP),
        };
        let work = async move {
            let handle = filesystem.handle(fh.0)?;
            filesystem.allocate(caller, &handle, (offset, length), mode, keep_size).await
        };
        self.run("fallocate", caller.request, work, |result| reply_empty(reply, result));
    }

    fn copy_file_range(
        &self,
        req: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (filesystem, request) = (self.filesystem.clone(), caller(req).request);
        // The answer has no room for more; programs go on from there.
        let length = len.min(u64::from(MAX_COPY_BYTES));
        let work = async move {
            let (source, to) = (filesystem.handle(fh_in.0)?, filesystem.handle(fh_out.0)?);
            filesystem.copy_range(request, (&source, offset_in), (&to, offset_out), length).await
        };
        self.run("copy_file_range", request, work, |result| match result {
            Ok(copied) => reply.written(copied as u32),
            Err(errno) => reply.error(errno),
        });
    }
}

impl FuseAdapter {
    #[expect(clippy::too_many_arguments, reason = "the kernel's request, taken apart")]
    fn make(
        &self,
        operation: &'static str,
        caller: Caller,
        parent: INodeNo,
        child: &OsStr,
        node: NewNode,
        mode: u32,
        reply: ReplyEntry,
    ) {
        let filesystem = self.filesystem.clone();
        let (parent, child) = (inode(parent), checked!(name(child), reply));
        let (made, believed) = (child.clone(), self.believed());
        self.listings_read([parent]);
        let work = async move { filesystem.make_node(caller, parent, made, node, mode).await };
        self.run(operation, caller.request, work, move |result| {
            reply_made(reply, &believed, parent, &child, result);
        });
    }

    fn set_acl(&self, req: &Request, inode: InodeId, kind: AclKind, acl: Option<Bytes>, reply: ReplyEmpty) {
        let operation = if acl.is_some() { "setxattr" } else { "removexattr" };
        let (filesystem, caller, task) = (self.filesystem.clone(), caller(req), CallerTask::of(req.pid()));
        let work = async move {
            let groups = groups_of(task).await;
            filesystem.set_acl(caller, inode, kind, acl, &groups).await
        };
        self.run(operation, caller.request, work, |result| reply_empty(reply, result));
    }

    /// A READ or a WRITE has come that may leave pages in the kernel: they are noted if no lease covers them.
    /// To be called before any byte is read: a question for attributes that comes meanwhile waits for it.
    /// Past its pages the kernel reads and writes what programs ask for; whole pages may be for a mapping,
    /// which has some all the same.
    fn fills_pages(&self, inode: InodeId, handle: u64, offset: u64, size: u32) {
        let bypasses = self.filesystem.handle(handle).is_ok_and(|handle| handle.pages == KernelPages::Bypass);
        let may_fill = !bypasses || (offset | u64::from(size)).is_multiple_of(PAGE_BYTES);
        if may_fill && !self.filesystem.covers_pages(inode) {
            self.kernel.fills_unleased(inode);
        }
    }

    /// What was opened to append follows fcntl(2), which may take that away and give it back. What was not
    /// goes through the kernel's pages, which are where the kernel believes the end to be.
    fn follow_append(&self, handle: FileHandle, flags: OpenFlags) {
        if let Ok(handle) = self.filesystem.handle(handle.0)
            && handle.opened_to_append()
        {
            handle.set_appends(flags.0 & libc::O_APPEND != 0);
        }
    }

    /// A request that changes these directories has come: the kernel has read all listings of them.
    fn listings_read<const N: usize>(&self, directories: [InodeId; N]) {
        directories.into_iter().for_each(|directory| self.kernel.listings.all_read(directory));
    }
}
