//! A directory entry, by name and by position.

use bytes::Bytes;
use cairn_common::ids::InodeId;
use cairn_common::protocol::metadata::NodeKind;

use super::inode::{kind_byte, kind_of};
use super::wire::{Reader, Writer};
use super::{Record, Versioned};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) inode: InodeId,
    pub(crate) kind: NodeKind,
    /// Its key in the order table.
    pub(crate) cookie: u64,
}

/// The same entry under its cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OrderedEntry {
    pub(crate) inode: InodeId,
    pub(crate) kind: NodeKind,
    pub(crate) name: Bytes,
}

impl Versioned for Entry {}

impl Record for Entry {
    const NAME: &'static str = "directory entry";

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

impl Versioned for OrderedEntry {}

impl Record for OrderedEntry {
    const NAME: &'static str = "ordered directory entry";

    fn write(&self, out: &mut Writer) {
        v1::write_ordered(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read_ordered(input),
            _ => None,
        }
    }
}

/// By name: `{inode u64}{kind u8}{cookie u64}`. By position: `{inode u64}{kind u8}{name}`.
mod v1 {
    use super::*;

    pub(super) fn write(entry: &Entry, out: &mut Writer) {
        out.u64(entry.inode.0);
        out.u8(kind_byte(entry.kind));
        out.u64(entry.cookie);
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Option<Entry> {
        Some(Entry { inode: InodeId(input.u64()?), kind: kind_of(input.u8()?)?, cookie: input.u64()? })
    }

    pub(super) fn write_ordered(entry: &OrderedEntry, out: &mut Writer) {
        out.u64(entry.inode.0);
        out.u8(kind_byte(entry.kind));
        out.raw(&entry.name);
    }

    pub(super) fn read_ordered(input: &mut Reader<'_>) -> Option<OrderedEntry> {
        Some(OrderedEntry {
            inode: InodeId(input.u64()?),
            kind: kind_of(input.u8()?)?,
            name: Bytes::copy_from_slice(input.rest()),
        })
    }
}
