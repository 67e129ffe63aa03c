//! Brings disks that are above their cap or below their floor back, moving as few replicas as that
//! takes. A new disk is one below its floor; after a disk has gone, filling alone nearly does it.

use super::assignment::{Assignment, Tier};
use super::rendezvous::mix;

/// A move may make room for the next; after so many rounds what is left is accepted.
const ROUNDS: usize = 4;

impl Assignment {
    /// Sheds from disks above the cap, then fills disks below the floor, until nothing is to do.
    pub(super) fn balance(&mut self) {
        for _ in 0..ROUNDS {
            let mut moved = 0;
            for disk in 0..self.tree.disks.len() {
                if self.disk_load[disk] > self.tree.leaves[disk].cap {
                    moved += self.shed(disk);
                }
            }
            let mut hungry: Vec<usize> = (0..self.tree.disks.len())
                .filter(|disk| self.disk_load[*disk] < self.tree.leaves[*disk].floor)
                .collect();
            hungry.sort_by(|a, b| self.fullness(*a).total_cmp(&self.fullness(*b)).then(a.cmp(b)));
            for disk in hungry {
                moved += self.pull(disk);
            }
            if moved == 0 {
                return;
            }
        }
    }

    /// Load over fair share.
    fn fullness(&self, disk: usize) -> f64 {
        f64::from(self.disk_load[disk]) / self.tree.disks[disk].target.max(1e-9)
    }

    /// All rows, in an order that differs from disk to disk: an odd stride visits every row of a
    /// power of two once.
    fn tour(&self, disk: usize) -> impl Iterator<Item = u32> + use<> {
        let seed = mix(self.tree.disks[disk].seed);
        let (rows, start, stride) = (self.rows.len() as u64, seed >> 32, (seed & 0xffff_ffff) | 1);
        (0..rows).map(move |step| ((start + step * stride) & (rows - 1)) as u32)
    }

    /// Gives replicas of a disk above its cap to disks below theirs. Returns the moves.
    fn shed(&mut self, disk: usize) -> usize {
        let mut moved = 0;
        for row in self.tour(disk) {
            if self.disk_load[disk] <= self.tree.leaves[disk].cap {
                break;
            }
            let Some(place) = self.rows[row as usize].iter().position(|owner| *owner == Some(disk)) else { continue };
            let taker = self.choose(row, place, Tier::Fair).or_else(|| self.choose(row, place, Tier::Capped));
            if let Some(taker) = taker {
                self.set(row, place, taker);
                moved += 1;
            }
        }
        moved
    }

    /// Takes replicas for a disk below its floor: from disks above their fair share, and if those
    /// do not do, from disks above their floor. Returns the moves.
    fn pull(&mut self, disk: usize) -> usize {
        let mut moved = 0;
        for beyond_share in [true, false] {
            for row in self.tour(disk) {
                if self.disk_load[disk] >= self.tree.leaves[disk].floor {
                    return moved;
                }
                if let Some(place) = self.donor(row, disk, beyond_share) {
                    self.set(row, place, disk);
                    moved += 1;
                }
            }
        }
        moved
    }

    /// The place of the fullest owner of a row that can spare it for `disk`.
    fn donor(&self, row: u32, disk: usize, beyond_share: bool) -> Option<usize> {
        let owners = &self.rows[row as usize];
        let spare = |owner: usize| {
            let (load, leaf) = (self.disk_load[owner], &self.tree.leaves[owner]);
            if beyond_share { f64::from(load) > self.tree.disks[owner].target } else { load > leaf.floor }
        };
        let fits = |place: usize| {
            let others = owners.iter().enumerate().filter(|(at, _)| *at != place).filter_map(|(_, owner)| *owner);
            self.tree.fits(others, disk)
        };
        (0..owners.len())
            .filter_map(|place| owners[place].map(|owner| (place, owner)))
            .filter(|(place, owner)| spare(*owner) && fits(*place))
            .max_by(|a, b| self.fullness(a.1).total_cmp(&self.fullness(b.1)).then(b.0.cmp(&a.0)))
            .map(|(place, _)| place)
    }
}
