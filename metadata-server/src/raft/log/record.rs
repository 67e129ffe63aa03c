//! The bytes of the Raft log in RocksDB.
//!
//! Keys: `m` + name for vote, committed and purged position; `e` + index (u64, big-endian) for an
//! entry. A value is `{version u8 = 1}{checksum, 8 bytes}{codec bytes}`; the checksum is the beginning
//! of BLAKE3 over the key and the codec bytes, so a value under a wrong key is found, too.

use std::io;

use cairn_common::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + CHECKSUM_BYTES;

/// Key of the vote.
pub(super) const VOTE: &[u8] = b"mvote";
/// Key of the committed position.
pub(super) const COMMITTED: &[u8] = b"mcommitted";
/// Key of the last purged position.
pub(super) const PURGED: &[u8] = b"mpurged";
/// First byte of entry keys.
const ENTRY_TABLE: u8 = b'e';
/// Beyond every entry.
pub(super) const ENTRY_END: &[u8] = &[ENTRY_TABLE + 1];

/// Key of an entry.
pub(super) fn entry_key(index: u64) -> [u8; 9] {
    let mut key = [ENTRY_TABLE; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The index of an entry key.
pub(super) fn entry_index(key: &[u8]) -> io::Result<u64> {
    match key.split_first() {
        Some((&ENTRY_TABLE, index)) if index.len() == 8 => {
            Ok(index.iter().fold(0, |index, byte| index << 8 | u64::from(*byte)))
        }
        _ => Err(corrupt(key, "is no key of an entry")),
    }
}

/// Encodes a value for its key.
pub(in crate::raft) fn encode<T: Serialize>(key: &[u8], value: &T) -> io::Result<Vec<u8>> {
    let body = codec::encode(value).map_err(io::Error::other)?;
    let mut out = Vec::with_capacity(HEAD_BYTES + body.len());
    out.push(VERSION);
    out.extend_from_slice(&checksum(key, &body));
    out.extend_from_slice(&body);
    Ok(out)
}

/// Checks and decodes the value of a key.
pub(in crate::raft) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> io::Result<T> {
    let Some((head, body)) = value.split_at_checked(HEAD_BYTES) else {
        return Err(corrupt(key, "is cut short"));
    };
    if head[0] != VERSION {
        return Err(corrupt(key, "has a version that this program does not know"));
    }
    if head[1..] != checksum(key, body) {
        return Err(corrupt(key, "does not fit its checksum"));
    }
    codec::decode(body).map_err(|error| corrupt(key, &error.to_string()))
}

pub(super) fn corrupt(key: &[u8], what: &str) -> io::Error {
    let name = match entry_key_index(key) {
        Some(index) => format!("entry {index}"),
        None => String::from_utf8_lossy(key).into_owned(),
    };
    io::Error::new(io::ErrorKind::InvalidData, format!("raft log: {name} {what}"))
}

fn entry_key_index(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(&[ENTRY_TABLE])?.try_into().ok()?))
}

fn checksum(key: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(body);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_found() {
        let key = entry_key(7);
        let value = encode(&key, &(1u64, "hello".to_string())).unwrap();
        assert_eq!(decode::<(u64, String)>(&key, &value).unwrap(), (1, "hello".to_string()));
        for bit in 0..value.len() * 8 {
            let mut broken = value.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<(u64, String)>(&key, &broken).is_err(), "bit {bit}");
        }
        assert!(decode::<(u64, String)>(&entry_key(8), &value).is_err(), "a value under another key");
        assert!(decode::<(u64, String)>(&key, &value[..5]).is_err());
        assert_eq!(entry_index(&key).unwrap(), 7);
    }

    #[test]
    fn golden_bytes() {
        let value = encode(&entry_key(258), &(3u64, "a".to_string())).unwrap();
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0152e3290de51ae73a030161");
    }
}
