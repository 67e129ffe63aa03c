//! `cairnctl leases` and `cairnctl session …`: who may cache what, and mounts that must go. Field
//! names of the JSON are part of the interface: fields are added, never renamed.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use cairn_common::ids::SessionId;
use cairn_common::protocol::admin::{LeaseReport, LeasesOf, SessionLeaseStatus};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::error::ControlError;
use crate::node::{STATUS_WAIT, Target};
use crate::output;
use crate::report::json_text;

/// `cairnctl leases`
#[derive(Args)]
pub(crate) struct LeasesArguments {
    #[command(flatten)]
    target: Target,
    /// Who holds this path, counted from the root of the file system.
    #[arg(long, value_name = "PATH", conflicts_with = "session")]
    path: Option<PathBuf>,
    /// What this session holds.
    #[arg(long, value_name = "N")]
    session: Option<u64>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// `cairnctl session …`
#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions of mounts with their leases.
    List {
        #[command(flatten)]
        target: Target,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// End a session. Its mount is told at its next keep-alive and serves nothing any more; what it has
    /// not written is lost. Takes up to the exclusive lease when the mount is silent.
    Evict {
        #[command(flatten)]
        target: Target,
        /// The number that `session list` shows.
        #[arg(long, value_name = "N")]
        session: u64,
    },
}

/// Leases, for people and for JSON.
#[derive(Serialize)]
struct Leases {
    /// Shared leases of all sessions.
    leases: u64,
    /// Inodes that changes under way pin.
    pinned: u64,
    /// Recalls that are not answered.
    recalls: u64,
    /// The sessions asked for.
    sessions: Vec<SessionLeases>,
    /// Of a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<InodeLeases>,
    /// Inodes on which the session has a shared lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<Vec<u64>>,
    /// Files that the session holds exclusively.
    #[serde(skip_serializing_if = "Option::is_none")]
    exclusive: Option<Vec<u64>>,
}

#[derive(Serialize)]
struct SessionLeases {
    session: u64,
    client: String,
    silent_ms: Option<u64>,
    open_files: u64,
    checked_in: bool,
    valid_ms: u64,
    shared: u64,
    exclusive: u64,
    recalls: u64,
}

#[derive(Serialize)]
struct InodeLeases {
    inode: u64,
    shared: Vec<u64>,
    exclusive: Option<u64>,
    pinned: bool,
    contended: bool,
}

impl Leases {
    fn of(report: LeaseReport, one_session: bool) -> Self {
        let held = |exclusive: bool| {
            let of_kind = report.held.iter().filter(|lease| lease.exclusive == exclusive);
            one_session.then(|| of_kind.map(|lease| lease.inode.0).collect())
        };
        let (shared, exclusive) = (held(false), held(true));
        Self {
            leases: report.leases,
            pinned: report.pinned,
            recalls: report.recalls,
            sessions: report.sessions.into_iter().map(SessionLeases::of).collect(),
            inode: report.inode.map(|inode| InodeLeases {
                inode: inode.inode.0,
                shared: inode.shared.iter().map(|session| session.0).collect(),
                exclusive: inode.exclusive.map(|session| session.0),
                pinned: inode.pinned,
                contended: inode.contended,
            }),
            shared,
            exclusive,
        }
    }
}

impl SessionLeases {
    fn of(status: SessionLeaseStatus) -> Self {
        Self {
            session: status.session.0,
            client: status.client,
            silent_ms: status.silent_ms,
            open_files: status.open_files,
            checked_in: status.checked_in,
            valid_ms: status.valid_ms,
            shared: status.shared,
            exclusive: status.exclusive,
            recalls: status.recalls,
        }
    }
}

impl fmt::Display for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(inode) = &self.inode {
            write!(f, "inode {}: ", inode.inode)?;
            match (inode.exclusive, inode.shared.is_empty()) {
                (Some(session), _) => write!(f, "session {session} holds it exclusively")?,
                (None, true) => write!(f, "nobody holds it")?,
                (None, false) => write!(f, "shared by {}", list(&inode.shared))?,
            }
            let more =
                [(inode.pinned, ", pinned by a change"), (inode.contended, ", contended: not granted for a while")];
            more.into_iter().filter(|(is, _)| *is).try_for_each(|(_, text)| f.write_str(text))?;
            return Ok(());
        }
        let (leases, pinned, recalls) = (self.leases, self.pinned, self.recalls);
        writeln!(f, "{leases} shared leases, {pinned} inodes pinned, {recalls} recalls unanswered")?;
        for session in &self.sessions {
            writeln!(f, "{session}")?;
        }
        for (what, inodes) in [("exclusive", &self.exclusive), ("shared", &self.shared)] {
            if let Some(inodes) = inodes {
                writeln!(f, "{what}: {}", list(inodes))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for SessionLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let silent = self.silent_ms.map_or("?".to_owned(), |silent| format!("{:.1}s", silent as f64 / 1000.0));
        let mut line = format!("session {:<4} {}  silent {silent}", self.session, self.client);
        let (open, shared, exclusive) = (self.open_files, self.shared, self.exclusive);
        write!(line, "  {open} open  {shared} shared  {exclusive} exclusive")?;
        match (self.checked_in, self.valid_ms) {
            (false, _) => line.push_str("  not checked in"),
            (true, 0) => line.push_str("  leases over"),
            (true, valid) => write!(line, "  valid {valid} ms")?,
        }
        if self.recalls > 0 {
            write!(line, "  {} recalls unanswered", self.recalls)?;
        }
        f.write_str(&line)
    }
}

/// Numbers, or a dash.
fn list(numbers: &[u64]) -> String {
    if numbers.is_empty() {
        return "-".to_owned();
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// Prints leases.
pub(crate) async fn show(arguments: &LeasesArguments) -> Result<(), ControlError> {
    let of = match (&arguments.path, arguments.session) {
        (Some(path), _) => LeasesOf::Path(path.as_os_str().as_encoded_bytes().to_vec()),
        (None, Some(session)) => LeasesOf::Session(SessionId(session)),
        (None, None) => LeasesOf::Cluster,
    };
    let report = arguments.target.client()?.leases(&of, STATUS_WAIT).await?;
    let leases = Leases::of(report, arguments.session.is_some());
    if arguments.json {
        output::line(json_text(&leases));
    } else {
        output::line(leases.to_string().trim_end());
    }
    Ok(())
}

/// Runs a `session` command.
pub(crate) async fn run(command: &SessionCommand) -> Result<(), ControlError> {
    match command {
        SessionCommand::List { target, json } => {
            let report = target.client()?.leases(&LeasesOf::Cluster, STATUS_WAIT).await?;
            let sessions = Leases::of(report, false).sessions;
            if *json {
                output::line(json_text(&sessions));
            } else {
                sessions.iter().for_each(output::line);
            }
            Ok(())
        }
        SessionCommand::Evict { target, session } => {
            let client = target.client()?;
            let (leader, _) = client.status(STATUS_WAIT).await?;
            client.evict(leader, SessionId(*session)).await?;
            output::line(format!("session {session} is ended"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_common::ids::InodeId;
    use cairn_common::protocol::admin::{HeldLease, InodeLeaseStatus};

    use super::*;

    fn session() -> SessionLeaseStatus {
        SessionLeaseStatus {
            session: SessionId(7),
            client: "host:/mnt".into(),
            silent_ms: Some(120),
            open_files: 2,
            checked_in: true,
            valid_ms: 900,
            shared: 2,
            exclusive: 1,
            recalls: 1,
        }
    }

    #[test]
    fn a_session_is_shown_with_all_that_it_holds() {
        let held = [(5, false), (6, true), (9, false)];
        let held = held.map(|(inode, exclusive)| HeldLease { inode: InodeId(inode), exclusive }).to_vec();
        let report = LeaseReport { leases: 2, pinned: 0, recalls: 1, sessions: vec![session()], inode: None, held };
        let leases = Leases::of(report, true);
        let text = "2 shared leases, 0 inodes pinned, 1 recalls unanswered\n\
            session 7    host:/mnt  silent 0.1s  2 open  2 shared  1 exclusive  valid 900 ms  1 recalls unanswered\n\
            exclusive: 6\nshared: 5 9\n";
        assert_eq!(leases.to_string(), text);
        let json: serde_json::Value = serde_json::from_str(&json_text(&leases)).unwrap();
        assert_eq!((&json["exclusive"], &json["sessions"][0]["session"]), (&serde_json::json!([6]), &7.into()));
    }

    #[test]
    fn a_path_is_shown_with_its_holders() {
        let inode = InodeLeaseStatus {
            inode: InodeId(5),
            shared: vec![SessionId(1), SessionId(2)],
            exclusive: None,
            pinned: false,
            contended: true,
        };
        let report = LeaseReport { inode: Some(inode), ..LeaseReport::default() };
        let text = "inode 5: shared by 1 2, contended: not granted for a while";
        assert_eq!(Leases::of(report, false).to_string(), text);
    }
}
