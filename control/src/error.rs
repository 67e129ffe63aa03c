//! What can go wrong in `cairnctl`. Every message names the server or file, what was tried, and what
//! to do next. No variant holds a bare text without its context.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use cairn_common::config::ConfigError;
use cairn_common::durable_file::DurableFileError;
use cairn_common::identity::IdentityError;
use cairn_common::protocol::ServiceError;
use cairn_common::transport::quic::QuicError;

/// A command that was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// The verb: "read", "write", "create".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file of ours is not as we write it.
    #[error("{} is not valid: {reason}. Put it back from a copy, or start with an empty folder.", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder holds something else.
    #[error("{} is not empty and holds no cluster. Name an empty or new folder with --data.", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// No dev cluster there.
    #[error(
        "there is no local cluster in {}. Start one with: cairnctl dev up --data {} --mount DIR",
        path.display(),
        path.display()
    )]
    NoCluster {
        /// The folder.
        path: PathBuf,
    },
    /// A number of servers or replicas that cannot be.
    #[error("--{flag} {asked} is not possible: {rule}")]
    BadSize {
        /// The flag.
        flag: &'static str,
        /// Its value.
        asked: u64,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A flag contradicts what the cluster was made with.
    #[error(
        "the cluster in {} was made with --{flag} {kept}, not {asked}. Leave --{flag} out to go on with it, or \
         name another --data folder for a new cluster.",
        path.display()
    )]
    Contradiction {
        /// The flag.
        flag: &'static str,
        /// What the cluster has.
        kept: u64,
        /// What was asked.
        asked: u64,
        /// The cluster's folder.
        path: PathBuf,
    },
    /// Another `cairnctl` works on the same folder.
    #[error("another cairnctl works on {} for more than {}s. Wait for it, or end it.", path.display(), waited.as_secs())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// A program of Cairn is not beside this one.
    #[error("{} is missing. Build it into the same folder as cairnctl: cargo build --release --locked", path.display())]
    NoProgram {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A port of the cluster is taken by a stranger.
    #[error(
        "{name} cannot start: {address} is used by another program ({source}). Find it with \
         `ss -ulnp 'sport = :{}'` and end it; the cluster keeps its addresses.",
        address.port()
    )]
    PortTaken {
        /// The server.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// No free ports were found.
    #[error("no {wanted} free ports on {host} between {low} and {high}: end some programs and try again")]
    NoPorts {
        /// Where.
        host: IpAddr,
        /// How many are needed.
        wanted: usize,
        /// Where the search began.
        low: u16,
        /// Where it ended.
        high: u16,
    },
    /// A program could not be started.
    #[error("cannot start {name} ({}): {source}", program.display())]
    Spawn {
        /// The server.
        name: String,
        /// Its program.
        program: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// `cairn-meta format` failed.
    #[error("cannot format the data folder of {name}: {reason}")]
    Format {
        /// The server.
        name: String,
        /// What it printed.
        reason: String,
    },
    /// Servers ended or did not become ready.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
    NotReady(Vec<Failure>),
    /// Something could not be stopped.
    #[error("{name} (pid {pid}) is still there after SIGKILL: the kernel holds it. See /proc/{pid}/stack.")]
    Unkillable {
        /// The server.
        name: String,
        /// Its process.
        pid: u32,
    },
    /// The mount point cannot be used.
    #[error("cannot mount on {}: {reason}", path.display())]
    MountPoint {
        /// The directory.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// Nobody of the metadata servers gave the answer.
    #[error(
        "{asked}: no metadata server gave an answer.\n{}\nSee whether a majority of them runs, and their logs.",
        tried.iter().map(|(address, reason)| format!("  {address}: {reason}")).collect::<Vec<_>>().join("\n")
    )]
    NoAnswer {
        /// What was asked.
        asked: &'static str,
        /// Whom, and what came of it.
        tried: Vec<(SocketAddr, String)>,
    },
    /// The leader did not do it.
    #[error("the leader {address} did not {asked}: {error}")]
    Refused {
        /// The leader.
        address: SocketAddr,
        /// What was asked.
        asked: &'static str,
        /// Its reason.
        error: ServiceError,
    },
    /// The leader answered something else than asked.
    #[error("the leader {address} answered {asked} with another message: it runs another version than this cairnctl")]
    WrongAnswer {
        /// The leader.
        address: SocketAddr,
        /// What was asked.
        asked: &'static str,
    },
    /// No server of that name.
    #[error("there is no metadata server {name} in this cluster; there are: {known}")]
    NoSuchServer {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A certificate authority is there already.
    #[error("{} holds a cluster's authority already. Use `cairnctl cluster issue`, or name a new folder.", path.display())]
    AuthorityExists {
        /// The folder.
        path: PathBuf,
    },
    /// An identity is there already.
    #[error("{} is there already. Move it away to issue {name} anew.", path.display())]
    IdentityExists {
        /// The name of the identity.
        name: String,
        /// Its certificate.
        path: PathBuf,
    },
    /// A server that must be down is up.
    #[error("{name} runs (pid {pid}). Only a lost server is replaced: stop it first.")]
    StillRunning {
        /// The server.
        name: String,
        /// Its process.
        pid: u32,
    },
    /// A folder that must be empty is not.
    #[error(
        "the data folder of {name}, {}, is not empty, so {name} may not be lost: try `cairnctl dev up` first. If it \
         is lost indeed, move the folder away and call this again.",
        path.display()
    )]
    FolderInUse {
        /// The server.
        name: String,
        /// Its folder.
        path: PathBuf,
    },
    /// An argument that does not parse.
    #[error("{what} {given:?} is not valid: {rule}")]
    BadArgument {
        /// What it stands for.
        what: &'static str,
        /// The text.
        given: String,
        /// What is expected.
        rule: &'static str,
    },
    /// A file could not be made durable.
    #[error(transparent)]
    Durable(#[from] DurableFileError),
    /// The administrator's configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The transport could not be set up.
    #[error("cannot open the administrator's connection: {0}")]
    Transport(#[from] QuicError),
}

/// A server that did not become ready, with the end of its log.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The server, or "the cluster".
    pub(crate) name: String,
    /// What was waited for and what came instead.
    pub(crate) reason: String,
    /// Its log.
    pub(crate) log: Option<PathBuf>,
    /// The last lines of the log.
    pub(crate) last_lines: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)?;
        if let Some(log) = &self.log {
            write!(f, "\n  the end of {}:", log.display())?;
            for line in &self.last_lines {
                write!(f, "\n    {line}")?;
            }
            if self.last_lines.is_empty() {
                write!(f, "\n    (nothing)")?;
            }
        }
        Ok(())
    }
}

/// Adds the file and the verb to an IO error.
pub(crate) trait FileContext<T> {
    /// Names what was done to which file.
    fn doing(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, ControlError>;
}

impl<T> FileContext<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, ControlError> {
        self.map_err(|source| ControlError::File { doing, path: path.into(), source })
    }
}
