//! `cairnctl cluster …`: the certificate authority of a cluster, identities, and the first members of
//! the metadata group. The authority's key never leaves this folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cairn_common::config::NodeConfig;
use cairn_common::durable_file;
use cairn_common::identity::ClusterAuthority;
use cairn_common::ids::{ClusterId, Incarnation};
use cairn_common::limits::{DEFAULT_PARTITIONS, DEFAULT_REPLICAS};
use cairn_common::protocol::Role;
use clap::{Subcommand, ValueEnum};

use crate::error::ControlError;
use crate::members::{Member, Members};
use crate::output;

/// `cairnctl cluster …`
#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make the certificate authority of a new cluster and an administrator's identity.
    Init {
        /// Folder to make: ca.pem, ca.key (secret), NAME.pem, NAME.key.
        #[arg(long, value_name = "PKI")]
        dir: PathBuf,
        /// Name of the administrator.
        #[arg(long, default_value = "admin")]
        name: String,
        /// A first metadata server: its identity is issued and it becomes a member of the group. Give
        /// it 1, 3 or 5 times.
        #[arg(long = "metadata", value_name = "NAME=ADDRESS:PORT", value_parser = parse_server)]
        metadata: Vec<(String, SocketAddr)>,
    },
    /// Issue an identity for a server, a mount or an administrator.
    Issue {
        /// The folder that `cluster init` made.
        #[arg(long, value_name = "PKI")]
        dir: PathBuf,
        /// What the holder may do.
        #[arg(long)]
        role: RoleWord,
        /// Its name, as in its configuration.
        #[arg(long)]
        name: String,
    },
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleWord {
    /// A metadata server.
    Metadata,
    /// A chunk server.
    Chunk,
    /// A mount.
    Mount,
    /// An administrator.
    Admin,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Metadata => Self::Metadata,
            RoleWord::Chunk => Self::Chunk,
            RoleWord::Mount => Self::Mount,
            RoleWord::Admin => Self::Admin,
        }
    }
}

/// Runs a `cluster` command.
pub(crate) fn run(command: ClusterCommand) -> Result<(), ControlError> {
    match command {
        ClusterCommand::Init { dir, name, metadata } => init(&dir, &name, &metadata),
        ClusterCommand::Issue { dir, role, name } => issue(&dir, role.into(), &name),
    }
}

fn init(dir: &Path, name: &str, metadata: &[(String, SocketAddr)]) -> Result<(), ControlError> {
    if !matches!(metadata.len(), 0 | 1 | 3 | 5) {
        let rule = "a metadata group has 1, 3 or 5 servers";
        return Err(ControlError::BadSize { flag: "metadata", asked: metadata.len() as u64, rule });
    }
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    if certificate.exists() || key.exists() {
        return Err(ControlError::AuthorityExists { path: dir.to_owned() });
    }
    let cluster = ClusterId::random();
    durable_file::create_folder(dir)?;
    ClusterAuthority::generate(cluster)?.write(&certificate, &key)?;
    output::line(format!("cluster    {cluster}"));
    output::line(format!(
        "authority  {} (its key {} is secret: keep it off the servers)",
        certificate.display(),
        key.display()
    ));
    issue(dir, Role::Admin, name)?;
    for (server, _) in metadata {
        issue(dir, Role::Metadata, server)?;
    }
    if !metadata.is_empty() {
        write_group(dir, name, cluster, metadata)?;
    }
    Ok(())
}

/// Writes the member list and the administrator's configuration; says how to format the servers.
fn write_group(
    dir: &Path,
    admin: &str,
    cluster: ClusterId,
    metadata: &[(String, SocketAddr)],
) -> Result<(), ControlError> {
    let file = dir.join("members.toml");
    let member: Vec<Member> = (1..)
        .zip(metadata)
        .map(|(node, (name, address))| Member::new(node, Incarnation::random(), name, *address))
        .collect();
    let list = Members { member };
    list.write(&file)?;
    let config_file = dir.join(format!("{admin}.toml"));
    let config = admin_config(admin, metadata.iter().map(|(_, address)| *address).collect());
    let text =
        config.to_toml().map_err(|e| ControlError::BadFile { path: config_file.clone(), reason: e.to_string() })?;
    durable_file::write(&config_file, text.as_bytes())?;
    output::line(format!("members    {}", file.display()));
    output::line(format!("status     cairnctl status --config {}", config_file.display()));
    output::line(
        "Copy members.toml and its own identity to each metadata server, write its configuration, then run there:",
    );
    for member in &list.member {
        output::line(format!(
            "  {}: cairn-meta format --config {}.toml --node-id {} --incarnation {} --cluster {cluster} --members members.toml",
            member.name, member.name, member.node, member.incarnation
        ));
    }
    Ok(())
}

