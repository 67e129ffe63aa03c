//! Inodes whose leases were recalled a moment ago: another mount uses them, too.

use std::collections::HashMap;
use std::time::Duration;

use cairn_common::ids::InodeId;
use parking_lot::Mutex;

/// How long a recall counts.
const RECENT: Duration = Duration::from_secs(3);
/// Recalls that are remembered before old ones are looked for.
const TIDY_AT: usize = 1024;

/// When each was recalled last, on the clock of leases.
#[derive(Debug, Default)]
pub struct RecentRecalls {
    at: Mutex<HashMap<InodeId, Duration>>,
}

impl RecentRecalls {
    /// A recall has come.
    pub fn note(&self, inode: InodeId, now: Duration) {
        let mut at = self.at.lock();
        if at.len() >= TIDY_AT {
            at.retain(|_, recalled| now.saturating_sub(*recalled) < RECENT);
        }
        at.insert(inode, now);
    }

    /// Whether one came within the last three seconds.
    pub fn contains(&self, inode: InodeId, now: Duration) -> bool {
        self.at.lock().get(&inode).is_some_and(|recalled| now.saturating_sub(*recalled) < RECENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recall_counts_for_a_while_and_is_not_remembered_for_ever() {
        let recalls = RecentRecalls::default();
        let second = Duration::from_secs;
        recalls.note(InodeId(1), second(10));
        assert!(recalls.contains(InodeId(1), second(12)) && !recalls.contains(InodeId(2), second(12)));
        assert!(!recalls.contains(InodeId(1), second(13)));
        (0..2 * TIDY_AT as u64).for_each(|inode| recalls.note(InodeId(inode), second(20 + inode / 100)));
        assert!(recalls.at.lock().len() <= TIDY_AT + 300);
    }
}
