//! Every limit of the system has its name and its reason here.

use std::time::Duration;

/// Largest block, in bytes. Large files are cut at multiples of this offset.
pub const MAX_BLOCK_BYTES: usize = 4 << 20;
/// Group of bytes that a partial read verifies at once, in bytes (a multiple of BLAKE3's 1 KiB chunk).
pub const VERIFY_GROUP_BYTES: usize = 16 << 10;
/// A file no larger than this, in bytes, may live in its inode's extent map instead of in a block.
pub const INLINE_MAX_BYTES: usize = 4 << 10;
/// Longest file name, in bytes (Linux NAME_MAX).
pub const NAME_MAX_BYTES: usize = 255;
/// Longest symlink target, in bytes (Linux PATH_MAX minus the NUL).
pub const SYMLINK_MAX_BYTES: usize = 4095;
/// Most hard links of one inode.
pub const LINK_MAX: u32 = 65_000;
/// Largest file, in bytes: Linux's loff_t maximum.
pub const FILE_MAX_BYTES: u64 = i64::MAX as u64;
/// Longest extended attribute name, in bytes (Linux XATTR_NAME_MAX).
pub const XATTR_NAME_MAX_BYTES: usize = 255;
/// Largest extended attribute value, in bytes (Linux XATTR_SIZE_MAX).
pub const XATTR_VALUE_MAX_BYTES: usize = 64 << 10;
/// Largest list of extended attribute names of one inode, in bytes (Linux XATTR_LIST_MAX).
pub const XATTR_LIST_MAX_BYTES: usize = 64 << 10;

/// Largest access control list, in bytes: what Linux's FUSE takes and gives where a page is 4 KiB, 511 entries.
pub const POSIX_ACL_MAX_BYTES: usize = 4 << 10;

/// Largest header of a frame, in bytes: a codec message.
pub const MAX_HEADER_BYTES: usize = 4 << 20;
/// Largest payload of a frame, in bytes: raw file data.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;
/// Largest batch of commands in one Raft entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = 1 << 20;
/// Most extents in one commit or in one reply.
pub const MAX_EXTENTS_PER_MESSAGE: usize = 4096;
/// Most blocks in one put, get or has request.
pub const MAX_BLOCKS_PER_REQUEST: usize = 1024;

/// Partitions of a cluster: a power of two, fixed when the cluster is made.
pub const DEFAULT_PARTITIONS: u32 = 65_536;
/// Replicas of the default pool.
pub const DEFAULT_REPLICAS: u8 = 3;

/// A session that was silent for this long is ended and its open files are released.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// A mount renews its session and its leases this often.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(250);
/// Shared leases are valid so long after the keep-alive that renewed them was sent. Kernel caches end
/// with them; a new leader waits as long before its first change, unless every mount has checked in.
pub const SHARED_LEASE: Duration = Duration::from_millis(1000);
/// A mount acts on exclusive leases so long after its last renewal was sent, and may be evicted no
/// earlier than that after the last sign of life.
pub const EXCLUSIVE_LEASE: Duration = Duration::from_secs(10);
/// Most inodes in one message about leases.
pub const MAX_LEASES_PER_MESSAGE: usize = 4096;
/// Shared leases that one session may hold; beyond it none are granted.
pub const MAX_LEASES_PER_SESSION: usize = 1 << 20;
/// Locks that one session may hold (ENOLCK beyond it). What an unlock leaves in two pieces may exceed it.
pub const MAX_LOCKS_PER_SESSION: u64 = 65_536;
/// Locks that one file may have, of all sessions (ENOLCK beyond it): each new one is compared with them.
pub const MAX_LOCKS_PER_FILE: usize = 16_384;
/// Locks that one session may wait for at once (ENOLCK beyond it).
pub const MAX_LOCK_WAITS_PER_SESSION: usize = 1024;
/// Locks, and waits for some, that an administrator is told of at once.
pub const MAX_LOCKS_PER_REPORT: usize = 4096;
/// Slots of a session: the most changes that one mount has under way at once.
pub const SESSION_SLOTS: u16 = 128;
/// A call that finds no quorum fails with ETIMEDOUT after this long.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A single attempt at one server; then another is tried.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// A chunk server that was silent for this long is shown as down.
pub const CHUNK_SERVER_TIMEOUT: Duration = Duration::from_secs(3);
/// A chunk server reports this often.
pub const CHUNK_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// A client's time stamp is cut to the leader's clock plus this.
pub const MAX_STAMP_AHEAD: Duration = Duration::from_millis(500);
