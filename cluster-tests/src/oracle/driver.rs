//! Does the model's steps on a real folder, and compares what is seen there with the model.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::model::{Content, Id, Model, Step};

/// Does a step in the folder `root`; the error is the errno.
pub fn run(root: &Path, step: &Step) -> Result<(), i32> {
    let open = |options: &mut OpenOptions, path: &str| options.open(root.join(path));
    let outcome = match step {
        Step::Create(path) => open(OpenOptions::new().write(true).create_new(true).mode(0o644), path).map(|_| ()),
        Step::MakeDirectory(path) => fs::create_dir(root.join(path)),
        Step::Write(path, offset, bytes) => {
            open(OpenOptions::new().write(true), path).and_then(|file| file.write_all_at(bytes, *offset))
        }
        Step::Append(path, bytes) => {
            open(OpenOptions::new().append(true), path).and_then(|mut file| file.write_all(bytes))
        }
        Step::Truncate(path, size) => open(OpenOptions::new().write(true), path).and_then(|file| file.set_len(*size)),
        Step::Rename(from, to) => fs::rename(root.join(from), root.join(to)),
        Step::Link(from, to) => fs::hard_link(root.join(from), root.join(to)),
        Step::Unlink(path) => {
            rustix::fs::unlinkat(rustix::fs::CWD, root.join(path), rustix::fs::AtFlags::empty()).map_err(Into::into)
        }
        Step::RemoveDirectory(path) => fs::remove_dir(root.join(path)),
        Step::ChangeMode(path, mode) => fs::set_permissions(root.join(path), fs::Permissions::from_mode(*mode)),
    };
    outcome.map_err(|error| errno(&error))
}

/// Compares one path with the model; the error says what differs.
pub fn compare(root: &Path, path: &str, model: &Model) -> Result<(), String> {
    let full = root.join(path);
    let found = fs::symlink_metadata(&full).map_err(|error| errno(&error));
    let (id, metadata) = match (model.lookup(path), found) {
        (Ok(id), Ok(metadata)) => (id, metadata),
        (Err(expected), Err(found)) if expected == found => return Ok(()),
        (expected, found) => {
            let found = found.map(|_| "it");
            return Err(format!("{path:?}: found {found:?}, expected {:?}", expected.map(|_| "it")));
        }
    };
    compare_inode(path, &full, &metadata, id, model)
}

/// Compares a file that a handle keeps, whether it has a name or not.
pub fn compare_handle(file: &File, id: Id, model: &Model) -> Result<(), String> {
    let Content::File(expected) = &model.inode(id).content else { return Err("a handle on a directory".into()) };
    // The read comes first: it must not need a stat before it to be right.
    let mut bytes = vec![0; expected.len()];
    file.read_exact_at(&mut bytes, 0).map_err(|error| format!("read of inode {id}: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("fstat of inode {id}: {error}"))?;
    expect(&format!("handle of inode {id}"), "size", metadata.len(), expected.len() as u64)?;
    same_bytes(&format!("handle of inode {id}"), &bytes, expected)?;
    expect(&format!("handle of inode {id}"), "links", metadata.nlink(), model.links(id))
}

fn compare_inode(path: &str, full: &Path, metadata: &fs::Metadata, id: Id, model: &Model) -> Result<(), String> {
    let inode = model.inode(id);
    let mode = metadata.mode() & 0o7777;
    match &inode.content {
        Content::File(expected) => {
            if !metadata.is_file() {
                return Err(format!("{path:?} is no file"));
            }
            expect(path, "size", metadata.len(), expected.len() as u64)?;
            expect(path, "links", metadata.nlink(), model.links(id))?;
            same_bytes(path, &fs::read(full).map_err(|error| format!("{path:?}: {error}"))?, expected)?;
        }
        Content::Directory(expected) => {
            if !metadata.is_dir() {
                return Err(format!("{path:?} is no directory"));
            }
            let names: io::Result<BTreeSet<String>> = fs::read_dir(full).and_then(|entries| {
                entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
            });
            let names = names.map_err(|error| format!("{path:?}: {error}"))?;
            if !names.iter().eq(expected.keys()) {
                return Err(format!("{path:?}: entries {names:?}, expected {:?}", expected.keys()));
            }
        }
    }
    // The root is the test's own folder.
    if path.is_empty() { Ok(()) } else { expect(path, "mode", mode, inode.mode) }
}

fn same_bytes(path: &str, found: &[u8], expected: &[u8]) -> Result<(), String> {
    expect(path, "bytes read", found.len(), expected.len())?;
    match found.iter().zip(expected).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(format!("{path:?}: byte {at} of {} is {}, expected {}", found.len(), found[at], expected[at])),
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(path: &str, what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{path:?}: {what} {found:?}, expected {expected:?}")) }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// The model is right where a local file system is.
    #[test]
    fn a_local_file_system_agrees_with_the_model() {
        let folder = tempfile::tempdir().expect("folder");
        let (mut model, mut rng) = (Model::default(), StdRng::seed_from_u64(4));
        let mut succeeded = 0;
        for number in 0..4_000 {
            let step = model.random_step(&mut rng);
            let (found, expected) = (run(folder.path(), &step), model.apply(&step));
            assert_eq!(found, expected, "step {number}: {step:?}");
            succeeded += u32::from(found.is_ok());
            for path in Model::touched(&step) {
                compare(folder.path(), &path, &model).unwrap_or_else(|fault| panic!("step {number} {step:?}: {fault}"));
            }
        }
        assert!(succeeded > 1_500, "only {succeeded} steps did something");
    }
}
