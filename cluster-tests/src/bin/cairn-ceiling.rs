//! The ceiling of every benchmark as a program: mounts an empty file system in memory and serves it
//! until its standard input is closed. Made for `cluster-tests/bench/ceiling`.

use std::io::Read;
use std::path::PathBuf;

use clap::Parser;

/// A file system in memory on FUSE: the yardstick, not a product.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// An empty directory
    mount_point: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let session = cairn_cluster_tests::ceiling::mount(&arguments.mount_point)?;
    let _ = std::io::stdin().read(&mut [0])?;
    session.umount_and_join()?;
    Ok(())
}
