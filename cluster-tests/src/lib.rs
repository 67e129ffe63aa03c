//! Tests that need more than one crate: the harness that runs clusters of real processes, the
//! amnesia layer that turns a kill into a power loss, the ceiling that benchmarks are compared with,
//! the checker of histories and the oracles that know what must be true, and the reader of our own
//! sources for the house rules. No program links this crate.

pub mod amnesia;
pub mod ceiling;
pub mod checker;
pub mod harness;
pub mod house_rules;
pub mod oracle;
