//! The smallest records: keys that say all by being there, raw bytes, and the state of a removal.

use bytes::Bytes;

use super::wire::{Reader, Writer};
use super::{Record, Versioned};

/// Nothing but the record version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker;

/// Bytes that mean nothing to the state machine: a symlink's target, an extended attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opaque(pub(crate) Bytes);

/// Extents below `cursor` have been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Garbage {
    pub(crate) cursor: u64,
}

impl Record for Marker {
    const NAME: &'static str = "marker";

    fn write(&self, _out: &mut Writer) {}

    fn read(version: u8, _input: &mut Reader<'_>) -> Option<Self> {
        (version == 1).then_some(Self)
    }
}

impl Versioned for Opaque {}

impl Record for Opaque {
    const NAME: &'static str = "bytes";

    fn write(&self, out: &mut Writer) {
        out.raw(&self.0);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        (version == 1).then(|| Self(Bytes::copy_from_slice(input.rest())))
    }
}

impl Record for Garbage {
    const NAME: &'static str = "garbage";

    fn write(&self, out: &mut Writer) {
        out.u64(self.cursor);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => input.u64().map(|cursor| Self { cursor }),
            _ => None,
        }
    }
}
