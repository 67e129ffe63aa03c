//! The applied state on disk and its snapshots.
//!
//! `state/CURRENT` names the folder below `state/` that holds the engine; a snapshot that arrives is
//! copied to a new folder, and CURRENT is swapped durably when that is complete. A crash at any
//! moment leaves the old state or the new one whole; what is left over goes at the next start.
//! Promise: the engine's own (a prefix of what was committed); snapshots survive when they are
//! returned.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_common::clock::Timestamp;
use cairn_common::codec;
use cairn_common::durable_file;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::snapshot_folder::{SnapshotFolder, copy_database};
use super::types::{LogId, SnapshotMeta, StoredMembership};
use crate::storage::{Mark, OpenEngine, StorageEngine};

const CURRENT_FILE: &str = "CURRENT";
/// In the data folder: log and state were made once, so a missing one is lost, not new.
const CREATED_FILE: &str = "CREATED";

/// How far the state goes: the Raft part of an engine's mark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The last entry that is part of the state.
    pub last: Option<LogId>,
    /// The last configuration among them.
    pub membership: StoredMembership,
    /// The latest stamp of their commands: the clock must not fall behind it after a restart.
    pub time: Timestamp,
}

impl Applied {
    /// The mark for the engine.
    pub(super) fn mark(&self) -> io::Result<Mark> {
        let detail = codec::encode(self).map_err(io::Error::other)?;
        Ok(Mark { index: self.last.map_or(0, |last| last.index), detail: detail.into() })
    }

    fn of(mark: Option<&Mark>) -> io::Result<Self> {
        let Some(mark) = mark else { return Ok(Self::default()) };
        let applied: Self = codec::decode(&mark.detail).map_err(io::Error::other)?;
        match applied.last {
            Some(last) if last.index == mark.index => Ok(applied),
            _ => Err(io::Error::other(format!("the state's mark contradicts itself at index {}", mark.index))),
        }
    }
}

/// Refuses a data folder that had a log and a state and lacks one now: a server that forgot what it
/// promised must not go on under its id.
pub fn refuse_lost(data: &Path) -> io::Result<()> {
    let needed = [data.join("state").join(CURRENT_FILE), data.join("log").join("CURRENT")];
    match needed.iter().find(|file| !file.exists()) {
        Some(missing) if data.join(CREATED_FILE).exists() => Err(io::Error::other(format!(
            "{} is missing: this server lost data that it acknowledged. Replace it with `cairnctl node replace`",
            missing.display()
        ))),
        _ => Ok(()),
    }
}

/// From now on [`refuse_lost`] expects log and state. Durable.
pub fn mark_created(data: &Path) -> io::Result<()> {
    let file = data.join(CREATED_FILE);
    if file.exists() {
        return Ok(());
    }
    durable_file::write(&file, b"1\n").map_err(io::Error::other)
}

/// The state of this server.
pub struct StateStore {
    state: PathBuf,
    snapshots: PathBuf,
    open: OpenEngine,
    engine: RwLock<Arc<dyn StorageEngine>>,
    snapshot: Mutex<Option<Arc<SnapshotFolder>>>,
    bytes_since_snapshot: AtomicU64,
}

impl StateStore {
    /// Opens the state of a data folder, or makes an empty one.
    pub fn open(data: &Path, open: OpenEngine) -> io::Result<Self> {
        let (state, snapshots) = (data.join("state"), data.join("snapshots"));
        durable_file::create_folder(&state).map_err(io::Error::other)?;
        durable_file::create_folder(&snapshots).map_err(io::Error::other)?;
        let current = match durable_file::read_to_string(&state.join(CURRENT_FILE)) {
            Ok(text) => parse_current(&state, &text)?,
            Err(e) if e.is_not_found() => {
                let name = new_name();
                durable_file::create_folder(&state.join(&name)).map_err(io::Error::other)?;
                write_current(&state, &name)?;
                name
            }
            Err(e) => return Err(io::Error::other(e)),
        };
        remove_others(&state, &current)?;
        let folder = state.join(&current);
        if !folder.is_dir() {
            return Err(io::Error::other(format!("{} is named by CURRENT and is missing", folder.display())));
        }
        let engine = open(&folder).map_err(io::Error::other)?;
        let snapshot = newest_snapshot(&snapshots)?;
        Ok(Self {
            state,
            snapshots,
            open,
            engine: RwLock::new(engine),
            snapshot: Mutex::new(snapshot),
            bytes_since_snapshot: AtomicU64::new(0),
        })
    }

