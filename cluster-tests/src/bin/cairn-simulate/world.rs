//! The machines, and what can be done to them: start, kill, cut off, stop. Time goes in ticks: in each,
//! what has arrived is handed out, and then every machine runs for a tick of its own clock. A message
//! travels for at least a tick, so the order of the machines within one makes no difference to them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_cluster_tests::checker::{History, Life};
use cairn_common::protocol::Role;
use cairn_common::transport::PeerIdentity;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::chunk_host::ChunkHost;
use crate::client_host;
use crate::faults::{Fault, Layout};
use crate::invariants::durable_blocks::DurableBlocks;
use crate::invariants::durable_log::DurableLog;
use crate::machine::Machine;
use crate::metadata_host::{CLUSTER, MetadataHost};
use crate::network::{Network, Node, Weather};
use crate::observer::{Observed, Observer};
use crate::planted::Planted;
use crate::process;
use crate::trace::Trace;
use crate::workload::Workload;

/// Length of a tick, in nanoseconds.
pub(crate) const TICK: u64 = 2_000_000;
/// Programs of a client.
pub(crate) const WORKERS: u32 = 2;
/// Clocks run wrong by at most so much, in parts per million.
const MAX_DRIFT_PPM: i64 = 200;
/// Wall clocks are off by at most so much at the begin, in nanoseconds.
const MAX_SKEW: i64 = 400_000_000;

/// Everything that runs.
pub(crate) struct World {
    pub(crate) layout: Layout,
    pub(crate) now: u64,
    pub(crate) network: Arc<Network>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) metadata: Vec<MetadataHost>,
    pub(crate) chunks: Vec<ChunkHost>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) workload: Arc<Workload>,
    logics: Vec<Arc<Observed>>,
    lives: Vec<u32>,
    planted: Option<Planted>,
    dice: StdRng,
}

/// How the network is while nothing is wrong.
pub(crate) fn fair_weather() -> Weather {
    Weather { travel: (50_000, 2_500_000), slow: (0.01, 30_000_000), loss: 0.002, doubled: 0.02 }
}

/// How it is in a storm.
pub(crate) fn storm() -> Weather {
    Weather { travel: (50_000, 20_000_000), slow: (0.1, 400_000_000), loss: 0.15, doubled: 0.15 }
}

/// How it is when everything must heal.
pub(crate) fn calm() -> Weather {
    Weather { travel: (50_000, 2_000_000), slow: (0.0, 0), loss: 0.0, doubled: 0.0 }
}

