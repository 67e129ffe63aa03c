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

    /// All extents of the file, if all are known as of `version` and there are at most so many.
    pub fn all(&self, version: DataVersion, most: usize) -> Option<Vec<Extent>> {
        if self.extents.len() > most { None } else { self.lookup(version, 0, u64::MAX) }
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
        self.cover(from, to);
    }

    /// This mount's own commit, and nothing else, made `after` of `before`, by writing these extents.
    pub fn committed(&mut self, before: DataVersion, after: DataVersion, extents: impl IntoIterator<Item = Extent>) {
        if self.version != before {
            return;
        }
        self.version = after;
        for extent in extents {
            let (from, to) = (extent.offset, extent.end());
            self.cut(from, to);
            self.extents.insert(from, extent);
            self.cover(from, to);
        }
        if self.extents.len() > EXTENTS_MAX {
            *self = Self { version: after, ..Self::default() };
        }
    }

    /// Takes `[from, to)` out of what is there.
    fn cut(&mut self, from: u64, to: u64) {
        let first = self.extents.range(..from).next_back().filter(|(_, extent)| extent.end() > from);
        let starts = first.into_iter().chain(self.extents.range(from..to)).map(|(start, _)| *start);
        for start in starts.collect::<Vec<_>>() {
            let Some(old) = self.extents.remove(&start) else { continue };
            let rest = [old.slice(0, from), old.slice(to, u64::MAX)];
            self.extents.extend(rest.into_iter().flatten().map(|extent| (extent.offset, extent)));
        }
    }

    fn cover(&mut self, from: u64, to: u64) {
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

    #[test]
    fn an_own_commit_writes_over_what_was_known() {
        let mut map = ExtentMap::default();
        map.insert(DataVersion(1), 0, u64::MAX, vec![hole(0, 100), hole(200, 100)]);
        map.committed(DataVersion(1), DataVersion(2), [hole(40, 20), hole(90, 120), hole(300, 10)]);
        assert_eq!(map.lookup(DataVersion(1), 0, 10), None, "the older version is gone");
        let all = vec![hole(0, 40), hole(40, 20), hole(60, 30), hole(90, 120), hole(210, 90), hole(300, 10)];
        assert_eq!(map.lookup(DataVersion(2), 0, u64::MAX), Some(all));
        map.committed(DataVersion(1), DataVersion(3), [hole(0, 1)]);
        assert_eq!(map.lookup(DataVersion(3), 0, 1), None, "made of a version that is not known");
    }

    #[test]
    fn an_own_commit_makes_known_what_it_wrote_and_no_more() {
        let mut map = ExtentMap::default();
        map.insert(DataVersion(1), 0, 10, vec![]);
        map.committed(DataVersion(1), DataVersion(2), [hole(20, 10)]);
        assert_eq!(map.lookup(DataVersion(2), 20, 30), Some(vec![hole(20, 10)]));
        assert_eq!(map.lookup(DataVersion(2), 0, 30), None, "nobody has said what is between");
    }
}
