//! The amnesia layer as a program: mounts forgetful folders and drops what was not fsynced on
//! command. It is a tool for tests and keeps no promise about anything but what was synced.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, bail};
use cairn_cluster_tests::amnesia::{Control, Layer, mount, serve};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "A file system that forgets what was not fsynced", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Mounts folders; ends, and unmounts, when its standard input is closed.
    Mount {
        /// Socket for commands.
        #[arg(long)]
        control: PathBuf,
        /// BACKING=MOUNT; may be given often.
        #[arg(long = "layer", required = true)]
        layers: Vec<String>,
    },
    /// Loses power: drops what was not fsynced, but for a random part.
    Drop {
        /// Socket of the running layer.
        #[arg(long)]
        control: PathBuf,
        /// What survives by chance is the same for the same seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Mount { control, layers } => run(control, &layers),
        Command::Drop { control, seed } => {
            let loss = Control::new(&control).lose_power(seed)?;
            eprintln!("{loss:?}");
            Ok(())
        }
    }
}

fn run(control: PathBuf, pairs: &[String]) -> anyhow::Result<()> {
    raise_open_files()?;
    let (mut layers, mut sessions) = (Vec::new(), Vec::new());
    for pair in pairs {
        let Some((backing, target)) = pair.split_once('=') else { bail!("--layer is BACKING=MOUNT, not {pair}") };
        let layer = Layer::open(backing.as_ref()).with_context(|| format!("cannot open {backing}"))?;
        let session = mount(layer.clone(), backing.as_ref(), target.as_ref())
            .with_context(|| format!("cannot mount on {target}"))?;
        layers.push(layer);
        sessions.push(session);
    }
    serve(&control, layers).with_context(|| format!("cannot listen on {}", control.display()))?;
    // Until whoever started us is gone.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for (session, pair) in sessions.into_iter().zip(pairs) {
        let target = pair.split_once('=').map_or(pair.as_str(), |(_, target)| target);
        // Still used, maybe by a process that hangs: it must not keep us.
        let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
        drop(session);
    }
    Ok(())
}

/// Every file of the folders is open here twice.
fn raise_open_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}
