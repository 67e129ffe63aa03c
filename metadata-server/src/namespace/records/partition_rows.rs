//! A run of rows of the partition table (256 of them, or all of a smaller table).

use cairn_common::ids::{DiskId, TableEpoch};
use cairn_common::partition_table::PartitionRow;

use super::Record;
use super::wire::{Reader, Writer};
use crate::storage::StorageError;

/// A row, and since when it has its owners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnedRow {
    pub(crate) row: PartitionRow,
    /// A write quorum by this table or a later one is a write quorum of the row.
    pub(crate) since: TableEpoch,
}

impl OwnedRow {
    /// Replaces the row in the table of that epoch.
    pub(crate) fn install(&mut self, row: &PartitionRow, epoch: TableEpoch) {
        // The end of a move, or its cancellation: a quorum of both sets is one of either.
        let had = |owners: &Vec<DiskId>| owners.is_empty() || *owners == self.row.current || *owners == self.row.next;
        if !had(&row.current) || !had(&row.next) {
            self.since = epoch;
        }
        self.row = row.clone();
    }
}

/// Rows in order; one that was never installed is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionRows(pub(crate) Vec<OwnedRow>);

impl PartitionRows {
    /// One row of an encoded run, without reading the others into memory.
    pub(crate) fn row(value: &[u8], index: usize) -> Result<OwnedRow, StorageError> {
        let mut input = Reader::new(value);
        let row = match input.u8() {
            Some(1) => v1::read_row(&mut input, index),
            Some(2) => v2::read_row(&mut input, index),
            _ => None,
        };
        row.ok_or_else(|| StorageError::Corrupt(format!("unreadable {}, row {index}", Self::NAME)))
    }
}

impl Record for PartitionRows {
    const NAME: &'static str = "partition rows";
    const VERSION: u8 = 2;

    fn write(&self, out: &mut Writer) {
        v2::write(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read(input),
            2 => v2::read(input),
            _ => None,
        }
    }
}

fn write_disks(disks: &[DiskId], out: &mut Writer) {
    out.u8(disks.len() as u8);
    for disk in disks {
        out.u32(disk.0);
    }
}

fn read_disks(input: &mut Reader<'_>) -> Option<Vec<DiskId>> {
    (0..input.u8()?).map(|_| input.u32().map(DiskId)).collect()
}

fn read_disk_lists(input: &mut Reader<'_>) -> Option<PartitionRow> {
    Some(PartitionRow { current: read_disks(input)?, next: read_disks(input)? })
}

fn skip_disks(input: &mut Reader<'_>) -> Option<()> {
    let count = input.u8()?;
    input.skip(usize::from(count) * 4)
}

/// `{rows u16}`, then for each `{current u8}{disk u32}…{next u8}{disk u32}…`. It does not say since when.
mod v1 {
    use super::*;

    fn read_one(input: &mut Reader<'_>) -> Option<OwnedRow> {
        Some(OwnedRow { row: read_disk_lists(input)?, since: TableEpoch::default() })
    }

    pub(super) fn read_row(input: &mut Reader<'_>, index: usize) -> Option<OwnedRow> {
        if usize::from(input.u16()?) <= index {
            return None;
        }
        for _ in 0..2 * index {
            skip_disks(input)?;
        }
        read_one(input)
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Option<PartitionRows> {
        (0..input.u16()?).map(|_| read_one(input)).collect::<Option<_>>().map(PartitionRows)
    }
}

/// `{rows u16}`, then for each `{since u64}{current u8}{disk u32}…{next u8}{disk u32}…`.
mod v2 {
    use super::*;

    fn read_one(input: &mut Reader<'_>) -> Option<OwnedRow> {
        let since = TableEpoch(input.u64()?);
        Some(OwnedRow { since, row: read_disk_lists(input)? })
    }

    pub(super) fn read_row(input: &mut Reader<'_>, index: usize) -> Option<OwnedRow> {
        if usize::from(input.u16()?) <= index {
            return None;
        }
        for _ in 0..index {
            input.skip(8)?;
            skip_disks(input)?;
            skip_disks(input)?;
        }
        read_one(input)
    }

    pub(super) fn write(rows: &PartitionRows, out: &mut Writer) {
        out.u16(rows.0.len() as u16);
        for OwnedRow { row, since } in &rows.0 {
            out.u64(since.0);
            write_disks(&row.current, out);
            write_disks(&row.next, out);
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Option<PartitionRows> {
        (0..input.u16()?).map(|_| read_one(input)).collect::<Option<_>>().map(PartitionRows)
    }
}
