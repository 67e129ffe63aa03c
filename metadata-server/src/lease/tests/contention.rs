//! Inodes that bounce.

use super::*;

/// One round of the fight for X: `holder` has a lease, the other changes the inode.
fn bounce(table: &mut LeaseTable, holder: SessionId, changer: SessionId, at: u64) -> bool {
    let granted = grant(table, holder, X, at);
    let change = begin(table, changer, &[changes(X)], at);
    answer(table, holder, false, at);
    assert_eq!(table.look(change, ms(at)), clear());
    table.finish(change, &[], ms(at));
    granted
}

#[test]
fn four_recalls_within_a_second_make_an_inode_contended() {
    let mut table = table();
    for at in [0, 200, 400, 600] {
        assert!(bounce(&mut table, A, B, at));
    }
    assert!(table.is_contended(X, ms(600)));
    assert!(!grant(&mut table, C, X, 600) && grant(&mut table, C, Y, 600));
    let change = begin(&mut table, C, &[], 600);
    assert!(!table.may_take_exclusive(change, X, ms(600)));
}

#[test]
fn slow_bouncing_is_no_contention() {
    let mut table = table();
    for at in [0, 400, 800, 1200, 1600, 2000] {
        renew(&mut table, A, at);
        assert!(bounce(&mut table, A, B, at), "at {at}");
    }
}

#[test]
fn a_contention_lasts_as_long_as_sessions_are_in_each_others_way() {
    let mut table = table();
    for at in [0, 100, 200, 300] {
        bounce(&mut table, A, B, at);
    }
    for at in (800..4000).step_by(500) {
        assert!(!bounce(&mut table, A, B, at), "at {at}");
    }
    // The last conflict was at 3800: readers alone do not prolong it.
    for at in (4000..4800).step_by(100) {
        table.grant(C, &[X], ms(at));
    }
    assert!(grant(&mut table, A, X, 5900));
}

#[test]
fn one_session_alone_is_not_in_anybodys_way() {
    let mut table = table();
    for at in [0, 100, 200, 300] {
        bounce(&mut table, A, B, at);
    }
    for at in (400..1300).step_by(100) {
        let change = begin(&mut table, B, &[changes(X)], at);
        table.finish(change, &[], ms(at));
    }
    assert!(table.is_contended(X, ms(1300 - 1)), "A asked at 300");
    assert!(!table.is_contended(X, ms(2300)));
}

#[test]
fn own_recalls_are_no_contention() {
    let mut table = table();
    for at in 0..10 {
        grant(&mut table, A, X, at);
        let change = begin(&mut table, A, &[changes(X)], at);
        answer(&mut table, A, false, at);
        table.finish(change, &[], ms(at));
    }
    assert!(!table.is_contended(X, ms(10)));
}

#[test]
fn cold_inodes_are_forgotten() {
    let mut table = table();
    for inode in 100..20_000 {
        let at = inode * 2;
        renew(&mut table, A, at);
        grant(&mut table, A, InodeId(inode), at);
        let change = begin(&mut table, B, &[changes(InodeId(inode))], at);
        answer(&mut table, A, false, at);
        table.finish(change, &[], ms(at));
    }
    assert!(table.contention.len() < 3000, "{}", table.contention.len());
}
