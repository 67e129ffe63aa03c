//! What holds in every state: a check of a whole view (fsck), for tests and for `cairn-meta fsck`.
//! It reads every record, and keeps memory in proportion to the number of inodes: never on a request
//! path, and not beside a server that works.

mod cluster_state;
mod files;
mod locks;
mod names;
mod sessions;

use std::ops::ControlFlow;

use super::keys::{self, CLUSTER_WIDE, KeyFields, Table, VOLUME};
use super::read::{self, Direction};
use super::records::{self, Record, Versioned};
use crate::storage::{ReadView, StorageError};
use cairn_common::ids::CommitSequence;

/// Violations that are told; more are only a longer list of the same damage.
const MAX_VIOLATIONS: usize = 1000;

/// Checks a whole state. The answer says what is wrong, in words; empty when all is well. The error
/// is a record that cannot be read at all, or the engine's.
pub fn check(view: &dyn ReadView) -> Result<Vec<String>, StorageError> {
    let mut findings = Findings { violations: Vec::new() };
    check_tables(view, &mut findings)?;
    names::check(view, &mut findings)?;
    files::check(view, &mut findings)?;
    sessions::check(view, &mut findings)?;
    locks::check(view, &mut findings)?;
    cluster_state::check(view, &mut findings)?;
    Ok(findings.violations)
}

/// Gathers what is wrong.
struct Findings {
    violations: Vec<String>,
}

impl Findings {
    /// Notes a violation unless the condition holds.
    fn expect(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds && self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(violation());
        }
    }
}

/// All keys belong to a known table and to the volume that the table has.
fn check_tables(view: &dyn ReadView, findings: &mut Findings) -> Result<(), StorageError> {
    read::scan(view, (vec![1], vec![u8::MAX]), Direction::Forward, &mut |key, _| {
        let known = Table::ALL.iter().any(|table| {
            [CLUSTER_WIDE, VOLUME].iter().any(|volume| key.starts_with(&keys::table_range(*table, *volume).0))
        });
        findings.expect(known, || format!("key {key:02x?} is of no table"));
        Ok(ControlFlow::Continue(()))
    })
}

/// Visits all records of a table.
fn each<R: Record>(
    view: &dyn ReadView,
    table: Table,
    visit: &mut dyn FnMut(KeyFields<'_>, R) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    each_value(view, table, &mut |key, value| visit(key, records::decode(value)?))
}

/// Visits all records of a table that carry a commit sequence.
fn each_versioned<R: Versioned>(
    view: &dyn ReadView,
    table: Table,
    visit: &mut dyn FnMut(KeyFields<'_>, CommitSequence, R) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    each_value(view, table, &mut |key, value| {
        let (sequence, record) = records::decode_versioned(value)?;
        visit(key, sequence, record)
    })
}

type ValueVisitor<'v> = dyn FnMut(KeyFields<'_>, &[u8]) -> Result<(), StorageError> + 'v;

fn each_value(view: &dyn ReadView, table: Table, visit: &mut ValueVisitor<'_>) -> Result<(), StorageError> {
    for volume in [CLUSTER_WIDE, VOLUME] {
        read::scan(view, keys::table_range(table, volume), Direction::Forward, &mut |key, value| {
            visit(KeyFields::of(key), value).map(ControlFlow::Continue)
        })?;
    }
    Ok(())
}
