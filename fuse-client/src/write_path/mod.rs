//! From a program's bytes to a commit: [`dirty_map`] holds what is not committed, [`upload`] makes
//! blocks durable, [`commit`] names them to the metadata group, [`flusher`] does so unasked.
//! Promise: a commit names only blocks that are durable on a write quorum, and bytes stay here until
//! the commit was answered.

pub mod commit;
pub mod dirty_map;
pub mod flusher;
pub mod upload;
