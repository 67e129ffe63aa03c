//! The data folder of a chunk server and its disk folders: whose they are, and that no two processes
//! use one. It formats what is empty, refuses what is broken, and never makes a disk anew that should
//! be there: a wiped or unmounted disk must not be believed to hold what it held.
//!
//! Durability: everything is written through `durable_file`; `identity.toml` is written last, so that
//! an interrupted format is begun again.

pub mod data_folder;
pub mod disk_folder;
mod identity_file;
mod lock;

pub use data_folder::{DataFolder, DiskState, KnownDisk};

use std::path::PathBuf;

use cairn_common::durable_file::DurableFileError;

/// A folder that cannot be used. Every text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has the folder.
    #[error("{path} is in use by another process; end that one first")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A durable write or read failed.
    #[error(transparent)]
    File(#[from] DurableFileError),
    /// The identity file is there and cannot be understood.
    #[error(
        "{path} is broken: {reason}. Restore the file from a backup. If it is lost, empty this server's data and disk \
         folders: the server starts as a new one, and the cluster copies its blocks again"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder is somebody else's.
    #[error("{path} belongs to {owner}, not to {expected}; check `data` and `disks` in the configuration")]
    Foreign {
        /// The file that says so.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who was started.
        expected: String,
    },
    /// The data folder is empty and a disk folder is not.
    #[error(
        "{disk} holds blocks, but {data} has no identity: the data folder was lost or is not mounted. Give it back, or \
         empty {disk} to start as a new server"
    )]
    Orphaned {
        /// The disk folder.
        disk: PathBuf,
        /// The data folder.
        data: PathBuf,
    },
}
