//! A new leader: no change until everybody has checked in, or until nobody uses anything old.

use super::*;
use crate::lease::Output;

fn new_leader() -> LeaseTable {
    LeaseTable::new(LeaseRules::default(), TERM, ms(100), [A, B])
}

#[test]
fn changes_wait_until_all_have_checked_in() {
    let mut table = new_leader();
    let change = begin(&mut table, A, &[changes(X)], 100);
    assert_eq!(table.look(change, ms(100)), wait(100 + SHARED));
    let old = LeaseGeneration(4 << 24);
    assert_eq!(table.keep_alive(A, old, ms(110), ms(110)), Renewal::Changed { generation: generation(1) });
    assert!(grant(&mut table, A, Y, 120), "leases of open files are reclaimed before it checks in");
    renew(&mut table, A, 130);
    assert_eq!(table.look(change, ms(130)), wait(100 + SHARED));
    table.drain();
    renew(&mut table, B, 140);
    assert_eq!(table.drain(), [Output::Wake(change)]);
    assert_eq!(table.look(change, ms(140)), clear());
    assert_eq!(table.holders_of(Y), [A], "what was reclaimed stays");
}

#[test]
fn who_never_comes_delays_changes_no_longer_than_a_shared_lease() {
    let mut table = new_leader();
    renew(&mut table, A, 110);
    let change = begin(&mut table, A, &[changes(X)], 110);
    assert_eq!(table.look(change, ms(100 + SHARED - 1)), wait(100 + SHARED));
    assert_eq!(table.look(change, ms(100 + SHARED)), clear());
}

#[test]
fn the_end_of_a_session_counts_as_its_coming() {
    let mut table = new_leader();
    renew(&mut table, A, 110);
    let change = begin(&mut table, A, &[changes(X)], 110);
    table.end_session(B);
    assert_eq!(table.look(change, ms(111)), clear());
}

#[test]
fn whoever_has_not_come_may_have_any_file_open() {
    let mut table = new_leader();
    renew(&mut table, A, 110);
    let unlink = begin(&mut table, A, &[Need { last_name: true, ..changes(X) }], 110);
    assert_eq!(table.look(unlink, ms(100 + SHARED)), Standing::Clear { keep_open: vec![B] });
}

#[test]
fn sessions_of_this_leader_delay_nothing() {
    let mut table = LeaseTable::new(LeaseRules::default(), TERM, ms(100), []);
    table.open_session(A, ms(110));
    let change = begin(&mut table, A, &[changes(X)], 110);
    assert_eq!(table.look(change, ms(110)), clear());
}

#[test]
fn a_change_without_pins_does_not_wait() {
    let mut table = new_leader();
    let release = begin(&mut table, A, &[], 100);
    assert_eq!(table.look(release, ms(100)), clear());
}

#[test]
fn an_answer_to_the_leader_before_hits_nothing() {
    let mut old = table();
    grant(&mut old, A, X, 0);
    begin(&mut old, B, &[changes(X)], 0);
    let ticket = mail(&mut old, A, 0)[0].1;
    let mut new = LeaseTable::new(LeaseRules::default(), TERM + 1, ms(0), [A, B]);
    renew(&mut new, A, 0);
    grant(&mut new, A, X, 0);
    begin(&mut new, B, &[changes(X)], 0);
    assert_eq!(new.recall_done(A, ticket, false, ms(1)), None);
}
