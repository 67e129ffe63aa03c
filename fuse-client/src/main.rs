//! `cairn-mount`: mounts a cluster at a directory and serves it in the foreground until it is
//! unmounted or told to stop; then it flushes, within seconds. Exit status 1: data was lost, or it
//! never came up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use cairn_common::{config, telemetry};
use cairn_mount::fuse_adapter::FuseAdapter;
use cairn_mount::fuse_adapter::mount::{Mounted, check_mount_point, mount};
use cairn_mount::settings::MountSettings;
use cairn_mount::startup;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// A mount allocates and frees for every open, on threads that come and go between requests: with the C
/// library's allocator that was a third of its own time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the kernel may take to unmount before the last flush begins without it.
const UNMOUNT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Mounts a Cairn cluster as an ordinary directory.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML)
    #[arg(long)]
    config: PathBuf,
    /// Addresses of the metadata servers, instead of the file's
    #[arg(long, value_delimiter = ',')]
    metadata: Vec<SocketAddr>,
    /// Address of the Prometheus endpoint, instead of the file's
    #[arg(long)]
    metrics: Option<SocketAddr>,
    /// Bytes that may be written and not yet stored, in MiB
    #[arg(long, default_value_t = 64)]
    dirty_limit_mib: u64,
    /// Seconds after which a call without an answer fails with ETIMEDOUT
    #[arg(long, default_value_t = 30)]
    call_timeout_s: u64,
    /// Reads do not change access times (else they do as with relatime)
    #[arg(long)]
    noatime: bool,
    /// An empty directory
    mount_point: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("cairn-mount").build() {
        Ok(runtime) => runtime,
        Err(error) => {
            telemetry::init("cairn-mount", "?");
            tracing::error!(%error, "no threads");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(arguments));
    // Tasks that still wait for servers are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(lost) => {
            tracing::error!(lost_bytes = lost, "ended with data that could not be written");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<u64> {
    let mut config = config::load(&arguments.config)?;
    telemetry::init("cairn-mount", &config.name);
    if !arguments.metadata.is_empty() {
        config.metadata = arguments.metadata;
    }
    config.metrics = arguments.metrics.or(config.metrics);
    let mount_point = check_mount_point(&arguments.mount_point).map_err(|reason| anyhow!(reason))?;
    let _metrics = match config.metrics {
        Some(address) => Some(telemetry::serve_metrics(address).await?),
        None => None,
    };
    let settings = MountSettings {
        dirty_limit_bytes: arguments.dirty_limit_mib.max(8) << 20,
        call_timeout: Duration::from_secs(arguments.call_timeout_s.max(1)),
        relatime: !arguments.noatime,
        ..MountSettings::default()
    };
    let filesystem = startup::connect(&config, &mount_point, settings).await?;
    let adapter = FuseAdapter::new(filesystem.clone(), tokio::runtime::Handle::current());
    let at = mount_point.clone();
    let mounted = tokio::task::spawn_blocking(move || mount(adapter, &at))
        .await?
        .with_context(|| format!("cannot mount at {}", mount_point.display()))?;
    tracing::info!(path = %mount_point.display(), "mounted");
    // Nobody may be listening; that is all right.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    wait_for_the_end(&mounted).await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    // After the unmount nobody writes any more. It may itself wait for written pages to be taken in.
    let unmount = tokio::task::spawn_blocking(move || mounted.unmount());
    if tokio::time::timeout(UNMOUNT_TIMEOUT, unmount).await.is_err() {
        tracing::warn!(path = %mount_point.display(), "the kernel has not unmounted it yet");
    }
    let lost = filesystem.shut_down().await;
    tracing::info!(path = %mount_point.display(), lost_bytes = lost, "unmounted");
    Ok(lost)
}

/// Until a signal, or an unmount from outside.
async fn wait_for_the_end(mounted: &Mounted) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut poll = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = poll.tick() => {
                if mounted.is_over() {
                    return Ok(());
                }
            }
        }
    }
}
