//! Disks as a tree of failure domains, nodes and disks, with each one's fair share of replicas and
//! the limits of replicas of one row that may meet in it.

use cairn_common::ids::{ChunkNodeId, DiskId};

use super::rendezvous::{name_seed, number_seed};
use super::{CAP, FLOOR};

/// A disk that may own partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementDisk {
    /// The disk.
    pub disk: DiskId,
    /// The chunk server that has it.
    pub node: ChunkNodeId,
    /// The server's failure domain.
    pub failure_domain: String,
    /// Its weight: capacity in bytes. Zero counts as one.
    pub weight: u64,
}

/// A domain, a node or a disk: what the choice needs to know of it.
pub(super) struct Candidate {
    /// Seed of its scores.
    pub(super) seed: u64,
    /// Fair share of replicas.
    pub(super) target: f64,
    /// Index of the first child (node of a domain, disk of a node).
    pub(super) first: usize,
    /// One behind the last child.
    pub(super) end: usize,
}

/// A disk's place in the tree, and its bounds.
pub(super) struct Leaf {
    pub(super) id: DiskId,
    pub(super) node: usize,
    pub(super) domain: usize,
    /// Most replicas that it may own.
    pub(super) cap: u32,
    /// Fewest replicas that it should own.
    pub(super) floor: u32,
}

/// The tree. Disks are sorted by domain, node and id, so children are ranges of indexes.
pub(super) struct Topology {
    pub(super) domains: Vec<Candidate>,
    pub(super) nodes: Vec<Candidate>,
    pub(super) disks: Vec<Candidate>,
    pub(super) leaves: Vec<Leaf>,
    /// Owners that a row has: the replicas asked for, or all disks if they are fewer.
    pub(super) owners: usize,
    /// Most replicas of a row in one failure domain: 1 while there are enough domains.
    pub(super) domain_limit: usize,
    /// Most replicas of a row on one node: 1 while there are enough nodes.
    pub(super) node_limit: usize,
}

impl Topology {
    pub(super) fn new(input: &[PlacementDisk], partitions: u32, replicas: u8) -> Self {
        let mut sorted: Vec<&PlacementDisk> = input.iter().collect();
        sorted.sort_by(|a, b| (&a.failure_domain, a.node, a.disk).cmp(&(&b.failure_domain, b.node, b.disk)));
        sorted.dedup_by_key(|disk| disk.disk);
        let mut tree = Self {
            domains: Vec::new(),
            nodes: Vec::new(),
            disks: Vec::new(),
            leaves: Vec::new(),
            owners: usize::from(replicas).min(sorted.len()),
            domain_limit: 1,
            node_limit: 1,
        };
        for (index, disk) in sorted.iter().enumerate() {
            let new_domain = index == 0 || sorted[index - 1].failure_domain != disk.failure_domain;
            if new_domain || sorted[index - 1].node != disk.node {
                if new_domain {
                    let (seed, at) = (name_seed(&disk.failure_domain), tree.nodes.len());
                    tree.domains.push(Candidate { seed, target: 0.0, first: at, end: at });
                }
                let seed = number_seed(1, disk.node.0);
                tree.nodes.push(Candidate { seed, target: 0.0, first: index, end: index });
            }
            let (domain, node) = (tree.domains.len() - 1, tree.nodes.len() - 1);
            tree.domains[domain].end = node + 1;
            tree.nodes[node].end = index + 1;
            tree.disks.push(Candidate { seed: number_seed(2, disk.disk.0), target: 0.0, first: 0, end: 0 });
            tree.leaves.push(Leaf { id: disk.disk, node, domain, cap: 0, floor: 0 });
        }
        tree.set_limits();
        let weights: Vec<f64> = sorted.iter().map(|disk| disk.weight.max(1) as f64).collect();
        tree.set_targets(&weights, f64::from(partitions));
        tree
    }

    /// Disks of a node that one row may use.
    fn node_room(&self, node: usize) -> usize {
        (self.nodes[node].end - self.nodes[node].first).min(self.node_limit)
    }

