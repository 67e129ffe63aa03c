//! Recalls of exclusive leases: progress, its limit, eviction.

use super::*;
use crate::lease::Output;

#[test]
fn a_query_recalls_an_exclusive_lease_without_a_pin() {
    let mut table = table();
    let query = begin(&mut table, B, &[shows(X, A)], 0);
    assert!(!table.is_pinned(X));
    let asked = mail(&mut table, A, 0);
    assert!(matches!(asked[..], [(X, _, true, false)]));
    assert_eq!(table.look(query, ms(0)), wait(EXCLUSIVE));
    assert!(!grant(&mut table, A, X, 0), "the answer to the recall is to come");
    table.recall_done(A, asked[0].1, false, ms(5));
    assert_eq!(table.look(query, ms(5)), clear());
}

#[test]
fn the_holder_of_the_exclusive_lease_changes_its_own_file_freely() {
    let mut table = table();
    let commit = begin(&mut table, A, &[Need { exclusive: Some(A), ..changes(X) }], 0);
    assert_eq!(table.look(commit, ms(0)), clear());
    let query = begin(&mut table, B, &[shows(X, A)], 0);
    let flush = begin(&mut table, A, &[Need { exclusive: Some(A), ..changes(X) }], 0);
    assert!(matches!(table.look(query, ms(0)), Standing::Wait { .. }));
    assert_eq!(table.look(flush, ms(0)), clear(), "the flush of a recall waits for nobody");
}

#[test]
fn a_holder_that_makes_progress_is_waited_for() {
    let mut table = table();
    let query = begin(&mut table, B, &[shows(X, A)], 0);
    for at in (1000..60_000).step_by(1000) {
        table.progress(A, ms(at));
        renew(&mut table, A, at);
        assert!(matches!(table.look(query, ms(at)), Standing::Wait { .. }), "at {at}");
    }
    assert!(!table.drain().contains(&Output::Evict(A)));
}

#[test]
fn a_holder_without_progress_is_evicted_when_it_uses_nothing_any_more() {
    let mut table = table();
    let query = begin(&mut table, B, &[shows(X, A)], 1000);
    for at in (1250..=11_000).step_by(250) {
        let Renewal::Renewed { exclusive, .. } = renew(&mut table, A, at) else { panic!("at {at}") };
        assert_eq!(exclusive, ms(11_000 - at), "never longer than until it may be evicted");
    }
    // The longest that any of these keep-alives allowed, with its drift.
    let end = 11_205;
    assert!(matches!(table.look(query, ms(end - 1)), Standing::Wait { .. }));
    table.drain();
    assert_eq!(table.look(query, ms(end)), Standing::Wait { until: None });
    assert!(table.drain().contains(&Output::Evict(A)));
    assert_eq!(table.look(query, ms(end + 1)), Standing::Wait { until: None });
    assert_eq!(table.drain(), [], "once");
    assert_eq!(table.fence(A).map(|until| (until.shared, until.exclusive)), Some((ms(11_000 + SHARED), ms(end))));
    assert_eq!(renew(&mut table, A, end), Renewal::Fenced);
    assert!(!grant(&mut table, A, Y, end));
    table.drain();
    table.end_session(A);
    assert_eq!(table.drain(), [Output::Mail(A), Output::Wake(query)]);
    assert_eq!(table.look(query, ms(end + 2)), clear());
}

#[test]
fn a_silent_holder_is_evicted_an_exclusive_lease_after_its_last_sign_of_life() {
    let mut table = table();
    renew(&mut table, A, 3000);
    let query = begin(&mut table, B, &[shows(X, A)], 5000);
    assert_eq!(table.look(query, ms(5000)), wait(3000 + EXCLUSIVE));
    table.look(query, ms(3000 + EXCLUSIVE));
    assert!(table.drain().contains(&Output::Evict(A)));
    assert_eq!(table.fence(A).map(|until| until.exclusive), Some(ms(3000 + EXCLUSIVE)));
}

#[test]
fn a_new_leader_gives_exclusive_holders_the_whole_time() {
    let mut table = LeaseTable::new(LeaseRules::default(), TERM, ms(0), [A]);
    table.open_session(B, ms(0));
    let query = begin(&mut table, B, &[shows(X, A)], 0);
    assert_eq!(table.look(query, ms(0)), wait(EXCLUSIVE), "a query does not wait for the failover");
}

#[test]
fn an_exclusive_lease_is_taken_only_where_nobody_waits() {
    let mut table = table();
    let own = begin(&mut table, A, &[changes(X)], 0);
    assert!(table.may_take_exclusive(own, X, ms(0)));
    let other = begin(&mut table, B, &[changes(X)], 0);
    assert!(!table.may_take_exclusive(own, X, ms(0)));
    table.abandon(other);
    assert!(table.may_take_exclusive(own, X, ms(0)));
    begin(&mut table, B, &[shows(X, A)], 0);
    assert!(!table.may_take_exclusive(own, X, ms(0)), "a query recalls it from this session");
}

#[test]
fn shared_leases_that_are_given_up_leave_the_exclusive_recall_alone() {
    let mut table = table();
    grant(&mut table, A, Y, 0);
    let query = begin(&mut table, B, &[shows(X, A)], 0);
    let change = begin(&mut table, B, &[changes(Y)], 0);
    assert_eq!(table.look(change, ms(SHARED)), clear());
    assert!(matches!(table.look(query, ms(SHARED)), Standing::Wait { .. }));
    assert!(mail(&mut table, A, SHARED).iter().any(|(inode, _, exclusive, _)| (*inode, *exclusive) == (X, true)));
}
