//! The histories of all clients are linearizable: names as one object, the bytes of each file as one.
//! With it come two more promises: what was synced survives, and a client that is lost takes the
//! newest of its writes with it, never one in the middle; both are part of the model of a file.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::{FileBytes, FileState};
use super::history::{Call, Inode, Life, Operation, Reply, Value};
use super::names::{Names, Tree};
use super::search::{Verdict, search};

/// What the checks found, and what they cost.
#[derive(Debug, Default)]
pub struct Checked {
    /// What no order of the operations explains, for people; empty if all is well.
    pub violations: Vec<String>,
    /// Objects whose search was given up: neither right nor wrong.
    pub undecided: Vec<String>,
    /// Number of objects that were checked.
    pub objects: u64,
    /// Steps of all searches.
    pub steps: u64,
}

/// Checks a whole history, in the order of its begins.
pub fn check(operations: &[Operation]) -> Checked {
    let mut names = Vec::new();
    let mut files: BTreeMap<Inode, Vec<Operation>> = BTreeMap::new();
    for operation in operations.iter().filter(|operation| matters(operation)) {
        match operation.call.file() {
            Some(inode) => {
                let events = files.entry(inode).or_default();
                events.extend(seen_cells(operation));
                events.push(operation.clone());
            }
            None if operation.call == Call::Lose => {}
            None => names.push(operation.clone()),
        }
    }
    let mut checked = Checked::default();
    let verdict = search(&Names, Tree::default(), &names);
    checked.take("the names of the tree", verdict);
    let losses: Vec<_> = operations.iter().filter(|operation| operation.call == Call::Lose).cloned().collect();
    for (inode, mut events) in files {
        let wrote = |life: &Life| events.iter().any(|event| event.life == *life && event.call.is_write());
        let losses: Vec<_> = losses.iter().filter(|loss| wrote(&loss.life)).cloned().collect();
        let lost: BTreeSet<Life> = losses.iter().map(|loss| loss.life).collect();
        events.extend(losses);
        events.sort_by_key(|event| event.begin);
        let verdict = search(&FileBytes { lost }, FileState::default(), &events);
        checked.take(&format!("the bytes of inode {inode}"), verdict);
    }
    checked
}

/// What a read saw of each cell.
fn seen_cells(event: &Operation) -> Vec<Operation> {
    let (Call::Read { inode, cell, .. }, Reply::Cells(found)) = (&event.call, &event.reply) else { return Vec::new() };
    let seen = |(index, value): (usize, &Value)| Operation {
        call: Call::Cell { inode: *inode, cell: cell + index as u32 },
        reply: Reply::Cells(vec![*value]),
        ..event.clone()
    };
    found.iter().enumerate().map(seen).collect()
}

/// Whether the operation says or does anything.
fn matters(event: &Operation) -> bool {
    let refused = matches!(event.reply, Reply::Refused(_)) && event.call.file().is_some();
    !(refused || event.call.reads() && event.reply == Reply::Unknown)
}

impl Checked {
    fn take(&mut self, object: &str, verdict: Verdict) {
        self.objects += 1;
        match verdict {
            Verdict::Linearizable(steps) => self.steps += steps,
            Verdict::Impossible { longest, next } => self.violations.push(format!(
                "histories: {object}: no order of the operations explains the replies; after {longest} of them none of these can come next:\n    {}",
                next.join("\n    ")
            )),
            Verdict::Undecided => self.undecided.push(object.to_owned()),
        }
    }
}
