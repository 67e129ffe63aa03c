//! One run: a cluster is started, clients work while faults strike, then everything heals and must make
//! progress, and the invariants are checked.

use std::collections::BTreeMap;

use cairn_cluster_tests::checker::{Operation, check};
use cairn_meta::namespace::invariants;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::faults::{Layout, Planned, plan};
use crate::invariants::dependency_closure;
use crate::invariants::equal_states::state_hash;
use crate::network::Node;
use crate::planted::Planted;
use crate::process;
use crate::report::Report;
use crate::workload::Phase;
use crate::world::{TICK, WORKERS, World};

const SECOND: u64 = 1_000_000_000;
/// Faults strike between these times.
const FAULTS: (u64, u64) = (2 * SECOND, 12 * SECOND);
/// Operations of the clients before anything is inspected.
const OPERATIONS: u64 = 520;
/// The clients must have done them by then, in nanoseconds of the run.
const WORK_BOUND: u64 = 120 * SECOND;
/// When all is well, everything must be inspected, equal and repaired within this time.
const HEAL_BOUND: u64 = 60 * SECOND;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) planted: Option<Planted>,
    pub(crate) tell: bool,
}

/// Runs a seed. Once a process: the seed decides what the process's random numbers are.
pub(crate) fn run(options: Options) -> Report {
    // Snapshots are files; nothing of them is durable or slow.
    let memory = std::path::Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(parent).expect("a folder for snapshots can be made");
    cairn_common::blocking::run_inline();
    process::seed_random(options.seed);
    process::set_time(0, 0);
    let layout = Layout { metadata: 3, chunk: 3, clients: 3 };
    let mut dice = StdRng::seed_from_u64(options.seed ^ 0x5eed);
    let faults = plan(layout, FAULTS.0, FAULTS.1, &mut dice);
    let world = World::new(layout, dice.random(), options.planted, options.tell, folder.path());
    let mut run = Run { world, dice, faults, violations: Vec::new() };
    run.work();
    run.heal();
    run.finish(options)
}

struct Run {
    world: World,
    dice: StdRng,
    faults: Vec<Planned>,
    violations: Vec<String>,
}

/// Something to be done at a time.
enum Next {
    Strike(usize),
    Mend(usize),
    /// A client whose session is over is started anew.
    Renew(Node),
}

impl Run {
    /// Clients work, faults strike and are mended.
    fn work(&mut self) {
        let layout = self.world.layout;
        (0..layout.machines()).for_each(|node| self.world.boot(node));
        let mut agenda: BTreeMap<(u64, usize), Next> = BTreeMap::new();
        for (index, planned) in self.faults.iter().enumerate() {
            agenda.insert((planned.at, agenda.len()), Next::Strike(index));
            agenda.insert((planned.until, agenda.len()), Next::Mend(index));
        }
        let mut renewing = BTreeMap::new();
        while !agenda.is_empty() || self.world.workload.history.settled() < OPERATIONS {
            if self.world.now > WORK_BOUND || !self.world.observer.violations().is_empty() {
                return;
            }
            while let Some(entry) = agenda.first_entry().filter(|entry| entry.key().0 <= self.world.now) {
                match entry.remove() {
                    Next::Strike(index) => self.world.strike(&self.faults[index].fault),
                    Next::Mend(index) => self.world.mend(&self.faults[index].fault),
                    Next::Renew(node) => {
                        renewing.remove(&node);
                        if self.world.is_fenced(node) {
                            self.world.kill(node, false);
                            self.world.boot(node);
                        }
                    }
                }
            }
            for node in layout.first_client()..layout.machines() {
                if self.world.is_fenced(node) && !renewing.contains_key(&node) {
                    let at = self.world.now + self.dice.random_range(0..SECOND);
                    renewing.insert(node, at);
                    agenda.insert((at, usize::MAX - node), Next::Renew(node));
                }
            }
            self.world.tick();
        }
    }

