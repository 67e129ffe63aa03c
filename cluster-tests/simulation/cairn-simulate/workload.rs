//! What all workers share: what is known of the tree, the phase, values that were never used, and the
//! history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_common::client::ClientError;
use cairn_common::ids::SessionId;
use cairn_common::protocol::FsError;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::history::{Call, History, Inode, Life, Reply, Value};

/// The root directory.
pub(crate) const ROOT: Inode = 1;
/// Directories and files that workers remember.
const REMEMBERED: usize = 48;
/// Longest file, in cells.
pub(crate) const MAX_CELLS: u32 = 20;

/// Who writes a file. Before there are leases, two mounts that hold bytes of one file in memory at the
/// same time do not see each other's writes in order, so a file has either one client that buffers, or
/// writers that close after each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Everybody,
    Client(u32),
}

/// What the workers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Anything.
    Work,
    /// Sync, then look at everything once.
    Inspect,
}

/// Shared by all workers of all clients.
pub(crate) struct Workload {
    pub(crate) history: Arc<History>,
    pub(crate) cell_bytes: usize,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    last_value: Value,
    directories: Vec<Inode>,
    files: Vec<(Inode, Owner)>,
    inspected: u32,
    sessions: BTreeMap<SessionId, Life>,
    fenced: BTreeSet<Life>,
    /// Files that a client is writing to, each with a close behind it.
    writing: BTreeSet<(u32, Inode)>,
}

impl Workload {
    pub(crate) fn new(history: Arc<History>, cell_bytes: usize) -> Arc<Self> {
        let state = State {
            phase: Phase::Work,
            last_value: 0,
            directories: vec![ROOT],
            files: Vec::new(),
            inspected: 0,
            sessions: BTreeMap::new(),
            fenced: BTreeSet::new(),
            writing: BTreeSet::new(),
        };
        Arc::new(Self { history, cell_bytes, state: Mutex::new(state) })
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.state.lock().phase = phase;
    }

    /// A value that no write had.
    pub(crate) fn value(&self) -> Value {
        let mut state = self.state.lock();
        state.last_value += 1;
        state.last_value
    }

    pub(crate) fn directory(&self, dice: &mut StdRng) -> Inode {
        let state = self.state.lock();
        if dice.random_bool(0.4) { ROOT } else { *state.directories.choose(dice).unwrap_or(&ROOT) }
    }

    /// A file, the newest ones more often.
    pub(crate) fn file(&self, dice: &mut StdRng) -> Option<(Inode, Owner)> {
        let state = self.state.lock();
        let recent = state.files.len().saturating_sub(8);
        let from = if dice.random_bool(0.7) { &state.files[recent..] } else { &state.files[..] };
        from.choose(dice).copied()
    }

    /// Everything that is remembered.
    pub(crate) fn known(&self) -> (Vec<Inode>, Vec<(Inode, Owner)>) {
        let state = self.state.lock();
        (state.directories.clone(), state.files.clone())
    }

    pub(crate) fn remember_directory(&self, inode: Inode) {
        let mut state = self.state.lock();
        if state.directories.len() < REMEMBERED && !state.directories.contains(&inode) {
            state.directories.push(inode);
        }
    }

    pub(crate) fn forget_directory(&self, inode: Inode) {
        self.state.lock().directories.retain(|known| *known != inode || inode == ROOT);
    }

    pub(crate) fn remember_file(&self, inode: Inode, owner: Owner) {
        let mut state = self.state.lock();
        if !state.files.iter().any(|(known, _)| *known == inode) {
            if state.files.len() >= REMEMBERED {
                state.files.remove(0);
            }
            state.files.push((inode, owner));
        }
    }

    /// A worker has looked at everything.
    pub(crate) fn inspected(&self) {
        self.state.lock().inspected += 1;
    }

    /// How many workers have.
    pub(crate) fn inspections(&self) -> u32 {
        self.state.lock().inspected
    }

    /// Whether no program of the client is writing to the file; then one is, until [`Self::written`].
    /// Before there are leases a mount sees what it has in memory before that has its place among
    /// others' appends.
    pub(crate) fn may_use(&self, client: u32, inode: Inode, writes: bool) -> bool {
        let mut state = self.state.lock();
        if writes { state.writing.insert((client, inode)) } else { !state.writing.contains(&(client, inode)) }
    }

    /// The write has ended.
    pub(crate) fn written(&self, client: u32, inode: Inode) {
        self.state.lock().writing.remove(&(client, inode));
    }

    pub(crate) fn session_opened(&self, life: Life, session: SessionId) {
        self.state.lock().sessions.insert(session, life);
    }

    /// The cluster has ended a session: what its client had not made durable may be gone.
    pub(crate) fn session_ended(&self, session: SessionId) {
        let life = self.state.lock().sessions.remove(&session);
        if let Some(life) = life {
            self.life_ended(life);
        }
    }

    /// The same for a client that was killed.
    pub(crate) fn life_ended(&self, life: Life) {
        self.state.lock().writing.retain(|(client, _)| *client != life.client);
        self.history.begin(life, Call::Lose);
    }

    /// A client has noticed that its session is over.
    pub(crate) fn fenced(&self, life: Life) {
        self.state.lock().fenced.insert(life);
    }

    /// Whether it has.
    pub(crate) fn is_fenced(&self, life: Life) -> bool {
        self.state.lock().fenced.contains(&life)
    }

    /// What a failed call says about the model.
    pub(crate) fn failure(&self, call: &Call, error: &ClientError) -> Reply {
        match error {
            ClientError::Fs(FsError::Io | FsError::NoSpace | FsError::NotSupported) => {}
            ClientError::Fs(refused) => return Reply::Refused(format!("{refused:?}")),
            ClientError::TimedOut { .. } | ClientError::SessionFenced { .. } => return Reply::Unknown,
            _ => {}
        }
        self.history.broken(format!("{call:?} failed: {error}"));
        Reply::Unknown
    }
}
