//! The state of a cluster as `cairnctl` shows it: one structure for people and for JSON, filled from
//! what the leader knows and, for a local cluster, from its processes. Field names are part of the
//! interface (`docs/testing.md`): fields are added, never renamed.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use cairn_common::protocol::admin::{ChunkStatus, ClusterStatus, MetadataStatus, NodeState, SessionStatus};
use cairn_common::protocol::write_reserve::ReserveStatus;
use serde::Serialize;

use crate::output;

/// What is known of a cluster. What nobody could say is null in JSON and "?" in text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The cluster's UUID.
    pub(crate) cluster: Option<String>,
    /// Name of the leading metadata server.
    pub(crate) leader: Option<String>,
    /// Raft term.
    pub(crate) term: Option<u64>,
    /// Last Raft entry applied by the leader.
    pub(crate) applied_index: Option<u64>,
    /// Feature level in force.
    pub(crate) feature_level: Option<u32>,
    /// Epoch of the partition table.
    pub(crate) table_epoch: Option<u64>,
    /// Partitions on their way to other owners.
    pub(crate) moving_partitions: Option<u64>,
    /// Replicas of the default pool.
    pub(crate) replicas: Option<u8>,
    /// Blocks with a missing or damaged replica.
    pub(crate) under_replicated: Option<u64>,
    /// What mounts may acknowledge before it is committed.
    pub(crate) write_reserve: Option<ReserveView>,
    /// All servers.
    pub(crate) nodes: Vec<NodeReport>,
    /// Mounts of a local cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mounts: Option<Vec<MountReport>>,
    /// Sessions that the leader knows.
    pub(crate) sessions: Vec<SessionReport>,
    /// Why the leader's part is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

/// The write reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ReserveView {
    /// What all mounts together may hold; null while the leader has not heard from all disks.
    pub(crate) budget_bytes: Option<u64>,
    /// What they hold, or may believe to hold.
    pub(crate) granted_bytes: u64,
    /// So many disks are full that mounts buffer nothing, and writes may fail with ENOSPC.
    pub(crate) full: bool,
    /// Mounts that have met full disks.
    pub(crate) full_mounts: u32,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NodeReport {
    /// Its name.
    pub(crate) name: String,
    /// "metadata" or "chunk".
    pub(crate) role: &'static str,
    /// "up", "down", "degraded", "learner" or "starting".
    pub(crate) state: &'static str,
    /// Its number in the cluster.
    pub(crate) node: Option<u64>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its process, in a local cluster.
    pub(crate) pid: Option<u32>,
    /// Raft entries that a metadata server is behind.
    pub(crate) lag_entries: Option<u64>,
    /// How far its clock is ahead of the leader's.
    pub(crate) clock_skew_ms: Option<i64>,
    /// A chunk server's failure domain.
    pub(crate) failure_domain: Option<String>,
    /// Time since a chunk server's last report.
    pub(crate) silent_ms: Option<u64>,
    /// A chunk server's disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) disks: Vec<DiskView>,
}

/// A disk of a chunk server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DiskView {
    /// Its number in the cluster.
    pub(crate) disk: u32,
    /// Its capacity.
    pub(crate) capacity_bytes: u64,
    /// What is free of it.
    pub(crate) free_bytes: u64,
    /// Blocks on it.
    pub(crate) blocks: u64,
    /// Blocks found damaged and not repaired yet.
    pub(crate) damaged_blocks: u64,
    /// What failed, if something did.
    pub(crate) failure: Option<String>,
}

/// A mount of a local cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MountReport {
    /// Its name.
    pub(crate) name: String,
    /// Its mount point.
    pub(crate) path: PathBuf,
    /// "up", "starting", "dead" (killed, its mount point is left over) or "down".
    pub(crate) state: &'static str,
    /// Its process.
    pub(crate) pid: Option<u32>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SessionReport {
    /// Its number.
    pub(crate) session: u64,
    /// Host and mount point.
    pub(crate) client: String,
    /// Time since its last sign of life.
    pub(crate) silent_ms: Option<u64>,
    /// Files that it has open.
    pub(crate) open_files: u64,
}

