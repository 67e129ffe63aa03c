//! The Raft group: openraft with our log, state machine, network and snapshots. Writes flow
//! service → raft → namespace → storage. This module knows no request of a mount; it orders commands,
//! makes them durable on a majority and applies them.

mod ballot;
pub mod group;
mod handle;
mod leader_lease;
pub mod log;
pub mod logic;
mod maintenance;
mod membership;
pub mod memory_log;
mod metrics;
mod network;
pub mod node_identity;
pub mod options;
mod proposer;
mod read_barrier;
mod runtime;
pub mod service;
pub mod snapshot_folder;
mod snapshot_inbox;
mod snapshot_sender;
pub mod state_machine;
pub mod state_store;
pub mod status;
#[cfg(test)]
mod suite_tests;
pub mod types;
mod watcher;
pub mod wire;

pub use group::MetadataGroup;
pub use logic::StateMachineLogic;
pub use node_identity::NodeIdentity;
pub use options::{GroupError, GroupOptions, GroupTimings};
pub use service::RaftService;
pub use status::{GroupStatus, MemberRole, MemberStatus};
