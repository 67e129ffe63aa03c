//! `cairn-chunk`: reads the configuration, opens the disks, serves until SIGTERM. All else is in the
//! library.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use cairn_chunk::block_store::StoreOptions;
use cairn_chunk::disk_set::DiskSet;
use cairn_chunk::identity::DataFolder;
use cairn_chunk::server::{ChunkServer, ServerSettings};
use cairn_common::config::{self, NodeConfig};
use cairn_common::identity::Identity;
use cairn_common::protocol::Role;
use cairn_common::telemetry;
use cairn_common::transport::quic::QuicTransport;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Keeps blocks on the disks of one machine.
#[derive(Parser)]
#[command(name = "cairn-chunk", version)]
struct Arguments {
    /// The configuration, a TOML file. Flags go over it.
    #[arg(long)]
    config: PathBuf,
    /// Data folder.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Address to serve; others must reach the server there.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Address of the Prometheus endpoint.
    #[arg(long)]
    metrics: Option<SocketAddr>,
    /// A metadata server; once for each.
    #[arg(long)]
    metadata: Vec<SocketAddr>,
    /// What fails together with this server.
    #[arg(long)]
    failure_domain: Option<String>,
    /// A disk folder; once for each.
    #[arg(long)]
    disk: Vec<PathBuf>,
    /// Bytes that each disk may hold; 0: the size of its file system.
    #[arg(long)]
    capacity_bytes: Option<u64>,
    /// Bytes a second that the scrub reads on each disk; 0: no scrub.
    #[arg(long)]
    scrub_bytes_per_second: Option<u64>,
}

impl Arguments {
    fn over(self, config: &mut NodeConfig) {
        config.data = self.data.or(config.data.take());
        config.listen = self.listen.or(config.listen);
        config.metrics = self.metrics.or(config.metrics);
        config.failure_domain = self.failure_domain.or(config.failure_domain.take());
        config.capacity_bytes = self.capacity_bytes.unwrap_or(config.capacity_bytes);
        if !self.metadata.is_empty() {
            config.metadata = self.metadata;
        }
        if !self.disk.is_empty() {
            config.disks = self.disk;
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut config = config::load(&arguments.config)?;
    let mut options = StoreOptions::default();
    if let Some(rate) = arguments.scrub_bytes_per_second {
        options.scrub_bytes_per_second = rate;
    }
    arguments.over(&mut config);
    options.capacity_bytes = config.capacity_bytes;
    telemetry::init("cairn-chunk", &config.name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = runtime.block_on(run(config, options));
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#}"), "ending");
    }
    result
}

async fn run(config: NodeConfig, options: StoreOptions) -> anyhow::Result<()> {
    // Before anything slow, so that no signal is lost.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let identity = Identity::load(&config.identity)?;
    let peer = identity.peer();
    anyhow::ensure!(
        peer.role == Role::Chunk && peer.name == config.name,
        "the certificate is for {} {}, not for chunk {}: give this server its own with `cairnctl`",
        peer.role.as_str(),
        peer.name,
        config.name
    );
    let data = config.data()?.to_path_buf();
    let disk_folders = config.disks()?;
    let mut folder = DataFolder::open(&data, &disk_folders, peer.cluster, &config.name)?;
    let known = folder.take_disks();
    let disks = Arc::new(
        tokio::task::spawn_blocking(move || DiskSet::open(known, options)).await.context("cannot open the disks")?,
    );
    let transport = Arc::new(QuicTransport::new(&identity)?);
    let settings = ServerSettings {
        listen: config.listen()?,
        metadata: config.metadata.clone(),
        failure_domain: config.failure_domain().to_owned(),
        incarnation: folder.incarnation(),
    };
    let _metrics = match config.metrics {
        Some(address) => Some(telemetry::serve_metrics(address).await?),
        None => None,
    };
    let server = ChunkServer::start(&identity, transport.clone(), disks.clone(), settings)?;
    // Absent without a service manager.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    server.stop().await;
    transport.close();
    // Tasks of repair may still hold disks; the last one to go makes its index durable.
    tokio::task::spawn_blocking(move || disks.close()).await.context("cannot close the disks")?;
    tracing::info!("stopped");
    Ok(())
}
