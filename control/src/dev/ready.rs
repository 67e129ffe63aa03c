//! Waiting until a local cluster works. Every wait ends: by success, by a process that ended, or by
//! the clock, and then it says which process and why.

use std::time::{Duration, Instant};

use cairn_common::protocol::admin::{ClusterStatus, NodeState};

use super::layout::Layout;
use super::mount_point::{Probe, is_mounted, probe};
use super::process::{failure, running};
use super::settings::{MountEntry, Settings};
use crate::admin_client::AdminClient;
use crate::error::{ControlError, Failure};

/// A cluster has this long to elect, register and make its table.
const CLUSTER_WAIT: Duration = Duration::from_secs(60);
/// A mount has this long to answer.
const MOUNT_WAIT: Duration = Duration::from_secs(30);
/// One question for the state.
const STATUS_WAIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until there is a leader, a table, and every server that runs is seen by the leader.
/// `lost` are servers that were not started, with the reason. Returns the failures of single
/// servers that do not keep the cluster from working; errors if it does not work.
pub(crate) async fn cluster(
    layout: &Layout,
    settings: &Settings,
    client: &AdminClient,
    lost: Vec<Failure>,
) -> Result<Vec<Failure>, ControlError> {
    let start = Instant::now();
    loop {
        let failures = ended(layout, settings, &lost);
        let dead = |name: &str| failures.iter().any(|failure| failure.name == name);
        let metadata_alive = settings.metadata.iter().filter(|server| !dead(&server.name)).count();
        let chunk_alive = settings.chunk.iter().filter(|server| !dead(&server.name)).count();
        if metadata_alive * 2 <= settings.metadata.len() || chunk_alive == 0 {
            return Err(ControlError::NotReady(failures));
        }
        let waiting_for = match client.status(STATUS_WAIT).await {
            Ok((_, status)) => missing(settings, &status, &dead),
            Err(error) => vec![("the cluster".to_owned(), error.to_string())],
        };
        if waiting_for.is_empty() {
            return Ok(failures);
        }
        if start.elapsed() > CLUSTER_WAIT {
            let late = waiting_for.into_iter().map(|(name, reason)| match name.as_str() {
                "the cluster" => Failure { name, reason, log: None, last_lines: Vec::new() },
                server => failure(layout, server, format!("{reason} within {}s", CLUSTER_WAIT.as_secs())),
            });
            return Err(ControlError::NotReady(failures.into_iter().chain(late).collect()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Servers that are not running, each with the end of its log.
fn ended(layout: &Layout, settings: &Settings, lost: &[Failure]) -> Vec<Failure> {
    let metadata = settings.metadata.iter().map(|server| &server.name);
    metadata
        .chain(settings.chunk.iter().map(|server| &server.name))
        .filter_map(|name| match lost.iter().find(|failure| failure.name == *name) {
            Some(known) => {
                Some(Failure { name: name.clone(), reason: known.reason.clone(), log: None, last_lines: Vec::new() })
            }
            None if running(layout, name).is_none() => Some(failure(layout, name, "ended while starting".to_owned())),
            None => None,
        })
        .collect()
}

/// What the leader does not see yet.
fn missing(settings: &Settings, status: &ClusterStatus, dead: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    for server in settings.metadata.iter().filter(|server| !dead(&server.name)) {
        let seen = status.metadata.iter().find(|seen| seen.member.node.0 == server.node);
        if seen.is_none_or(|seen| seen.state == NodeState::Down) {
            missing.push((server.name.clone(), "was not seen by the leader".to_owned()));
        }
    }
    for server in settings.chunk.iter().filter(|server| !dead(&server.name)) {
        if !status.chunk.iter().any(|seen| seen.name == server.name && seen.state != NodeState::Down) {
            missing.push((server.name.clone(), "did not register with the leader".to_owned()));
        }
    }
    if missing.is_empty() && status.table.0 == 0 {
        missing.push(("the cluster".to_owned(), "the leader has made no partition table".to_owned()));
    }
    missing
}

/// Waits until a mount answers.
pub(crate) async fn mount(layout: &Layout, mount: &MountEntry) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        if running(layout, &mount.name).is_none() {
            return Err(failure(layout, &mount.name, format!("ended while mounting {}", mount.path.display())));
        }
        if is_mounted(&mount.path) && probe(&mount.path) == Probe::Alive {
            return Ok(());
        }
        if start.elapsed() > MOUNT_WAIT {
            let reason = format!("{} did not answer within {}s", mount.path.display(), MOUNT_WAIT.as_secs());
            return Err(failure(layout, &mount.name, reason));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
