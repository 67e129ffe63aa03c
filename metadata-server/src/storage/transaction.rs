//! Changes gathered over a view: reads see them, the engine takes them in at once.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::{ReadView, StorageError, Visit};

/// An overlay of puts (`Some`) and deletes (`None`) over a base view.
pub struct Transaction<'base> {
    base: &'base dyn ReadView,
    changes: BTreeMap<Bytes, Option<Bytes>>,
}

impl<'base> Transaction<'base> {
    /// Nothing changed yet.
    pub fn new(base: &'base dyn ReadView) -> Self {
        Self { base, changes: BTreeMap::new() }
    }

    /// Puts a key.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.insert(key.into(), Some(value.into()));
    }

    /// Deletes a key; it need not be there.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.changes.insert(key.into(), None);
    }

    /// The changes, for the engine.
    pub fn into_changes(self) -> BTreeMap<Bytes, Option<Bytes>> {
        self.changes
    }

    fn merge(&self, from: &[u8], to: &[u8], reverse: bool, visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to {
            return Ok(());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let mut range = self.changes.range::<[u8], _>(bounds);
        let mut next = move || if reverse { range.next_back() } else { range.next() };
        let mut pending = next();
        let before = |a: &[u8], b: &[u8]| if reverse { a > b } else { a < b };
        let mut broke = false;
        let mut on_base = |key: &[u8], value: &[u8]| {
            while let Some((changed, put)) = pending {
                if before(key, changed) {
                    break;
                }
                pending = next();
                if let Some(put) = put
                    && visit(changed, put).is_break()
                {
                    broke = true;
                    return ControlFlow::Break(());
                }
                if changed == key {
                    return ControlFlow::Continue(());
                }
            }
            let flow = visit(key, value);
            broke = flow.is_break();
            flow
        };
        if reverse {
            self.base.scan_reverse(from, to, &mut on_base)?;
        } else {
            self.base.scan(from, to, &mut on_base)?;
        }
        while !broke && let Some((changed, put)) = pending {
            if let Some(put) = put
                && visit(changed, put).is_break()
            {
                break;
            }
            pending = next();
        }
        Ok(())
    }
}

impl ReadView for Transaction<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.merge(from, to, false, visit)
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.merge(from, to, true, visit)
    }
}
