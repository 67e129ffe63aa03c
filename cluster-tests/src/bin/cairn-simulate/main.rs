//! `cairn-simulate`: the whole cluster in one process and on one thread, with simulated network, clocks
//! and disks, from a seed. `run` runs many seeds, a process each; `replay` runs one again, event by
//! event. See `docs/testing.md`.

mod batch;
mod chunk_host;
mod client_host;
mod clock;
mod disk;
mod faults;
mod inode_locks;
mod invariants;
mod machine;
mod metadata_host;
mod network;
mod observer;
mod planted;
mod planted_fence;
mod planted_service;
mod process;
mod programs;
mod report;
mod sim_kernel;
mod simulation;
mod tell;
mod trace;
mod worker;
mod workload;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::batch::Batch;
use crate::planted::Planted;
use crate::simulation::Options;

/// Simulates clusters from seeds and checks what must hold.
#[derive(Parser)]
#[command(name = "cairn-simulate")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds.
    Run(Batch),
    /// Runs one seed again and says what comes out; the same as in `run`.
    Replay {
        /// The seed.
        seed: u64,
        /// With this bug.
        #[arg(long)]
        planted: Option<Planted>,
        /// Tells every event on standard error.
        #[arg(long)]
        tell: bool,
        /// Prints one line of JSON instead.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(batch) => batch.run(),
        Command::Replay { seed, planted, tell, json } => replay(Options { seed, planted, tell }, json),
    }
}

fn replay(options: Options, json: bool) -> ExitCode {
    if let Ok(wanted) = std::env::var("CAIRN_LOG") {
        tell::tell(&wanted);
    }
    let report = simulation::run(options);
    let failed = !report.violations.is_empty();
    if json {
        // Maps of strings and numbers.
        batch::say(&serde_json::to_string(&report).expect("a report can be written"));
    } else {
        batch::tell_one(&report);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
