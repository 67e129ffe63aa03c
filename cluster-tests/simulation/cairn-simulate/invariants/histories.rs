//! The histories of all clients are linearizable: names as one object, the bytes of each file as one.
//! With it come two more promises: what was synced survives, and a client that is lost takes the
//! newest of its writes with it, never one in the middle; both are part of the model of a file.

use std::collections::BTreeMap;

use crate::checker::bytes::{FileBytes, FileState};
use crate::checker::names::{Names, Tree};
use crate::checker::{Event, Verdict, search};
use crate::history::{Call, Inode, Operation, Reply, Value};

/// What the checks found, and what they cost.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) violations: Vec<String>,
    pub(crate) undecided: Vec<String>,
    pub(crate) objects: u64,
    pub(crate) steps: u64,
}

/// Checks a whole run.
pub(crate) fn check(operations: &[Operation]) -> Checked {
    let mut names = Vec::new();
    let mut files: BTreeMap<Inode, Vec<Event>> = BTreeMap::new();
    for operation in operations {
        let Operation { life, call, reply, begin, end } = operation.clone();
        let event = Event { life, call, reply, begin, end };
        match event.call.file() {
            Some(inode) if matters(&event) => {
                let events = files.entry(inode).or_default();
                events.extend(seen_cells(&event));
                events.push(event);
            }
            None if matters(&event) && event.call != Call::Lose => names.push(event),
            _ => {}
        }
    }
    let mut checked = Checked::default();
    let verdict = search(&Names, Tree::default(), &names);
    checked.take("the names of the tree", verdict);
    for (inode, mut events) in files {
        let losses = operations.iter().filter(|operation| operation.call == Call::Lose);
        for Operation { life, begin, .. } in losses {
            if events.iter().any(|event| event.life == *life && matches!(event.call, Call::Write { .. })) {
                let (call, reply) = (Call::Lose, Reply::Unknown);
                events.push(Event { life: *life, call, reply, begin: *begin, end: u64::MAX });
            }
        }
        events.sort_by_key(|event| event.begin);
        let verdict = search(&FileBytes, FileState::default(), &events);
        checked.take(&format!("the bytes of inode {inode}"), verdict);
    }
    checked
}

/// What a read saw of each cell.
fn seen_cells(event: &Event) -> Vec<Event> {
    let (Call::Read { inode, cell, .. }, Reply::Cells(found)) = (&event.call, &event.reply) else { return Vec::new() };
    let seen = |(index, value): (usize, &Value)| Event {
        call: Call::Cell { inode: *inode, cell: cell + index as u32 },
        reply: Reply::Cells(vec![*value]),
        ..event.clone()
    };
    found.iter().enumerate().map(seen).collect()
}

/// Whether the operation says or does anything.
fn matters(event: &Event) -> bool {
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