    /// Everything is well: the clients inspect all, the servers become equal, blocks are repaired.
    fn heal(&mut self) {
        if !self.world.observer.violations().is_empty() {
            return;
        }
        if self.world.workload.history.settled() < OPERATIONS {
            let settled = self.world.workload.history.settled();
            self.violations.push(format!("progress: only {settled} operations after {} s", self.world.now / SECOND));
        }
        self.world.heal();
        self.world.workload.set_phase(Phase::Inspect);
        let bound = self.world.now + HEAL_BOUND;
        let workers = WORKERS * self.world.layout.clients as u32;
        let mut renewed = self.world.now;
        loop {
            self.world.tick();
            if self.world.now > renewed + SECOND {
                renewed = self.world.now;
                for node in self.world.layout.first_client()..self.world.layout.machines() {
                    if self.world.is_fenced(node) {
                        self.world.kill(node, false);
                        self.world.boot(node);
                    }
                }
                if self.world.workload.inspections() >= workers && self.unequal().is_none() {
                    return;
                }
            }
            if self.world.now > bound {
                let inspected = self.world.workload.inspections();
                let unequal = self.unequal().unwrap_or_default();
                self.violations.push(format!("progress: {inspected} of {workers} workers are done; {unequal}"));
                return;
            }
            if !self.world.observer.violations().is_empty() {
                return;
            }
        }
    }

    /// Why the servers are not all at the same place; None if they are.
    fn unequal(&self) -> Option<String> {
        let groups: Vec<_> = self.world.metadata.iter().map(|host| host.group()).collect();
        let indexes: Vec<_> =
            groups.iter().map(|group| group.as_ref().map_or(0, |group| group.status().applied_index)).collect();
        (indexes.iter().any(|index| *index != indexes[0])).then(|| format!("applied: {indexes:?}"))
    }

    fn finish(mut self, options: Options) -> Report {
        self.violations.extend(self.world.observer.violations());
        if self.violations.is_empty() {
            let views: Vec<_> = self.world.metadata.iter().filter_map(|host| Some(host.group()?.view())).collect();
            let hashes: Vec<u64> = views.iter().map(|view| state_hash(&**view)).collect();
            if hashes.iter().any(|hash| *hash != hashes[0]) {
                self.violations.push(format!("equal states: the same position, and the states are {hashes:x?}"));
            }
            for view in &views {
                match invariants::check(&**view) {
                    Ok(found) => self.violations.extend(found.into_iter().map(|found| format!("namespace: {found}"))),
                    Err(error) => self.violations.push(format!("namespace: {error}")),
                }
            }
        }
        let (trace, events) = self.world.network.trace();
        let network = self.world.network.counts();
        let simulated = self.world.now;
        self.world.end();
        let renamed = self.world.workload.renamed();
        let (mut operations, broken) = self.world.workload.history.take();
        self.violations.extend(broken.into_iter().map(|broken| format!("a client saw: {broken}")));
        operations.extend(dependency_closure::settled(&operations, &renamed));
        let checked = check(&operations);
        self.violations.extend(checked.violations);
        if options.tell {
            operations.iter().for_each(tell);
        }
        let mut calls: BTreeMap<String, u64> = BTreeMap::new();
        operations.iter().for_each(|operation| *calls.entry(operation.call.kind().into()).or_default() += 1);
        let mut faults: BTreeMap<String, u64> = BTreeMap::new();
        self.faults.iter().for_each(|planned| *faults.entry(planned.fault.kind().into()).or_default() += 1);
        Report {
            seed: options.seed,
            trace,
            events,
            simulated_ms: simulated / 1_000_000,
            ticks: simulated / TICK,
            operations: operations.len() as u64,
            calls,
            faults,
            messages: network.messages,
            lost: network.lost + network.cut,
            doubled: network.doubled,
            overtaken: network.overtaken,
            search_steps: checked.steps,
            undecided: checked.undecided,
            violations: self.violations,
        }
    }
}

fn tell(operation: &Operation) {
    let Operation { life, call, reply, begin, end } = operation;
    let end = if *end == u64::MAX { "never".to_owned() } else { end.to_string() };
    eprintln!("{begin}..{end} client {}.{}: {call:?} -> {reply:?}", life.client, life.number);
}
