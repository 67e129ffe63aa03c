//! Pins, recalls of shared leases, and what a change's sender holds afterwards.

use super::*;
use crate::lease::Output;

#[test]
fn a_change_that_nobody_is_affected_by_goes_on_at_once() {
    let mut table = table();
    assert!(grant(&mut table, A, Y, 0));
    let change = begin(&mut table, B, &[changes(X)], 0);
    assert_eq!(table.look(change, ms(0)), clear());
    assert_eq!(table.drain(), []);
}

#[test]
fn a_pinned_inode_is_granted_to_nobody_until_the_last_pin_is_gone() {
    let mut table = table();
    let one = begin(&mut table, A, &[changes(X)], 0);
    let two = begin(&mut table, B, &[changes(X), changes(Y)], 0);
    assert_eq!(table.grant(C, &[X, Y, InodeId(12)], ms(0)), [X, Y]);
    assert_eq!(table.look(two, ms(0)), clear(), "pins do not exclude each other");
    assert_eq!(table.finish(one, &[X], ms(1)), [], "another change may be about to change it again");
    assert!(!grant(&mut table, C, X, 1));
    assert_eq!(table.finish(two, &[X, Y], ms(2)), [X, Y]);
    assert!(grant(&mut table, C, X, 2));
    assert_eq!(table.holders_of(X), [B, C]);
}

#[test]
fn a_change_waits_for_every_holder_and_for_nobody_else() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    grant(&mut table, B, X, 0);
    grant(&mut table, C, Y, 0);
    let change = begin(&mut table, C, &[changes(X)], 10);
    assert_eq!(table.drain(), [Output::Mail(A), Output::Mail(B)]);
    assert_eq!(table.look(change, ms(10)), wait(SHARED));
    assert_eq!(answer(&mut table, A, false, 20), 1);
    assert_eq!(table.look(change, ms(20)), wait(SHARED), "one has answered");
    assert_eq!(answer(&mut table, B, false, 30), 1);
    assert_eq!(table.drain(), [Output::Mail(A), Output::Mail(B), Output::Wake(change)]);
    assert_eq!(table.look(change, ms(30)), clear());
    assert_eq!(table.holders_of(X), []);
    assert_eq!(answer(&mut table, C, false, 30), 0);
}

#[test]
fn what_the_sender_has_put_aside_needs_no_recall_and_the_rest_does() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    grant(&mut table, A, Y, 0);
    let covered = Need { covered: true, ..changes(X) };
    let change = begin(&mut table, A, &[covered, changes(Y)], 0);
    assert_eq!(mail(&mut table, A, 0).iter().map(|asked| asked.0).collect::<Vec<_>>(), [Y]);
    assert_eq!(table.look(change, ms(0)), wait(SHARED));
}

#[test]
fn a_covered_lease_does_not_outlive_a_change_that_may_not_renew_it() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    let own = begin(&mut table, A, &[Need { covered: true, ..changes(X) }], 0);
    let other = begin(&mut table, B, &[changes(X)], 0);
    assert_eq!(table.finish(own, &[X], ms(1)), []);
    assert_eq!(table.holders_of(X), []);
    assert_eq!(table.look(other, ms(1)), wait(SHARED), "the recall is not answered all the same");
    answer(&mut table, A, false, 2);
    assert_eq!(table.look(other, ms(2)), clear());
}

#[test]
fn a_lease_that_a_change_may_not_renew_is_still_asked_for() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    let covered = Need { covered: true, ..changes(X) };
    let (first, second) = (begin(&mut table, A, &[covered], 0), begin(&mut table, A, &[covered], 0));
    assert_eq!(table.finish(first, &[X], ms(1)), [], "the second pins it");
    table.abandon(second);
    let other = begin(&mut table, B, &[changes(X)], 2);
    assert_eq!(table.look(other, ms(2)), wait(SHARED), "the kernel of A may believe other names in X");
    answer(&mut table, A, false, 3);
    assert_eq!(table.look(other, ms(3)), clear());
}

#[test]
fn a_session_gets_nothing_on_an_inode_that_it_is_asked_to_give_back() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    let change = begin(&mut table, B, &[changes(X)], 0);
    table.abandon(change);
    assert!(!grant(&mut table, A, X, 1), "its answer to the recall would be taken for this grant, too");
    assert!(grant(&mut table, B, X, 1));
    answer(&mut table, A, false, 2);
    assert!(grant(&mut table, A, X, 3));
}

#[test]
fn two_changes_share_a_recall_and_a_late_answer_hits_nothing() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    let one = begin(&mut table, B, &[changes(X)], 0);
    let two = begin(&mut table, C, &[changes(X)], 0);
    let asked = mail(&mut table, A, 0);
    assert_eq!(asked.len(), 1);
    assert!(mail(&mut table, A, 1).is_empty(), "told once");
    assert_eq!(mail(&mut table, A, 250), asked, "told again when the first answer may be lost");
    assert_eq!(table.recall_done(A, asked[0].1, false, ms(300)), Some(ms(300)));
    assert_eq!(table.recall_done(A, asked[0].1, false, ms(301)), None);
    assert_eq!((table.look(one, ms(301)), table.look(two, ms(301))), (clear(), clear()));
}

