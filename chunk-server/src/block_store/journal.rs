//! What the metadata leader has not been told yet about blocks of this disk: those found damaged and
//! those whole again. In memory: damage comes back from the index after a start.

use std::collections::BTreeMap;

use cairn_common::block::BlockId;
use parking_lot::Mutex;

/// News about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It was found damaged or missing.
    Damaged,
    /// It is whole on stable storage again.
    Repaired,
}

/// News that were read for a report; given back to [`Journal::confirm`] when it was answered.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// Block, news, and the number that tells later news of the same block.
    pub items: Vec<(BlockId, News, u64)>,
}

/// News that wait; only the last of each block counts.
#[derive(Debug, Default)]
pub struct Journal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    news: BTreeMap<BlockId, (News, u64)>,
    number: u64,
}

impl Journal {
    /// Adds news.
    pub fn add(&self, block: BlockId, news: News) {
        let mut state = self.state.lock();
        state.number += 1;
        let number = state.number;
        state.news.insert(block, (news, number));
    }

    /// Up to `limit` news for the next report. They stay until they are confirmed.
    pub fn pending(&self, limit: usize) -> Pending {
        let state = self.state.lock();
        Pending { items: state.news.iter().take(limit).map(|(block, (news, n))| (*block, *news, *n)).collect() }
    }

    /// Forgets what was reported, but not what came after it.
    pub fn confirm(&self, reported: &Pending) {
        let mut state = self.state.lock();
        for (block, _, number) in &reported.items {
            if state.news.get(block).is_some_and(|(_, now)| now == number) {
                state.news.remove(block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_common::block::BlockHash;
    use cairn_common::ids::PoolId;

    use super::*;

    #[test]
    fn news_stay_until_confirmed_and_later_news_survive() {
        let journal = Journal::default();
        let block = |n| BlockId { pool: PoolId(1), hash: BlockHash([n; 32]) };
        journal.add(block(1), News::Damaged);
        journal.add(block(2), News::Damaged);
        let lost = journal.pending(10);
        assert_eq!(lost.items.len(), 2);
        let sent = journal.pending(10);
        journal.add(block(1), News::Repaired);
        journal.confirm(&sent);
        let left = journal.pending(10);
        assert_eq!(left.items.iter().map(|(b, n, _)| (*b, *n)).collect::<Vec<_>>(), [(block(1), News::Repaired)]);
    }
}
