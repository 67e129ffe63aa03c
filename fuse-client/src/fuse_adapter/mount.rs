//! Mounts and unmounts. The kernel's read-ahead is set here, because fuser cannot.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};

use super::FuseAdapter;
use super::notifier::Notifier;

/// Threads that read the kernel's queue; they never block, so few are enough.
const THREADS: usize = 2;
/// The kernel's read-ahead, in KiB: one block.
const READ_AHEAD_KIB: u32 = 4096;

/// A mount in force.
pub struct Mounted {
    session: Option<BackgroundSession>,
    path: PathBuf,
}

/// Mounts at an empty directory. As root every user gets in, and suid and devices count.
pub fn mount(adapter: FuseAdapter, path: &Path) -> io::Result<Mounted> {
    let root = rustix::process::geteuid().is_root();
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("cairn".into()), MountOption::DefaultPermissions];
    if !adapter.filesystem.settings.relatime {
        config.mount_options.push(MountOption::NoAtime);
    }
    if root {
        config.mount_options.extend([MountOption::Suid, MountOption::Dev]);
    }
    config.acl = if root { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    let (filesystem, kernel) = (adapter.filesystem.clone(), adapter.kernel.clone());
    let session = Session::new(adapter, path, &config)?;
    // Served only from the next step on: nothing was believed before this.
    kernel.mounted(Notifier::new(&session)?);
    filesystem.set_kernel(kernel);
    let session = session.spawn()?;
    if let Err(error) = set_read_ahead(path) {
        tracing::warn!(%error, "the kernel's read-ahead stays as it is: sequential reads are slower");
    }
    Ok(Mounted { session: Some(session), path: path.to_path_buf() })
}

impl Mounted {
    /// Whether somebody has unmounted it.
    pub fn is_over(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.guard.is_finished())
    }

    /// Unmounts, within a few seconds, also while programs use it: those get errors from then on.
    pub fn unmount(mut self) {
        let Some(session) = self.session.take() else { return };
        if session.guard.is_finished() {
            if let Err(error) = session.join() {
                tracing::warn!(%error, "the FUSE session ended with an error");
            }
            return;
        }
        let plain = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::empty());
        if let Err(error) = plain {
            tracing::warn!(path = %self.path.display(), %error, "still in use, detached instead");
            let lazy = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
            if lazy.is_err() {
                // Not root: fuser knows how to ask fusermount.
                drop(session);
                return;
            }
        }
        let begun = std::time::Instant::now();
        while !session.guard.is_finished() && begun.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if session.guard.is_finished() {
            if let Err(error) = session.join() {
                tracing::warn!(%error, "the FUSE session ended with an error");
            }
        } else {
            // Its threads wait for the kernel, which lets go when this process ends.
            let _kept = std::mem::ManuallyDrop::new(session);
        }
    }
}

/// The kernel knows the mount's device from its table: no request to ourselves is needed.
fn set_read_ahead(path: &Path) -> io::Result<()> {
    let path = path.canonicalize_parent()?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let device = table
        .lines()
        .rev()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(4).is_some_and(|at| unescape(at) == path.to_string_lossy()))
        .and_then(|fields| fields.get(2).map(ToString::to_string))
        .ok_or_else(|| io::Error::other("the mount is not in the kernel's table"))?;
    std::fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), READ_AHEAD_KIB.to_string())
}

/// Space, tab, newline and backslash are octal in the kernel's table.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

trait CanonicalParent {
    /// The absolute path without a look at the last component, which is the mount itself.
    fn canonicalize_parent(&self) -> io::Result<PathBuf>;
}

impl CanonicalParent for Path {
    fn canonicalize_parent(&self) -> io::Result<PathBuf> {
        match (self.parent(), self.file_name()) {
            (Some(parent), Some(name)) => {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                Ok(parent.canonicalize()?.join(name))
            }
            _ => self.canonicalize(),
        }
    }
}

/// Refuses what cannot be mounted on, with the reason and what to do.
pub fn check_mount_point(path: &Path) -> Result<PathBuf, String> {
    let shown = path.display();
    let fuse = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if let Err(error) = fuse {
        return Err(format!("cannot open /dev/fuse: {error}; load the fuse module (modprobe fuse) or run as root"));
    }
    let path = path.canonicalize().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTCONN) => {
            format!("{shown} is a dead mount (its process is gone): run 'umount -l {shown}', then mount again")
        }
        _ => format!("mount point {shown}: {error}; make an empty directory there"),
    })?;
    let metadata = std::fs::metadata(&path).map_err(|error| format!("mount point {shown}: {error}"))?;
    if !metadata.is_dir() {
        return Err(format!("mount point {shown} is not a directory"));
    }
    let parent = path.parent().map(std::fs::metadata);
    if let Some(Ok(parent)) = parent
        && parent.dev() != metadata.dev()
    {
        return Err(format!("something is mounted at {shown} already: unmount it, or give another directory"));
    }
    let mut entries = std::fs::read_dir(&path).map_err(|error| format!("mount point {shown}: {error}"))?;
    if entries.next().is_some() {
        return Err(format!("mount point {shown} is not empty: its files would be hidden; give an empty directory"));
    }
    Ok(path)
}