#[test]
fn a_silent_holder_costs_its_horizon_and_loses_everything() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    grant(&mut table, A, Y, 0);
    renew(&mut table, A, 500);
    let change = begin(&mut table, B, &[changes(X)], 600);
    assert_eq!(table.look(change, ms(600)), wait(500 + SHARED));
    assert_eq!(table.look(change, ms(500 + SHARED - 1)), wait(500 + SHARED));
    table.drain();
    assert_eq!(table.look(change, ms(500 + SHARED)), clear());
    assert!(table.drain().contains(&Output::GaveUp(A)));
    assert_eq!(table.holders_of(Y), [], "all leases of a session die together");
    assert_eq!(table.keep_alive(A, generation(1), ms(2000), ms(2000)), Renewal::Changed { generation: generation(2) });
    assert!(matches!(table.keep_alive(A, generation(2), ms(2100), ms(2100)), Renewal::Renewed { .. }));
}

#[test]
fn a_holder_that_keeps_alive_and_does_not_answer_is_not_renewed() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    let change = begin(&mut table, B, &[changes(X)], 100);
    assert!(matches!(renew(&mut table, A, 400), Renewal::Renewed { .. }), "patience is not over");
    assert_eq!(renew(&mut table, A, 500), Renewal::Overdue { until: ms(400 + SHARED) });
    let late = table.keep_alive(A, generation(1), ms(500), ms(400 + SHARED));
    assert_eq!(late, Renewal::Changed { generation: generation(2) });
    assert_eq!(table.look(change, ms(400 + SHARED)), clear());
}

#[test]
fn an_answer_ends_the_wait_of_the_keep_alive_too() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    begin(&mut table, B, &[changes(X)], 0);
    assert!(matches!(renew(&mut table, A, 500), Renewal::Overdue { .. }));
    table.drain();
    answer(&mut table, A, false, 600);
    assert!(table.drain().contains(&Output::Mail(A)));
    let renewed = table.keep_alive(A, generation(1), ms(500), ms(600));
    assert!(matches!(renewed, Renewal::Renewed { .. }));
    assert_eq!(table.session(A).unwrap().horizon, ms(500 + SHARED), "from when it was received");
}

#[test]
fn the_last_name_asks_who_has_the_file_open() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    grant(&mut table, B, X, 0);
    let unlink = Need { last_name: true, ..changes(X) };
    let change = begin(&mut table, C, &[unlink], 0);
    assert!(mail(&mut table, A, 0).iter().all(|(.., last_name)| *last_name));
    answer(&mut table, A, true, 600);
    answer(&mut table, B, false, 600);
    assert_eq!(table.look(change, ms(600)), Standing::Clear { keep_open: vec![A] });
}

#[test]
fn who_said_open_is_asked_again_when_the_last_name_goes() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    let chmod = begin(&mut table, B, &[changes(X)], 0);
    let unlink = begin(&mut table, C, &[Need { last_name: true, ..changes(X) }], 0);
    let asked = mail(&mut table, A, 0);
    assert_eq!(asked.len(), 2, "the second asks more than the first");
    for (_, ticket, ..) in asked {
        table.recall_done(A, ticket, true, ms(1));
    }
    assert_eq!(table.look(chmod, ms(1)), clear());
    assert_eq!(table.look(unlink, ms(1)), Standing::Clear { keep_open: vec![A] });
    // Neither removed the name after all; the file is still open there, without any lease.
    table.finish(chmod, &[X], ms(2));
    table.abandon(unlink);
    let again = begin(&mut table, C, &[Need { last_name: true, ..changes(X) }], 2);
    assert!(mail(&mut table, A, 2).iter().any(|(.., last_name)| *last_name));
    assert_eq!(answer(&mut table, A, false, 300), 1);
    assert_eq!(table.look(again, ms(300)), clear(), "now it is closed");
}

#[test]
fn who_has_not_answered_in_time_counts_as_having_it_open() {
    let mut table = table();
    grant(&mut table, A, X, 0);
    let unlink = begin(&mut table, C, &[Need { last_name: true, ..changes(X) }], 0);
    assert_eq!(table.look(unlink, ms(SHARED)), Standing::Clear { keep_open: vec![A] });
    table.abandon(unlink);
    let other = begin(&mut table, C, &[Need { last_name: true, ..changes(Y) }], SHARED);
    assert_eq!(table.look(other, ms(SHARED)), Standing::Clear { keep_open: vec![A] }, "nobody knows what it has open");
    renew(&mut table, A, SHARED + 10);
    assert_eq!(table.look(other, ms(SHARED + 10)), clear(), "now it has told");
}
