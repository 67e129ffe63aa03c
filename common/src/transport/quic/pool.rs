//! The connections of a transport. Callers that want the same one share one attempt, and after a
//! failed attempt calls fail at once for a short while, so that a dead server costs its callers
//! microseconds and not timeouts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::lane::Lane;
use super::link::{Link, LinkMaker};
use crate::identity::server_name;
use crate::ids::ClusterId;
use crate::protocol::Role;
use crate::telemetry::metric_names as names;
use crate::transport::TransportError;

/// Which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) address: SocketAddr,
    pub(super) role: Role,
    pub(super) lane: Lane,
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Link>, TransportError>>>;

enum State {
    Connecting(Attempt),
    Ready(Arc<Link>),
    Failed { until: Instant, error: TransportError },
}

/// Connections by key.
pub(super) struct Pool {
    cluster: ClusterId,
    maker: Arc<LinkMaker>,
    states: Mutex<HashMap<Key, State>>,
}

impl Pool {
    pub(super) fn new(cluster: ClusterId, maker: LinkMaker) -> Arc<Self> {
        Arc::new(Self { cluster, maker: Arc::new(maker), states: Mutex::new(HashMap::new()) })
    }

    /// An open link: one that is there, or a new one. The attempt goes on if the caller gives up.
    pub(super) async fn link(self: &Arc<Self>, key: Key) -> Result<Arc<Link>, TransportError> {
        let attempt = {
            let mut states = self.states.lock();
            match states.get(&key) {
                Some(State::Ready(link)) if link.is_open() => return Ok(link.clone()),
                Some(State::Failed { until, error }) if Instant::now() < *until => return Err(error.clone()),
                Some(State::Connecting(attempt)) => attempt.clone(),
                Some(State::Ready(link)) if let Some(error) = link.identity_error() => {
                    // The server threw this process out after the handshake; it will again.
                    let until = Instant::now() + self.maker.tuning.back_off;
                    states.insert(key, State::Failed { until, error: error.clone() });
                    return Err(error);
                }
                _ => {
                    let attempt = self.clone().attempt(key).boxed().shared();
                    states.insert(key, State::Connecting(attempt.clone()));
                    tokio::spawn(attempt.clone());
                    attempt
                }
            }
        };
        attempt.await
    }

    /// Closes every connection.
    pub(super) fn close(&self) {
        for (_, state) in self.states.lock().drain() {
            if let State::Ready(link) = state {
                link.close();
            }
        }
    }

    async fn attempt(self: Arc<Self>, key: Key) -> Result<Arc<Link>, TransportError> {
        let name = server_name(key.role, self.cluster);
        let result = self.maker.connect(key.address, &name, key.lane.as_str()).await;
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        metrics::counter!(names::TRANSPORT_CONNECTS, "lane" => key.lane.as_str(), "outcome" => outcome).increment(1);
        let state = match &result {
            Ok(link) => State::Ready(link.clone()),
            Err(error) => {
                tracing::debug!(server = %key.address, lane = key.lane.as_str(), %error, "connect failed");
                State::Failed { until: Instant::now() + self.maker.tuning.back_off, error: error.clone() }
            }
        };
        let mut states = self.states.lock();
        // Addresses come and go; what has failed or ended long ago is forgotten here.
        states.retain(|_, state| match state {
            State::Connecting(_) => true,
            State::Ready(link) => link.is_open(),
            State::Failed { until, .. } => Instant::now() < *until,
        });
        states.insert(key, state);
        result
    }
}
