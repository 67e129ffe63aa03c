//! Extents of a file as far as they were asked for, of one data version; of another version nothing
//! is answered. Pure.

use std::collections::BTreeMap;

use cairn_common::extent::Extent;
use cairn_common::ids::DataVersion;

/// More extents than this are forgotten.
const EXTENTS_MAX: usize = 65_536;

/// Known extents.
#[derive(Debug, Default)]
pub struct ExtentMap {
    version: DataVersion,
    extents: BTreeMap<u64, Extent>,
    /// Ranges that were answered: start → end, apart from each other.
    covered: BTreeMap<u64, u64>,
}

impl ExtentMap {
    /// The extents within `[from, to)`, cut to it, if all of the range is known as of `version`.
    pub fn lookup(&self, version: DataVersion, from: u64, to: u64) -> Option<Vec<Extent>> {
        if version != self.version || self.covered_to(from) < to {
            return None;
        }
        let first = self.extents.range(..from).next_back();
        let parts = first.into_iter().chain(self.extents.range(from..to));
        Some(parts.filter_map(|(_, extent)| extent.slice(from, to)).collect())
    }

    fn covered_to(&self, from: u64) -> u64 {
        match self.covered.range(..=from).next_back() {
            Some((_, end)) if *end > from => *end,
            _ => from,
        }
    }

    /// Takes in what the cluster answered for `[from, to)`.
    pub fn insert(&mut self, version: DataVersion, from: u64, to: u64, extents: Vec<Extent>) {
        if version < self.version {
            return;
        }
        if version > self.version || self.extents.len() + extents.len() > EXTENTS_MAX {
            *self = Self { version, ..Self::default() };
        }
        self.extents.extend(extents.into_iter().map(|extent| (extent.offset, extent)));
        let (mut start, mut end) = (from, to);
        let touching: Vec<u64> = self.covered.range(..=end).filter(|(_, e)| **e >= start).map(|(s, _)| *s).collect();
        for other in touching {
            if let Some(other_end) = self.covered.remove(&other) {
                start = start.min(other);
                end = end.max(other_end);
            }
        }
        self.covered.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use cairn_common::extent::ExtentContent;

    use super::*;

    fn hole(offset: u64, length: u64) -> Extent {
        Extent { offset, length, content: ExtentContent::Unwritten }
    }

    #[test]
    fn answers_only_what_was_asked_for_and_only_of_its_version() {
        let mut map = ExtentMap::default();
        map.insert(DataVersion(5), 0, 100, vec![hole(10, 20)]);
        map.insert(DataVersion(5), 100, 200, vec![hole(150, 100)]);
        assert_eq!(map.lookup(DataVersion(5), 15, 160), Some(vec![hole(15, 15), hole(150, 10)]));
        assert_eq!(map.lookup(DataVersion(5), 150, 201), None, "behind what was asked for");
        assert_eq!(map.lookup(DataVersion(6), 0, 10), None);
        map.insert(DataVersion(6), 0, 10, vec![]);
        assert_eq!(map.lookup(DataVersion(5), 0, 10), None, "the older version is gone");
        map.insert(DataVersion(5), 0, 10, vec![hole(0, 1)]);
        assert_eq!(map.lookup(DataVersion(6), 0, 10), Some(vec![]), "a late answer changes nothing");
    }
}
