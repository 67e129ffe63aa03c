//! Which metadata server to ask next: the leader as far as it is known, else one after another,
//! leaving out those that failed a moment ago. Keeps no connection and waits for nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

/// A server that failed is not asked again for this long while another can be.
const FAILURE_MEMORY: Duration = Duration::from_secs(1);

/// The way to the leader, shared by all calls of a client.
#[derive(Debug)]
pub struct LeaderRoute {
    state: Mutex<RouteState>,
    changes: watch::Sender<SocketAddr>,
}

#[derive(Debug)]
struct RouteState {
    servers: Vec<Server>,
    current: SocketAddr,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    failed_at: Option<Instant>,
}

impl Server {
    fn new(address: SocketAddr) -> Self {
        Self { address, failed_at: None }
    }

    fn failed_lately(&self, now: Instant) -> bool {
        self.failed_at.is_some_and(|at| now.duration_since(at) < FAILURE_MEMORY)
    }
}

impl LeaderRoute {
    /// Starts with the first of the servers; None if there are none.
    pub fn new(servers: &[SocketAddr]) -> Option<Self> {
        let current = *servers.first()?;
        let servers = servers.iter().copied().map(Server::new).collect();
        Some(Self { state: Mutex::new(RouteState { servers, current }), changes: watch::Sender::new(current) })
    }

    /// Whom to ask now.
    pub fn current(&self) -> SocketAddr {
        self.state.lock().current
    }

    /// How many servers there are.
    pub fn server_count(&self) -> usize {
        self.state.lock().servers.len()
    }

    /// Follows the route: a call that waits for a server that is no longer the one to ask gives up.
    pub fn subscribe(&self) -> watch::Receiver<SocketAddr> {
        self.changes.subscribe()
    }

    /// `from` does not lead. Goes to the hint unless that failed a moment ago, else to the next
    /// server. True: the hint was followed, there is no need to wait.
    pub fn not_leader(&self, from: SocketAddr, hint: Option<SocketAddr>) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.current != from {
            return true;
        }
        if let Some(hint) = hint.filter(|hint| *hint != from) {
            if !state.servers.iter().any(|server| server.address == hint) {
                state.servers.push(Server::new(hint));
            }
            if !state.servers.iter().any(|server| server.address == hint && server.failed_lately(now)) {
                state.current = hint;
                self.changes.send_replace(hint);
                return true;
            }
        }
        let next = Self::next(&state, from, now);
        state.current = next;
        self.changes.send_replace(next);
        false
    }

    /// `from` did not answer.
    pub fn failed(&self, from: SocketAddr) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for server in state.servers.iter_mut().filter(|server| server.address == from) {
            server.failed_at = Some(now);
        }
        if state.current == from {
            let next = Self::next(&state, from, now);
            state.current = next;
            self.changes.send_replace(next);
        }
    }

    /// The addresses of the group, as the leader tells them; the current one stays in use.
    pub fn learn(&self, servers: &[SocketAddr]) {
        if servers.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let current = state.current;
        state.servers.retain(|server| servers.contains(&server.address) || server.address == current);
        for address in servers {
            if !state.servers.iter().any(|server| server.address == *address) {
                state.servers.push(Server::new(*address));
            }
        }
    }

    fn next(state: &RouteState, after: SocketAddr, now: Instant) -> SocketAddr {
        let count = state.servers.len();
        let position = state.servers.iter().position(|server| server.address == after).unwrap_or(count);
        let ring = || (1..=count).map(|step| &state.servers[(position + step) % count]);
        ring()
            .find(|server| server.address != after && !server.failed_lately(now))
            .or_else(|| ring().min_by_key(|server| server.failed_at))
            .map_or(after, |server| server.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn follows_hints_but_not_to_a_server_that_just_failed() {
        let route = LeaderRoute::new(&[address(1), address(2), address(3)]).unwrap();
        assert!(route.not_leader(address(1), Some(address(3))));
        assert_eq!(route.current(), address(3));
        route.failed(address(3));
        assert_eq!(route.current(), address(1));
        assert!(!route.not_leader(address(1), Some(address(3))), "the old leader is dead");
        assert_eq!(route.current(), address(2));
    }

    #[test]
    fn goes_round_when_all_failed() {
        let route = LeaderRoute::new(&[address(1), address(2)]).unwrap();
        route.failed(address(1));
        route.failed(address(2));
        assert_eq!(route.current(), address(1), "the one whose failure is oldest");
    }

    #[test]
    fn a_late_failure_of_another_server_does_not_move_the_route() {
        let route = LeaderRoute::new(&[address(1), address(2)]).unwrap();
        route.failed(address(2));
        assert_eq!(route.current(), address(1));
    }
}
