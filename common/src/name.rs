//! A directory entry's name: 1 to 255 arbitrary bytes without `/` and NUL, neither `.` nor `..`.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::limits::NAME_MAX_BYTES;
use crate::protocol::FsError;

/// A checked name. A decoded one is checked again with [`Name::new`] by the server that receives it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name(Bytes);

impl Name {
    /// Checks the bytes. Errors: `NameTooLong`, or `Invalid` for the forbidden names and bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, FsError> {
        let name = Self(bytes.into());
        name.check()?;
        Ok(name)
    }

    /// Checks a name that came over the wire.
    pub fn check(&self) -> Result<(), FsError> {
        let bytes = &self.0[..];
        if bytes.len() > NAME_MAX_BYTES {
            return Err(FsError::NameTooLong);
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.iter().any(|b| *b == b'/' || *b == 0) {
            return Err(FsError::Invalid);
        }
        Ok(())
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}
