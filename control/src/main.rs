//! `cairnctl`: makes identities, runs local clusters, shows and changes the state of a cluster. It
//! owns nothing and links no server code: it starts programs and speaks the admin protocol.

mod admin_client;
mod cluster;
mod connect;
mod dev;
mod error;
mod leases;
mod locks;
mod members;
mod node;
mod output;
mod progress;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::ControlError;

/// Control of Cairn, a distributed file system.
#[derive(Parser)]
#[command(name = "cairnctl", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Local clusters on this machine.
    #[command(subcommand)]
    Dev(dev::DevCommand),
    /// Certificate authority and identities of a cluster.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Show leader, servers, data and sessions of a cluster.
    Status(node::StatusArguments),
    /// Servers of a cluster.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Show who may cache what.
    Leases(leases::LeasesArguments),
    /// Show who has locked what, and who waits for it.
    Locks(locks::LocksArguments),
    /// Sessions of mounts.
    #[command(subcommand)]
    Session(leases::SessionCommand),
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(run(arguments.command));
    // A probe of a silent mount may still hang in a thread: it is not waited for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("cairnctl: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn run(command: Command) -> Result<(), ControlError> {
    match command {
        Command::Dev(command) => dev::run(command).await,
        Command::Cluster(command) => cluster::run(command),
        Command::Status(arguments) => node::status(&arguments).await,
        Command::Node(command) => node::run(&command).await,
        Command::Leases(arguments) => leases::show(&arguments).await,
        Command::Locks(arguments) => locks::show(&arguments).await,
        Command::Session(command) => leases::run(&command).await,
    }
}