impl Report {
    /// What the leader says.
    pub(crate) fn of(status: &ClusterStatus) -> Self {
        let mut nodes: Vec<_> = status.metadata.iter().map(NodeReport::metadata).collect();
        nodes.extend(status.chunk.iter().map(NodeReport::chunk));
        nodes.sort_by(|a, b| (b.role, &a.name, a.node).cmp(&(a.role, &b.name, b.node)));
        let leader = status.metadata.iter().find(|server| server.member.node == status.leader);
        Self {
            cluster: Some(status.cluster.to_string()),
            leader: leader.map(|server| server.member.name.clone()),
            term: Some(status.term),
            applied_index: Some(status.applied_index),
            feature_level: Some(status.feature_level),
            table_epoch: Some(status.table.0),
            moving_partitions: Some(status.moving_partitions),
            replicas: Some(status.replicas),
            under_replicated: Some(status.under_replicated_blocks),
            write_reserve: Some(ReserveView::of(status.write_reserve)),
            nodes,
            mounts: None,
            sessions: status.sessions.iter().map(SessionReport::of).collect(),
            problem: None,
        }
    }

    /// Only the servers, as text: `node list`.
    pub(crate) fn node_list(&self) -> String {
        let mut out = String::new();
        // Writing into a String does not fail.
        let _ = self.write_nodes(&mut out);
        out
    }

