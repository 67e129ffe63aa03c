//! A run of rows of the partition table (256 of them, or all of a smaller table).

use cairn_common::ids::DiskId;
use cairn_common::partition_table::PartitionRow;

use super::Record;
use super::wire::{Reader, Writer};
use crate::storage::StorageError;

/// Rows in order; one that was never installed is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionRows(pub(crate) Vec<PartitionRow>);

impl PartitionRows {
    /// One row of an encoded run, without reading the others into memory.
    pub(crate) fn row(value: &[u8], index: usize) -> Result<PartitionRow, StorageError> {
        let mut input = Reader::new(value);
        let row = match input.u8() {
            Some(1) => v1::read_row(&mut input, index),
            _ => None,
        };
        row.ok_or_else(|| StorageError::Corrupt(format!("unreadable {}, row {index}", Self::NAME)))
    }
}

impl Record for PartitionRows {
    const NAME: &'static str = "partition rows";

    fn write(&self, out: &mut Writer) {
        v1::write(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read(input),
            _ => None,
        }
    }
}

/// `{rows u16}`, then for each `{current u8}{disk u32}…{next u8}{disk u32}…`.
mod v1 {
    use super::*;

    fn write_disks(disks: &[DiskId], out: &mut Writer) {
        out.u8(disks.len() as u8);
        for disk in disks {
            out.u32(disk.0);
        }
    }

    fn read_disks(input: &mut Reader<'_>) -> Option<Vec<DiskId>> {
        (0..input.u8()?).map(|_| input.u32().map(DiskId)).collect()
    }

    fn skip_disks(input: &mut Reader<'_>) -> Option<()> {
        let count = input.u8()?;
        input.skip(usize::from(count) * 4)
    }

    pub(super) fn read_row(input: &mut Reader<'_>, index: usize) -> Option<PartitionRow> {
        if usize::from(input.u16()?) <= index {
            return None;
        }
        for _ in 0..2 * index {
            skip_disks(input)?;
        }
        Some(PartitionRow { current: read_disks(input)?, next: read_disks(input)? })
    }

    pub(super) fn write(rows: &PartitionRows, out: &mut Writer) {
        out.u16(rows.0.len() as u16);
        for row in &rows.0 {
            write_disks(&row.current, out);
            write_disks(&row.next, out);
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Option<PartitionRows> {
        let rows = (0..input.u16()?)
            .map(|_| Some(PartitionRow { current: read_disks(input)?, next: read_disks(input)? }))
            .collect::<Option<_>>()?;
        Some(PartitionRows(rows))
    }
}