    /// Disks of a domain that one row may use, its own limit aside.
    fn domain_room(&self, domain: usize) -> usize {
        (self.domains[domain].first..self.domains[domain].end).map(|node| self.node_room(node)).sum()
    }

    /// The smallest limits under which a row finds all of its owners.
    fn set_limits(&mut self) {
        while (0..self.nodes.len()).map(|node| self.node_room(node)).sum::<usize>() < self.owners {
            self.node_limit += 1;
        }
        let rooms: Vec<usize> = (0..self.domains.len()).map(|domain| self.domain_room(domain)).collect();
        while rooms.iter().map(|room| (*room).min(self.domain_limit)).sum::<usize>() < self.owners {
            self.domain_limit += 1;
        }
    }

    /// Fair shares, top down: by weight, but no more than the limits let a child own.
    fn set_targets(&mut self, weights: &[f64], partitions: f64) {
        let node_weights: Vec<f64> = self.nodes.iter().map(|node| weights[node.first..node.end].iter().sum()).collect();
        let domain_weights: Vec<f64> =
            self.domains.iter().map(|domain| node_weights[domain.first..domain.end].iter().sum()).collect();
        let most = |rooms: Vec<usize>| -> Vec<f64> { rooms.into_iter().map(|n| n as f64 * partitions).collect() };
        let rooms = (0..self.domains.len()).map(|d| self.domain_room(d).min(self.domain_limit)).collect();
        let shares = fair_shares(self.owners as f64 * partitions, &domain_weights, &most(rooms));
        for (domain, share) in shares.into_iter().enumerate() {
            self.domains[domain].target = share;
            let (first, end) = (self.domains[domain].first, self.domains[domain].end);
            let rooms = (first..end).map(|node| self.node_room(node)).collect();
            for (node, share) in (first..end).zip(fair_shares(share, &node_weights[first..end], &most(rooms))) {
                self.nodes[node].target = share;
                let (first, end) = (self.nodes[node].first, self.nodes[node].end);
                let shares = fair_shares(share, &weights[first..end], &most(vec![1; end - first]));
                for (disk, share) in (first..end).zip(shares) {
                    self.disks[disk].target = share;
                    // A hair below and above, so that rounding of a whole share does not shift a bound.
                    self.leaves[disk].cap = ((share * CAP - 1e-6).ceil()).min(partitions).max(0.0) as u32;
                    self.leaves[disk].floor = (share * FLOOR + 1e-6).floor() as u32;
                }
            }
        }
    }

    /// Whether a row of these disks may have `disk`, too.
    pub(super) fn fits(&self, row: impl Iterator<Item = usize>, disk: usize) -> bool {
        let leaf = &self.leaves[disk];
        let (mut in_domain, mut on_node) = (0, 0);
        for other in row {
            if other == disk {
                return false;
            }
            in_domain += usize::from(self.leaves[other].domain == leaf.domain);
            on_node += usize::from(self.leaves[other].node == leaf.node);
        }
        in_domain < self.domain_limit && on_node < self.node_limit
    }
}

/// Divides `total` in proportion to the weights, but gives none more than its `most`; what one
/// cannot take goes to the others (water filling).
fn fair_shares(total: f64, weights: &[f64], most: &[f64]) -> Vec<f64> {
    let mut shares = vec![0.0; weights.len()];
    let mut full = vec![false; weights.len()];
    loop {
        let open = |i: &usize| !full[*i];
        let weight: f64 = (0..weights.len()).filter(open).map(|i| weights[i]).sum();
        let left = total - (0..weights.len()).filter(|i| full[*i]).map(|i| most[i]).sum::<f64>();
        let newly: Vec<usize> =
            (0..weights.len()).filter(open).filter(|i| left * weights[*i] / weight >= most[*i]).collect();
        if newly.is_empty() {
            for i in 0..weights.len() {
                shares[i] = if full[i] { most[i] } else { left * weights[i] / weight };
            }
            return shares;
        }
        newly.into_iter().for_each(|i| full[i] = true);
    }
}
