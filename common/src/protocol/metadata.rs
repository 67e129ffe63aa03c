//! Service `Metadata`: what a mount asks of the metadata group. Every read is linearizable; every
//! change is stamped with a session slot and happens exactly once.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use super::lease_grant::{ChangeEffects, LeaseGrant};
pub use super::xattr_presence::XattrPresence;
use crate::block::BlockId;
use crate::clock::Timestamp;
use crate::extent::{Extent, NewExtent};
use crate::ids::{
    CommitSequence, DataVersion, DiskId, InodeId, LeaseGeneration, SessionEpoch, SessionId, SlotId, TableEpoch,
};
use crate::name::Name;
use crate::partition_table::PartitionTable;
use crate::posix_acl::AclKind;
use crate::protocol::FsError;
use crate::protocol::locks::{HeldLock, LockOwner, LockRange, LockRequest, LockWait};
use crate::protocol::write_reserve::{ReserveReport, ReserveShare};

/// A request of a mount. Answered by [`MetadataReply`] or a `ServiceError`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataRequest {
    /// Begins a session. Answer: `Session`.
    OpenSession {
        /// Host and mount point, for people.
        client: String,
    },
    /// Renews a session and its leases. Answer: `KeptAlive`.
    KeepAlive {
        /// The session.
        session: SessionId,
        /// Its epoch.
        epoch: SessionEpoch,
        /// Generation of the shared leases that the mount holds. The leader's own generation in it
        /// says: what earlier ones granted is dropped, and leases of open files are reclaimed.
        leases: LeaseGeneration,
        /// Its part of the write reserve.
        reserve: ReserveReport,
    },
    /// Ends a session; its open files are released. Answer: `Done`.
    CloseSession {
        /// The session.
        session: SessionId,
        /// Its epoch.
        epoch: SessionEpoch,
    },
    /// A change. Answer: `Mutated`.
    Mutate {
        /// Who, and which slot.
        stamp: Stamp,
        /// What.
        mutation: Mutation,
        /// Inodes whose cached state the mount has put aside until the answer comes: its own leases
        /// on them need no recall. A file whose last name goes is not among them while a program on the
        /// mount has it open: the mount is asked like every other.
        covered: Vec<InodeId>,
    },
    /// A linearizable read. Answer: `Answered`.
    Query {
        /// Who asks.
        session: SessionId,
        /// What.
        query: Query,
        /// Ask for shared leases on what the answer tells about.
        lease: bool,
    },
    /// Asks for shared leases on files that the mount has open, after a change of the generation.
    /// Answer: `Reclaimed`.
    Reclaim {
        /// The session.
        session: SessionId,
        /// The files, at most `MAX_LEASES_PER_MESSAGE`.
        inodes: Vec<InodeId>,
    },
    /// Gives shared leases back that the mount does not need any more. Answer: `Done`. Ignored if the
    /// session has another generation, or was answered a `number` at least as large under this one: a
    /// copy that comes late must not take a lease that was granted since.
    ReturnLeases {
        /// The session.
        session: SessionId,
        /// The generation of the leases.
        generation: LeaseGeneration,
        /// Ascends with every return of a session, from 1; a repeated attempt repeats it.
        number: u64,
        /// At most `MAX_LEASES_PER_MESSAGE`.
        inodes: Vec<InodeId>,
    },
    /// Waits for something that the mount must do. Answer: `Events` (maybe empty after `wait_ms`).
    PollEvents {
        /// The session.
        session: SessionId,
        /// Longest wait, in milliseconds.
        wait_ms: u32,
    },
    /// The mount has done what a recall asked for: it answers nothing about the inode from memory
    /// any more, and (exclusive) everything was flushed and given up. Answer: `Done`.
    RecallDone {
        /// The session.
        session: SessionId,
        /// The event's ticket.
        ticket: u64,
        /// A program on the mount has the file open, registered or not. The leader remembers it and asks
        /// again when the last name goes (`SessionEvent::Recall::last_name`): a mount that says yes then
        /// counts as registered for reading once more, and releases that when it has closed the file.
        open: bool,
    },
    /// The partition table, unless the mount has it. Answer: `Table`.
    PartitionTable {
        /// The epoch that the mount has.
        known: TableEpoch,
    },
    /// A replica gave wrong bytes, or none where it should have them: work for repair.
    /// Answer: `Done`.
    ReportDamage {
        /// Blocks and the disks that failed to give them.
        damaged: Vec<(BlockId, DiskId)>,
    },
    /// Waits until nothing is in the way of a lock that was refused; it is then asked for again. Those who
    /// wait go in the order of their coming. Volatile: a new leader learns of a wait when it is told again.
    /// Answer: `LockWait`, after `wait_ms` at the latest.
    AwaitLock {
        /// The session.
        session: SessionId,
        /// Names the wait: 1 or more, never used twice by a session. Repeated while the wait goes on.
        ticket: u64,
        /// What is waited for.
        lock: LockRequest,
        /// Longest wait, in milliseconds.
        wait_ms: u32,
    },
    /// A wait is given up. Answer: `Done`.
    LeaveLockQueue {
        /// The session.
        session: SessionId,
        /// The wait.
        ticket: u64,
    },
}

