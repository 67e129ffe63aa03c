//! The ceiling of every benchmark: a file system in memory on the same FUSE library, with answers that
//! cost nothing and that the kernel may believe for as long as one likes. What Cairn's mount is slower than this is
//! its own doing; what this is slower than a local disk is the kernel's round trip. A yardstick only:
//! it keeps nothing, and knows one user of its tree at a time.

mod adapter;
mod contents;
mod tree;
mod warm;

pub use adapter::mount;
pub use warm::warm;
