//! The chunk server: keeps blocks by their BLAKE3 hash on one or more disks. It knows no name, no
//! inode and no user, and deletes nothing by itself.
//!
//! Rooms: [`service`] answers requests, [`block_store`] keeps blocks, [`report`] tells the metadata
//! leader, [`replicate`] pulls what is missed, [`identity`] knows the data folder; [`disk_set`] is all
//! disks, [`server`] puts the parts together. [`collection`] has the rules by
//! which replicas will be deleted; nothing calls them yet.

pub mod block_store;
pub mod collection;
pub mod disk_set;
pub mod identity;
pub mod replicate;
pub mod report;
pub mod server;
pub mod service;