/// Who changes something, and the slot that makes the change happen exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The session.
    pub session: SessionId,
    /// Its fencing epoch.
    pub epoch: SessionEpoch,
    /// The slot; one change at a time.
    pub slot: SlotId,
    /// 1 for the slot's first change, then one more for each. A retry repeats the number.
    pub sequence: u64,
}

/// What a new name is made to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NewNode {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink and its target (1 to 4095 bytes).
    Symlink(Bytes),
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device and its number.
    CharDevice(u64),
    /// A block device and its number.
    BlockDevice(u64),
}

/// A change of the namespace or of a file. Applied atomically. Times that are not given are the
/// leader's clock at the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutation {
    /// Makes a name. Result: `Node`. Errors: `Exists` (with `exclusive`, or if the existing name is
    /// not a regular file while a file is made), `NotFound`/`NotDirectory` for the parent.
    Create {
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Name,
        /// What to make.
        node: NewNode,
        /// Permission bits, suid, sgid, sticky, as the caller asked for them.
        mode: u32,
        /// The caller's umask. It counts unless the directory has a default access control list, which then
        /// decides instead (`crate::posix_acl::PosixAcl::inherited`).
        umask: u32,
        /// Owner.
        uid: u32,
        /// Group; a setgid parent overrides it.
        gid: u32,
        /// Fail if the name exists. Without it (files only) the existing file is the result.
        exclusive: bool,
        /// Open the file for the session, too.
        open: Option<OpenMode>,
        /// With `open` for writing: ask for the exclusive lease. The leader may take this back.
        exclusive_lease: bool,
    },
    /// Opens a file: it stays readable after its last name is gone, until released. Result: `Opened`.
    Open {
        /// The file.
        inode: InodeId,
        /// How.
        mode: OpenMode,
        /// With `Write`: ask for the exclusive lease. The leader may take this back.
        exclusive_lease: bool,
    },
    /// Asks for the exclusive lease on a file that the session has open for writing. Result: `Opened`;
    /// `Stale` if it has not.
    AcquireExclusive {
        /// The file.
        inode: InodeId,
    },
    /// Gives exclusive leases up; the opens stay. Unknown ones are ignored. Result: `Done`.
    GiveUpExclusive {
        /// The files, at most `MAX_LEASES_PER_MESSAGE`.
        inodes: Vec<InodeId>,
    },
    /// Releases opens of the session. Unknown ones are ignored. Result: `Done`.
    Release {
        /// Inodes and how each was opened.
        opens: Vec<(InodeId, OpenMode)>,
    },
    /// Changes attributes. Result: `Attributes`. A new mode changes the access control list, too.
    SetAttributes {
        /// The inode.
        inode: InodeId,
        /// What changes.
        changes: AttributeChanges,
    },
    /// A further name of a file. Result: `Node`.
    Link {
        /// The file; not a directory (`NotPermitted`).
        inode: InodeId,
        /// Directory of the new name.
        parent: InodeId,
        /// The new name; must not exist.
        name: Name,
    },
    /// Removes a name of anything but a directory. Result: `Done`.
    Unlink {
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Name,
    },
    /// Removes an empty directory. Result: `Done`.
    RemoveDirectory {
        /// Its parent.
        parent: InodeId,
        /// Its name.
        name: Name,
    },
    /// Renames, atomically. Result: `Done`. Errors as rename(2).
    Rename {
        /// Directory of the old name.
        parent: InodeId,
        /// The old name.
        name: Name,
        /// Directory of the new name.
        new_parent: InodeId,
        /// The new name.
        new_name: Name,
        /// What about an existing new name.
        mode: RenameMode,
    },
    /// Puts bytes into a file: extents whose blocks are durable on a write quorum. Older extents
    /// give way. Result: `Committed`. Clears suid and sgid as Linux does for a write.
    Commit {
        /// The file.
        inode: InodeId,
        /// Ascending, not overlapping; at most `MAX_EXTENTS_PER_MESSAGE`.
        extents: Vec<NewExtent>,
        /// Offsets count from the end of the file at apply; only then may the file have grown
        /// meanwhile.
        append: bool,
        /// The file is at least this long afterwards (ignored for an append).
        minimum_size: u64,
        /// When the bytes were written; cut to the leader's clock plus `MAX_STAMP_AHEAD`. Cut to the leader's
        /// clock it is the ctime, too, unless a later change is known.
        mtime: Option<Timestamp>,
    },
    /// Sets an extended attribute. Result: `Done`. `NotSupported` for names of the system's (`system.`):
    /// access control lists have a change of their own.
    SetXattr {
        /// The inode.
        inode: InodeId,
        /// Full name with its namespace, 1 to 255 bytes.
        name: Bytes,
        /// Up to 64 KiB.
        value: Bytes,
        /// What about an existing one.
        mode: XattrMode,
    },
    /// Removes an extended attribute. Result: `Done`; `NoAttribute`.
    RemoveXattr {
        /// The inode.
        inode: InodeId,
        /// Full name.
        name: Bytes,
    },
    /// Sets or removes an access control list. Result: `Attributes`: the mode follows a new access list, and
    /// one that says no more than the mode is not kept. Errors: `Invalid` and `TooBig` for what is no list,
    /// `AccessDenied` for a default list of anything but a directory, `NotSupported` for a symlink.
    SetAcl {
        /// The inode.
        inode: InodeId,
        /// Which list.
        kind: AclKind,
        /// The list as the value of its extended attribute, at most `POSIX_ACL_MAX_BYTES`. None, and one
        /// without entries, removes it; if there is none, nothing changes.
        acl: Option<Bytes>,
        /// A new access list clears sgid: the caller is neither in the inode's group nor has CAP_FSETID.
        clear_sgid: bool,
    },
    /// Allocates a range of a file, or makes it read as zeros: fallocate(2). Result: `Ranged`. Clears suid
    /// and sgid as a write does. `Invalid` for a length of 0.
    Allocate {
        /// The file.
        inode: InodeId,
        /// Where the range begins, in bytes.
        offset: u64,
        /// Its length, in bytes.
        length: u64,
        /// What becomes of it.
        mode: AllocateMode,
        /// The file's length stays. What of the range lies behind it is then left alone: nothing can be
        /// allocated there.
        keep_size: bool,
    },
    /// Makes a range of a file show the bytes of a range of a file: copy_file_range(2). Blocks are shared,
    /// holes stay holes. Result: `Ranged`; 0 bytes at the end of the source. `Invalid` for ranges of one
    /// file that overlap. Clears suid and sgid as a write does.
    CopyRange {
        /// The file that is copied from.
        source: InodeId,
        /// Where its range begins, in bytes.
        source_offset: u64,
        /// The file that is copied to.
        inode: InodeId,
        /// Where its range begins, in bytes.
        offset: u64,
        /// Length of both, in bytes.
        length: u64,
    },
    /// Locks a range of a file for an owner: what that owner has there is replaced, so that a lock is
    /// upgraded or downgraded. Result: `Done`, or `LockRefused` while somebody else's is in the way; a lock
    /// of flock(2) that was to become another kind is then lost, as on Linux. Errors: `NoLocks`, `Invalid`.
    SetLock {
        /// What is asked for.
        lock: LockRequest,
        /// The wait that this ends, if it does; 0 for a caller that does not wait.
        ticket: u64,
        /// The leader sets this: another waits, came before, and has a right to it. Result: `LockRefused`.
        behind: bool,
    },
    /// Unlocks a range of a file for owners; what they do not hold is ignored. Result: `Done`, also for a
    /// file that is gone.
    Unlock {
        /// The file.
        inode: InodeId,
        /// Whose.
        owners: Vec<LockOwner>,
        /// Which bytes.
        range: LockRange,
    },
    /// Programs have read these. Result: `Done`, also for what is gone. Access times become later by Linux's
    /// rule `relatime` ([`Attributes::access_is_due`]) and never earlier; nothing else changes, and no lease
    /// is recalled: other mounts may show the old ones for as long as they remember them.
    Accessed {
        /// Which and when, at most `MAX_LEASES_PER_MESSAGE`; times as in `Commit`.
        accesses: Vec<(InodeId, Timestamp)>,
    },
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OpenMode {
    /// For reading only.
    Read,
    /// For writing: the mount may hold bytes that only it knows, and is asked to flush them before
    /// another mount is answered about this inode.
    Write,
}

