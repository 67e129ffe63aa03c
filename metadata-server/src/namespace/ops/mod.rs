//! What commands do, one file an operation. An operation that ends with an error of the file
//! system leaves nothing behind: its changes are gathered apart ([`super::state::State::atomically`]).

mod accessed;
mod acl;
mod chunk_servers;
mod commit;
mod create;
mod directory;
mod initialize;
mod link;
mod locks;
mod mutate;
mod opens;
mod partition_rows;
mod ranges;
mod rename;
mod repair;
mod sessions;
mod set_attributes;
mod unlink;
mod xattr;

pub(crate) use chunk_servers::register;
pub(crate) use initialize::{allocate_metadata_node, initialize, raise_feature_level};
pub(crate) use mutate::{mutate, needs_pins};
pub(crate) use partition_rows::{chunk as partition_chunk, install_rows};
pub(crate) use repair::{record_damage, record_repair};
pub(crate) use sessions::{end_session, open_session};
pub(crate) use xattr::check_name as check_xattr_name;
