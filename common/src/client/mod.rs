//! The client's side of the services: [`metadata_client`] finds the leader and changes things exactly
//! once, [`chunk_client`] writes to a quorum and reads around failures. Used by mounts; no FUSE here.

pub mod block_read;
pub mod block_write;
mod channel;
mod charge;
pub mod chunk_client;
pub mod error;
pub mod leader_route;
pub mod lease_clock;
pub mod metadata_client;
pub mod put_queue;
pub mod server_health;
pub mod session_tasks;
pub mod slot_pool;
pub mod table_cache;
pub mod write_grant;

pub use block_write::{Placed, PutRoom};
pub use charge::Charge;
pub use chunk_client::{ChunkClient, ChunkClientSettings, TableSource, VerifiedRange};
pub use error::ClientError;
pub use lease_clock::{LeaseClock, LeaseTime};
pub use metadata_client::{Answer, Changed, ClientEvent, MetadataClient, MetadataClientSettings, Reclaimed};
pub use write_grant::WriteGrant;
