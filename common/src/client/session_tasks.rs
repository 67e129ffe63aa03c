//! What runs beside the calls of a session: renewal of the session, its leases and its part of the write
//! reserve (which also tells of new leaders, servers and tables) and waiting for events. Both go on through failures and end with the session.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error::ClientError;
use super::metadata_client::{ClientEvent, Session};
use crate::ids::{LeaseGeneration, RequestId};
use crate::limits;
use crate::protocol::metadata::{MetadataReply, MetadataRequest};

/// Longest wait of one poll for events: below the attempt timeout, so that a dead leader is noticed.
const POLL_WAIT: Duration = Duration::from_millis(1000);
/// Pause after a failed poll.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// Aborts its tasks when dropped.
pub(super) struct SessionTasks {
    tasks: Vec<JoinHandle<()>>,
}

impl SessionTasks {
    pub(super) fn start(session: &Arc<Session>, events: mpsc::UnboundedSender<ClientEvent>) -> Self {
        let tasks = vec![
            tokio::spawn(keep_alive(session.clone(), events.clone())),
            tokio::spawn(poll_events(session.clone(), events)),
        ];
        Self { tasks }
    }

    pub(super) fn stop(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for SessionTasks {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Renews at once, then at an interval, and whenever the mount has checked in.
async fn keep_alive(session: Arc<Session>, events: mpsc::UnboundedSender<ClientEvent>) {
    let interval = session.channel.settings.keep_alive;
    let mut announced = LeaseGeneration(0);
    let mut route = session.channel.route.subscribe();
    loop {
        let sent = session.leases.now();
        let carried = session.leases.checked_in();
        let reserve = session.grant.report(sent);
        let message =
            MetadataRequest::KeepAlive { session: session.id, epoch: session.epoch, leases: carried, reserve };
        // Longer than a lease it is not worth waiting for: the next one counts from a later moment.
        let deadline = Instant::now() + limits::SHARED_LEASE;
        match session.call("renew the session", RequestId::random(), &message, deadline).await {
            Ok(MetadataReply::KeptAlive {
                table,
                servers,
                leases,
                shared_lease_ms,
                exclusive_lease_ms,
                reserve,
                ..
            }) => {
                session.grant.answered(sent, reserve);
                if leases == carried {
                    let (shared, exclusive) = (milliseconds(shared_lease_ms), milliseconds(exclusive_lease_ms));
                    session.leases.renewed(leases, sent, shared, exclusive);
                } else {
                    session.leases.lose_shared();
                    let told = std::mem::replace(&mut announced, leases) == leases;
                    if !told && events.send(ClientEvent::NewGeneration(leases)).is_err() {
                        return;
                    }
                }
                session.channel.route.learn(&servers);
                if table > session.tables.current().epoch {
                    fetch_table_aside(&session);
                }
            }
            Ok(_) => tracing::error!("a keep-alive was answered with something else"),
            Err(ClientError::SessionFenced { .. }) => return,
            Err(error) => tracing::warn!(%error, "the session could not be renewed"),
        }
        route.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = session.renew_now.notified() => {}
            () = session.grant.wished() => {}
            // Perhaps a new leader, which lets changes wait until we have checked in.
            _ = route.changed() => {}
        }
    }
}

/// Fetches the new table while renewal goes on.
fn fetch_table_aside(session: &Arc<Session>) {
    let session = session.clone();
    tokio::spawn(async move {
        let have = session.tables.current().epoch;
        if let Err(error) = session.fetch_table(have).await {
            tracing::warn!(%error, "cannot fetch the new partition table yet");
        }
    });
}

fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(u64::from(count))
}

async fn poll_events(session: Arc<Session>, events: mpsc::UnboundedSender<ClientEvent>) {
    let message = MetadataRequest::PollEvents { session: session.id, wait_ms: POLL_WAIT.as_millis() as u32 };
    loop {
        let deadline = Instant::now() + session.channel.settings.call_timeout;
        match session.call("wait for events", RequestId::random(), &message, deadline).await {
            Ok(MetadataReply::Events(received)) => {
                for event in received {
                    if events.send(ClientEvent::Asked(event)).is_err() {
                        return;
                    }
                }
            }
            Ok(_) => {
                tracing::error!("a poll for events was answered with something else");
                tokio::time::sleep(POLL_PAUSE).await;
            }
            Err(ClientError::SessionFenced { .. }) => return,
            Err(error) => {
                tracing::debug!(%error, "poll for events failed");
                tokio::time::sleep(POLL_PAUSE).await;
            }
        }
    }
}
