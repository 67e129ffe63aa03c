//! Generations, horizons, limits, and the end of sessions.

use super::*;

#[test]
fn a_mount_without_the_generation_is_told_it_and_renews_nothing() {
    let mut table = LeaseTable::new(LeaseRules::default(), TERM, ms(0), []);
    table.open_session(A, ms(0));
    let none = LeaseGeneration::default();
    assert_eq!(table.keep_alive(A, none, ms(500), ms(500)), Renewal::Changed { generation: generation(1) });
    assert_eq!(table.session(A).unwrap().horizon, ms(SHARED));
    let renewed = Renewal::Renewed { generation: generation(1), exclusive: ms(10_000) };
    assert_eq!(table.keep_alive(A, generation(1), ms(600), ms(600)), renewed);
    assert_eq!(table.session(A).unwrap().horizon, ms(600 + SHARED));
}

#[test]
fn a_horizon_never_goes_back() {
    let mut table = table();
    renew(&mut table, A, 500);
    renew(&mut table, A, 400);
    assert_eq!(table.session(A).unwrap().horizon, ms(500 + SHARED));
}

#[test]
fn unknown_sessions_get_nothing() {
    let mut table = table();
    let stranger = SessionId(9);
    assert_eq!(table.keep_alive(stranger, generation(1), ms(0), ms(0)), Renewal::Fenced);
    assert!(!grant(&mut table, stranger, X, 0));
    assert_eq!(table.recall_done(stranger, 1, false, ms(0)), None);
    assert_eq!(table.fence(stranger), None);
}

#[test]
fn a_session_may_hold_so_much_and_no_more() {
    let rules = LeaseRules { most_leases: 2, ..LeaseRules::default() };
    let mut table = LeaseTable::new(rules, TERM, ms(0), []);
    table.open_session(A, ms(0));
    assert_eq!(table.grant(A, &[X, Y, InodeId(12)], ms(0)), [InodeId(12)]);
    assert!(grant(&mut table, A, X, 1), "it has this one");
    table.give_back(A, &[X]);
    assert!(grant(&mut table, A, InodeId(12), 1));
}

#[test]
fn a_lease_that_was_given_back_is_not_recalled() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    table.return_leases(A, generation(1), 1, &[X, Y]);
    let change = begin(&mut table, B, &[changes(X)], 0);
    assert_eq!(table.look(change, ms(0)), clear());
    assert_eq!(table.totals().leases, 0);
}

#[test]
fn a_return_that_comes_late_takes_nothing_that_was_granted_since() {
    let mut table = table();
    table.return_leases(A, generation(1), 2, &[X]);
    grant(&mut table, A, X, 0);
    table.return_leases(A, generation(1), 2, &[X]);
    table.return_leases(A, generation(1), 1, &[X]);
    table.return_leases(A, generation(2), 3, &[X]);
    assert_eq!(table.holders_of(X), [A]);
    table.return_leases(A, generation(1), 3, &[X]);
    assert_eq!(table.holders_of(X), []);
}

#[test]
fn nothing_is_left_of_a_session_that_ended() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    grant(&mut table, A, Y, 0);
    let change = begin(&mut table, B, &[changes(X)], 0);
    table.end_session(A);
    assert_eq!(table.look(change, ms(0)), clear());
    table.finish(change, &[], ms(0));
    let totals = table.totals();
    assert_eq!((totals.sessions, totals.leases, totals.pinned, totals.recalls), (2, 0, 0, 0));
}
