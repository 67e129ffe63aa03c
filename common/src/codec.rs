//! The one place where bincode is used. Decoding is bounded (a length from the wire is never
//! allocated before it is checked) and refuses trailing bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::MAX_HEADER_BYTES;

/// A message that could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value does not serialize, or is larger than [`MAX_HEADER_BYTES`].
    #[error("cannot encode: {0}")]
    Encode(String),
    /// The bytes are no value of the type, or too long.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// Bytes are left after the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_HEADER_BYTES>()
}

/// Encodes a value (variable-length integers, little endian).
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(value, config()).map_err(|e| CodecError::Encode(e.to_string()))
}

/// Decodes exactly one value from all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, config()).map_err(|e| CodecError::Decode(e.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}
