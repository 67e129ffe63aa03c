//! The amnesia layer under the data folders of a cluster, in a process of its own that ends with
//! the test, whatever becomes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::programs::program;
use super::wait::wait_for;
use crate::amnesia::{Control, Loss};

/// A running amnesia layer.
pub struct AmnesiaHost {
    process: Child,
    control: Control,
    targets: Vec<PathBuf>,
}

impl AmnesiaHost {
    /// Puts the layer on each of the folders `data/NAME`; what they hold lies in `backing/NAME`.
    pub fn start(data: &Path, backing: &Path, names: &[&str]) -> Self {
        let socket = backing.join("control");
        fs::create_dir_all(backing).expect("backing folder");
        let mut command = Command::new(program("cairn-amnesia"));
        command.arg("mount").arg("--control").arg(&socket);
        let mut targets = Vec::new();
        for name in names {
            let (behind, target) = (backing.join(name), data.join(name));
            fs::create_dir_all(&behind).expect("backing folder");
            fs::create_dir_all(&target).expect("data folder");
            command.arg("--layer").arg(format!("{}={}", behind.display(), target.display()));
            targets.push(target);
        }
        let process = command.stdin(Stdio::piped()).spawn().expect("cairn-amnesia starts");
        wait_for("the amnesia layer", Duration::from_secs(10), || socket.exists().then_some(()));
        Self { process, control: Control::new(&socket), targets }
    }

    /// The power goes; every process on it should be dead.
    pub fn lose_power(&self, seed: u64) -> Loss {
        self.control.lose_power(seed).expect("the amnesia layer answers")
    }

    /// Folders that lie on the layer.
    pub fn targets(&self) -> &[PathBuf] {
        &self.targets
    }
}

impl Drop for AmnesiaHost {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        if self.process.wait().is_err() {
            // It never got to run; nothing is mounted.
        }
    }
}