    /// The engine in use; another one after a snapshot was installed.
    pub fn engine(&self) -> Arc<dyn StorageEngine> {
        self.engine.read().clone()
    }

    /// How far the engine in use goes.
    pub fn applied(&self) -> io::Result<Applied> {
        Applied::of(self.engine().mark().as_ref())
    }

    /// The newest complete snapshot.
    pub fn current_snapshot(&self) -> Option<Arc<SnapshotFolder>> {
        self.snapshot.lock().clone()
    }

    /// Counts commands that were applied.
    pub(super) fn count_applied(&self, bytes: usize) {
        self.bytes_since_snapshot.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of commands applied since the last snapshot (or the start, without one).
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.bytes_since_snapshot.load(Ordering::Relaxed)
    }

    /// Makes a snapshot of what is applied now. Blocks for the duration of the IO; nothing may be
    /// applied meanwhile.
    pub fn take_snapshot(&self) -> io::Result<Arc<SnapshotFolder>> {
        let folder = self.new_snapshot_folder(SnapshotMeta::default())?;
        let mark = self.engine().checkpoint(&folder.database()).map_err(io::Error::other)?;
        let Applied { last, membership, .. } = Applied::of(mark.as_ref())?;
        let snapshot = folder.complete(SnapshotMeta { last_log_id: last, last_membership: membership })?;
        self.replace_snapshot(snapshot.clone());
        Ok(snapshot)
    }

    /// A folder for a snapshot that is about to arrive.
    pub fn new_snapshot_folder(&self, meta: SnapshotMeta) -> io::Result<SnapshotFolder> {
        SnapshotFolder::create(self.snapshots.join(new_name()), meta)
    }

    /// Puts the snapshot in place of the state. Blocks for the duration of the IO.
    pub fn install(&self, meta: &SnapshotMeta, snapshot: &Arc<SnapshotFolder>) -> io::Result<()> {
        let name = new_name();
        let folder = self.state.join(&name);
        copy_database(&snapshot.database(), &folder)?;
        let engine = (self.open)(&folder).map_err(io::Error::other)?;
        let found = Applied::of(engine.mark().as_ref())?;
        if found.last != meta.last_log_id || found.membership != meta.last_membership {
            engine.retire();
            return Err(io::Error::other(format!("a snapshot holds {found:?}, its description says {meta}")));
        }
        let kept = if snapshot.path().parent() == Some(&self.snapshots) {
            snapshot.clone()
        } else {
            let own = self.new_snapshot_folder(meta.clone())?;
            copy_database(&snapshot.database(), &own.database())?;
            own.complete(meta.clone())?
        };
        write_current(&self.state, &name)?;
        let old = std::mem::replace(&mut *self.engine.write(), engine);
        old.retire();
        self.replace_snapshot(kept);
        Ok(())
    }

    fn replace_snapshot(&self, new: Arc<SnapshotFolder>) {
        self.bytes_since_snapshot.store(0, Ordering::Relaxed);
        let mut current = self.snapshot.lock();
        match current.as_ref() {
            // An older one may be finished late, after a newer one was installed.
            Some(current) if current.meta().last_log_id > new.meta().last_log_id => new.retire(),
            Some(same) if Arc::ptr_eq(same, &new) => {}
            _ => {
                if let Some(old) = current.replace(new) {
                    old.retire();
                }
            }
        }
    }
}

fn new_name() -> String {
    Uuid::new_v4().simple().to_string()
}

/// CURRENT is one line: format version 1 and the name of the folder.
fn write_current(state: &Path, name: &str) -> io::Result<()> {
    durable_file::write(&state.join(CURRENT_FILE), format!("1 {name}\n").as_bytes()).map_err(io::Error::other)
}

fn parse_current(state: &Path, text: &str) -> io::Result<String> {
    let name = text.strip_prefix("1 ").and_then(|rest| rest.strip_suffix('\n'));
    match name {
        Some(name) if name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(name.to_owned()),
        _ => Err(io::Error::other(format!("{} is broken: {text:?}", state.join(CURRENT_FILE).display()))),
    }
}

