//! A violation for people: as little of the history as still has no order. Only what looks can be left
//! out, and what came later: without a change, the calls that have seen it would be wrong, too.

use super::check::check;
use super::history::{Inode, Operation, Reply};

/// For each object that has a violation the shortest part that was found of its history, the shortest of
/// all first. Operations are sorted by their begin.
pub fn shorten(operations: &[Operation]) -> Vec<Vec<Operation>> {
    let mut objects: Vec<Option<Inode>> = operations.iter().map(|operation| operation.call.file()).collect();
    objects.sort_unstable();
    objects.dedup();
    let of = |object| -> Vec<Operation> {
        operations.iter().filter(move |operation| operation.call.file() == object).cloned().collect()
    };
    let wrong = objects.into_iter().map(of).filter(|history| is_wrong(history));
    let mut short: Vec<_> = wrong.map(|history| without_looks(up_to_the_fault(&history))).collect();
    short.sort_by_key(Vec::len);
    short
}

fn is_wrong(operations: &[Operation]) -> bool {
    !check(operations).violations.is_empty()
}

/// The shortest beginning that is wrong: what is right stays right in every part of it.
fn up_to_the_fault(history: &[Operation]) -> Vec<Operation> {
    let mut ends: Vec<u64> = history.iter().map(|operation| operation.end).collect();
    ends.sort_unstable();
    let first_wrong = ends.partition_point(|end| !is_wrong(&until(history, *end)));
    until(history, ends.get(first_wrong).copied().unwrap_or(u64::MAX))
}

/// What is known at that moment: of calls that run, only that they were made.
fn until(history: &[Operation], moment: u64) -> Vec<Operation> {
    let begun = history.iter().filter(|operation| operation.begin <= moment).cloned();
    begun
        .map(|mut operation| {
            if operation.end > moment {
                operation.end = u64::MAX;
                operation.reply = Reply::Unknown;
            }
            operation
        })
        .filter(|operation| operation.end != u64::MAX || !operation.call.reads())
        .collect()
}

/// Leaves out what only looks, many at once at first.
fn without_looks(mut history: Vec<Operation>) -> Vec<Operation> {
    let mut at_once = history.len();
    while at_once > 0 {
        let mut from = 0;
        while from < history.len() {
            let to = (from + at_once).min(history.len());
            let mut shorter = history.clone();
            let mut index = 0;
            shorter.retain(|operation| {
                index += 1;
                !(from < index && index <= to && operation.call.reads())
            });
            if shorter.len() < history.len() && is_wrong(&shorter) {
                from = to - (history.len() - shorter.len());
                history = shorter;
            } else {
                from = to;
            }
        }
        at_once /= 2;
    }
    history
}
