//! The end of RocksDB's write-ahead log after a loss of power. Of the last, never acknowledged write
//! any sectors may be there and others not; RocksDB's `TolerateCorruptedTailRecords` takes only an end
//! that is cut off, and refuses one with a hole. This cuts such an end off, and refuses to cut where
//! more was written behind the damage: every write of this log is synced before the next one begins
//! ([`super::writer`]), so a later record proves that the damaged one had been on the disk.
//!
//! The format is RocksDB's (`db/log_format.h`): blocks of 32 KiB with records of `{checksum u32}
//! {length u16}{type u8}{bytes}`, little endian; the checksum is a masked CRC-32C of type and bytes. A
//! write that crosses blocks is a first, middle and last record; a rest of less than 7 bytes is empty.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// What was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The write-ahead log.
    pub(super) file: PathBuf,
    /// Its length now.
    pub(super) length: u64,
    /// Bytes that are gone.
    pub(super) bytes: u64,
}

/// Cuts a torn write off the newest write-ahead log, durably. None: there is none, or it is damage
/// that more was written behind.
pub(super) fn cut(folder: &Path) -> io::Result<Option<Cut>> {
    let Some(path) = newest_log(folder)? else { return Ok(None) };
    let log = std::fs::read(&path)?;
    let Some(length) = torn_at(&log) else { return Ok(None) };
    let file = File::options().write(true).open(&path)?;
    file.set_len(length as u64)?;
    file.sync_all()?;
    Ok(Some(Cut { file: path, length: length as u64, bytes: (log.len() - length) as u64 }))
}

fn newest_log(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (true, Some(number)) = (is_log, number) {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Where the write begins that is not whole, if it is the last one.
fn torn_at(log: &[u8]) -> Option<usize> {
    let (mut at, mut begun) = (0, None);
    while at < log.len() {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEADER_BYTES {
            at += left;
            continue;
        }
        let Some((kind, bytes)) = record(log, at) else {
            let written_behind = (at + 1..log.len()).any(|at| begins_write(log, at));
            return (!written_behind).then_some(begun.unwrap_or(at));
        };
        begun = match kind {
            FIRST => Some(at),
            MIDDLE => begun,
            _ => None,
        };
        at += bytes;
    }
    None
}

/// Whether a whole record lies here that is not the continuation of another one.
fn begins_write(log: &[u8], at: usize) -> bool {
    // What is most often wrong is looked at first: this runs for every offset.
    let is_beginning = log.get(at + 6).is_some_and(|kind| *kind != 0 && *kind != MIDDLE && *kind != LAST);
    is_beginning && record(log, at).is_some()
}

/// Type and length, with its header, of the record here, if it is whole.
fn record(log: &[u8], at: usize) -> Option<(u8, usize)> {
    let header = log.get(at..at + HEADER_BYTES)?;
    let checksum = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let fits = at % BLOCK_BYTES + HEADER_BYTES + length <= BLOCK_BYTES;
    let bytes = log.get(at + 6..at + HEADER_BYTES + length).filter(|_| fits)?;
    (header[6] != 0 && masked(crc32c(bytes)) == checksum).then_some((header[6], HEADER_BYTES + length))
}

/// RocksDB stores no plain CRC, because bytes that contain their own CRC are a bad case for it.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78).
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let (mut value, mut bit) = (index as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standard_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    fn put(log: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
        let checked = [&[kind], bytes].concat();
        log.extend(masked(crc32c(&checked)).to_le_bytes());
        log.extend((bytes.len() as u16).to_le_bytes());
        log.extend(checked);
    }

    #[test]
    fn only_the_last_write_is_cut() {
        let mut log = Vec::new();
        put(&mut log, 1, &[1; 1_000]);
        let second = log.len();
        put(&mut log, FIRST, &[2; BLOCK_BYTES - 1_000 - 2 * HEADER_BYTES]);
        put(&mut log, LAST, &[3; 5_000]);
        assert_eq!(torn_at(&log), None);
        for hole in [second, second + 600, BLOCK_BYTES - 512, BLOCK_BYTES, BLOCK_BYTES + 3_000] {
            let mut torn = log.clone();
            torn[hole..hole + 512].fill(0);
            assert_eq!(torn_at(&torn), Some(second), "hole at {hole}");
        }
        let mut damaged = log.clone();
        damaged[500] ^= 1;
        assert_eq!(torn_at(&damaged), None, "more was written behind it");
        put(&mut log, 1, b"the next");
        log[second + 600] ^= 1;
        assert_eq!(torn_at(&log), None, "more was written behind it");
    }
}
