//! Requests from mounts, chunk servers, administrators and other metadata servers. The first room
//! of a write: service → raft → namespace → storage. It never touches file bytes above the inline
//! limit, changes nothing but through the group, and answers no read that the group has not
//! confirmed to be linearizable. What it keeps in memory (signs of life, queued events, work for
//! repair) belongs to one leadership and is built anew by the next.

mod activity;
mod admin;
mod background;
mod changes;
mod chunk_control;
mod context;
mod events;
mod filling;
mod leader;
mod lease_report;
mod lock_report;
mod locks;
mod metadata;
mod movement;
mod pins;
mod queries;
mod repair;
mod reserve;
mod roster;
mod router;
mod sessions;
mod status;
mod table_cache;
mod timings;

pub use router::MetadataService;
pub use timings::{ServiceOptions, ServiceTimings};
