//! A lock of a file; whose it is and where it begins is in the key.

use super::Record;
use super::wire::{Reader, Writer};

/// A lock without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    /// The last byte.
    pub(crate) end: u64,
    pub(crate) write: bool,
    pub(crate) pid: u32,
}

impl Record for Lock {
    const NAME: &'static str = "lock";

    fn write(&self, out: &mut Writer) {
        v1::write_lock(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read_lock(input),
            _ => None,
        }
    }
}

/// `{end u64}{write u8}{pid u32}`.
mod v1 {
    use super::*;

    pub(super) fn write_lock(lock: &Lock, out: &mut Writer) {
        out.u64(lock.end);
        out.u8(lock.write.into());
        out.u32(lock.pid);
    }

    pub(super) fn read_lock(input: &mut Reader<'_>) -> Option<Lock> {
        let end = input.u64()?;
        let write = match input.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Lock { end, write, pid: input.u32()? })
    }
}
