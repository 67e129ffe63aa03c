//! What must be true of a file system, apart from how it is built: the judges of the tests. They
//! know POSIX and what a test wrote, and nothing of clusters.

pub mod driver;
pub mod journal;
pub mod model;
pub mod slots;
pub mod tree;
