//! The rules of leases, as the leader keeps them: who holds what, who is asked to give it back, when
//! a change may be proposed, when nobody is waited for any more. The specification is
//! `docs/decisions/2026-11-21-leases.md`.
//!
//! Pure: no tokio, no clock, no randomness, no hash-map order. Every input carries `now` (the leader's
//! CLOCK_BOOTTIME); what must be done is returned or gathered in [`Output`]s. The table knows shared
//! leases only: exclusive ones are in the replicated state, and the caller says who has one.
//!
//! It promises nothing about durability: a new leader begins with an empty table, and waits.

mod change;
mod contention;
mod holders;
mod recall;
mod report;
mod rules;
mod session;
mod table;
#[cfg(test)]
mod tests;

pub use change::{ChangeId, Need, Standing};
pub use report::{LeaseTotals, SessionLeases};
pub use rules::LeaseRules;
pub use table::{Horizons, LeaseTable, Output, Renewal};