/// What a rename does about an existing new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RenameMode {
    /// Replace it.
    Replace,
    /// RENAME_NOREPLACE: `Exists`.
    NoReplace,
    /// RENAME_EXCHANGE: both must exist.
    Exchange,
}

/// What becomes of a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllocateMode {
    /// Holes in it are allocated and read as zeros; bytes stay.
    Fill,
    /// All of it is allocated and reads as zeros.
    Zero,
    /// It becomes a hole. The file's length stays.
    Punch,
}

/// What setting an extended attribute does about an existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrMode {
    /// Create or replace.
    Any,
    /// XATTR_CREATE: `Exists`.
    Create,
    /// XATTR_REPLACE: `NoAttribute`.
    Replace,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeChange {
    /// The command's time.
    Now,
    /// This time.
    At(Timestamp),
}

impl TimeChange {
    /// The time to set, when the command's is `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Now => now,
            Self::At(time) => time,
        }
    }
}

/// Attributes to change; None leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeChanges {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Truncates or extends (with a hole) a regular file; mtime changes, too.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<TimeChange>,
    /// Modification time.
    pub mtime: Option<TimeChange>,
    /// When the change was made, if a mount has kept it in memory since, which programs have seen as the
    /// ctime; None: now. Cut to the leader's clock, and always later than the last change.
    pub ctime: Option<Timestamp>,
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// The inode of a name. Answer: `Attributes`.
    Lookup {
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Name,
    },
    /// Attributes of an inode. Answer: `Attributes`.
    Attributes {
        /// The inode.
        inode: InodeId,
    },
    /// Target of a symlink. Answer: `Bytes`.
    ReadLink {
        /// The symlink.
        inode: InodeId,
    },
    /// Entries of a directory behind a cookie. Every entry that stays is seen exactly once while
    /// others come and go. Answer: `Entries`.
    ReadDirectory {
        /// The directory.
        inode: InodeId,
        /// 0, or the cookie of the last entry seen.
        after: u64,
        /// Entries with a larger cookie are not shown (newer than the opendir); u64::MAX shows all.
        up_to: u64,
        /// Most entries to answer, 1 to 4096.
        limit: u32,
        /// Answer attributes, too.
        attributes: bool,
    },
    /// The extents that touch `[from, to)`, whole, ascending, from the first one on. Answer: `Extents`.
    Extents {
        /// The file.
        inode: InodeId,
        /// First offset.
        from: u64,
        /// End, exclusive.
        to: u64,
    },
    /// Value of an extended attribute. Answer: `Bytes`; `NoAttribute`.
    Xattr {
        /// The inode.
        inode: InodeId,
        /// Full name.
        name: Bytes,
    },
    /// Names of all extended attributes. Answer: `Names`.
    Xattrs {
        /// The inode.
        inode: InodeId,
    },
    /// Space and inodes. Answer: `Statfs`.
    Statfs,
    /// The parent of a directory (for `..` and NFS-style handles). Answer: `Attributes`.
    Parent {
        /// The directory.
        inode: InodeId,
    },
    /// A lock that is in the way of one that a session could ask for: the one with the lowest start.
    /// Answer: `Lock`.
    LockInTheWay {
        /// The session; its own locks of the same owner are not in the way.
        session: SessionId,
        /// What it could ask for.
        lock: LockRequest,
    },
}

