//! `cairn-mount`: the POSIX face of a cluster. Requests flow adapter → core → read or write path →
//! backend, never the other way. The core knows no kernel: tests drive it with a faked backend.

mod access_times;
pub mod backend;
pub mod errno;
pub mod filesystem;
pub mod fuse_adapter;
pub mod kernel_caches;
pub mod lease;
pub mod lease_book;
pub mod lock_book;
pub mod open_files;
pub mod read_path;
pub mod recent_recalls;
pub mod settings;
pub mod startup;
pub mod write_path;
