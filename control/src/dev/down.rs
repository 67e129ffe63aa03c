//! `dev down`: unmounts, then ends the processes. Bounded: what does not go in good order is taken
//! away the hard way, and it is said. Data stays.

use std::path::Path;

use super::layout::Layout;
use super::mount_point::{Unmounted, unmount_bounded};
use super::process::{self, STOP_WAIT};
use super::settings::Settings;
use crate::error::ControlError;
use crate::output;
use crate::progress::Progress;

/// Stops everything of the cluster in `data`.
pub(crate) fn down(data: &Path) -> Result<(), ControlError> {
    let layout = Layout::open(data)?;
    let _lock = layout.lock()?;
    let settings = Settings::load(&layout)?;
    let mut progress = Progress::new();
    for mount in settings.mount.iter().rev() {
        progress.step(format!("unmounting {}", mount.path.display()));
        if let Unmounted::Lazily(why) = unmount_bounded(&mount.path)? {
            progress.note(&format!(
                "{}: detached (umount -l), because it could not be unmounted in good order: {why}",
                mount.path.display()
            ));
        }
    }
    let mounts: Vec<String> = settings.mount.iter().map(|mount| mount.name.clone()).collect();
    stop(&layout, &mut progress, "mounts", &mounts)?;
    let metadata = settings.metadata.iter().map(|server| server.name.clone());
    let servers: Vec<String> = metadata.chain(settings.chunk.iter().map(|server| server.name.clone())).collect();
    stop(&layout, &mut progress, "servers", &servers)?;
    progress.finish();
    output::line(format!("stopped; the data stays in {}", layout.dir().display()));
    Ok(())
}

fn stop(layout: &Layout, progress: &mut Progress, what: &str, names: &[String]) -> Result<(), ControlError> {
    progress.step(format!("stopping the {what}"));
    for name in process::stop(layout, names, STOP_WAIT)? {
        progress.note(&format!(
            "{name}: killed, because it did not stop within {}s; see {}",
            STOP_WAIT.as_secs(),
            layout.log(&name).display()
        ));
    }
    Ok(())
}
