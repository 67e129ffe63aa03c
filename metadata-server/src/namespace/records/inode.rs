//! An inode. Files carry their extent bookkeeping, directories their parent and cookie counter,
//! devices their number; the fixed part is the same for all.

use cairn_common::clock::Timestamp;
use cairn_common::ids::{CommitSequence, DataVersion, InodeId};
use cairn_common::posix_acl::AclKind;
use cairn_common::protocol::metadata::{Attributes, NodeKind, XattrPresence};

use super::wire::{Reader, Writer};
use super::{Record, Versioned};

/// Cookies below are those of `.` and `..`.
pub(crate) const FIRST_COOKIE: u64 = 3;

/// Extents that a truncate has cut and that are still to be removed: those at or behind `from`
/// whose commit sequence is below `before`. Nobody is shown them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trim {
    pub(crate) from: u64,
    pub(crate) before: CommitSequence,
}

/// An inode without its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) kind: NodeKind,
    /// 07777.
    pub(crate) mode: u32,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) atime: Timestamp,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
    pub(crate) btime: Timestamp,
    pub(crate) data_version: DataVersion,
    /// Length of the list of extended attribute names: each name and one byte. Access control lists are
    /// among them.
    pub(crate) xattr_list_bytes: u32,
    /// It has an access list that says more than its mode.
    pub(crate) access_acl: bool,
    /// Directories: it has a default list.
    pub(crate) default_acl: bool,
    /// Devices.
    pub(crate) device: u64,
    /// Files: bytes of all stored extents, also of those that `trim` hides.
    pub(crate) allocated: u64,
    /// Files.
    pub(crate) trim: Option<Trim>,
    /// Directories; the root is its own.
    pub(crate) parent: InodeId,
    /// Directories: the cookie of the next new entry.
    pub(crate) next_cookie: u64,
}

impl Inode {
    pub(crate) fn is_directory(&self) -> bool {
        self.kind == NodeKind::Directory
    }

    pub(crate) fn is_file(&self) -> bool {
        self.kind == NodeKind::File
    }

    /// Whether an extent that a command of `sequence` wrote belongs to the file still.
    pub(crate) fn shows(&self, offset: u64, sequence: CommitSequence) -> bool {
        self.trim.is_none_or(|trim| offset < trim.from || sequence >= trim.before)
    }

    /// As clients see it.
    pub(crate) fn attributes(&self, inode: InodeId) -> Attributes {
        Attributes {
            inode,
            kind: self.kind,
            mode: self.mode,
            links: self.links,
            uid: self.uid,
            gid: self.gid,
            device: self.device,
            size: self.size,
            allocated: self.allocated,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            data_version: self.data_version,
            xattrs: self.xattrs(),
        }
    }

    /// Whether it has a list of this kind.
    pub(crate) fn has_acl(&self, kind: AclKind) -> bool {
        match kind {
            AclKind::Access => self.access_acl,
            AclKind::Default => self.default_acl,
        }
    }

    fn xattrs(&self) -> XattrPresence {
        let listed = |kind: AclKind| if self.has_acl(kind) { kind.xattr_name().len() as u32 + 1 } else { 0 };
        XattrPresence {
            access_acl: self.access_acl,
            default_acl: self.default_acl,
            others: self.xattr_list_bytes > AclKind::ALL.into_iter().map(listed).sum(),
        }
    }
}

/// The byte of a kind.
pub(super) fn kind_byte(kind: NodeKind) -> u8 {
    match kind {
        NodeKind::File => 1,
        NodeKind::Directory => 2,
        NodeKind::Symlink => 3,
        NodeKind::Fifo => 4,
        NodeKind::Socket => 5,
        NodeKind::CharDevice => 6,
        NodeKind::BlockDevice => 7,
    }
}

/// The kind of a byte.
pub(super) fn kind_of(byte: u8) -> Option<NodeKind> {
    use NodeKind::{BlockDevice, CharDevice, Directory, Fifo, File, Socket, Symlink};
    [File, Directory, Symlink, Fifo, Socket, CharDevice, BlockDevice].into_iter().find(|k| kind_byte(*k) == byte)
}

