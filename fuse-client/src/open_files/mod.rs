//! The files that this mount has open, or had a moment ago: handles of programs, registrations with
//! the cluster, and per file what is known and what is dirty.

pub mod file_state;
pub mod handles;
pub mod pin;
pub mod releaser;

pub use file_state::{FileInner, FileState};
pub use handles::{FileHandle, HandleTable, KernelPages};
pub use pin::{OpenFiles, Pin};
