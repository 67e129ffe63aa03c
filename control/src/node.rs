//! `cairnctl status` and `cairnctl node …`: asks and changes a cluster through its leader.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_common::config;
use cairn_common::ids::{Incarnation, MetadataNodeId};
use cairn_common::protocol::admin::{ClusterStatus, MetadataMember};
use clap::{Args, Subcommand};

use crate::admin_client::AdminClient;
use crate::cluster::parse_server;
use crate::connect::connect;
use crate::dev;
use crate::error::ControlError;
use crate::members::Members;
use crate::output;
use crate::report::{Report, json_text, print};

/// A leader answers within this time, or there is none.
pub(crate) const STATUS_WAIT: Duration = Duration::from_secs(5);

/// Which cluster is meant.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Target {
    /// The administrator's configuration: metadata addresses and identity.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of a local cluster.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// `cairnctl status`
#[derive(Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    target: Target,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// `cairnctl node …`
#[derive(Subcommand)]
pub(crate) enum NodeCommand {
    /// List the servers.
    List(StatusArguments),
    /// Put a new metadata server in the place of a lost one. Call it first without --node-id: it
    /// gives the number and says what to run on the new server, and how to call it again.
    Replace(ReplaceArguments),
}

/// `cairnctl node replace`
#[derive(Args)]
pub(crate) struct ReplaceArguments {
    /// The administrator's configuration. (For a local cluster: `cairnctl dev replace`.)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Name of the lost server.
    #[arg(long, value_name = "NAME")]
    lost: String,
    /// The new server.
    #[arg(long, value_name = "NAME=ADDRESS:PORT", value_parser = parse_server)]
    new: (String, SocketAddr),
    /// The number given by the first call.
    #[arg(long, requires = "incarnation", value_name = "N")]
    node_id: Option<u64>,
    /// The incarnation given by the first call.
    #[arg(long, requires = "node_id", value_name = "UUID")]
    incarnation: Option<Incarnation>,
}

impl Target {
    pub(crate) fn client(&self) -> Result<AdminClient, ControlError> {
        match (&self.config, &self.data) {
            (Some(file), _) => configured(file),
            (None, Some(data)) => dev::administrator(data),
            // clap requires one of them.
            (None, None) => {
                Err(ControlError::BadArgument { what: "target", given: String::new(), rule: "give --config or --data" })
            }
        }
    }
}

/// The administrator of a configuration file.
fn configured(file: &Path) -> Result<AdminClient, ControlError> {
    let config = config::load(file)?;
    connect(&config.identity, config.metadata)
}

/// Prints the state of the cluster.
pub(crate) async fn status(arguments: &StatusArguments) -> Result<(), ControlError> {
    let (_, status) = arguments.target.client()?.status(STATUS_WAIT).await?;
    print(&Report::of(&status), arguments.json);
    Ok(())
}

/// Runs a `node` command.
pub(crate) async fn run(command: &NodeCommand) -> Result<(), ControlError> {
    match command {
        NodeCommand::List(arguments) => {
            let (_, status) = arguments.target.client()?.status(STATUS_WAIT).await?;
            let report = Report::of(&status);
            if arguments.json {
                output::line(json_text(&report.nodes));
            } else {
                output::line(report.node_list().trim_end());
            }
            Ok(())
        }
        NodeCommand::Replace(arguments) => replace(arguments).await,
    }
}

async fn replace(arguments: &ReplaceArguments) -> Result<(), ControlError> {
    let client = configured(&arguments.config)?;
    let (leader, status) = client.status(STATUS_WAIT).await?;
    let lost = member_of(&status, &arguments.lost)?;
    let (name, address) = &arguments.new;
    if let (Some(node), Some(incarnation)) = (arguments.node_id, arguments.incarnation) {
        let node = MetadataNodeId(node);
        let new = MetadataMember { node, incarnation, name: name.clone(), address: *address };
        client.replace(leader, lost, new).await?;
        output::line(format!(
            "{name} (node {node}) has the vote of {} (node {lost}), which is never used again",
            arguments.lost
        ));
        return Ok(());
    }
    let node = client.allocate(leader).await?;
    let incarnation = Incarnation::random();
    let members = PathBuf::from("no-members.toml");
    Members { member: Vec::new() }.write(&members)?;
    output::line(format!(
        "{name} is node {node}. On the new server, with its identity, its configuration and {}:",
        members.display()
    ));
    output::line(format!(
        "  cairn-meta format --config {name}.toml --node-id {node} --incarnation {incarnation} --cluster {} --members {}",
        status.cluster,
        members.display()
    ));
    output::line(format!("  cairn-meta --config {name}.toml"));
    output::line("Then here:");
    output::line(format!(
        "  cairnctl node replace --config {} --lost {} --new {name}={address} --node-id {node} --incarnation {incarnation}",
        arguments.config.display(),
        arguments.lost
    ));
    Ok(())
}

fn member_of(status: &ClusterStatus, name: &str) -> Result<MetadataNodeId, ControlError> {
    let members = || status.metadata.iter().map(|seen| &seen.member);
    members().find(|member| member.name == name).map(|member| member.node).ok_or_else(|| ControlError::NoSuchServer {
        name: name.to_owned(),
        known: members().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}
