//! Which disk holds which partition: pure functions from disks and the old table to new owners.
//! No tokio, clock, randomness or hash-map order, and no IO: the leader computes, Raft replicates.
//!
//! Three parts, after published work:
//! - *Choice*: weighted rendezvous hashing (Thaler & Ravishankar, "Using name-based mappings to
//!   increase hit rates", 1998; weights as -w/ln(h), Schindelhauer & Schomaker, 2005), first over
//!   failure domains, then over the nodes of the chosen one, then over its disks. A weight is what
//!   the candidate still lacks of its fair share, so the choice is even from the first row on.
//! - *Bound*: no disk above [`CAP`] of its fair share (Mirrokni, Thorup & Zadimoghaddam,
//!   "Consistent hashing with bounded loads", 2018), none below [`FLOOR`].
//! - *Stickiness*: owners of the old table stay unless their disk is gone, a rule forbids them, or
//!   the bounds ask for a move, so only the necessary partitions move.

mod assignment;
mod balance;
mod rendezvous;
mod topology;

pub use assignment::assign;
pub use topology::PlacementDisk;

/// No disk owns more than this multiple of its fair share of replicas (rounded up).
pub const CAP: f64 = 1.05;
/// No disk owns less than this multiple of its fair share of replicas (rounded down).
pub const FLOOR: f64 = 0.95;
