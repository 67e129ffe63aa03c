//! The initial member list that `cairn-meta format` reads: `[[member]]` tables with node,
//! incarnation, name and address. Written here, never read.

use std::net::SocketAddr;
use std::path::Path;

use cairn_common::durable_file;
use cairn_common::ids::Incarnation;
use serde::Serialize;

use crate::error::ControlError;

/// The list in the file.
#[derive(Debug, Serialize)]
pub(crate) struct Members {
    /// The members; empty for a server that waits to be taken into a group.
    pub(crate) member: Vec<Member>,
}

/// One member.
#[derive(Debug, Serialize)]
pub(crate) struct Member {
    /// Its number, never reused.
    pub(crate) node: u64,
    /// This life of its folder, as a UUID.
    pub(crate) incarnation: String,
    /// Its name.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Member {
    /// A member of these parts.
    pub(crate) fn new(node: u64, incarnation: Incarnation, name: &str, address: SocketAddr) -> Self {
        Self { node, incarnation: incarnation.to_string(), name: name.to_owned(), address }
    }
}

impl Members {
    /// Writes the list.
    pub(crate) fn write(&self, path: &Path) -> Result<(), ControlError> {
        let text = toml::to_string(self)
            .map_err(|e| ControlError::BadFile { path: path.to_owned(), reason: e.to_string() })?;
        Ok(durable_file::write(path, text.as_bytes())?)
    }
}
