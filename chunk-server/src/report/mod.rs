//! What the server tells the metadata leader and hears from it: registration, heartbeats, the
//! partition table, work for repair. It decides nothing about placement.

pub mod leader;
pub mod reporter;
pub mod table_keeper;

pub use leader::MetadataLeader;
pub use reporter::{Introduction, Reporter};
pub use table_keeper::TableKeeper;
