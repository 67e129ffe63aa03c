//! A tree of files as people have them, and the proof that another tree is the same: `diff -r` for
//! the bytes, an own comparison for what diff does not look at.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng, RngCore};

/// Sizes that every tree has, in bytes: around the limits of inlining, pages, verification groups
/// and blocks.
const SIZES: &[usize] = &[0, 1, 511, 4095, 4096, 4097, 16 << 10, (16 << 10) + 1, 300 << 10, 4 << 20, 5 << 20];
/// Names that every tree has.
const NAMES: &[&[u8]] = &[
    b"with space",
    b"-dash",
    b"new\nline",
    b"\xc3\xa4\xc3\xb6\xc3\xbc",
    b"\xff\xfe not UTF-8",
    b"*?[]",
    b"'\"\\`$(x)",
    b"...",
    b"tab\there",
    b" leading and trailing ",
    b"\x01\x7f",
];

/// Makes a tree of `files` regular files (and symlinks, hard links, sparse files, empty folders) in
/// the new folder `root`. The same generator makes the same tree.
pub fn generate(root: &Path, files: usize, rng: &mut StdRng) -> io::Result<()> {
    fs::create_dir(root)?;
    let mut folders = vec![root.to_owned()];
    for number in 0..files / 20 + 4 {
        let parent = &folders[rng.random_range(0..folders.len())];
        let folder = parent.join(format!("folder{number}"));
        if folder.components().count() > root.components().count() + 12 {
            continue;
        }
        fs::create_dir(&folder)?;
        folders.push(folder);
    }
    let mut made: Vec<PathBuf> = Vec::new();
    for number in 0..files {
        let folder = &folders[rng.random_range(0..folders.len())];
        let path = folder.join(name(number));
        match SIZES.get(number) {
            Some(size) => write_random(&path, *size, rng)?,
            None if number % 97 == 0 => write_sparse(&path, rng)?,
            None if number % 31 == 0 && !made.is_empty() => {
                fs::hard_link(&made[rng.random_range(0..made.len())], &path)?;
            }
            None if number % 53 == 0 && !made.is_empty() => {
                // Equal files: their blocks have one name.
                fs::copy(&made[rng.random_range(0..made.len())], &path)?;
            }
            None => {
                let size = match rng.random_range(0..100) {
                    0..60 => rng.random_range(0..4_000),
                    60..95 => rng.random_range(4_000..40_000),
                    _ => rng.random_range(40_000..300_000),
                };
                write_random(&path, size, rng)?;
            }
        }
        made.push(path);
    }
    for number in 0..files / 50 + 3 {
        let path = folders[rng.random_range(0..folders.len())].join(format!("link{number}"));
        match number % 3 {
            0 => symlink(made[rng.random_range(0..made.len())].file_name().unwrap_or_default(), path)?,
            1 => symlink("/does/not/exist", path)?,
            _ => symlink("x".repeat(rng.random_range(1..2_000)), path)?,
        }
    }
    for path in made.iter().chain(&folders) {
        dress(path, rng)?;
    }
    Ok(())
}

/// The differences of two trees, for people; empty if they are equal in bytes, kinds, modes, owners,
/// times, sizes, link targets and hard links.
pub fn differences(left: &Path, right: &Path) -> Vec<String> {
    let diff = Command::new("diff").args(["-r", "--no-dereference"]).args([left, right]).output().expect("diff runs");
    let mut found: Vec<String> =
        [&diff.stdout, &diff.stderr].iter().flat_map(|text| text.split(|b| *b == b'\n')).take(20).map(lossy).collect();
    found.retain(|line| !line.is_empty());
    if !diff.status.success() && found.is_empty() {
        found.push(format!("diff ended with {}", diff.status));
    }
    match (survey(left), survey(right)) {
        (Ok(left), Ok(right)) => {
            for (path, one) in &left {
                match right.get(path) {
                    Some(other) if one == other => {}
                    other => found.push(format!("{}: {one:?} and {other:?}", path.display())),
                }
            }
            for path in right.keys().filter(|path| !left.contains_key(*path)) {
                found.push(format!("{}: only on the right", path.display()));
            }
        }
        (left, right) => found.extend(left.err().into_iter().chain(right.err()).map(|error| error.to_string())),
    }
    found
}

