//! Bytes that are charged to a [`WriteGrant`]; given back when this is dropped.

use std::sync::Arc;

use super::write_grant::WriteGrant;

/// Charged bytes.
#[derive(Debug, Default)]
pub struct Charge {
    /// None while there are no bytes.
    grant: Option<Arc<WriteGrant>>,
    bytes: u64,
}

impl Charge {
    /// Bytes that `grant` counts already.
    pub(super) fn of(grant: Arc<WriteGrant>, bytes: u64) -> Self {
        Self { grant: Some(grant), bytes }
    }

    /// How many.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes another one's bytes, which are of the same grant.
    pub fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        if self.grant.is_none() {
            self.grant = other.grant.take();
        }
    }

    /// Cuts `bytes` off, or all if there are fewer.
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { grant: self.grant.clone(), bytes }
    }

    /// Gives back what is more than `bytes`.
    pub fn cut_to(&mut self, bytes: u64) {
        let _given_back = self.split(self.bytes.saturating_sub(bytes));
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take().filter(|_| self.bytes > 0) {
            grant.release(self.bytes);
        }
    }
}
