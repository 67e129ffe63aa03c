//! What all workers share: what is known of the tree, the phase, values that were never used, and the
//! history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_cluster_tests::checker::{Call, History, Inode, Life, ROOT, Reply, Value};
use cairn_common::client::ClientError;
use cairn_common::ids::{RequestId, SessionId};
use cairn_common::protocol::FsError;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Directories that workers remember.
const REMEMBERED: usize = 48;
/// Longest file, in cells.
pub(crate) const MAX_CELLS: u32 = 20;

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
    inspected: u32,
    sessions: BTreeMap<SessionId, Life>,
    fenced: BTreeSet<Life>,
    requests: BTreeMap<RequestId, usize>,
    renamed: BTreeMap<usize, Inode>,
}

impl Workload {
    pub(crate) fn new(history: Arc<History>, cell_bytes: usize) -> Arc<Self> {
        let state = State {
            phase: Phase::Work,
            last_value: 0,
            directories: vec![ROOT],
            inspected: 0,
            sessions: BTreeMap::new(),
            fenced: BTreeSet::new(),
            requests: BTreeMap::new(),
            renamed: BTreeMap::new(),
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

    /// All that are remembered.
    pub(crate) fn directories(&self) -> Vec<Inode> {
        self.state.lock().directories.clone()
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

    /// A worker has looked at everything.
    pub(crate) fn inspected(&self) {
        self.state.lock().inspected += 1;
    }

    /// How many workers have.
    pub(crate) fn inspections(&self) -> u32 {
        self.state.lock().inspected
    }

    /// The operation in this place goes to the cluster under this number.
    pub(crate) fn asked(&self, request: RequestId, place: usize) {
        self.state.lock().requests.insert(request, place);
    }

    /// A rename of this inode was carried out under this number.
    pub(crate) fn renames(&self, request: RequestId, inode: Inode) {
        let mut state = self.state.lock();
        if let Some(place) = state.requests.get(&request).copied() {
            state.renamed.insert(place, inode);
        }
    }

    /// Inodes of renames that were carried out, by their place in the history.
    pub(crate) fn renamed(&self) -> BTreeMap<usize, Inode> {
        self.state.lock().renamed.clone()
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
