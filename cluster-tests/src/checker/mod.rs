//! Whether a history of calls could have happened one call after another (linearizability, Herlihy and
//! Wing), for simulated mounts and for real ones. A program records with [`History`] what its clients
//! call and what comes back; [`check`] judges. Each object is checked apart, because a history is
//! linearizable if that of each object is: the names of the whole tree are one object, the bytes of each
//! file are one.
//!
//! What to record, so that the models fit:
//!
//! - Directories and files go by their inode numbers (`st_ino`); the root is [`ROOT`]. A call on a path of
//!   several names is several calls: hold directories open, and use the `*at` calls.
//! - Files are rows of cells ([`cells`]), and each write puts one value, never used before, into its
//!   cells. Files are made with mode 0644.
//! - A call that failed with an error that says that nothing was changed is `Refused`; one that was given
//!   up, or failed in a way that leaves it open (EIO, ETIMEDOUT, a dead client), is `Unknown`.
//! - When a client's machine is lost, `Lose` says so: what it had not made durable may be gone.

mod bytes;
pub mod cells;
mod check;
mod history;
mod names;
mod search;
mod shorten;
#[cfg(test)]
mod tests;

pub use check::{Checked, check};
pub use history::{Call, History, Inode, Life, Operation, Reply, Value};
pub use names::ROOT;
pub use shorten::shorten;