    fn write_nodes(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        let width = self.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
        for node in &self.nodes {
            write!(f, "  {:width$}  {:8}  {:8}  {}", node.name, node.role, node.state, node.address)?;
            if let Some(pid) = node.pid {
                write!(f, "  pid {pid}")?;
            }
            if let Some(lag) = node.lag_entries {
                write!(f, "  {lag} entries behind")?;
            }
            if let Some(skew) = node.clock_skew_ms {
                write!(f, "  clock {skew:+} ms")?;
            }
            if !node.disks.is_empty() {
                let sum = |of: fn(&DiskView) -> u64| node.disks.iter().map(of).sum::<u64>();
                let (free, capacity) = (sum(|d| d.free_bytes), sum(|d| d.capacity_bytes));
                write!(f, "  {} of {} free, {} blocks", bytes(free), bytes(capacity), sum(|d| d.blocks))?;
                match sum(|d| d.damaged_blocks) {
                    0 => {}
                    damaged => write!(f, ", {damaged} damaged")?,
                }
            }
            writeln!(f)?;
            for (disk, failure) in node.disks.iter().filter_map(|d| Some((d.disk, d.failure.as_ref()?))) {
                writeln!(f, "  {:width$}  disk {disk} failed: {failure}", "")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
        let number = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        writeln!(f, "cluster   {}", text(&self.cluster))?;
        let leader = self.leader.clone().unwrap_or_else(|| "none".to_owned());
        writeln!(
            f,
            "leader    {leader}, term {}, entry {}, feature level {}",
            number(self.term),
            number(self.applied_index),
            number(self.feature_level.map(u64::from))
        )?;
        writeln!(
            f,
            "data      {} replicas, {} blocks under-replicated, table {}, {} partitions moving",
            number(self.replicas.map(u64::from)),
            number(self.under_replicated),
            number(self.table_epoch),
            number(self.moving_partitions)
        )?;
        if let Some(reserve) = &self.write_reserve {
            reserve.write(f)?;
        }
        writeln!(f, "servers")?;
        self.write_nodes(f)?;
        if let Some(mounts) = &self.mounts {
            writeln!(f, "mounts{}", if mounts.is_empty() { "    none" } else { "" })?;
            for mount in mounts {
                let pid = mount.pid.map_or_else(String::new, |pid| format!("  pid {pid}"));
                writeln!(f, "  {}  {:8}  {}{pid}", mount.name, mount.state, mount.path.display())?;
            }
        }
        writeln!(f, "sessions{}", if self.sessions.is_empty() { "  none" } else { "" })?;
        for session in &self.sessions {
            write!(f, "  {}  {}, {} files open", session.session, session.client, session.open_files)?;
            match session.silent_ms {
                Some(silent) => writeln!(f, ", heard {:.1}s ago", silent as f64 / 1000.0)?,
                None => writeln!(f, ", not heard since the leader changed")?,
            }
        }
        match &self.problem {
            Some(problem) => writeln!(f, "problem   {problem}"),
            None => Ok(()),
        }
    }
}

impl ReserveView {
    fn of(status: ReserveStatus) -> Self {
        let ReserveStatus { budget_bytes, granted_bytes, full, full_mounts } = status;
        Self { budget_bytes, granted_bytes, full, full_mounts }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let budget = self.budget_bytes.map_or_else(|| "?".to_owned(), bytes);
        writeln!(f, "reserve   {} of {budget} given to mounts", bytes(self.granted_bytes))?;
        if self.full || self.full_mounts > 0 {
            writeln!(
                f,
                "FULL      the disks are full, or too few of them report ({} mounts have met that): writes are slow and may \
                 fail with ENOSPC. Add disks or chunk servers. Space of deleted files is not given back yet: blocks are \
                 not collected in this version",
                self.full_mounts
            )?;
        }
        Ok(())
    }
}

impl NodeReport {
    /// A server of which only the address is known.
    pub(crate) fn unknown(name: String, role: &'static str, node: Option<u64>, address: SocketAddr) -> Self {
        Self {
            name,
            role,
            state: NodeState::Down.as_str(),
            node,
            address,
            pid: None,
            lag_entries: None,
            clock_skew_ms: None,
            failure_domain: None,
            silent_ms: None,
            disks: Vec::new(),
        }
    }

    fn metadata(status: &MetadataStatus) -> Self {
        let member = &status.member;
        Self {
            state: status.state.as_str(),
            lag_entries: status.lag_entries,
            clock_skew_ms: status.clock_skew_ms,
            ..Self::unknown(member.name.clone(), "metadata", Some(member.node.0), member.address)
        }
    }

    fn chunk(status: &ChunkStatus) -> Self {
        let disks = status.disks.iter().map(|disk| DiskView {
            disk: disk.disk.0,
            capacity_bytes: disk.capacity_bytes,
            free_bytes: disk.free_bytes,
            blocks: disk.blocks,
            damaged_blocks: disk.damaged_blocks,
            failure: disk.failure.clone(),
        });
        Self {
            state: status.state.as_str(),
            failure_domain: Some(status.failure_domain.clone()),
            silent_ms: status.silent_ms,
            disks: disks.collect(),
            ..Self::unknown(status.name.clone(), "chunk", Some(u64::from(status.node.0)), status.address)
        }
    }
}

impl SessionReport {
    fn of(status: &SessionStatus) -> Self {
        Self {
            session: status.session.0,
            client: status.client.clone(),
            silent_ms: status.silent_ms,
            open_files: status.open_files,
        }
    }
}

/// A size for people, in powers of 1024.
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            return format!("{value:.*} {unit}", usize::from(unit != "B"));
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

/// Prints for people or for programs.
pub(crate) fn print(report: &Report, json: bool) {
    if json {
        output::line(json_text(report));
    } else {
        output::line(report.to_string().trim_end());
    }
}

/// Pretty JSON. Every key is a string and every value a plain one, so encoding does not fail.
pub(crate) fn json_text(value: &impl Serialize) -> String {
    let mut out = String::new();
    match serde_json::to_string_pretty(value) {
        Ok(text) => out = text,
        Err(error) => {
            let _ = write!(out, "{{\"problem\": \"{error}\"}}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_cluster_has_a_null_leader_in_json() {
        let address = SocketAddr::from(([127, 0, 0, 1], 7001));
        let report = Report {
            nodes: vec![NodeReport::unknown("meta1".to_owned(), "metadata", Some(1), address)],
            mounts: Some(Vec::new()),
            ..Report::default()
        };
        let json: serde_json::Value = serde_json::from_str(&json_text(&report)).unwrap();
        assert!(json["leader"].is_null() && json["under_replicated"].is_null());
        assert_eq!(json["nodes"][0]["state"], "down");
        assert_eq!(json["nodes"][0]["address"], "127.0.0.1:7001");
        assert!(json["mounts"].as_array().unwrap().is_empty());
        assert!(report.to_string().contains("leader    none"));
    }

    #[test]
    fn a_full_cluster_says_what_to_do() {
        let view = ReserveView { budget_bytes: Some(0), granted_bytes: 1024, full: true, full_mounts: 2 };
        let text = |view| Report { write_reserve: Some(view), ..Report::default() }.to_string();
        let full = text(view);
        for part in ["1.0 KiB of 0 B", "FULL", "2 mounts", "Add disks", "not given back"] {
            assert!(full.contains(part), "{part} is missing in: {full}");
        }
        let well = text(ReserveView { budget_bytes: Some(1 << 30), full: false, full_mounts: 0, ..view });
        assert!(well.contains("1.0 KiB of 1.0 GiB") && !well.contains("FULL"), "{well}");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(5 << 40)], ["0 B", "1023 B", "1.5 KiB", "5.0 TiB"]);
    }
}
