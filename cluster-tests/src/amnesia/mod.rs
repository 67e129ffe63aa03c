//! A file system that forgets: a passthrough over a backing folder that keeps apart what was not
//! fsynced and drops it on command. Put under the data folders of a cluster it turns kill -9 of
//! every process into the loss of power, which plain kill -9 is not: the kernel keeps what a dead
//! process wrote.
//!
//! The backing folder holds only what is durable, at every moment. What a power loss leaves:
//!
//! - **Bytes and length of a file** become durable by fsync or fdatasync of it (or a write through
//!   O_DSYNC). Until then they live in a scratch file.
//! - **Names** (create, link, unlink, mkdir, rmdir, rename) become durable by fsync of a directory
//!   that they touch, together with every earlier operation that they build on (the same name, the
//!   same inode, the directory's own creation). Other directories' operations stay volatile, so
//!   there is no global order as ext4's journal would give.
//! - fsync of a new file or directory also makes its own creation durable, as ext4, XFS and btrfs
//!   do; a rename or a further link of it is not.
//! - Mode, owner and times are durable at once: nothing of ours depends on them.
//! - `sync` and `syncfs` do nothing: the kernel does not hand them to a FUSE daemon.
//!
//! [`Layer::lose_power`] drops the rest, except for a random part chosen by a seed: disks write
//! back in any order, so some sectors of an unsynced write may be there and others not, a file may
//! have its new length without its bytes, and a name may exist without its neighbour.
//!
//! Only regular files, directories and symlinks exist; locks are the kernel's own (local).

mod adapter;
mod control;
mod file_data;
mod layer;
mod namespace;
mod operation;
mod range_set;

pub use adapter::mount;
pub use control::{Control, serve};
pub use layer::{Layer, Loss};
