//! What this client remembers of chunk servers: who failed a moment ago, who is busy. A memory of a
//! second, so that a dead server costs one request in a second its time, not each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a failure is remembered.
const FAILURE_MEMORY: Duration = Duration::from_secs(1);

/// Failures and load, by address.
#[derive(Debug, Default)]
pub struct ServerHealth {
    servers: Mutex<HashMap<SocketAddr, Record>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    failed_at: Option<Instant>,
    slow_at: Option<Instant>,
    reads: u32,
}

impl Record {
    /// 0: no complaint, 1: slow a moment ago, 2: failed a moment ago.
    fn trouble(&self) -> u8 {
        let lately = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < FAILURE_MEMORY);
        if lately(self.failed_at) { 2 } else { u8::from(lately(self.slow_at)) }
    }
}

impl ServerHealth {
    /// The server failed, or was much too slow.
    pub fn failed(&self, address: SocketAddr) {
        self.servers.lock().entry(address).or_default().failed_at = Some(Instant::now());
    }

    /// The server let a read wait for so long that another one was asked.
    pub fn slow(&self, address: SocketAddr) {
        self.servers.lock().entry(address).or_default().slow_at = Some(Instant::now());
    }

    /// The server answered.
    pub fn answered(&self, address: SocketAddr) {
        if let Some(record) = self.servers.lock().get_mut(&address) {
            record.failed_at = None;
        }
    }

    /// Whether it failed within the last second.
    pub fn is_suspect(&self, address: SocketAddr) -> bool {
        self.servers.lock().get(&address).is_some_and(|record| record.trouble() == 2)
    }

    /// Order in which to ask for a read: servers without trouble first, then the least busy.
    pub fn rank(&self, address: SocketAddr) -> (u8, u32) {
        self.servers.lock().get(&address).map_or((0, 0), |record| (record.trouble(), record.reads))
    }

    /// Counts a read as under way until the guard is dropped.
    pub fn reading(&self, address: SocketAddr) -> Reading<'_> {
        self.servers.lock().entry(address).or_default().reads += 1;
        Reading { health: self, address }
    }
}

/// A read under way.
#[derive(Debug)]
pub struct Reading<'a> {
    health: &'a ServerHealth,
    address: SocketAddr,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.health.servers.lock().get_mut(&self.address) {
            record.reads = record.reads.saturating_sub(1);
        }
    }
}
