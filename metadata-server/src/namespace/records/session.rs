//! Sessions, their slots, and their open files.

use bytes::Bytes;
use cairn_common::clock::Timestamp;
use cairn_common::ids::{InodeId, SessionEpoch};

use super::Record;
use super::wire::{Reader, Writer};

/// A session without its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) epoch: SessionEpoch,
    pub(crate) slots: u16,
    pub(crate) opened: Timestamp,
    pub(crate) client: String,
}

/// The last change that a slot made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) sequence: u64,
    /// Inodes whose records it wrote or removed.
    pub(crate) changed: Vec<InodeId>,
    /// `Result<MutationResult, FsError>` by the codec.
    pub(crate) outcome: Bytes,
}

/// How often a session has a file open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) readers: u32,
    pub(crate) writers: u32,
}

impl Record for Session {
    const NAME: &'static str = "session";

    fn write(&self, out: &mut Writer) {
        v1::write_session(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read_session(input),
            _ => None,
        }
    }
}

impl Record for Slot {
    const NAME: &'static str = "slot";
    const VERSION: u8 = 2;

    fn write(&self, out: &mut Writer) {
        v2::write_slot(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read_slot(input),
            2 => v2::read_slot(input),
            _ => None,
        }
    }
}

impl Record for Open {
    const NAME: &'static str = "open file";

    fn write(&self, out: &mut Writer) {
        v1::write_open(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read_open(input),
            _ => None,
        }
    }
}

/// Session: `{epoch u32}{slots u16}{opened}{client text}`. Slot: `{sequence u64}{outcome by the
/// codec}`. Open: `{readers u32}{writers u32}`.
mod v1 {
    use super::*;

    pub(super) fn write_session(session: &Session, out: &mut Writer) {
        out.u32(session.epoch.0);
        out.u16(session.slots);
        out.time(session.opened);
        out.text(&session.client);
    }

    pub(super) fn read_session(input: &mut Reader<'_>) -> Option<Session> {
        Some(Session {
            epoch: SessionEpoch(input.u32()?),
            slots: input.u16()?,
            opened: input.time()?,
            client: input.text()?,
        })
    }

    pub(super) fn read_slot(input: &mut Reader<'_>) -> Option<Slot> {
        let (sequence, changed) = (input.u64()?, Vec::new());
        Some(Slot { sequence, changed, outcome: Bytes::copy_from_slice(input.rest()) })
    }

    pub(super) fn write_open(open: &Open, out: &mut Writer) {
        out.u32(open.readers);
        out.u32(open.writers);
    }

    pub(super) fn read_open(input: &mut Reader<'_>) -> Option<Open> {
        Some(Open { readers: input.u32()?, writers: input.u32()? })
    }
}

/// Slot: `{sequence u64}{changed u32}{inode u64}…{outcome by the codec}`.
mod v2 {
    use super::*;

    pub(super) fn write_slot(slot: &Slot, out: &mut Writer) {
        out.u64(slot.sequence);
        out.u32(slot.changed.len() as u32);
        slot.changed.iter().for_each(|inode| out.u64(inode.0));
        out.raw(&slot.outcome);
    }

    pub(super) fn read_slot(input: &mut Reader<'_>) -> Option<Slot> {
        let sequence = input.u64()?;
        let changed = (0..input.u32()?).map(|_| input.u64().map(InodeId)).collect::<Option<_>>()?;
        Some(Slot { sequence, changed, outcome: Bytes::copy_from_slice(input.rest()) })
    }
}