/// What kind of thing an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Attributes of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attributes {
    /// The inode.
    pub inode: InodeId,
    /// Its kind.
    pub kind: NodeKind,
    /// Permission bits (07777).
    pub mode: u32,
    /// Names of it; for a directory 2 plus its subdirectories. 0: kept only by opens.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub device: u64,
    /// Length in bytes (entries for a directory, target length for a symlink).
    pub size: u64,
    /// Bytes that extents cover.
    pub allocated: u64,
    /// Last access, as far as it is kept.
    pub atime: Timestamp,
    /// Last change of the bytes or entries.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
    /// Changes with every change of bytes or size.
    pub data_version: DataVersion,
    /// Which extended attributes there are.
    pub xattrs: XattrPresence,
}

impl Attributes {
    /// Whether a read at this time changes the access time. The rule is relatime of Linux, whose mounts have it
    /// unless told otherwise: the first read after a change counts, and one a day.
    pub fn access_is_due(&self, at: Timestamp) -> bool {
        const DAY_SECONDS: i64 = 24 * 60 * 60;
        let is_news = self.atime <= self.mtime || self.atime <= self.ctime;
        at > self.atime && (is_news || at.seconds.saturating_sub(self.atime.seconds) >= DAY_SECONDS)
    }

    /// With an access time that is not earlier than this, if it is one.
    pub fn accessed(self, at: Option<Timestamp>) -> Self {
        Self { atime: self.atime.max(at.unwrap_or(self.atime)), ..self }
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// Its name.
    pub name: Name,
    /// Its inode.
    pub inode: InodeId,
    /// The inode's kind.
    pub kind: NodeKind,
    /// Position of the entry, at least 3 and below 2^63: never changes while the entry stays. `.`
    /// and `..` are not answered; 1 and 2 are theirs.
    pub cookie: u64,
    /// Attributes if asked for.
    pub attributes: Option<Attributes>,
}

/// Space and inodes of the file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statfs {
    /// Capacity in bytes, replicas counted once.
    pub total_bytes: u64,
    /// Free bytes, replicas counted once.
    pub free_bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
}

