//! The only place that makes small files and folders durable: write a temporary file, fsync it,
//! rename it, fsync the folder. After a function of this module returned Ok, power may fail and the
//! new content (or the folder) is there; before that, the old content is there whole. Big or
//! appended files (Raft log, segments) have writers of their own, which use [`sync_folder`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Largest file that [`read`] takes, in bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// A file operation that failed, with what was tried.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}")]
pub struct DurableFileError {
    /// The step that failed.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl DurableFileError {
    /// Whether the file or folder simply is not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Who may read a written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Mode 0644 (less the umask).
    Everybody,
    /// Mode 0600: keys.
    Owner,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DurableFileError {
    move |source| DurableFileError { action, path: path.to_path_buf(), source }
}

/// Replaces a file (mode 0644) by `content`, durably and atomically.
pub fn write(path: &Path, content: &[u8]) -> Result<(), DurableFileError> {
    write_with(path, content, Access::Everybody)
}

/// Replaces a file by `content`, durably and atomically. One writer per path at a time.
pub fn write_with(path: &Path, content: &[u8], access: Access) -> Result<(), DurableFileError> {
    let temporary = temporary_name(path);
    let mode = match access {
        Access::Everybody => 0o644,
        Access::Owner => 0o600,
    };
    // A leftover of a crash may have another mode, so it is removed rather than truncated.
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &temporary)(e)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed("create", &temporary))?;
    file.write_all(content).map_err(failed("write", &temporary))?;
    file.sync_all().map_err(failed("fsync", &temporary))?;
    drop(file);
    rename(&temporary, path)
}

/// Renames within one file system, replacing what is there; durable in both folders.
pub fn rename(from: &Path, to: &Path) -> Result<(), DurableFileError> {
    std::fs::rename(from, to).map_err(failed("rename", from))?;
    sync_folder(parent(to))?;
    if parent(from) != parent(to) {
        sync_folder(parent(from))?;
    }
    Ok(())
}

/// Removes a file durably. Ok if it is not there.
pub fn remove(path: &Path) -> Result<(), DurableFileError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("remove", path)(e)),
        Ok(()) => sync_folder(parent(path)),
    }
}

/// Reads a whole file of at most [`MAX_FILE_BYTES`]. See [`DurableFileError::is_not_found`].
pub fn read(path: &Path) -> Result<Vec<u8>, DurableFileError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(failed("read", path))?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(failed("read", path)(io::Error::other("the file is too large")));
    }
    Ok(content)
}

/// As [`read`], as text.
pub fn read_to_string(path: &Path) -> Result<String, DurableFileError> {
    String::from_utf8(read(path)?)
        .map_err(|e| failed("read", path)(io::Error::new(io::ErrorKind::InvalidData, e.utf8_error())))
}

/// Creates a folder and the folders above it that are missing, each durable in its parent. Ok if it
/// is there already.
pub fn create_folder(path: &Path) -> Result<(), DurableFileError> {
    if path.is_dir() {
        return Ok(());
    }
    create_folder_in(parent(path), path)
}

fn create_folder_in(above: &Path, path: &Path) -> Result<(), DurableFileError> {
    if !above.is_dir() {
        create_folder_in(parent(above), above)?;
    }
    match std::fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(e) => return Err(failed("create the folder", path)(e)),
        Ok(()) => {}
    }
    sync_folder(above)
}

/// Makes the names in a folder durable.
pub fn sync_folder(path: &Path) -> Result<(), DurableFileError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("fsync the folder", path))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => path,
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn writes_replaces_reads_removes() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        create_folder(&deep).unwrap();
        create_folder(&deep).unwrap();
        let file = deep.join("file");
        assert!(read(&file).unwrap_err().is_not_found());
        write(&file, b"one").unwrap();
        write(&file, b"two").unwrap();
        assert_eq!(read(&file).unwrap(), b"two");
        assert!(!temporary_name(&file).exists());
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn a_key_is_for_its_owner_even_after_a_crash_left_a_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.key");
        std::fs::write(temporary_name(&file), b"torn").unwrap();
        write_with(&file, b"secret", Access::Owner).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn errors_say_what_was_tried_on_what() {
        let error = write(Path::new("/nonexistent-folder/file"), b"").unwrap_err().to_string();
        assert!(error.contains("create") && error.contains("/nonexistent-folder/file.tmp"), "{error}");
    }
}
