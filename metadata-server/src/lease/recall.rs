//! What a session was asked to give back and has not answered: its mail.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_common::ids::InodeId;
use cairn_common::protocol::metadata::SessionEvent;

use super::change::ChangeId;

/// A question to one session about one inode.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Recall {
    /// The exclusive lease, too.
    pub(super) exclusive: bool,
    /// Whether a program has the file open is asked for a last name that goes.
    pub(super) last_name: bool,
    pub(super) issued: Duration,
    /// When it was last put into an answer.
    handed_out: Option<Duration>,
    /// Who waits for the answer.
    pub(super) waiters: BTreeSet<ChangeId>,
}

/// All unanswered recalls of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Recalls {
    open: BTreeMap<(InodeId, u64), Recall>,
    inode_of: BTreeMap<u64, InodeId>,
}

impl Recalls {
    pub(super) fn insert(&mut self, inode: InodeId, ticket: u64, exclusive: bool, last_name: bool, now: Duration) {
        let recall = Recall { exclusive, last_name, issued: now, handed_out: None, waiters: BTreeSet::new() };
        self.open.insert((inode, ticket), recall);
        self.inode_of.insert(ticket, inode);
    }

    /// A recall of the inode that asks at least this much.
    pub(super) fn fitting(&self, inode: InodeId, exclusive: bool, last_name: bool) -> Option<u64> {
        let asked = |recall: &Recall| recall.exclusive >= exclusive && recall.last_name >= last_name;
        let of_inode = self.open.range((inode, 0)..=(inode, u64::MAX));
        of_inode.filter(|(_, recall)| asked(recall)).map(|((_, ticket), _)| *ticket).next()
    }

    pub(super) fn get_mut(&mut self, ticket: u64) -> Option<&mut Recall> {
        let inode = *self.inode_of.get(&ticket)?;
        self.open.get_mut(&(inode, ticket))
    }

    pub(super) fn get(&self, ticket: u64) -> Option<&Recall> {
        let inode = *self.inode_of.get(&ticket)?;
        self.open.get(&(inode, ticket))
    }

    pub(super) fn remove(&mut self, ticket: u64) -> Option<(InodeId, Recall)> {
        let inode = self.inode_of.remove(&ticket)?;
        self.open.remove(&(inode, ticket)).map(|recall| (inode, recall))
    }

    /// Tickets, with their recalls, in the order of their making.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &Recall)> {
        self.inode_of.iter().filter_map(|(ticket, inode)| Some((*ticket, self.open.get(&(*inode, *ticket))?)))
    }

    /// Since when the oldest recall of a kind is unanswered.
    pub(super) fn oldest(&self, exclusive: bool) -> Option<Duration> {
        self.all().filter(|(_, recall)| recall.exclusive == exclusive).map(|(_, recall)| recall.issued).min()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// What is to be told now: what was never told, and what was told `redeliver` ago, at most `limit`.
    pub(super) fn take(&mut self, now: Duration, redeliver: Duration, limit: usize) -> Vec<SessionEvent> {
        let mut events = Vec::new();
        for (ticket, inode) in &self.inode_of {
            let Some(recall) = self.open.get_mut(&(*inode, *ticket)) else { continue };
            if recall.handed_out.is_some_and(|at| now.saturating_sub(at) < redeliver) {
                continue;
            }
            recall.handed_out = Some(now);
            let Recall { exclusive, last_name, .. } = *recall;
            events.push(SessionEvent::Recall { inode: *inode, ticket: *ticket, exclusive, last_name });
            if events.len() == limit {
                break;
            }
        }
        events
    }
}