/// Result of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MutationResult {
    /// Nothing to tell.
    Done,
    /// New attributes.
    Attributes(Attributes),
    /// What a name stands for now.
    Node {
        /// Its attributes.
        attributes: Attributes,
        /// Whether this change made it.
        created: bool,
        /// Whether the session has the exclusive lease now.
        exclusive: bool,
    },
    /// An open file.
    Opened {
        /// Its attributes.
        attributes: Attributes,
        /// Whether the session has the exclusive lease now.
        exclusive: bool,
        /// All of its extents, when they are few and small enough to come along.
        extents: Option<Vec<Extent>>,
    },
    /// Bytes went in.
    Committed {
        /// New attributes.
        attributes: Attributes,
        /// Offset at which an append landed, else 0.
        appended_at: u64,
    },
    /// A range was dealt with, from its beginning on.
    Ranged {
        /// New attributes of the file that changed.
        attributes: Attributes,
        /// How many bytes of it. Fewer than asked for when the range has more than
        /// `MAX_EXTENTS_PER_MESSAGE` extents: the rest is to be asked for again.
        done: u64,
    },
    /// A lock of somebody else is in the way.
    LockRefused,
}

/// Answer of a read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueryResult {
    /// Attributes.
    Attributes(Attributes),
    /// Raw bytes.
    Bytes(Bytes),
    /// Entries of a directory.
    Entries {
        /// The entries, in the order of their cookies.
        entries: Vec<DirectoryEntry>,
        /// No entry is behind these.
        end: bool,
        /// The largest cookie that the directory has given out.
        last_cookie: u64,
    },
    /// Extents.
    Extents {
        /// Ascending; gaps are holes.
        extents: Vec<Extent>,
        /// Every extent below this offset was answered; u64::MAX when all were.
        complete_to: u64,
        /// The file's length.
        size: u64,
        /// The version that the extents are of.
        data_version: DataVersion,
    },
    /// Names of extended attributes.
    Names(Vec<Bytes>),
    /// Space.
    Statfs(Statfs),
    /// A lock that somebody holds, if there is one.
    Lock(Option<HeldLock>),
}

