//! Content that says what it is: a file is a row of slots of 512 bytes, each naming file, place and
//! version and filled with bytes that follow from them. A slot that reads back is one that was
//! written, or it is recognised as none.

use std::fmt;

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 512;
const MAGIC: &[u8; 8] = b"CAIRNSLT";
const HEADER_BYTES: usize = 32;

/// What a slot says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The file.
    pub file: u64,
    /// Which slot of the file.
    pub index: u64,
    /// Which write.
    pub version: u64,
}

/// Bytes that are no slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// Only zeros.
    Zeros,
    /// Anything else.
    Garbage,
}

impl fmt::Display for NoSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zeros => "zeros",
            Self::Garbage => "bytes that were never written",
        })
    }
}

impl Slot {
    /// The slot's bytes.
    pub fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        for (place, number) in [self.file, self.index, self.version].into_iter().enumerate() {
            bytes[8 + place * 8..16 + place * 8].copy_from_slice(&number.to_le_bytes());
        }
        let mut fill = blake3::Hasher::new().update(&bytes[..HEADER_BYTES]).finalize_xof();
        fill.fill(&mut bytes[HEADER_BYTES..]);
        bytes
    }

    /// Reads a slot; every byte of it must be right.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoSlot> {
        let number = |place: usize| {
            let bytes = bytes.get(8 + place * 8..16 + place * 8)?;
            Some(u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
        };
        if let (Some(file), Some(index), Some(version)) = (number(0), number(1), number(2)) {
            let slot = Self { file, index, version };
            if slot.encode() == bytes {
                return Ok(slot);
            }
        }
        Err(if bytes.iter().all(|byte| *byte == 0) { NoSlot::Zeros } else { NoSlot::Garbage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_byte_is_noticed() {
        let slot = Slot { file: 3, index: 9, version: 77 };
        let bytes = slot.encode();
        assert_eq!(Slot::decode(&bytes), Ok(slot));
        for place in 0..SLOT_BYTES {
            let mut wrong = bytes;
            wrong[place] ^= 1;
            assert_eq!(Slot::decode(&wrong), Err(NoSlot::Garbage), "byte {place}");
        }
        assert_eq!(Slot::decode(&[0; SLOT_BYTES]), Err(NoSlot::Zeros));
    }
}
