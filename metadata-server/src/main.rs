//! `cairn-meta`: one member of the metadata group. It parses flags, starts and stops; what it does is
//! in the library. A data folder is formatted once and explicitly (`cairn-meta format`): a server
//! that came up with an empty folder and its old id would have forgotten what it voted for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cairn_common::clock::SystemClock;
use cairn_common::config::{self, NodeConfig};
use cairn_common::identity::Identity;
use cairn_common::ids::{ClusterId, Incarnation, MetadataNodeId};
use cairn_common::protocol::Role;
use cairn_common::protocol::admin::MetadataMember;
use cairn_common::telemetry;
use cairn_common::transport::quic::{QuicServer, QuicTransport};
use cairn_meta::namespace;
use cairn_meta::raft::{GroupOptions, GroupTimings, MetadataGroup, NodeIdentity, node_identity};
use cairn_meta::service::{MetadataService, ServiceOptions, ServiceTimings};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Requests under way get so long to end when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Metadata server of the Cairn distributed file system.
#[derive(Parser)]
#[command(name = "cairn-meta", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<RunArguments>,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a new data folder (once, before the first start).
    Format(FormatArguments),
}

#[derive(Args)]
struct RunArguments {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Data folder, instead of the configuration's.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// UDP address to serve, instead of the configuration's.
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// TCP address of the Prometheus endpoint, instead of the configuration's.
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
}

#[derive(Args)]
struct FormatArguments {
    /// Configuration file (TOML); its `data` is formatted.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Number in the metadata group, never used before.
    #[arg(long, value_name = "N")]
    node_id: u64,
    /// This life of the data folder.
    #[arg(long, value_name = "UUID")]
    incarnation: Incarnation,
    /// The cluster.
    #[arg(long, value_name = "UUID")]
    cluster: ClusterId,
    /// The first members of a new group (TOML); without it the server joins a group that exists.
    #[arg(long, value_name = "FILE")]
    members: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match (arguments.command, arguments.run) {
        (Some(Command::Format(arguments)), _) => format(&arguments),
        (None, Some(arguments)) => {
            let mut config = config::load(&arguments.config)?;
            config.data = arguments.data.or(config.data);
            config.listen = arguments.listen.or(config.listen);
            config.metrics = arguments.metrics.or(config.metrics);
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(run(config))
        }
        (None, None) => bail!("no configuration: give --config FILE (see cairn-meta --help)"),
    }
}

fn format(arguments: &FormatArguments) -> anyhow::Result<()> {
    let config = config::load(&arguments.config)?;
    let members = arguments.members.as_deref().map(node_identity::read_members).transpose()?.unwrap_or_default();
    let identity = NodeIdentity {
        cluster: arguments.cluster,
        node: MetadataNodeId(arguments.node_id),
        incarnation: arguments.incarnation,
    };
    node_identity::format(config.data()?, &identity, &members)?;
    Ok(())
}

async fn run(config: NodeConfig) -> anyhow::Result<()> {
    // Asked for first: a signal that comes during the start must stop it in order, too.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    telemetry::init("cairn-meta", &config.name);
    let server = Server::start(&config).await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut failure = server.group.failure();
    let signal = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        // Its log or state cannot be trusted any more: nothing is served from it.
        _ = failure.wait_for(Option::is_some) => "failure",
    };
    tracing::info!(signal, "stopping");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let failed = failure.borrow().clone();
    server.stop().await;
    tracing::info!("stopped");
    match failed {
        Some(reason) => bail!("the metadata group stopped on this server: {reason}"),
        None => Ok(()),
    }
}

/// Everything that runs.
struct Server {
    group: Arc<MetadataGroup>,
    service: Arc<MetadataService>,
    transport: Arc<QuicTransport>,
    endpoint: cairn_common::transport::quic::QuicServerHandle,
    _metrics: Option<telemetry::MetricsServer>,
}

impl Server {
    async fn start(config: &NodeConfig) -> anyhow::Result<Self> {
        let (data, listen) = (config.data()?, config.listen()?);
        let (node, initial_members) = node_identity::load(data)?;
        let identity = Identity::load(&config.identity)?;
        check_identity(&identity, config, &node, data)?;
        let metrics = match config.metrics {
            Some(address) => Some(telemetry::serve_metrics(address).await?),
            None => None,
        };
        let transport = Arc::new(QuicTransport::new(&identity)?);
        let clock = Arc::new(SystemClock);
        let member = MetadataMember {
            node: node.node,
            incarnation: node.incarnation,
            name: config.name.clone(),
            address: listen,
        };
        let group = MetadataGroup::start(GroupOptions {
            data: data.to_path_buf(),
            cluster: node.cluster,
            member,
            initial_members,
            transport: transport.clone(),
            clock: clock.clone(),
            logic: Arc::new(namespace::apply),
            timings: GroupTimings::default(),
        })
        .await
        .with_context(|| format!("cannot start the metadata group from {}", data.display()))?;
        let options = ServiceOptions {
            cluster: node.cluster,
            partitions: config.partitions,
            replicas: config.replicas,
            timings: ServiceTimings::default(),
        };
        let service = MetadataService::start(group.clone(), transport.clone(), clock, options);
        let endpoint = QuicServer::serve(listen, &identity, service.clone())
            .with_context(|| format!("cannot serve on {listen}"))?;
        tracing::info!(node = %node.node, cluster = %node.cluster, address = %endpoint.local_address(), "ready");
        Ok(Self { group, service, transport, endpoint, _metrics: metrics })
    }

    /// The service first, so that polls return; the group last, so that what is under way ends.
    async fn stop(self) {
        self.service.shutdown().await;
        self.endpoint.shutdown(STOP_GRACE).await;
        self.group.shutdown().await;
        self.transport.close();
    }
}

/// The certificate, the configuration and the data folder must belong together.
fn check_identity(identity: &Identity, config: &NodeConfig, node: &NodeIdentity, data: &Path) -> anyhow::Result<()> {
    let peer = identity.peer();
    let certificate = config.identity.certificate.display();
    if peer.role != Role::Metadata {
        bail!("{certificate} is for the role {}; a metadata server needs `metadata`", peer.role.as_str());
    }
    if peer.name != config.name {
        bail!("{certificate} is for {:?}, the configuration names this server {:?}", peer.name, config.name);
    }
    if peer.cluster != node.cluster {
        bail!(
            "{certificate} belongs to cluster {}, the data folder {} to cluster {}: check `data` and `[identity]`",
            peer.cluster,
            data.display(),
            node.cluster
        );
    }
    Ok(())
}