impl World {
    pub(crate) fn new(layout: Layout, seed: u64, planted: Option<Planted>, tell: bool, folder: &Path) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut fork = || StdRng::seed_from_u64(dice.random());
        let peer = |role, name: String| PeerIdentity { cluster: CLUSTER, role, name };
        let peers = (0..layout.machines())
            .map(|node| match node {
                node if node < layout.metadata => peer(Role::Metadata, format!("meta{}", node + 1)),
                node if node < layout.servers() => peer(Role::Chunk, format!("chunk{node}")),
                node => peer(Role::Mount, format!("client{}", node - layout.servers())),
            })
            .collect();
        let network = Network::new(peers, fair_weather(), fork(), Trace::new(tell));
        // As in production, or longer, so that failovers meet leases more often.
        let shared = Duration::from_secs([1, 3][usize::from(seed.is_multiple_of(2))]);
        let metadata: Vec<_> =
            (0..layout.metadata).map(|node| MetadataHost::new(node, folder, fork(), shared, planted)).collect();
        let chunks: Vec<_> = (layout.metadata..layout.servers()).map(|node| ChunkHost::new(node, fork())).collect();
        if planted == Some(Planted::AckBeforeSync) {
            chunks.iter().for_each(|host| host.disk.sync_lazily());
        }
        let cell_bytes = [512, 2048, 24 * 1024][dice.random_range(0..3)];
        let workload = Workload::new(History::new(), cell_bytes);
        let disks = chunks.iter().map(|host| host.disk.clone()).collect();
        let logs = metadata.iter().map(|host| host.log.clone()).collect();
        let observer = Observer::new(DurableBlocks::new(disks), DurableLog::new(logs), workload.clone(), planted);
        let machines = (0..layout.machines())
            .map(|_| {
                let drift = dice.random_range(-MAX_DRIFT_PPM..=MAX_DRIFT_PPM);
                Machine::new(drift, dice.random_range(-MAX_SKEW..=MAX_SKEW))
            })
            .collect();
        let logics = (0..layout.metadata).map(|node| observer.logic(node)).collect();
        let lives = vec![0; layout.machines()];
        Self { layout, now: 0, network, machines, metadata, chunks, observer, workload, logics, lives, planted, dice }
    }

    /// The life of a client's process.
    fn life(&self, node: Node) -> Life {
        Life { client: (node - self.layout.first_client()) as u32, number: self.lives[node] }
    }

    /// Whether the client has noticed that its session is over.
    pub(crate) fn is_fenced(&self, node: Node) -> bool {
        self.machines[node].is_up() && self.workload.is_fenced(self.life(node))
    }

    /// Starts a machine's process.
    pub(crate) fn boot(&mut self, node: Node) {
        if self.machines[node].is_up() {
            return;
        }
        self.lives[node] += 1;
        self.network.note("boot", &[node as u64], &[]);
        let handle = self.machines[node].boot(self.now);
        let (transport, life) = self.network.boot(node, handle.clone());
        let (metadata, network) = (self.layout.metadata, self.network.clone());
        if node < metadata {
            let logic = self.logics[node].clone();
            handle.spawn(self.metadata[node].start(network, transport, life, metadata, logic));
        } else if node < self.layout.servers() {
            handle.spawn(self.chunks[node - metadata].start(network, transport, life, metadata));
        } else {
            let seeds = (0..WORKERS).map(|_| self.dice.random()).collect();
            let (life, workload, planted) = (self.life(node), self.workload.clone(), self.planted);
            handle.spawn(client_host::run(transport, life, metadata, workload, seeds, planted));
        }
    }

    /// Ends a machine's process; with `power` what it had not synced is lost.
    pub(crate) fn kill(&mut self, node: Node, power: bool) {
        if !self.machines[node].is_up() {
            return;
        }
        self.network.note("kill", &[node as u64, u64::from(power)], &[]);
        self.network.kill(node);
        let servers = self.layout.servers();
        if node < self.layout.metadata {
            let host = &self.metadata[node];
            host.detach();
            host.forget_process();
            self.machines[node].kill(self.now);
            self.metadata[node].crash(power, &mut self.dice);
        } else if node < servers {
            let host = &self.chunks[node - self.layout.metadata];
            host.detach();
            self.machines[node].kill(self.now);
            if power {
                host.lose_power(&mut self.dice);
            }
        } else {
            self.workload.life_ended(self.life(node));
            self.machines[node].kill(self.now);
        }
    }

    /// The metadata server that leads now; the lowest, if two believe so.
    fn leader(&self) -> Option<Node> {
        let leads =
            |node: &Node| self.metadata[*node].group().is_some_and(|group| group.leadership().borrow().is_some());
        (0..self.layout.metadata).find(leads)
    }

    /// Lets something go wrong.
    pub(crate) fn strike(&mut self, fault: &Fault) {
        self.network.note(fault.kind(), &[], format!("{fault:?}").as_bytes());
        match fault {
            Fault::Crash { node, power } => self.kill(*node, *power),
            Fault::CrashLeader { power } => {
                if let Some(node) = self.leader() {
                    self.kill(node, *power);
                }
            }
            Fault::Blackout => (0..self.layout.servers()).for_each(|node| self.kill(node, true)),
            Fault::LoseClient { node } => self.kill(*node, false),
            Fault::Stop { node } => {
                if self.machines[*node].is_up() {
                    self.machines[*node].stop();
                    self.network.set_stopped(*node, true);
                }
            }
            Fault::Cut { from, to } => self.network.cut(*from, *to, true),
            Fault::Isolate { node, outward, inward } => self.isolate(*node, *outward, *inward, true),
            Fault::Storm => self.network.set_weather(storm()),
            Fault::ClockJump { node, by } => self.machines[*node].wall_offset += by,
        }
    }

    /// Mends it.
    pub(crate) fn mend(&mut self, fault: &Fault) {
        self.network.note("mended", &[], format!("{fault:?}").as_bytes());
        match fault {
            Fault::Crash { node, .. } | Fault::LoseClient { node } => self.boot(*node),
            Fault::CrashLeader { .. } => (0..self.layout.metadata).for_each(|node| self.boot(node)),
            Fault::Blackout => (0..self.layout.servers()).for_each(|node| self.boot(node)),
            Fault::Stop { node } => self.resume(*node),
            Fault::Cut { from, to } => self.network.cut(*from, *to, false),
            Fault::Isolate { node, outward, inward } => self.isolate(*node, *outward, *inward, false),
            Fault::Storm => self.network.set_weather(fair_weather()),
            Fault::ClockJump { .. } => {}
        }
    }

    fn resume(&mut self, node: Node) {
        if self.machines[node].is_stopped() {
            self.machines[node].resume(self.now);
            self.network.set_stopped(node, false);
        }
    }

    fn isolate(&self, node: Node, outward: bool, inward: bool, cut: bool) {
        for other in (0..self.layout.machines()).filter(|other| *other != node) {
            if outward {
                self.network.cut(node, other, cut);
            }
            if inward {
                self.network.cut(other, node, cut);
            }
        }
    }

    /// Everything is well from now on.
    pub(crate) fn heal(&mut self) {
        self.network.note("heal", &[], &[]);
        self.network.set_weather(calm());
        for node in 0..self.layout.machines() {
            self.isolate(node, true, true, false);
            self.resume(node);
            self.boot(node);
        }
    }

    /// One tick.
    pub(crate) fn tick(&mut self) {
        self.network.deliver(self.now);
        for (node, machine) in self.machines.iter_mut().enumerate() {
            process::set_machine(node);
            machine.step(self.now + TICK);
        }
        self.now += TICK;
    }

    /// Ends all processes, so that nothing runs any more.
    pub(crate) fn end(&mut self) {
        for node in 0..self.layout.machines() {
            self.kill(node, false);
        }
    }
}
