//! Histories that could have happened, and such that could not.

use std::collections::BTreeSet;

use super::{Call, Checked, History, Inode, Life, Operation, ROOT, Reply, check, shorten};

const FILE: Inode = 7;

fn life(client: u32) -> Life {
    Life { client, number: 1 }
}

/// An operation of a client from `begin` to `end`.
fn at(client: u32, begin: u64, end: u64, call: Call, reply: Reply) -> Operation {
    Operation { life: life(client), call, reply, begin, end }
}

fn write(cell: u32, value: u32) -> Call {
    Call::Write { inode: FILE, cell, cells: 1, value }
}

fn append(value: u32) -> Call {
    Call::Append { inode: FILE, cells: 1, value }
}

fn read(cells: u32) -> Call {
    Call::Read { inode: FILE, cell: 0, cells }
}

fn seen(cells: &[u32]) -> Reply {
    Reply::Cells(cells.to_vec())
}

fn create(name: &str) -> Call {
    Call::Create { directory: ROOT, name: name.into(), exclusive: true }
}

fn lookup(name: &str) -> Call {
    Call::Lookup { directory: ROOT, name: name.into() }
}

fn rename(from: &str, to: &str) -> Call {
    Call::Rename { from: (ROOT, from.into()), to: (ROOT, to.into()) }
}

fn refused() -> Reply {
    Reply::Refused("ENOENT".into())
}

fn lost(client: u32, begin: u64) -> Operation {
    at(client, begin, u64::MAX, Call::Lose, Reply::Unknown)
}

#[track_caller]
fn could_happen(operations: &[Operation]) -> Checked {
    let checked = check(operations);
    assert!(checked.violations.is_empty() && checked.undecided.is_empty(), "{checked:#?}");
    checked
}

#[track_caller]
fn could_not_happen(operations: &[Operation]) {
    let checked = check(operations);
    assert_eq!(checked.violations.len(), 1, "{checked:#?}");
}

#[test]
fn a_write_that_returned_is_seen_by_every_later_read() {
    could_happen(&[at(1, 1, 2, write(0, 5), Reply::Done), at(2, 3, 4, read(1), seen(&[5]))]);
    could_not_happen(&[at(1, 1, 2, write(0, 5), Reply::Done), at(2, 3, 4, read(1), seen(&[]))]);
}

#[test]
fn a_write_that_runs_may_be_seen_or_not_but_not_unseen_again() {
    let running = at(1, 1, 8, write(0, 5), Reply::Done);
    could_happen(&[running.clone(), at(2, 2, 3, read(1), seen(&[])), at(2, 4, 5, read(1), seen(&[5]))]);
    could_not_happen(&[running, at(2, 2, 3, read(1), seen(&[5])), at(3, 4, 5, read(1), seen(&[]))]);
}

#[test]
fn an_unknown_write_may_come_late_or_never() {
    let unknown = at(1, 1, u64::MAX, write(0, 5), Reply::Unknown);
    could_happen(&[unknown.clone(), at(2, 2, 3, read(1), seen(&[])), at(2, 4, 5, read(1), seen(&[5]))]);
    could_happen(&[unknown.clone(), at(2, 2, 3, read(1), seen(&[]))]);
    could_not_happen(&[unknown, at(2, 2, 3, read(1), seen(&[5])), at(2, 4, 5, read(1), seen(&[]))]);
}

#[test]
fn cells_of_one_read_have_moments_of_their_own() {
    let writes = [at(1, 2, 3, write(0, 5), Reply::Done), at(1, 4, 5, write(1, 6), Reply::Done)];
    let with = |found: &[u32]| [&[at(2, 1, 9, read(2), seen(found))], &writes[..]].concat();
    could_happen(&with(&[0, 6]));
    could_happen(&with(&[5, 0]));
    could_not_happen(&with(&[7, 6]));
}

#[test]
fn appends_all_land_at_the_true_end() {
    let both = [at(1, 1, 4, append(5), Reply::Done), at(2, 2, 3, append(6), Reply::Done)];
    let then = |found: &[u32]| [&both[..], &[at(3, 5, 6, read(4), seen(found))]].concat();
    could_happen(&then(&[5, 6]));
    could_happen(&then(&[6, 5]));
    could_not_happen(&then(&[6]));
}

#[test]
fn a_lost_client_takes_the_newest_of_its_writes_and_nothing_else() {
    let writes = [at(1, 1, 2, append(5), Reply::Done), at(1, 3, 4, append(6), Reply::Done), lost(1, 5)];
    let then = |found: &[u32]| [&writes[..], &[at(2, 6, 7, read(4), seen(found))]].concat();
    could_happen(&then(&[5, 6]));
    could_happen(&then(&[5]));
    could_happen(&then(&[]));
    // The middle is gone.
    could_not_happen(&then(&[0, 6]));
    // Without a loss nothing may be gone.
    could_not_happen(&[writes[0].clone(), at(2, 6, 7, read(4), seen(&[]))]);
}

#[test]
fn what_was_synced_survives_the_loss() {
    let synced = at(1, 3, 4, Call::Sync { inode: FILE }, Reply::Done);
    let loss = [at(1, 1, 2, append(5), Reply::Done), synced, at(1, 5, 6, append(6), Reply::Done), lost(1, 7)];
    let then = |found: &[u32]| [&loss[..], &[at(2, 8, 9, read(4), seen(found))]].concat();
    could_happen(&then(&[5]));
    could_not_happen(&then(&[]));
}

