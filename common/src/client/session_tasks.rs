//! What runs beside the calls of a session: renewal (which also tells of new servers and tables) and
//! waiting for events. Both go on through failures and end with the session.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error::ClientError;
use super::metadata_client::Session;
use crate::ids::RequestId;
use crate::protocol::metadata::{MetadataReply, MetadataRequest, SessionEvent};

/// Longest wait of one poll for events: below the attempt timeout, so that a dead leader is noticed.
const POLL_WAIT: Duration = Duration::from_millis(1000);
/// Pause after a failed poll.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// Aborts its tasks when dropped.
pub(super) struct SessionTasks {
    tasks: Vec<JoinHandle<()>>,
}

impl SessionTasks {
    pub(super) fn start(session: &Arc<Session>, events: mpsc::UnboundedSender<SessionEvent>) -> Self {
        let tasks = vec![tokio::spawn(keep_alive(session.clone())), tokio::spawn(poll_events(session.clone(), events))];
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

async fn keep_alive(session: Arc<Session>) {
    let interval = session.channel.settings.keep_alive;
    let message = MetadataRequest::KeepAlive { session: session.id, epoch: session.epoch };
    loop {
        tokio::time::sleep(interval).await;
        let deadline = Instant::now() + session.channel.settings.call_timeout;
        match session.call("renew the session", RequestId::random(), &message, deadline).await {
            Ok(MetadataReply::KeptAlive { table, servers, .. }) => {
                session.channel.route.learn(&servers);
                let have = session.tables.current().epoch;
                if table > have
                    && let Err(error) = session.fetch_table(have).await
                {
                    tracing::warn!(%error, "cannot fetch the new partition table yet");
                }
            }
            Ok(_) => tracing::error!("a keep-alive was answered with something else"),
            Err(ClientError::SessionFenced { .. }) => return,
            Err(error) => tracing::warn!(%error, "the session could not be renewed"),
        }
    }
}

async fn poll_events(session: Arc<Session>, events: mpsc::UnboundedSender<SessionEvent>) {
    let message = MetadataRequest::PollEvents { session: session.id, wait_ms: POLL_WAIT.as_millis() as u32 };
    loop {
        let deadline = Instant::now() + session.channel.settings.call_timeout;
        match session.call("wait for events", RequestId::random(), &message, deadline).await {
            Ok(MetadataReply::Events(received)) => {
                for event in received {
                    if events.send(event).is_err() {
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
