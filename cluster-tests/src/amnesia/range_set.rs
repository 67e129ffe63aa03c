//! A set of byte offsets, kept as disjoint ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint, not touching, not empty ranges by their start.
#[derive(Debug, Default)]
pub(super) struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Adds a range.
    pub(super) fn insert(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&start, &end)) = self.0.range(..=range.end).next_back() {
            if end < range.start {
                break;
            }
            self.0.remove(&start);
            range = range.start.min(start)..range.end.max(end);
        }
        self.0.insert(range.start, range.end);
    }

    /// Takes everything from `from` on away.
    pub(super) fn truncate(&mut self, from: u64) {
        self.0.split_off(&from);
        if let Some((_, end)) = self.0.iter_mut().next_back() {
            *end = (*end).min(from);
        }
    }

    /// The ranges within `window`, ascending.
    pub(super) fn within(&self, window: Range<u64>) -> Vec<Range<u64>> {
        let first = self.0.range(..=window.start).next_back().map_or(window.start, |(start, _)| *start);
        self.0
            .range(first..window.end.max(first))
            .map(|(start, end)| (*start).max(window.start)..(*end).min(window.end))
            .filter(|range| !range.is_empty())
            .collect()
    }

    /// All ranges, ascending.
    pub(super) fn all(&self) -> Vec<Range<u64>> {
        self.0.iter().map(|(start, end)| *start..*end).collect()
    }

    /// Number of offsets in the set.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// Empties the set.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(steps in prop::collection::vec((0u64..64, 0u64..64, 0u8..5), 1..40)) {
            let (mut set, mut model) = (RangeSet::default(), std::collections::BTreeSet::new());
            for (a, b, kind) in steps {
                if kind == 0 {
                    set.truncate(a);
                    model.retain(|n| *n < a);
                } else {
                    set.insert(a..b);
                    model.extend(a..b);
                }
                let all: Vec<u64> = set.all().into_iter().flatten().collect();
                prop_assert_eq!(&all, &model.iter().copied().collect::<Vec<_>>());
                let part: Vec<u64> = set.within(a..b).into_iter().flatten().collect();
                prop_assert_eq!(part, model.iter().copied().filter(|n| (a..b).contains(n)).collect::<Vec<_>>());
                prop_assert_eq!(set.total(), model.len() as u64);
            }
        }
    }
}
