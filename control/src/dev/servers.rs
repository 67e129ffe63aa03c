//! What the processes of a local cluster need before they start: identities, configuration files,
//! formatted metadata folders. Everything here can be done again and changes nothing then.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use cairn_common::config::{IdentityFiles, NodeConfig};
use cairn_common::durable_file;
use cairn_common::identity::ClusterAuthority;
use cairn_common::limits::{DEFAULT_PARTITIONS, DEFAULT_REPLICAS};
use cairn_common::protocol::Role;

use super::layout::{Layout, is_empty};
use super::process::program;
use super::settings::{MetadataEntry, Settings};
use crate::error::ControlError;
use crate::members::{Member, Members};

/// Name of the administrator's identity in a local cluster.
pub(crate) const ADMIN: &str = "admin";

/// The file that says that a metadata folder is formatted.
const FORMATTED_FILE: &str = "identity.toml";

/// Whether a metadata server can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    /// Formatted.
    Ready,
    /// It was formatted once and is empty now: the server is lost and must be replaced.
    Wiped,
}

/// Makes identities and configuration files of all processes.
pub(crate) fn prepare(layout: &Layout, settings: &Settings) -> Result<(), ControlError> {
    let authority = authority(layout, settings)?;
    let issue = |role, name: &str| issue_once(layout, &authority, role, name);
    let mut written = vec![base(layout, settings, ADMIN, None)];
    issue(Role::Admin, ADMIN)?;
    for server in &settings.metadata {
        issue(Role::Metadata, &server.name)?;
        written.push(server_config(layout, settings, &server.name, server.address, server.metrics));
    }
    for server in &settings.chunk {
        issue(Role::Chunk, &server.name)?;
        written.push(server_config(layout, settings, &server.name, server.address, server.metrics));
    }
    for mount in &settings.mount {
        issue(Role::Mount, &mount.name)?;
        written.push(base(layout, settings, &mount.name, Some(mount.metrics)));
    }
    for config in written {
        let path = layout.config(&config.name);
        let text = config.to_toml().map_err(|e| ControlError::BadFile { path: path.clone(), reason: e.to_string() })?;
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        durable_file::write(&path, text.as_bytes())?;
    }
    Ok(())
}

/// Identity files of a process.
pub(crate) fn identity(layout: &Layout, name: &str) -> IdentityFiles {
    let pki = layout.pki();
    IdentityFiles {
        ca: pki.join("ca.pem"),
        certificate: pki.join(format!("{name}.pem")),
        key: pki.join(format!("{name}.key")),
    }
}

/// The authority of the cluster, made when it is missing.
fn authority(layout: &Layout, settings: &Settings) -> Result<ClusterAuthority, ControlError> {
    let pki = layout.pki();
    let (certificate, key) = (pki.join("ca.pem"), pki.join("ca.key"));
    if certificate.exists() {
        return Ok(ClusterAuthority::load(&certificate, &key)?);
    }
    durable_file::create_folder(&pki)?;
    let authority = ClusterAuthority::generate(settings.cluster)?;
    authority.write(&certificate, &key)?;
    Ok(authority)
}

fn issue_once(layout: &Layout, authority: &ClusterAuthority, role: Role, name: &str) -> Result<(), ControlError> {
    let files = identity(layout, name);
    if !(files.certificate.exists() && files.key.exists()) {
        authority.issue(role, name)?.write(&files.certificate, &files.key)?;
    }
    Ok(())
}

fn base(layout: &Layout, settings: &Settings, name: &str, metrics: Option<SocketAddr>) -> NodeConfig {
    NodeConfig {
        name: name.to_owned(),
        data: None,
        listen: None,
        metrics,
        metadata: settings.metadata_addresses(),
        partitions: DEFAULT_PARTITIONS,
        replicas: DEFAULT_REPLICAS,
        failure_domain: None,
        disks: Vec::new(),
        capacity_bytes: 0,
        identity: identity(layout, name),
    }
}

fn server_config(
    layout: &Layout,
    settings: &Settings,
    name: &str,
    address: SocketAddr,
    metrics: SocketAddr,
) -> NodeConfig {
    NodeConfig {
        data: Some(layout.data(name)),
        listen: Some(address),
        replicas: settings.replicas,
        ..base(layout, settings, name, Some(metrics))
    }
}

/// Formats the metadata folders that were never formatted. Says of each server whether it can start.
pub(crate) fn format_new(layout: &Layout, settings: &mut Settings) -> Result<Vec<Folder>, ControlError> {
    if settings.metadata.iter().any(|server| !server.formatted) {
        let member = settings.metadata.iter().map(|m| Member::new(m.node, m.incarnation, &m.name, m.address));
        Members { member: member.collect() }.write(&layout.members())?;
    }
    let cluster = settings.cluster.to_string();
    let mut folders = Vec::with_capacity(settings.metadata.len());
    for server in &mut settings.metadata {
        let data = layout.data(&server.name);
        if !server.formatted && !data.join(FORMATTED_FILE).exists() {
            format(layout, server, &cluster, &layout.members())?;
        }
        folders.push(if is_empty(&data)? { Folder::Wiped } else { Folder::Ready });
        server.formatted = true;
    }
    settings.save(layout)?;
    Ok(folders)
}

/// Runs `cairn-meta format` for one server.
pub(crate) fn format(
    layout: &Layout,
    server: &MetadataEntry,
    cluster: &str,
    members: &Path,
) -> Result<(), ControlError> {
    let program = program("cairn-meta")?;
    let output = Command::new(&program)
        .arg("format")
        .arg("--config")
        .arg(layout.config(&server.name))
        .args(["--node-id", &server.node.to_string()])
        .args(["--incarnation", &server.incarnation.to_string()])
        .args(["--cluster", cluster])
        .arg("--members")
        .arg(members)
        .output()
        .map_err(|source| ControlError::Spawn { name: server.name.clone(), program, source })?;
    let formatted = layout.data(&server.name).join(FORMATTED_FILE);
    if output.status.success() && formatted.exists() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let left = if output.status.success() { " and left no identity there" } else { "" };
    let reason = format!("cairn-meta format ended with {}{left}: {}", output.status, said.trim());
    Err(ControlError::Format { name: server.name.clone(), reason })
}
