//! A consistent view of the ordered key space.

use std::ops::ControlFlow;

use bytes::Bytes;

/// The storage engine failed, or holds what it must not hold. The server that meets it stops
/// serving: nothing is guessed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The engine reports an error.
    #[error("storage engine: {0}")]
    Engine(String),
    /// A record cannot be decoded, or contradicts another.
    #[error("corrupt record: {0}")]
    Corrupt(String),
}

/// Sees keys and values in order, until it breaks.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Reads at one point in time.
pub trait ReadView {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Visits keys of `[from, to)` in order until the visitor breaks.
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError>;

    /// Visits keys of `[from, to)` in reverse order until the visitor breaks.
    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError>;
}
