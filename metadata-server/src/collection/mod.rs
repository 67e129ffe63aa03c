//! Which blocks may be deleted, as the replicated state sees it: pure functions, checked as a model
//! in `cluster-tests/tests/models/collection.rs`. No tokio, clock, randomness or hash-map order.
//!
//! Nothing calls them yet: they are the specification that collection will be built on
//! (`docs/decisions/2026-11-21-collection-protocol.md`). The other half is
//! `chunk-server/src/collection`.
//!
//! Promise: as long as a commit is judged by [`may_refer`], blocks are condemned by
//! [`Horizon::condemn`] and chunk servers keep their half, a block that a file refers to stays on a
//! write quorum of its owners, however late a put, a commit, a copy or a delete arrives.

mod horizon;
mod verdict;

pub use horizon::Horizon;
pub use verdict::{Verdict, may_refer};
