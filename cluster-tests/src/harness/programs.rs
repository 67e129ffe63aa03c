//! Finds the programs under test: those of the same build as the running test.

use std::path::PathBuf;

/// Path of a program of this build (`cairnctl`, `cairn-meta`, …), next to the folder of the test.
///
/// # Panics
/// If it was not built: the message says how.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its program");
    let folder = own.ancestors().nth(2).expect("tests run from target/PROFILE/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built; first run: cargo build --release --workspace --bins", path.display());
    path
}