/// Paths are relative to the file's folder, so that the folder can be moved.
fn admin_config(name: &str, metadata: Vec<SocketAddr>) -> NodeConfig {
    NodeConfig {
        name: name.to_owned(),
        data: None,
        listen: None,
        metrics: None,
        metadata,
        partitions: DEFAULT_PARTITIONS,
        replicas: DEFAULT_REPLICAS,
        failure_domain: None,
        disks: Vec::new(),
        capacity_bytes: 0,
        identity: cairn_common::config::IdentityFiles {
            ca: "ca.pem".into(),
            certificate: format!("{name}.pem").into(),
            key: format!("{name}.key").into(),
        },
    }
}

fn issue(dir: &Path, role: Role, name: &str) -> Result<(), ControlError> {
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    if certificate.exists() || key.exists() {
        return Err(ControlError::IdentityExists { name: name.to_owned(), path: certificate });
    }
    let authority = ClusterAuthority::load(&dir.join("ca.pem"), &dir.join("ca.key"))?;
    authority.issue(role, name)?.write(&certificate, &key)?;
    output::line(format!("{:9}  {} and {}", role.as_str(), certificate.display(), key.display()));
    Ok(())
}

/// NAME=ADDRESS:PORT
pub(crate) fn parse_server(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("write NAME=ADDRESS:PORT, as in meta1=192.0.2.1:7001")?;
    cairn_common::config::check_name(name).map_err(|reason| format!("the name {reason}"))?;
    let address = address.parse().map_err(|_| format!("{address:?} is no ADDRESS:PORT with a numeric address"))?;
    Ok((name.to_owned(), address))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use cairn_common::config::{IdentityFiles, load};
    use cairn_common::identity::Identity;

    use super::*;

    fn files(dir: &Path, name: &str) -> IdentityFiles {
        IdentityFiles {
            ca: dir.join("ca.pem"),
            certificate: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        }
    }

    #[test]
    fn identities_of_one_cluster_fit_together() {
        let dir = tempfile::tempdir().unwrap();
        let servers = [("meta1".to_owned(), "127.0.0.1:7001".parse().unwrap())];
        init(dir.path(), "root", &servers).unwrap();
        issue(dir.path(), Role::Mount, "laptop").unwrap();
        let peers: Vec<_> = ["root", "meta1", "laptop"]
            .map(|name| Identity::load(&files(dir.path(), name)).unwrap().peer().clone())
            .into();
        assert_eq!(peers.iter().map(|peer| peer.role).collect::<Vec<_>>(), [Role::Admin, Role::Metadata, Role::Mount]);
        assert!(peers.iter().all(|peer| peer.cluster == peers[0].cluster));
        let mode = std::fs::metadata(dir.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let config = load(&dir.path().join("root.toml")).unwrap();
        assert_eq!(Identity::load(&config.identity).unwrap().peer().name, "root");
    }

    #[test]
    fn example_configurations_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
        for name in ["meta1", "chunk1", "mount1"] {
            let config = load(&folder.join(format!("{name}.toml"))).unwrap();
            assert_eq!(config.name, name);
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "admin", &[]).unwrap();
        assert!(matches!(init(dir.path(), "other", &[]), Err(ControlError::AuthorityExists { .. })));
        assert!(matches!(issue(dir.path(), Role::Admin, "admin"), Err(ControlError::IdentityExists { .. })));
    }

    #[test]
    fn servers_are_parsed_strictly() {
        assert!(parse_server("meta1=10.0.0.1:7001").is_ok());
        for wrong in ["meta1", "=10.0.0.1:7001", "a/b=10.0.0.1:7001", "meta1=host:7001", "meta1=10.0.0.1"] {
            assert!(parse_server(wrong).is_err(), "{wrong}");
        }
    }
}