impl Versioned for Inode {}

impl Record for Inode {
    const NAME: &'static str = "inode";
    const VERSION: u8 = 2;

    fn write(&self, out: &mut Writer) {
        v2::write(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read(input),
            2 => v2::read(input),
            _ => None,
        }
    }
}

/// `{kind u8}{mode u16}{links u32}{uid u32}{gid u32}{size u64}{atime mtime ctime btime}`
/// `{data version u64}{xattr list u32}`, then for a file `{allocated u64}{trim u8: 0, or 1 and
/// {from u64}{before u64}}`, for a directory `{parent u64}{next cookie u64}`, for a device
/// `{number u64}`. A time is `{seconds i64}{nanos u32}`.
mod v1 {
    use super::*;

    pub(super) fn write(inode: &Inode, out: &mut Writer) {
        out.u8(kind_byte(inode.kind));
        out.u16((inode.mode & 0o7777) as u16);
        out.u32(inode.links);
        out.u32(inode.uid);
        out.u32(inode.gid);
        out.u64(inode.size);
        out.time(inode.atime);
        out.time(inode.mtime);
        out.time(inode.ctime);
        out.time(inode.btime);
        out.u64(inode.data_version.0);
        out.u32(inode.xattr_list_bytes);
        match inode.kind {
            NodeKind::File => {
                out.u64(inode.allocated);
                match inode.trim {
                    None => out.u8(0),
                    Some(trim) => {
                        out.u8(1);
                        out.u64(trim.from);
                        out.u64(trim.before.0);
                    }
                }
            }
            NodeKind::Directory => {
                out.u64(inode.parent.0);
                out.u64(inode.next_cookie);
            }
            NodeKind::CharDevice | NodeKind::BlockDevice => out.u64(inode.device),
            NodeKind::Symlink | NodeKind::Fifo | NodeKind::Socket => {}
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Option<Inode> {
        let mut inode = Inode {
            kind: kind_of(input.u8()?)?,
            mode: u32::from(input.u16()?),
            links: input.u32()?,
            uid: input.u32()?,
            gid: input.u32()?,
            size: input.u64()?,
            atime: input.time()?,
            mtime: input.time()?,
            ctime: input.time()?,
            btime: input.time()?,
            data_version: DataVersion(input.u64()?),
            xattr_list_bytes: input.u32()?,
            access_acl: false,
            default_acl: false,
            device: 0,
            allocated: 0,
            trim: None,
            parent: InodeId(0),
            next_cookie: 0,
        };
        match inode.kind {
            NodeKind::File => {
                inode.allocated = input.u64()?;
                inode.trim = match input.u8()? {
                    0 => None,
                    1 => Some(Trim { from: input.u64()?, before: CommitSequence(input.u64()?) }),
                    _ => return None,
                };
            }
            NodeKind::Directory => {
                inode.parent = InodeId(input.u64()?);
                inode.next_cookie = input.u64()?;
            }
            NodeKind::CharDevice | NodeKind::BlockDevice => inode.device = input.u64()?,
            NodeKind::Symlink | NodeKind::Fifo | NodeKind::Socket => {}
        }
        Some(inode)
    }
}

/// Version 1, then `{lists u8: 1 for an access list, 2 for a default list}`.
mod v2 {
    use super::*;

    const ACCESS: u8 = 1;
    const DEFAULT: u8 = 2;

    pub(super) fn write(inode: &Inode, out: &mut Writer) {
        v1::write(inode, out);
        out.u8(if inode.access_acl { ACCESS } else { 0 } | if inode.default_acl { DEFAULT } else { 0 });
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Option<Inode> {
        let inode = v1::read(input)?;
        let lists = input.u8().filter(|lists| lists & !(ACCESS | DEFAULT) == 0)?;
        Some(Inode { access_acl: lists & ACCESS != 0, default_acl: lists & DEFAULT != 0, ..inode })
    }
}
