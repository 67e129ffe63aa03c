//! How a chunk server treats a replica when blocks are collected: pure functions, checked as a model
//! in `cluster-tests/tests/models/collection.rs`. No IO; a server deletes nothing of its own accord.
//!
//! Nothing calls them yet: they are the specification that collection will be built on
//! (`docs/decisions/2026-11-21-collection-protocol.md`). The other half is
//! `metadata-server/src/collection`.
//!
//! Durability: a step is finished only when it is on stable storage, a raised generation like bytes.
//! No answer before.

mod replica;

pub use replica::{Replica, Step};
