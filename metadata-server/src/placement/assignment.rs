//! Owners of every partition: what stays of the old table, then a choice for every free place, then
//! the bounds ([`super::balance`]).

use std::collections::BTreeMap;

use cairn_common::ids::DiskId;

use super::rendezvous::exponential;
use super::topology::{Candidate, PlacementDisk, Topology};

/// Owners of each partition, best first, from the disks there are and the owners until now (`old`:
/// one row a partition, or empty for a new table). Rows have `replicas` owners, or one for each
/// disk if there are fewer; none if there is no disk. A pure function; takes seconds for 65,536
/// partitions on 1,000 nodes. `partitions` is a power of two.
pub fn assign(disks: &[PlacementDisk], partitions: u32, replicas: u8, old: &[Vec<DiskId>]) -> Vec<Vec<DiskId>> {
    debug_assert!(partitions.is_power_of_two());
    let mut assignment = Assignment::new(Topology::new(disks, partitions, replicas), partitions);
    assignment.keep(old);
    for row in 0..partitions {
        assignment.fill(row);
    }
    assignment.balance();
    assignment.into_rows()
}

/// Rows while they are computed, with the load of every disk, node and domain.
pub(super) struct Assignment {
    pub(super) tree: Topology,
    /// Disk indexes; `None` is a free place.
    pub(super) rows: Vec<Vec<Option<usize>>>,
    pub(super) disk_load: Vec<u32>,
    node_load: Vec<u32>,
    domain_load: Vec<u32>,
    /// Scratch: this row's numbers for each domain, and for which row they are.
    numbers: Vec<f64>,
    numbers_of: Option<u32>,
}

/// How far a candidate may be loaded to be chosen; the next is tried when one finds nobody.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(super) enum Tier {
    /// Up to its fair share.
    Fair,
    /// Up to the cap.
    Capped,
    /// Beyond; the balance comes afterwards.
    Any,
}

impl Assignment {
    fn new(tree: Topology, partitions: u32) -> Self {
        let rows = vec![vec![None; tree.owners]; partitions as usize];
        let (disk_load, node_load) = (vec![0; tree.disks.len()], vec![0; tree.nodes.len()]);
        let domain_load = vec![0; tree.domains.len()];
        Self { tree, rows, disk_load, node_load, domain_load, numbers: Vec::new(), numbers_of: None }
    }

    /// Takes over old owners that are still there and that the rules let stay, in their places.
    fn keep(&mut self, old: &[Vec<DiskId>]) {
        let index: BTreeMap<DiskId, usize> =
            self.tree.leaves.iter().enumerate().map(|(index, leaf)| (leaf.id, index)).collect();
        for (row, owners) in old.iter().enumerate().take(self.rows.len()) {
            let mut kept: Vec<Option<usize>> = Vec::new();
            for owner in owners {
                let stays =
                    index.get(owner).copied().filter(|disk| self.tree.fits(kept.iter().flatten().copied(), *disk));
                kept.push(stays);
            }
            // A row that shrinks gives up its free places first, then its last owners.
            while kept.len() > self.tree.owners {
                let last_free = kept.iter().rposition(Option::is_none).unwrap_or(kept.len() - 1);
                kept.remove(last_free);
            }
            for (place, disk) in kept.into_iter().enumerate() {
                if let Some(disk) = disk {
                    self.set(row as u32, place, disk);
                }
            }
        }
    }

    /// Chooses a disk for every free place of a row.
    fn fill(&mut self, row: u32) {
        for place in 0..self.tree.owners {
            if self.rows[row as usize][place].is_none() {
                let chosen =
                    [Tier::Fair, Tier::Capped, Tier::Any].into_iter().find_map(|tier| self.choose(row, place, tier));
                if let Some(disk) = chosen {
                    self.set(row, place, disk);
                }
            }
        }
    }

    /// The winner among the disks that may take this place and are not loaded beyond the tier.
    pub(super) fn choose(&mut self, row: u32, place: usize, tier: Tier) -> Option<usize> {
        if self.numbers_of != Some(row) {
            self.numbers.clear();
            self.numbers.extend(self.tree.domains.iter().map(|domain| exponential(row, domain.seed)));
            self.numbers_of = Some(row);
        }
        let mut refused: Vec<usize> = Vec::new();
        loop {
            let domains = &self.tree.domains;
            let domain = best((0..domains.len()).filter(|d| !refused.contains(d)).filter_map(|d| {
                weight(&domains[d], self.domain_load[d], tier).map(|weight| (d, weight / self.numbers[d]))
            }))?;
            match self.choose_in(row, place, domain, tier) {
                Some(disk) => return Some(disk),
                None => refused.push(domain),
            }
        }
    }

    fn choose_in(&self, row: u32, place: usize, domain: usize, tier: Tier) -> Option<usize> {
        let others =
            || self.rows[row as usize].iter().enumerate().filter(|(at, _)| *at != place).filter_map(|(_, disk)| *disk);
        let score = |candidate: &Candidate, load: u32| {
            weight(candidate, load, tier).map(|weight| weight / exponential(row, candidate.seed))
        };
        let disk_of = |node: usize| {
            best((self.tree.nodes[node].first..self.tree.nodes[node].end).filter_map(|disk| {
                let free = Some(disk) != self.rows[row as usize][place] && self.tree.fits(others(), disk);
                free.then(|| score(&self.tree.disks[disk], self.disk_load[disk])).flatten().map(|score| (disk, score))
            }))
        };
        // A node with room may have only disks that do not fit: it is passed over.
        let nodes = self.tree.domains[domain].first..self.tree.domains[domain].end;
        let mut ranked: Vec<(usize, f64)> = nodes
            .filter_map(|node| score(&self.tree.nodes[node], self.node_load[node]).map(|score| (node, score)))
            .collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.into_iter().find_map(|(node, _)| disk_of(node))
    }

    /// Puts a disk in a place of a row, in place of whom it had.
    pub(super) fn set(&mut self, row: u32, place: usize, disk: usize) {
        if let Some(before) = self.rows[row as usize][place].replace(disk) {
            let leaf = &self.tree.leaves[before];
            self.disk_load[before] -= 1;
            self.node_load[leaf.node] -= 1;
            self.domain_load[leaf.domain] -= 1;
        }
        let leaf = &self.tree.leaves[disk];
        self.disk_load[disk] += 1;
        self.node_load[leaf.node] += 1;
        self.domain_load[leaf.domain] += 1;
    }

    fn into_rows(self) -> Vec<Vec<DiskId>> {
        let leaves = self.tree.leaves;
        self.rows.into_iter().map(|row| row.into_iter().flatten().map(|disk| leaves[disk].id).collect()).collect()
    }
}

/// The weight of a candidate in a tier, or None if it is loaded beyond it.
fn weight(candidate: &Candidate, load: u32, tier: Tier) -> Option<f64> {
    let load = f64::from(load);
    let weight = match tier {
        Tier::Fair => candidate.target - load,
        Tier::Capped => candidate.target * super::CAP - load,
        Tier::Any => candidate.target / (load + 1.0),
    };
    (weight > 1e-9).then_some(weight)
}

/// The greatest score; the first of equals.
fn best(scored: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
    scored
        .fold(None, |best: Option<(usize, f64)>, next| match best {
            Some(best) if best.1 >= next.1 => Some(best),
            _ => Some(next),
        })
        .map(|(index, _)| index)
}
