//! The write reserve: room on every disk that is kept for bytes which a mount has acknowledged to a program
//! and not committed yet. [`budget`] says how much of it there is, [`ledger`] who may hold how much. Pure:
//! no clock, no tasks; the service brings reports in and carries answers out.

mod budget;
mod ledger;
#[cfg(test)]
mod tests;

pub use budget::{DiskReserve, budget};
pub use ledger::{Ledger, Totals};