/// Something that a mount must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionEvent {
    /// Give up the leases on an inode, then answer `RecallDone`: another mount waits for it.
    Recall {
        /// The inode.
        inode: InodeId,
        /// To be given back.
        ticket: u64,
        /// The exclusive lease, too: flush first, then `GiveUpExclusive`, then answer.
        exclusive: bool,
        /// The inode's last name goes: answer whether a program has it open.
        last_name: bool,
    },
}

/// Answer to a [`MetadataRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataReply {
    /// A new session.
    Session {
        /// Its id.
        session: SessionId,
        /// Its epoch.
        epoch: SessionEpoch,
        /// Slots that it has.
        slots: u16,
        /// It ends when silent for so long, in milliseconds.
        timeout_ms: u32,
        /// Addresses of all metadata servers.
        servers: Vec<SocketAddr>,
    },
    /// The session goes on.
    KeptAlive {
        /// The leader's clock.
        time: Timestamp,
        /// The newest partition table.
        table: TableEpoch,
        /// Addresses of all metadata servers.
        servers: Vec<SocketAddr>,
        /// Generation of shared leases that this leader grants to the session. If the mount has another,
        /// it drops every shared lease, and the keep-alive has renewed nothing.
        leases: LeaseGeneration,
        /// Shared leases are valid so long after the keep-alive was *sent*, in milliseconds.
        shared_lease_ms: u32,
        /// Exclusive ones: the mount acts on them no longer than this after it was sent.
        exclusive_lease_ms: u32,
        /// The mount's part of the write reserve from now on; None: what it has stays.
        reserve: Option<ReserveShare>,
    },
    /// Result of a change.
    Mutated {
        /// Result of the change.
        result: Result<MutationResult, FsError>,
        /// What else it did, as far as caches are concerned.
        effects: ChangeEffects,
    },
    /// Answer of a read.
    Answered {
        /// The answer.
        answer: Result<QueryResult, FsError>,
        /// State that it shows: everything up to this commit.
        sequence: CommitSequence,
        /// Shared leases that the session holds now on what the answer tells about; None if it asked
        /// for none, or gets none.
        grant: Option<LeaseGrant>,
    },
    /// Shared leases on open files.
    Reclaimed {
        /// Files that the session has a lease on now, with their attributes.
        held: Vec<Attributes>,
        /// State that the attributes show.
        sequence: CommitSequence,
        /// The generation of these leases.
        generation: LeaseGeneration,
    },
    /// Things to do.
    Events(Vec<SessionEvent>),
    /// The table, or None if the mount has the newest.
    Table(Option<PartitionTable>),
    /// Nothing to tell.
    Done,
    /// What has become of waiting for a lock.
    LockWait(LockWait),
}