fn remove_others(state: &Path, current: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(state)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != current {
            tracing::info!(folder = %entry.path().display(), "removing what an interrupted installation left");
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn newest_snapshot(snapshots: &Path) -> io::Result<Option<Arc<SnapshotFolder>>> {
    let mut newest: Option<SnapshotFolder> = None;
    for entry in std::fs::read_dir(snapshots)? {
        let path = entry?.path();
        match SnapshotFolder::open(path.clone())? {
            None => std::fs::remove_dir_all(&path)?,
            Some(found) => {
                let older = match newest.take() {
                    Some(best) if best.meta().last_log_id > found.meta().last_log_id => {
                        newest = Some(best);
                        Some(found)
                    }
                    best => {
                        newest = Some(found);
                        best
                    }
                };
                if let Some(older) = older {
                    older.retire();
                }
            }
        }
    }
    Ok(newest.map(Arc::new))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use openraft::vote::RaftLeaderId;
    use rocksdb::Cache;

    use super::*;
    use crate::storage::{ReadView, RocksEngine};

    fn open(data: &Path) -> io::Result<StateStore> {
        let cache = Cache::new_lru_cache(1 << 20);
        let engine = move |folder: &Path| Ok(Arc::new(RocksEngine::open(folder, &cache)?) as Arc<dyn StorageEngine>);
        StateStore::open(data, Arc::new(engine))
    }

    /// The state after `index` entries.
    fn fill(store: &StateStore, index: u64) {
        let leader = openraft::impls::leader_id_std::LeaderId { term: 1, voted_for: 1 };
        let last = Some(LogId::new(leader.to_committed(), index));
        let changes = BTreeMap::from([(Bytes::from(vec![1, index as u8]), Some(Bytes::from_static(b"x")))]);
        store.engine().commit(changes, &Applied { last, ..Applied::default() }.mark().unwrap()).unwrap();
    }

    fn keys(view: &dyn ReadView) -> Vec<u8> {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(key[1]);
            std::ops::ControlFlow::Continue(())
        };
        view.scan(&[1], &[2], &mut visit).unwrap();
        keys
    }

    fn entries(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_snapshot_takes_the_place_of_the_state_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let source = open(&from).unwrap();
        fill(&source, 5);
        fill(&source, 6);
        let snapshot = source.take_snapshot().unwrap();
        assert_eq!(snapshot.meta().last_log_id.unwrap().index, 6);
        fill(&source, 7);

        let target = open(&to).unwrap();
        fill(&target, 1);
        let before = target.engine().view();
        target.install(snapshot.meta(), &snapshot).unwrap();
        assert_eq!(keys(&*before), [1], "a view is not pulled away");
        drop(before);
        assert_eq!(keys(&*target.engine().view()), [5, 6]);
        assert_eq!(target.engine().durable_index(), 6);
        assert_eq!((entries(&to.join("state")), entries(&to.join("snapshots"))), (2, 1));
        drop(target);
        let target = open(&to).unwrap();
        assert_eq!(keys(&*target.engine().view()), [5, 6]);
        assert_eq!(target.current_snapshot().unwrap().meta(), snapshot.meta());

        // Newer snapshots replace older ones, on disk too, once nobody sends them any more.
        let newer = source.take_snapshot().unwrap();
        assert_eq!(newer.meta().last_log_id.unwrap().index, 7);
        assert_eq!(entries(&from.join("snapshots")), 2, "the old one is still held here");
        drop(snapshot);
        assert_eq!(entries(&from.join("snapshots")), 1);
    }

    #[test]
    fn what_an_interruption_leaves_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let store = open(data).unwrap();
        fill(&store, 3);
        let snapshot = store.take_snapshot().unwrap();
        drop(store);
        // A state folder that was filled and never swapped in, and a snapshot without its META.
        copy_database(&snapshot.database(), &data.join("state").join(new_name())).unwrap();
        let half = data.join("snapshots").join(new_name());
        std::fs::create_dir(&half).unwrap();
        copy_database(&snapshot.database(), &half.join("db")).unwrap();
        // An older complete one, as after a crash between two.
        let second = open(data).unwrap();
        assert_eq!((entries(&data.join("state")), entries(&data.join("snapshots"))), (2, 1));
        assert_eq!(keys(&*second.engine().view()), [3]);
    }

    #[test]
    fn a_broken_pointer_and_a_lost_state_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        drop(open(data).unwrap());
        let current = data.join("state").join(CURRENT_FILE);
        let text = std::fs::read_to_string(&current).unwrap();
        std::fs::write(&current, "1 ../../etc\n").unwrap();
        assert!(open(data).is_err());
        std::fs::write(&current, format!("1 {}\n", new_name())).unwrap();
        assert!(open(data).is_err(), "it names a folder that is not there");
        std::fs::write(&current, text).unwrap();
        assert!(refuse_lost(data).is_ok(), "nothing was promised yet");
        mark_created(data).unwrap();
        assert!(refuse_lost(data).is_err(), "there is no log");
    }
}