#[test]
fn what_another_client_has_seen_survives_the_loss() {
    let seen_first =
        [at(1, 1, 2, write(0, 5), Reply::Done), at(2, 3, 4, Call::Size { inode: FILE }, Reply::Size(1)), lost(1, 5)];
    could_not_happen(&[&seen_first[..], &[at(2, 6, 7, read(4), seen(&[]))]].concat());
}

#[test]
fn a_name_that_was_removed_is_not_seen_again() {
    let removed = Call::Unlink { directory: ROOT, name: "a".into() };
    let before = [at(1, 1, 2, create("a"), Reply::Node(FILE)), at(1, 3, 4, removed, Reply::Done)];
    could_happen(&[&before[..], &[at(2, 5, 6, lookup("a"), refused())]].concat());
    could_not_happen(&[&before[..], &[at(2, 5, 6, lookup("a"), Reply::Node(FILE))]].concat());
}

#[test]
fn a_rename_is_seen_whole() {
    let listing = |names: &[&str]| {
        let found: BTreeSet<_> = names.iter().map(|name| ((*name).to_owned(), FILE)).collect();
        at(2, 3, 6, Call::List { directory: ROOT }, Reply::Entries(found))
    };
    let with = |names: &[&str]| {
        vec![at(1, 1, 2, create("a"), Reply::Node(FILE)), listing(names), at(1, 4, 5, rename("a", "b"), Reply::Done)]
    };
    could_happen(&with(&["a"]));
    could_happen(&with(&["b"]));
    could_not_happen(&with(&[]));
    could_not_happen(&with(&["a", "b"]));
}

#[test]
fn a_rename_may_find_both_names_to_be_one_file_and_changes_nothing_else() {
    let with = |reply: Reply, then: Operation| {
        vec![
            at(1, 1, 2, create("a"), Reply::Node(FILE)),
            at(1, 3, 6, rename("a", "b"), Reply::Done),
            at(2, 4, 5, rename("a", "b"), reply),
            then,
        ]
    };
    let moved = at(2, 7, 8, lookup("b"), Reply::Node(FILE));
    could_happen(&with(Reply::DoneOrSame, moved.clone()));
    could_not_happen(&with(Reply::Done, moved));
    let lost = [at(1, 1, 2, create("a"), Reply::Node(FILE)), at(2, 3, 4, rename("a", "b"), Reply::DoneOrSame)];
    could_not_happen(&[&lost[..], &[at(2, 5, 6, lookup("a"), Reply::Node(FILE))]].concat());
}

#[test]
fn only_one_of_two_exclusive_creations_succeeds() {
    let first = at(1, 1, 4, create("a"), Reply::Node(FILE));
    could_happen(&[first.clone(), at(2, 2, 3, create("a"), Reply::Refused("EEXIST".into()))]);
    could_not_happen(&[first, at(2, 2, 3, create("a"), Reply::Node(8))]);
}

#[test]
fn an_inode_of_an_unanswered_creation_gets_the_number_first_seen() {
    let unknown = at(1, 1, u64::MAX, create("a"), Reply::Unknown);
    could_happen(&[
        unknown.clone(),
        at(2, 2, 3, lookup("a"), Reply::Node(9)),
        at(3, 4, 5, lookup("a"), Reply::Node(9)),
    ]);
    could_not_happen(&[unknown, at(2, 2, 3, lookup("a"), Reply::Node(9)), at(3, 4, 5, lookup("a"), Reply::Node(10))]);
}

/// As many as two real mounts make, with calls that overlap and some without an answer.
#[test]
fn a_long_history_is_decided_soon() {
    let history = History::new();
    let mut cells = [0; 4];
    for round in 1..=25_000_u32 {
        let cell = round % 4;
        let writing = history.begin(life(1), write(cell, round));
        let reading = history.begin(life(2), Call::Read { inode: FILE, cell, cells: 1 });
        let before = cells[cell as usize];
        cells[cell as usize] = round;
        let sees = if round % 2 == 0 || round <= 4 { round } else { before };
        history.end(reading, seen(&[sees]));
        history.end(writing, if round % 1000 == 0 { Reply::Unknown } else { Reply::Done });
        let naming = history.begin(life(1), lookup("absent"));
        history.end(naming, refused());
        let whole = history.begin(life(2), Call::Size { inode: FILE });
        history.end(whole, Reply::Size(4.min(cell + 1).max(if round >= 3 { 4 } else { 0 })));
        assert_eq!(history.settled(), u64::from(round) * 4);
    }
    let (operations, broken) = history.take();
    assert!(broken.is_empty() && operations.len() == 100_000);
    let checked = could_happen(&operations);
    assert!(checked.steps < 1_000_000, "{}", checked.steps);
}

#[test]
fn a_violation_is_shortened_to_the_calls_that_contradict_each_other() {
    let mut operations = Vec::new();
    for number in 0..200 {
        operations.push(at(1, number * 10, number * 10 + 1, write(0, number as u32 + 1), Reply::Done));
        let sees = if number == 150 { 100 } else { number as u32 + 1 };
        operations.push(at(2, number * 10 + 2, number * 10 + 3, read(1), seen(&[sees])));
        operations.push(at(2, number * 10 + 4, number * 10 + 5, lookup("absent"), refused()));
    }
    let [short] = &shorten(&operations)[..] else { panic!("one object is wrong") };
    could_not_happen(short);
    assert_eq!(short.last().map(|last| last.begin), Some(1502));
    assert_eq!(short.iter().filter(|operation| operation.call.reads()).count(), 1);
    assert!(shorten(&operations[..30]).is_empty());
}
