//! What the mount may answer from its own memory: the rules of leases on the mount's side. Pure: time
//! comes in as a [`LeaseTime`](cairn_common::client::LeaseTime), nothing is sent from here, and every
//! table is bounded. Small enough to be cloned into a model.
//!
//! The promise: whatever is answered from here was true at some moment between the question and the
//! answer, however late, doubled or overtaken the messages were that brought it, as long as the
//! leader's side keeps the other half of `docs/decisions/2026-11-21-leases.md`.

mod busy;
mod cached_inode;
mod exclusive;
mod fact;
mod lease_cache;
mod listing;
mod own_change;
mod questions;
#[cfg(test)]
mod tests;
mod untold_accesses;

pub use cached_inode::{EXTENTS_MAX, KnownName};
pub use exclusive::{Exclusive, Grant};
pub use fact::Fact;
pub use lease_cache::{CacheLimits, LeaseCache, Told};
pub use listing::{ListingEntries, ListingEntry, WholeListing};
pub use own_change::{NameEffect, OwnChange, Touch};
pub use questions::Question;
