//! The Raft group: openraft with our log, state machine, network and snapshots. Writes flow
//! service → raft → namespace → storage. This module knows no request of a mount; it orders commands,
//! makes them durable on a majority and applies them.

pub mod group;
pub mod log;
pub mod logic;
mod metrics;
pub mod node_identity;
pub mod options;
mod runtime;
pub mod service;
pub mod status;
pub mod types;

pub use group::MetadataGroup;
pub use logic::StateMachineLogic;
pub use node_identity::NodeIdentity;
pub use options::{GroupError, GroupOptions, GroupTimings};
pub use service::RaftService;
pub use status::{GroupStatus, MemberRole, MemberStatus};
