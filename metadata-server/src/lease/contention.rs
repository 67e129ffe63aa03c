//! Inodes that bounce between mounts. An inode whose leases were recalled several times in a short
//! while is contended: nobody gets a lease on it until nobody was in another's way for as long.
//! Memory: an entry for each inode that was recalled within the window.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_common::ids::{InodeId, SessionId};

use super::rules::LeaseRules;

/// Entries that are there before old ones are looked for.
const SWEEP_MIN: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Contention {
    inodes: BTreeMap<InodeId, Heat>,
    /// Entries left by the last sweep.
    swept: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Heat {
    /// The newest recalls, as many as make an inode contended.
    recalls: Vec<Duration>,
    contended_until: Option<Duration>,
    last_change: Option<(SessionId, Duration)>,
    last_query: Option<(SessionId, Duration)>,
}

impl Contention {
    /// Leases on the inode are recalled.
    pub(super) fn recalled(&mut self, inode: InodeId, now: Duration, rules: &LeaseRules) {
        if self.inodes.len() >= SWEEP_MIN.max(self.swept * 2) {
            self.sweep(now, rules);
        }
        let heat = self.inodes.entry(inode).or_default();
        heat.recalls.retain(|at| now.saturating_sub(*at) < rules.hot_window);
        heat.recalls.push(now);
        if heat.recalls.len() >= rules.hot_recalls {
            heat.recalls.clear();
            heat.contended_until = Some(now + rules.hot_window);
        }
    }

    /// A session asks about the inode or changes it: prolongs a contention if it is in another's way.
    pub(super) fn access(
        &mut self,
        inode: InodeId,
        session: SessionId,
        change: bool,
        now: Duration,
        rules: &LeaseRules,
    ) {
        let Some(heat) = self.inodes.get_mut(&inode) else { return };
        if heat.contended_until.is_none_or(|until| now >= until) {
            return;
        }
        let other = |seen: Option<(SessionId, Duration)>| {
            seen.is_some_and(|(who, at)| who != session && now.saturating_sub(at) < rules.hot_window)
        };
        if other(heat.last_change) || (change && other(heat.last_query)) {
            heat.contended_until = Some(now + rules.hot_window);
        }
        let seen = if change { &mut heat.last_change } else { &mut heat.last_query };
        *seen = Some((session, now));
    }

    pub(super) fn is_contended(&self, inode: InodeId, now: Duration) -> bool {
        self.inodes.get(&inode).and_then(|heat| heat.contended_until).is_some_and(|until| now < until)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.inodes.len()
    }

    fn sweep(&mut self, now: Duration, rules: &LeaseRules) {
        self.inodes.retain(|_, heat| {
            heat.contended_until.is_some_and(|until| now < until)
                || heat.recalls.last().is_some_and(|at| now.saturating_sub(*at) < rules.hot_window)
        });
        self.swept = self.inodes.len();
    }
}
