//! Opens the administrator's connection: identity files in, client out.

use std::net::SocketAddr;
use std::sync::Arc;

use cairn_common::config::IdentityFiles;
use cairn_common::identity::Identity;
use cairn_common::transport::quic::QuicTransport;

use crate::admin_client::AdminClient;
use crate::error::ControlError;

/// A client of these metadata servers with that identity. Connects when the first question is asked.
pub(crate) fn connect(files: &IdentityFiles, metadata: Vec<SocketAddr>) -> Result<AdminClient, ControlError> {
    let identity = Identity::load(files)?;
    let transport = QuicTransport::new(&identity)?;
    Ok(AdminClient::new(Arc::new(transport), metadata))
}
