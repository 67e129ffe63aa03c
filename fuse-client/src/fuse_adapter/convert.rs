//! Between the kernel's structures and ours. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use bytes::Bytes;
use cairn_common::clock::Timestamp;
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{AllocateMode, Attributes, NewNode, NodeKind, TimeChange, XattrMode};
use fuser::{FileAttr, FileType, INodeNo, OpenAccMode, OpenFlags, TimeOrNow};

use crate::filesystem::files::OpenOptions;

/// What stat(2) calls the preferred size of a request, in bytes: stdio writes in such pieces.
const PREFERRED_IO_BYTES: u32 = 128 << 10;

/// Attributes as the kernel takes them.
pub(super) fn file_attr(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.inode.0),
        size: attributes.size,
        blocks: attributes.allocated.div_ceil(512),
        atime: attributes.atime.to_system(),
        mtime: attributes.mtime.to_system(),
        ctime: attributes.ctime.to_system(),
        crtime: attributes.btime.to_system(),
        kind: file_type(attributes.kind),
        perm: (attributes.mode & 0o7777) as u16,
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.device as u32,
        blksize: PREFERRED_IO_BYTES,
        flags: 0,
    }
}

/// Attributes of which the kernel reads nothing but the number and the kind.
pub(super) fn no_attr(ino: INodeNo, kind: NodeKind) -> FileAttr {
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: PREFERRED_IO_BYTES,
        flags: 0,
    }
}

pub(super) fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::File => FileType::RegularFile,
        NodeKind::Directory => FileType::Directory,
        NodeKind::Symlink => FileType::Symlink,
        NodeKind::Fifo => FileType::NamedPipe,
        NodeKind::Socket => FileType::Socket,
        NodeKind::CharDevice => FileType::CharDevice,
        NodeKind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn name(name: &OsStr) -> Result<Name, FsError> {
    Name::new(Bytes::copy_from_slice(name.as_bytes()))
}

pub(super) fn bytes(text: &OsStr) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What mknod(2) is to make.
pub(super) fn new_node(mode: u32, device: u32) -> Result<NewNode, FsError> {
    match mode & libc::S_IFMT {
        libc::S_IFREG | 0 => Ok(NewNode::File),
        libc::S_IFIFO => Ok(NewNode::Fifo),
        libc::S_IFSOCK => Ok(NewNode::Socket),
        libc::S_IFCHR => Ok(NewNode::CharDevice(device.into())),
        libc::S_IFBLK => Ok(NewNode::BlockDevice(device.into())),
        _ => Err(FsError::Invalid),
    }
}

pub(super) fn open_options(flags: i32) -> OpenOptions {
    let write = OpenFlags(flags).acc_mode() != OpenAccMode::O_RDONLY;
    OpenOptions {
        write,
        append: write && flags & libc::O_APPEND != 0,
        exclusive: flags & libc::O_EXCL != 0,
        no_atime: flags & libc::O_NOATIME != 0,
    }
}

pub(super) fn time_change(time: TimeOrNow) -> TimeChange {
    match time {
        TimeOrNow::Now => TimeChange::Now,
        TimeOrNow::SpecificTime(time) => TimeChange::At(timestamp(time)),
    }
}

/// fuser 0.18 takes the nanoseconds of a time before 1970 off its seconds, where the kernel adds them: -1 s
/// and 0.25 s come as 1.25 s before 1970.
fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(_) => Timestamp::from_system(time),
        Err(before) => {
            let before = before.duration();
            Timestamp { seconds: -(before.as_secs() as i64), nanos: before.subsec_nanos() }
        }
    }
}

/// What fallocate's flags ask for, and whether the file keeps its size; None for what is not offered.
pub(super) fn allocate_mode(flags: i32) -> Option<(AllocateMode, bool)> {
    let keep_size = flags & libc::FALLOC_FL_KEEP_SIZE != 0;
    let mode = match flags & !libc::FALLOC_FL_KEEP_SIZE {
        0 => AllocateMode::Fill,
        libc::FALLOC_FL_ZERO_RANGE => AllocateMode::Zero,
        // Linux allows it only together with KEEP_SIZE.
        libc::FALLOC_FL_PUNCH_HOLE if keep_size => AllocateMode::Punch,
        _ => return None,
    };
    Some((mode, keep_size))
}

pub(super) fn xattr_mode(flags: i32) -> Result<XattrMode, FsError> {
    match flags {
        0 => Ok(XattrMode::Any),
        libc::XATTR_CREATE => Ok(XattrMode::Create),
        libc::XATTR_REPLACE => Ok(XattrMode::Replace),
        _ => Err(FsError::Invalid),
    }
}
