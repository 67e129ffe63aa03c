//! Blocks on disks. Requests go service → block store → disk; nothing here knows of messages of the
//! network, of tables or of other servers.
//!
//! One [`DiskStore`] a disk. Its parts, from the disk up: [`disk`] is the seam and [`file_disk`] the
//! real disk; [`record`] is the format; [`scan`] walks records; [`index`] says where a block is;
//! [`recovery`] brings the index up to the segments after any crash; `committer` on the `writer`'s
//! thread is the only code that writes; `reader` verifies what it reads; `scrub` looks for rot.
//!
//! Durability: segments are the truth, and a record counts from its fdatasync on. The index follows.

mod committer;
pub mod disk;
pub mod file_disk;
pub mod health;
pub mod index;
pub mod index_database;
pub mod index_entry;
pub mod journal;
mod maintenance;
pub mod options;
pub mod prepared;
mod reader;
pub mod record;
pub mod recovery;
mod room;
pub mod scan;
mod scrub;
pub mod segments;
mod shared;
pub mod store;
mod writer;

pub use options::StoreOptions;
pub use prepared::PreparedBlock;
pub use reader::ReadOutcome;
pub use store::{DiskStore, StoreError, StoreReport};
