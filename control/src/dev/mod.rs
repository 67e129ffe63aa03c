//! Local clusters: real processes on loopback, for people and tests. Nothing here knows how a server
//! works; it starts programs, asks them as an administrator, and ends them.

mod down;
mod layout;
mod mount_point;
mod ports;
mod process;
mod ready;
mod replace;
mod servers;
mod settings;
mod status;
mod up;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::layout::Layout;
use self::settings::{Settings, Sizes};
use crate::admin_client::AdminClient;
use crate::connect::connect;
use crate::error::ControlError;

/// `cairnctl dev …`
#[derive(Subcommand)]
pub(crate) enum DevCommand {
    /// Start a local cluster and mount it; on existing data, start what is not running.
    Up {
        #[command(flatten)]
        data: DataFolder,
        /// Mount point, made if it is missing. Mounts of earlier calls are mounted again.
        #[arg(long, value_name = "DIR")]
        mount: Option<PathBuf>,
        /// Metadata servers of a new cluster: 1, 3 or 5 [default: 3]
        #[arg(long, value_name = "N")]
        meta: Option<u64>,
        /// Chunk servers of a new cluster [default: 3]
        #[arg(long, value_name = "N")]
        chunk: Option<u64>,
        /// Replicas of every block of a new cluster [default: 3, or the chunk servers if fewer]
        #[arg(long, value_name = "R")]
        replicas: Option<u64>,
    },
    /// Mount a running cluster at one more place.
    Mount {
        #[command(flatten)]
        data: DataFolder,
        /// Mount point, made if it is missing.
        #[arg(long, value_name = "DIR")]
        mount: PathBuf,
    },
    /// Show leader, servers, mounts and sessions.
    Status {
        #[command(flatten)]
        data: DataFolder,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Unmount and stop everything; the data stays.
    Down {
        #[command(flatten)]
        data: DataFolder,
    },
    /// Bring a metadata server back whose folder was lost, under a new number.
    Replace {
        #[command(flatten)]
        data: DataFolder,
        /// The server: meta1, meta2, …
        name: String,
    },
}

/// The folder of a local cluster.
#[derive(Args)]
pub(crate) struct DataFolder {
    /// Folder of the cluster: data, logs, identities and settings.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Runs a `dev` command.
pub(crate) async fn run(command: DevCommand) -> Result<(), ControlError> {
    match command {
        DevCommand::Up { data, mount, meta, chunk, replicas } => {
            up::up(&data.data, mount.as_deref(), Sizes { meta, chunk, replicas }).await
        }
        DevCommand::Mount { data, mount } => up::mount(&data.data, &mount).await,
        DevCommand::Status { data, json } => status::status(&data.data, json).await,
        DevCommand::Down { data } => down::down(&data.data),
        DevCommand::Replace { data, name } => replace::replace(&data.data, &name).await,
    }
}

/// The administrator of the local cluster in `data`.
pub(crate) fn administrator(data: &std::path::Path) -> Result<AdminClient, ControlError> {
    let layout = Layout::open(data)?;
    let settings = Settings::load(&layout)?;
    admin_client(&layout, &settings)
}

fn admin_client(layout: &Layout, settings: &Settings) -> Result<AdminClient, ControlError> {
    connect(&servers::identity(layout, servers::ADMIN), settings.metadata_addresses())
}
