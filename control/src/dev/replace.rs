//! `dev replace`: a metadata server whose folder is lost comes back under a new number. It wipes
//! nothing: the folder must be empty already.

use std::path::Path;
use std::time::Duration;

use cairn_common::ids::{Incarnation, MetadataNodeId};
use cairn_common::protocol::admin::MetadataMember;

use super::layout::{Layout, is_empty};
use super::process::{program, raise_file_limit, running};
use super::settings::Settings;
use super::up::start_server;
use super::{admin_client, ready, servers};
use crate::error::ControlError;
use crate::members::Members;
use crate::output;
use crate::progress::Progress;

const STATUS_WAIT: Duration = Duration::from_secs(5);

/// Puts a new, empty metadata server in the place of the lost one of that name.
pub(crate) async fn replace(data: &Path, name: &str) -> Result<(), ControlError> {
    let layout = Layout::open(data)?;
    let _lock = layout.lock()?;
    let mut settings = Settings::load(&layout)?;
    let Some(index) = settings.metadata.iter().position(|server| server.name == name) else {
        let known = settings.metadata.iter().map(|server| server.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(ControlError::NoSuchServer { name: name.to_owned(), known });
    };
    if let Some(pid) = running(&layout, name) {
        return Err(ControlError::StillRunning { name: name.to_owned(), pid });
    }
    let mut progress = Progress::new();
    progress.step(format!("looking for {name} in the group"));
    let client = admin_client(&layout, &settings)?;
    let (leader, status) = client.status(STATUS_WAIT).await?;
    let Some(lost) = status.metadata.iter().map(|seen| &seen.member).find(|member| member.name == name) else {
        let known = status.metadata.iter().map(|seen| seen.member.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(ControlError::NoSuchServer { name: name.to_owned(), known });
    };
    let lost = lost.node;
    let folder = layout.data(name);
    if is_empty(&folder)? {
        let node = client.allocate(leader).await?;
        progress.step(format!("formatting {name} as node {node}"));
        let entry = &mut settings.metadata[index];
        (entry.node, entry.incarnation) = (node.0, Incarnation::random());
        // Saved first: an interrupted command is taken up again with this number.
        settings.save(&layout)?;
        Members { member: Vec::new() }.write(&layout.no_members())?;
        let cluster = settings.cluster.to_string();
        servers::format(&layout, &settings.metadata[index], &cluster, &layout.no_members())?;
    } else if settings.metadata[index].node == lost.0 {
        return Err(ControlError::FolderInUse { name: name.to_owned(), path: folder });
    }
    let entry = settings.metadata[index].clone();
    let node = MetadataNodeId(entry.node);
    raise_file_limit();
    start_server(&layout, name, entry.address, &program("cairn-meta")?)?;

    progress.step(format!("node {node} takes the vote of node {lost}"));
    let new = MetadataMember { node, incarnation: entry.incarnation, name: name.to_owned(), address: entry.address };
    client.replace(leader, lost, new).await?;
    let failures = ready::cluster(&layout, &settings, &client, Vec::new()).await?;
    progress.finish();
    if !failures.is_empty() {
        return Err(ControlError::NotReady(failures));
    }
    output::line(format!("{name} is back as node {node}; node {lost} is never used again"));
    Ok(())
}
