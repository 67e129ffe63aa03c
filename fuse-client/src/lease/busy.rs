//! What own changes are at work on: it is neither answered from memory nor installed meanwhile. Two
//! changes that overlap leave it open which came last; what both touched is then forgotten.

use std::collections::BTreeMap;

/// Things of one kind that own changes touch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Busy<K: Ord> {
    things: BTreeMap<K, Mark>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Mark {
    changes: u32,
    contested: bool,
}

impl<K: Ord> Default for Busy<K> {
    fn default() -> Self {
        Self { things: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Busy<K> {
    pub(super) fn contains(&self, thing: &K) -> bool {
        self.things.contains_key(thing)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    pub(super) fn begin(&mut self, thing: &K) {
        let mark = self.things.entry(thing.clone()).or_default();
        mark.changes += 1;
        mark.contested |= mark.changes > 1;
    }

    /// Answers whether another change overlapped.
    pub(super) fn end(&mut self, thing: &K) -> bool {
        let Some(mark) = self.things.get_mut(thing) else { return true };
        mark.changes -= 1;
        let contested = mark.contested;
        if mark.changes == 0 {
            self.things.remove(thing);
        }
        contested
    }
}
