//! A run of rows of the partition table (256 of them, or all of a smaller table).

use cairn_common::ids::DiskId;
use cairn_common::partition_table::PartitionRow;

use super::Record;
use super::wire::{Reader, Writer};

/// Rows in order; one that was never installed is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionRows(pub(crate) Vec<PartitionRow>);

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
