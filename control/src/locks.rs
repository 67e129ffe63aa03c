//! `cairnctl locks`: locks of files, who has them and who waits. Field names of the JSON are part of the
//! interface: fields are added, never renamed.

use std::fmt;
use std::path::PathBuf;

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::protocol::admin::LockReport;
use cairn_common::protocol::locks::{LockKind, LockOwner, LockRange};
use clap::Args;
use serde::Serialize;

use crate::error::ControlError;
use crate::node::{STATUS_WAIT, Target};
use crate::output;
use crate::report::json_text;

/// `cairnctl locks`
#[derive(Args)]
pub(crate) struct LocksArguments {
    #[command(flatten)]
    target: Target,
    /// Of this path, counted from the root of the file system.
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// Locks, for people and for JSON.
#[derive(Serialize)]
struct Locks {
    held: Vec<Lock>,
    /// First come first.
    waiting: Vec<Lock>,
    /// There are more than are shown.
    more: bool,
}

#[derive(Serialize)]
struct Lock {
    inode: u64,
    session: u64,
    client: String,
    kind: &'static str,
    write: bool,
    start: u64,
    /// The last byte; absent: to the end of the file, wherever that is.
    end: Option<u64>,
    /// The process, on its own machine.
    pid: u32,
}

impl Locks {
    fn of(report: LockReport) -> Self {
        let client = |session: SessionId| {
            let known = report.clients.iter().find(|(known, _)| *known == session);
            known.map_or_else(|| "?".to_owned(), |(_, client)| client.clone())
        };
        let lock = |inode: InodeId, session: SessionId, owner: LockOwner, range: LockRange, write, pid| Lock {
            inode: inode.0,
            session: session.0,
            client: client(session),
            kind: kind(owner.kind),
            write,
            start: range.start,
            end: (range.end != LockRange::LAST).then_some(range.end),
            pid,
        };
        Self {
            held: report
                .held
                .iter()
                .map(|(inode, held)| lock(*inode, held.session, held.owner, held.range, held.write, held.pid))
                .collect(),
            waiting: report
                .waiting
                .iter()
                .map(|(session, wanted)| {
                    lock(wanted.inode, *session, wanted.owner, wanted.range, wanted.write, wanted.pid)
                })
                .collect(),
            more: report.more,
        }
    }
}

fn kind(kind: LockKind) -> &'static str {
    match kind {
        LockKind::Posix => "posix",
        LockKind::Ofd => "ofd",
        LockKind::Flock => "flock",
        LockKind::Unseen => "unseen",
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.write { "write" } else { "read" };
        write!(f, "inode {}  {} {what}  bytes {} to ", self.inode, self.kind, self.start)?;
        match self.end {
            Some(end) => write!(f, "{end}")?,
            None => f.write_str("the end")?,
        }
        write!(f, "  session {}  {}  process {}", self.session, self.client, self.pid)
    }
}

impl fmt::Display for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} locks are held, {} are waited for", self.held.len(), self.waiting.len())?;
        self.held.iter().try_for_each(|lock| writeln!(f, "held     {lock}"))?;
        self.waiting.iter().try_for_each(|lock| writeln!(f, "waiting  {lock}"))?;
        if self.more { writeln!(f, "and more: ask for one path") } else { Ok(()) }
    }
}

/// Prints locks.
pub(crate) async fn show(arguments: &LocksArguments) -> Result<(), ControlError> {
    let path = arguments.path.as_ref().map(|path| path.as_os_str().as_encoded_bytes().to_vec());
    let locks = Locks::of(arguments.target.client()?.locks(path, STATUS_WAIT).await?);
    if arguments.json {
        output::line(json_text(&locks));
    } else {
        output::line(locks.to_string().trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_common::protocol::locks::{HeldLock, LockRequest};

    use super::*;

    #[test]
    fn locks_are_shown_with_who_has_them_and_who_waits() {
        let owner = LockOwner { kind: LockKind::Posix, id: 5 };
        let range = LockRange { start: 10, end: 19 };
        let held = HeldLock { session: SessionId(1), owner, range, write: true, pid: 77 };
        let whole = LockRange::WHOLE;
        let wanted = LockRequest { inode: InodeId(9), owner, range: whole, write: false, pid: 78 };
        let report = LockReport {
            held: vec![(InodeId(9), held)],
            waiting: vec![(SessionId(2), wanted)],
            clients: vec![(SessionId(1), "a:/m".into()), (SessionId(2), "b:/m".into())],
            more: false,
        };
        let locks = Locks::of(report);
        let text = "1 locks are held, 1 are waited for\n\
            held     inode 9  posix write  bytes 10 to 19  session 1  a:/m  process 77\n\
            waiting  inode 9  posix read  bytes 0 to the end  session 2  b:/m  process 78\n";
        assert_eq!(locks.to_string(), text);
        let json: serde_json::Value = serde_json::from_str(&json_text(&locks)).unwrap();
        assert_eq!((&json["held"][0]["end"], &json["waiting"][0]["end"]), (&19.into(), &serde_json::Value::Null));
    }
}
