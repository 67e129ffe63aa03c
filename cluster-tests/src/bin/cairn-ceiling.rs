//! The ceiling of every benchmark as a program, and the workload that is compared with it. Made for
//! `cluster-tests/bench/ceiling`.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// A file system in memory on FUSE: the yardstick, not a product.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Mount an empty file system in memory and serve it until standard input is closed
    Serve {
        /// An empty directory
        mount_point: PathBuf,
        /// How long the kernel may believe names and attributes. A file system whose answers may change elsewhere has to
        /// give fewer than an hour
        #[arg(long, default_value_t = 3_600_000)]
        lifetime_ms: u64,
    },
    /// Run the warm workload in a folder and print `LABEL NAME RATE` for each of its parts
    Warm {
        /// Where: on the file system to measure
        folder: PathBuf,
        /// What each line begins with
        label: String,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        What::Serve { mount_point, lifetime_ms } => {
            let lifetime = Duration::from_millis(lifetime_ms);
            let session = cairn_cluster_tests::ceiling::mount(&mount_point, lifetime)?;
            let _ = std::io::stdin().read(&mut [0])?;
            session.umount_and_join()?;
        }
        What::Warm { folder, label } => {
            let mut out = std::io::stdout().lock();
            cairn_cluster_tests::ceiling::warm(&folder, |name, rate| writeln!(out, "{label} {name} {rate:.1}"))?;
        }
    }
    Ok(())
}