/// Fails with the differences, if there are any.
///
/// # Panics
/// If the trees differ.
pub fn assert_same(left: &Path, right: &Path, when: &str) {
    let found = differences(left, right);
    assert!(found.is_empty(), "{when}: {} differences:\n{}", found.len(), found[..found.len().min(20)].join("\n"));
}

/// `cp -a`; answers whether it ended with 0, and what it said.
pub fn copy(from: &Path, to: &Path) -> (bool, String) {
    let output = Command::new("cp").arg("-a").args([from, to]).output().expect("cp runs");
    (output.status.success(), lossy(&output.stderr))
}

#[derive(Debug, PartialEq, Eq)]
struct Traits {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    modified: (i64, i64),
    target: Option<OsString>,
    /// The first path of the same inode: equal trees group their hard links equally.
    same_as: PathBuf,
    links: u64,
}

fn survey(root: &Path) -> io::Result<BTreeMap<PathBuf, Traits>> {
    let (mut found, mut first) = (BTreeMap::new(), BTreeMap::new());
    let mut paths = vec![PathBuf::new()];
    while let Some(path) = paths.pop() {
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full)?;
        let is_folder = metadata.is_dir();
        if is_folder {
            let mut names: Vec<OsString> =
                fs::read_dir(&full)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
            names.sort();
            paths.extend(names.into_iter().rev().map(|name| path.join(name)));
        }
        let kind = match metadata.file_type() {
            kind if kind.is_file() => "file",
            kind if kind.is_dir() => "folder",
            kind if kind.is_symlink() => "symlink",
            _ => "other",
        };
        let same_as = first.entry(metadata.ino()).or_insert_with(|| path.clone()).clone();
        let traits = Traits {
            kind,
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            size: if is_folder { 0 } else { metadata.len() },
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            target: metadata.is_symlink().then(|| fs::read_link(&full).map(Into::into)).transpose()?,
            same_as: if is_folder { path.clone() } else { same_as },
            links: if is_folder { 0 } else { metadata.nlink() },
        };
        found.insert(path, traits);
    }
    Ok(found)
}

fn name(number: usize) -> OsString {
    match NAMES.get(number) {
        Some(bytes) => OsStr::from_bytes(bytes).to_owned(),
        None if number == NAMES.len() => OsString::from_vec(vec![b'n'; 255]),
        None => OsString::from(format!("file{number}")),
    }
}

fn write_random(path: &Path, size: usize, rng: &mut StdRng) -> io::Result<()> {
    let mut bytes = vec![0; size];
    rng.fill_bytes(&mut bytes);
    fs::write(path, bytes)
}

fn write_sparse(path: &Path, rng: &mut StdRng) -> io::Result<()> {
    let file = File::create(path)?;
    let mut bytes = vec![0; 5_000];
    for offset in [0, 700_000, 2_500_000] {
        rng.fill_bytes(&mut bytes);
        file.write_all_at(&bytes, offset)?;
    }
    file.set_len(4_000_000)
}

fn dress(path: &Path, rng: &mut StdRng) -> io::Result<()> {
    let is_folder = path.is_dir();
    let modes: &[u32] = if is_folder { &[0o755, 0o700, 0o1777] } else { &[0o644, 0o600, 0o755, 0o444, 0o4755] };
    fs::set_permissions(path, fs::Permissions::from_mode(modes[rng.random_range(0..modes.len())]))?;
    let age = Duration::new(rng.random_range(0..1_000_000_000), rng.random_range(0..1_000_000_000));
    File::open(path)?.set_modified(SystemTime::UNIX_EPOCH + age)
}

fn lossy(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_every_small_change_is_found() {
        let folder = tempfile::tempdir().expect("folder");
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        generate(&a, 120, &mut StdRng::seed_from_u64(1)).expect("tree");
        assert_eq!(copy(&a, &b), (true, String::new()));
        assert_same(&a, &b, "after the copy");
        let file = b.join("victim");
        fs::write(&file, b"x").expect("write");
        assert!(!differences(&a, &b).is_empty(), "one file more");
        fs::remove_file(&file).expect("unlink");
        let time = fs::metadata(&a).and_then(|m| m.modified()).expect("time");
        File::open(&b).and_then(|f| f.set_modified(time)).expect("time");
        assert_same(&a, &b, "again");
        fs::set_permissions(&b, fs::Permissions::from_mode(0o711)).expect("chmod");
        assert!(!differences(&a, &b).is_empty(), "another mode");
    }
}
