//! From a range of a file to bytes: [`extent_map`] says where they are, [`block_reader`] fetches
//! verified groups of blocks, [`file_read`] puts dirty bytes over them. Promise: no byte that was not
//! verified (P5), none older than the newest attributes that this mount has seen.

pub mod block_cache;
pub mod block_reader;
pub mod extent_map;
pub mod file_read;
pub mod read_pattern;
