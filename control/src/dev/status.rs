//! `dev status`: what the leader says, corrected by which processes run. Takes at most about two
//! seconds, whatever is dead.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::admin_client;
use super::layout::Layout;
use super::mount_point::is_mounted;
use super::process::running;
use super::settings::{MountEntry, Settings};
use crate::error::ControlError;
use crate::report::{MountReport, NodeReport, Report, print};

/// A server that does not answer within this time is not waited for.
const ANSWER_WAIT: Duration = Duration::from_millis(1800);

/// Prints the state of the cluster in `data`.
pub(crate) async fn status(data: &Path, json: bool) -> Result<(), ControlError> {
    let layout = Layout::open(data)?;
    let settings = Settings::load(&layout)?;
    print(&report(&layout, &settings).await?, json);
    Ok(())
}

/// The state of a local cluster.
pub(crate) async fn report(layout: &Layout, settings: &Settings) -> Result<Report, ControlError> {
    let (mut report, answering) = ask(layout, settings).await?;
    let seen = std::mem::take(&mut report.nodes);
    let has_leader = report.leader.is_some();
    let mut used = HashSet::new();
    let metadata = settings.metadata.iter().map(|s| (&s.name, "metadata", Some(s.node), s.address));
    let chunk = settings.chunk.iter().map(|s| (&s.name, "chunk", None, s.address));
    for (name, role, node, address) in metadata.chain(chunk) {
        let index = best_match(&seen, name, role);
        let mut entry = match index {
            Some(index) => seen[index].clone(),
            None => NodeReport::unknown(name.clone(), role, node, address),
        };
        used.extend(index);
        entry.pid = running(layout, name);
        entry.state = match (entry.pid, role) {
            (None, _) => "down",
            (Some(_), _) if has_leader && index.is_some() => entry.state,
            (Some(_), "metadata") if answering.contains(&address) => "up",
            (Some(_), "chunk") if !has_leader => "unknown",
            (Some(_), _) => "starting",
        };
        report.nodes.push(entry);
    }
    // Servers that the group knows from a former life of a folder: they do not come back.
    for (_, old) in seen.into_iter().enumerate().filter(|(index, _)| !used.contains(index)) {
        let name = format!("{} (node {})", old.name, old.node.unwrap_or_default());
        report.nodes.push(NodeReport { name, state: "lost", ..old });
    }
    report.mounts = Some(settings.mount.iter().map(|mount| mount_report(layout, mount)).collect());
    Ok(report)
}

/// The leader's report, and the metadata servers that answered at all.
async fn ask(layout: &Layout, settings: &Settings) -> Result<(Report, HashSet<SocketAddr>), ControlError> {
    let empty =
        Report { cluster: Some(settings.cluster.to_string()), replicas: Some(settings.replicas), ..Report::default() };
    if settings.metadata.iter().all(|server| running(layout, &server.name).is_none()) {
        let problem = Some("no metadata server runs; start them with cairnctl dev up".to_owned());
        return Ok((Report { problem, ..empty }, HashSet::new()));
    }
    let client = admin_client(layout, settings)?;
    let (status, locals) = tokio::join!(client.status(ANSWER_WAIT), client.locals(ANSWER_WAIT));
    let answering = locals.into_iter().filter(|(_, local)| local.is_ok()).map(|(address, _)| address).collect();
    Ok(match status {
        Ok((_, status)) => (Report::of(&status), answering),
        Err(error) => (Report { problem: Some(error.to_string()), ..empty }, answering),
    })
}

/// The newest life of a server as the leader sees it.
fn best_match(seen: &[NodeReport], name: &str, role: &str) -> Option<usize> {
    let fits = |index: &usize| seen[*index].role == role && seen[*index].name == name;
    (0..seen.len()).filter(fits).max_by_key(|index| seen[*index].node)
}

fn mount_report(layout: &Layout, mount: &MountEntry) -> MountReport {
    let pid = running(layout, &mount.name);
    let state = match (pid, is_mounted(&mount.path)) {
        (Some(_), true) => "up",
        (Some(_), false) => "starting",
        (None, true) => "dead",
        (None, false) => "down",
    };
    MountReport { name: mount.name.clone(), path: mount.path.clone(), state, pid }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::settings::Sizes;

    #[tokio::test]
    async fn a_stopped_cluster_is_shown_as_down() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let mut settings = Settings::new(Sizes::default()).unwrap();
        settings.remember_mount(Path::new("/nonexistent/cairn")).unwrap();
        let report = report(&layout, &settings).await.unwrap();
        assert_eq!(report.leader, None);
        assert_eq!(report.nodes.len(), 6);
        assert!(report.nodes.iter().all(|node| node.state == "down" && node.pid.is_none()));
        assert_eq!(report.mounts.unwrap()[0].state, "down");
    }

    #[test]
    fn the_newest_life_of_a_server_is_taken() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let entry = |name: &str, node| NodeReport::unknown(name.to_owned(), "chunk", Some(node), address);
        let seen = [entry("chunk1", 1), entry("chunk2", 2), entry("chunk1", 4)];
        assert_eq!(best_match(&seen, "chunk1", "chunk"), Some(2));
        assert_eq!(best_match(&seen, "chunk2", "chunk"), Some(1));
        assert_eq!(best_match(&seen, "chunk1", "metadata"), None);
    }
}
