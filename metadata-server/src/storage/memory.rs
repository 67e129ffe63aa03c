//! An in-memory engine for tests and simulation, with the crash semantics of the real one: what was
//! not flushed is gone after [`MemoryEngine::crash`]. A checkpoint is one file. Not for production:
//! the state is cloned at every flush.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use cairn_common::durable_file::{self, DurableFileError};
use parking_lot::Mutex;

use super::engine::{Changes, Mark, StorageEngine, refuse_reserved};
use super::{ReadView, StorageError, Visit};

type Map = Arc<BTreeMap<Bytes, Bytes>>;

#[derive(Clone, Default)]
struct State {
    map: Map,
    mark: Option<Mark>,
}

/// The engine. Clones of the handle share one state.
#[derive(Default)]
pub struct MemoryEngine {
    now: Mutex<State>,
    flushed: Mutex<State>,
}

const CHECKPOINT_FILE: &str = "memory.state";

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a checkpoint; empty if the folder has none.
    pub fn open(folder: &Path) -> Result<Self, StorageError> {
        let bytes = match durable_file::read(&folder.join(CHECKPOINT_FILE)) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(Self::new()),
            Err(e) => return Err(StorageError::Engine(e.to_string())),
        };
        let mut rest = bytes.as_slice();
        let mut take = || -> Option<Bytes> {
            let length = rest.try_get_u32().ok()? as usize;
            let value = Bytes::copy_from_slice(rest.get(..length)?);
            rest.advance(length);
            Some(value)
        };
        let broken = || StorageError::Corrupt(format!("{} is cut short", folder.display()));
        let mark = take().ok_or_else(broken)?;
        let mark = if mark.is_empty() { None } else { Some(Mark::decode(&mark)?) };
        let mut map = BTreeMap::new();
        while let Some(key) = take() {
            map.insert(key, take().ok_or_else(broken)?);
        }
        let state = State { map: Arc::new(map), mark };
        Ok(Self { now: Mutex::new(state.clone()), flushed: Mutex::new(state) })
    }

    /// Power loss: falls back to the last flush.
    pub fn crash(&self) {
        *self.now.lock() = self.flushed.lock().clone();
    }
}

impl StorageEngine for MemoryEngine {
    fn view(&self) -> Box<dyn ReadView + Send + Sync> {
        Box::new(MemoryView { map: self.now.lock().map.clone() })
    }

    fn commit(&self, changes: Changes, mark: &Mark) -> Result<(), StorageError> {
        refuse_reserved(&changes)?;
        let mut now = self.now.lock();
        let map = Arc::make_mut(&mut now.map);
        for (key, change) in changes {
            match change {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        now.mark = Some(mark.clone());
        Ok(())
    }

    fn mark(&self) -> Option<Mark> {
        self.now.lock().mark.clone()
    }

    fn flush(&self) -> Result<u64, StorageError> {
        let state = self.now.lock().clone();
        *self.flushed.lock() = state;
        Ok(self.durable_index())
    }

    fn durable_index(&self) -> u64 {
        self.flushed.lock().mark.as_ref().map_or(0, |mark| mark.index)
    }

    fn checkpoint(&self, folder: &Path) -> Result<Option<Mark>, StorageError> {
        self.flush()?;
        let state = self.flushed.lock().clone();
        let mut out = Vec::new();
        let mut put = |bytes: &[u8]| {
            out.put_u32(bytes.len() as u32);
            out.put_slice(bytes);
        };
        put(&state.mark.as_ref().map(Mark::encode).unwrap_or_default());
        for (key, value) in state.map.iter() {
            put(key);
            put(value);
        }
        let engine = |e: DurableFileError| StorageError::Engine(e.to_string());
        durable_file::create_folder(folder).map_err(engine)?;
        durable_file::write(&folder.join(CHECKPOINT_FILE), &out).map_err(engine)?;
        Ok(state.mark)
    }

    fn retire(&self) {}
}

/// A view of a [`MemoryEngine`], or of a plain map in tests.
pub struct MemoryView {
    map: Map,
}

impl MemoryView {
    /// A view of this map.
    pub fn new(map: BTreeMap<Bytes, Bytes>) -> Self {
        Self { map: Arc::new(map) }
    }
}

impl ReadView for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.map.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from < to {
            let range = self.map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
            let _ = range.into_iter().try_for_each(|(key, value)| visit(key, value));
        }
        Ok(())
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from < to {
            let range = self.map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
            let _ = range.rev().try_for_each(|(key, value)| visit(key, value));
        }
        Ok(())
    }
}
