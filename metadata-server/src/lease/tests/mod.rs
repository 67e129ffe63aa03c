//! Tests of the lease rules, one rule each. Times are in milliseconds.

mod changes;
mod contention;
mod exclusive;
mod failover;
mod sessions;
mod size;

use std::time::Duration;

use cairn_common::ids::{InodeId, LeaseGeneration, SessionId};
use cairn_common::protocol::metadata::SessionEvent;

use super::{ChangeId, LeaseRules, LeaseTable, Need, Renewal, Standing};

const A: SessionId = SessionId(1);
const B: SessionId = SessionId(2);
const C: SessionId = SessionId(3);
const X: InodeId = InodeId(10);
const Y: InodeId = InodeId(11);
const TERM: u64 = 5;
/// A shared lease, an exclusive one, as the leader counts them.
const SHARED: u64 = 1030;
const EXCLUSIVE: u64 = 10_210;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A leader since 0 under which the three sessions were opened and sent a keep-alive at 0.
fn table() -> LeaseTable {
    let mut table = LeaseTable::new(LeaseRules::default(), TERM, ms(0), []);
    for session in [A, B, C] {
        table.open_session(session, ms(0));
        renew(&mut table, session, 0);
    }
    table.drain();
    table
}

fn generation(count: u64) -> LeaseGeneration {
    LeaseGeneration((TERM << 24) | count)
}

/// A keep-alive with the generation that the table has.
fn renew(table: &mut LeaseTable, session: SessionId, at: u64) -> Renewal {
    let generation = table.generation(session).unwrap();
    table.keep_alive(session, generation, ms(at), ms(at))
}

fn grant(table: &mut LeaseTable, session: SessionId, inode: InodeId, at: u64) -> bool {
    table.grant(session, &[inode], ms(at)).is_empty()
}

fn changes(inode: InodeId) -> Need {
    Need { inode, change: true, exclusive: None, last_name: false, covered: false }
}

fn shows(inode: InodeId, exclusive: SessionId) -> Need {
    Need { inode, change: false, exclusive: Some(exclusive), last_name: false, covered: false }
}

fn begin(table: &mut LeaseTable, sender: SessionId, needs: &[Need], at: u64) -> ChangeId {
    let change = table.begin(sender);
    table.need(change, needs, ms(at));
    change
}

fn clear() -> Standing {
    Standing::Clear { keep_open: Vec::new() }
}

fn wait(until: u64) -> Standing {
    Standing::Wait { until: Some(ms(until)) }
}

/// The tickets of what a session is asked now, with what they ask.
fn mail(table: &mut LeaseTable, session: SessionId, at: u64) -> Vec<(InodeId, u64, bool, bool)> {
    let events = table.mail(session, ms(at)).into_iter();
    let parts = |SessionEvent::Recall { inode, ticket, exclusive, last_name }| (inode, ticket, exclusive, last_name);
    events.map(parts).collect()
}

/// Answers everything that a session is asked.
fn answer(table: &mut LeaseTable, session: SessionId, open: bool, at: u64) -> usize {
    let asked = mail(table, session, at);
    for (_, ticket, ..) in &asked {
        table.recall_done(session, *ticket, open, ms(at)).unwrap();
    }
    asked.len()
}
