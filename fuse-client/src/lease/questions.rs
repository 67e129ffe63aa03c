//! Which answers come too late. A question takes a number when it is sent; whatever makes its answer
//! untrustworthy for an inode (a recall, the end of an own change) marks the inode with a later one.
//! Marks are kept only while a question is open that they could concern.

use std::collections::{BTreeMap, VecDeque};

use cairn_common::ids::{InodeId, LeaseGeneration};

/// A question on its way. It is given back when it is answered, or given up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "a question that is never given back keeps its marks in memory"]
pub struct Question {
    pub(super) moment: u64,
    pub(super) generation: LeaseGeneration,
}

/// Open questions, and the marks that concern them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Questions {
    last: u64,
    open: BTreeMap<u64, ()>,
    recalled: Marks,
    changed: Marks,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Marks {
    newest: BTreeMap<InodeId, u64>,
    in_order: VecDeque<(u64, InodeId)>,
}

impl Questions {
    pub(super) fn ask(&mut self, generation: LeaseGeneration) -> Question {
        self.last += 1;
        self.open.insert(self.last, ());
        Question { moment: self.last, generation }
    }

    /// A recall of the inode: no answer to a question, and no own change, of before counts for it.
    pub(super) fn recalled(&mut self, inode: InodeId) {
        self.last += 1;
        if !self.open.is_empty() {
            self.recalled.set(inode, self.last);
        }
    }

    /// An own change of the inode ended: no answer to a question of before counts for it.
    pub(super) fn changed(&mut self, inode: InodeId) {
        self.last += 1;
        if !self.open.is_empty() {
            self.changed.set(inode, self.last);
        }
    }

    /// Whether the inode was recalled since the question.
    pub(super) fn was_recalled(&self, question: &Question, inode: InodeId) -> bool {
        self.recalled.is_after(inode, question.moment)
    }

    /// Whether an answer to the question still tells what is true of the inode.
    pub(super) fn is_current(&self, question: &Question, inode: InodeId) -> bool {
        !self.was_recalled(question, inode) && !self.changed.is_after(inode, question.moment)
    }

    pub(super) fn end(&mut self, question: Question) {
        self.open.remove(&question.moment);
        let Some(oldest) = self.open.first_key_value().map(|(moment, ())| *moment) else {
            // Nothing is open that a number could be compared with.
            *self = Self::default();
            return;
        };
        self.recalled.forget_before(oldest);
        self.changed.forget_before(oldest);
    }
}

impl Marks {
    fn set(&mut self, inode: InodeId, moment: u64) {
        self.newest.insert(inode, moment);
        self.in_order.push_back((moment, inode));
    }

    fn is_after(&self, inode: InodeId, moment: u64) -> bool {
        self.newest.get(&inode).is_some_and(|mark| *mark > moment)
    }

    fn forget_before(&mut self, oldest: u64) {
        while let Some((moment, inode)) = self.in_order.front().copied().filter(|(moment, _)| *moment < oldest) {
            self.in_order.pop_front();
            if self.newest.get(&inode) == Some(&moment) {
                self.newest.remove(&inode);
            }
        }
    }
}
