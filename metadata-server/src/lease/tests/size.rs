//! What leases and sessions cost in memory.

use super::*;

const SESSIONS: u64 = 10_000;
const LEASES: u64 = 1_000_000;

/// Resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Stated bounds: 384 bytes a session, 64 bytes a lease.
#[test]
fn ten_thousand_sessions_and_a_million_leases_fit() {
    let start = resident_bytes();
    let mut table = LeaseTable::new(LeaseRules::default(), TERM, ms(0), []);
    (0..SESSIONS).for_each(|session| table.open_session(SessionId(session), ms(0)));
    let sessions = resident_bytes();
    // Four sessions on each inode, scattered as inode numbers are.
    for lease in 0..LEASES {
        let inode = InodeId((lease / 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16);
        assert!(grant(&mut table, SessionId(lease % SESSIONS), inode, 0));
    }
    assert_eq!(table.totals().leases as u64, LEASES);
    let leases = resident_bytes();
    let (per_session, per_lease) = ((sessions - start) / SESSIONS, (leases - sessions) / LEASES);
    eprintln!("{per_session} bytes a session, {per_lease} bytes a lease");
    assert!(per_session <= 384 && per_lease <= 64, "{per_session} bytes a session, {per_lease} bytes a lease");
}
