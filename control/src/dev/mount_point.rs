//! Mount points: whether something of FUSE is mounted there, clearing away what a killed mount left
//! behind, and unmounting within a bound. Nothing here looks into a mount without a time limit,
//! because a mount whose servers are dead answers late.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::error::{ControlError, FileContext};

/// Unmounting tries this long before it goes over to a lazy unmount.
const UNMOUNT_WAIT: Duration = Duration::from_secs(10);
/// A busy mount gets this long for its last users to go.
const BUSY_WAIT: Duration = Duration::from_secs(3);
/// A live mount answers within this time.
const PROBE_WAIT: Duration = Duration::from_secs(2);

/// How an unmount ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unmounted {
    /// Nothing was mounted.
    Nothing,
    /// In good order.
    Cleanly,
    /// Detached while programs still use it, or while its daemon does not answer; who and why.
    Lazily(String),
}

/// The absolute path of a mount point, also when the directory is missing or its mount is dead:
/// only the parent is looked up.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, ControlError> {
    let path = std::path::absolute(path).doing("find", path)?;
    let refused = |reason: &str| ControlError::MountPoint { path: path.clone(), reason: reason.to_owned() };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refused("it is the root directory; name another one"));
    };
    fs::create_dir_all(parent).doing("create", parent)?;
    // readlink does not ask the daemon of a mount, unlike stat.
    if fs::read_link(&path).is_ok() {
        return fs::canonicalize(&path).doing("find", path);
    }
    Ok(fs::canonicalize(parent).doing("find", parent)?.join(name))
}

/// Makes an empty directory to mount on, after clearing a dead mount away. Refuses a directory with
/// something in it or under another mount.
pub(crate) fn prepare(path: &Path) -> Result<(), ControlError> {
    while is_mounted(path) {
        if probe(path) != Probe::Dead {
            let reason = "another FUSE file system is mounted there; unmount it, or name another directory";
            return Err(ControlError::MountPoint { path: path.to_owned(), reason: reason.to_owned() });
        }
        detach(path).doing("unmount the dead mount on", path)?;
    }
    fs::create_dir_all(path).doing("create", path)?;
    let mut entries = fs::read_dir(path).doing("list", path)?;
    if entries.next().is_some() {
        let reason = "the directory is not empty, and its files would be hidden; name an empty one";
        return Err(ControlError::MountPoint { path: path.to_owned(), reason: reason.to_owned() });
    }
    Ok(())
}

/// Whether a FUSE file system is mounted on exactly this path. Does not touch the mount.
pub(crate) fn is_mounted(path: &Path) -> bool {
    fs::read("/proc/self/mountinfo").is_ok_and(|table| table_has(&table, path))
}

/// Looks for a FUSE mount in the text of `/proc/self/mountinfo` (format: proc(5)).
fn table_has(table: &[u8], path: &Path) -> bool {
    table.split(|byte| *byte == b'\n').any(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = fields.nth(4).map(unescape);
        let kind = fields.skip_while(|field| *field != b"-").nth(1);
        point.as_deref() == Some(path) && kind.is_some_and(|kind| kind.starts_with(b"fuse"))
    })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// What a mount says to a stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// It answers.
    Alive,
    /// Its daemon is gone (ENOTCONN).
    Dead,
    /// No answer in time, or an error.
    Silent,
}

/// Asks the daemon of a mount for the attributes of its root, for at most [`PROBE_WAIT`]: a plain stat
/// could be answered by the kernel after the daemon's death. A stat that hangs is left to its thread.
pub(crate) fn probe(path: &Path) -> Probe {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    let ask = move || statx(CWD, &path, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS).map(|_| ());
    std::thread::spawn(move || sender.send(ask()));
    match receiver.recv_timeout(PROBE_WAIT) {
        Ok(Ok(())) => Probe::Alive,
        Ok(Err(Errno::NOTCONN)) => Probe::Dead,
        _ => Probe::Silent,
    }
}

/// Unmounts, within [`UNMOUNT_WAIT`] in all: in good order if possible, else lazily.
pub(crate) fn unmount_bounded(path: &Path) -> Result<Unmounted, ControlError> {
    if !is_mounted(path) {
        return Ok(Unmounted::Nothing);
    }
    let start = Instant::now();
    let why = loop {
        match try_unmount(path, UNMOUNT_WAIT) {
            Some(Ok(())) => return Ok(Unmounted::Cleanly),
            Some(Err(_)) if !is_mounted(path) => return Ok(Unmounted::Cleanly),
            Some(Err(reason)) if start.elapsed() > BUSY_WAIT => break format!("{reason}{}", users(path)),
            Some(Err(_)) => std::thread::sleep(Duration::from_millis(200)),
            None => break format!("umount did not return within {}s", UNMOUNT_WAIT.as_secs()),
        }
    };
    detach(path).doing("unmount", path)?;
    Ok(Unmounted::Lazily(why))
}

/// One unmount on a thread of its own; None if it does not return in time.
fn try_unmount(path: &Path, wait: Duration) -> Option<Result<(), String>> {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || sender.send(unmount_once(&path, false).map_err(|error| error.to_string())));
    receiver.recv_timeout(wait).ok()
}

/// Takes a mount out of the tree at once, whoever uses it.
fn detach(path: &Path) -> io::Result<()> {
    match unmount_once(path, true) {
        Err(_) if !is_mounted(path) => Ok(()),
        other => other,
    }
}

/// umount(2), or fusermount3 for users who may not.
fn unmount_once(path: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::NOFOLLOW };
    match unmount(path, flags) {
        Err(rustix::io::Errno::PERM) => {}
        other => return other.map_err(io::Error::from),
    }
    let output = Command::new("fusermount3")
        .arg(if lazy { "-uz" } else { "-u" })
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::other(format!("fusermount3: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(io::Error::other(said)) }
}

/// Who works in the mount, as far as /proc shows it, for an error message.
fn users(path: &Path) -> String {
    let inside = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(path));
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let opens = || fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        if inside(&process.path().join("cwd")) || opens().any(|fd| inside(&fd.path())) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!("{} (pid {pid})", name.trim()));
        }
    }
    if found.is_empty() { String::new() } else { format!(", used by {}", found.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_read_exactly() {
        let table = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - fuse.cairn cairn rw\n\
                      37 35 98:0 / /mnt/c rw - ext4 /dev/root rw\n\
                      38 35 98:0 / /mnt/d rw shared:7 - fuse x rw\n";
        assert!(table_has(table, Path::new("/mnt/a b")));
        assert!(table_has(table, Path::new("/mnt/d")));
        assert!(!table_has(table, Path::new("/mnt/c")), "not FUSE");
        assert!(!table_has(table, Path::new("/mnt/a")));
        assert!(!table_has(table, Path::new("/mnt")));
    }

    #[test]
    fn a_full_directory_is_no_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        assert!(prepare(&dir.path().join("new/deeper")).is_ok());
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(prepare(dir.path()), Err(ControlError::MountPoint { .. })));
    }

    #[test]
    fn nothing_mounted_is_nothing_to_do() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(unmount_bounded(dir.path()).unwrap(), Unmounted::Nothing);
    }

    #[test]
    fn a_missing_mount_point_has_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let parent = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(absolute(&dir.path().join("x/y")).unwrap(), parent.join("x/y"));
        assert!(absolute(Path::new("/")).is_err());
    }
}
