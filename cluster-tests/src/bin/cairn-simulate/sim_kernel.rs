//! What the kernel of a simulated mount believes: names and attributes that it was told with a
//! lifetime it answers without asking the mount, until it is told to forget them or the time is over.
//! Pages are not modelled: programs here read with O_DIRECT.
//!
//! An answer to a question from before the kernel was told to forget is not believed, as with the real
//! one's epochs and attribute versions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cairn_common::clock::Clock;
use cairn_common::ids::InodeId;
use cairn_common::name::Name;
use cairn_common::protocol::metadata::Attributes;
use cairn_mount::kernel_caches::KernelCaches;
use parking_lot::Mutex;

use crate::clock::MachineClock;

/// The adapter gives the kernel no longer than this.
const LONGEST_TTL: Duration = Duration::from_secs(1);

/// The kernel of one mount.
#[derive(Default)]
pub(crate) struct SimKernel {
    state: Mutex<State>,
    /// Planted: it believes so much longer than it was told.
    longer: Duration,
}

#[derive(Default)]
struct State {
    /// Counts what it was told to forget.
    told: u64,
    names_told: u64,
    attributes_told: BTreeMap<InodeId, u64>,
    names: BTreeMap<(InodeId, Name), Belief<Option<InodeId>>>,
    attributes: BTreeMap<InodeId, Belief<Attributes>>,
}

struct Belief<T> {
    value: T,
    until: Duration,
}

/// When a question was asked.
#[derive(Clone, Copy)]
pub(crate) struct Asked(u64);

impl SimKernel {
    pub(crate) fn new(longer: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), longer })
    }

    pub(crate) fn ask(&self) -> Asked {
        Asked(self.state.lock().told)
    }

    /// What it believes that a name stands for.
    pub(crate) fn name(&self, parent: InodeId, name: &Name) -> Option<Option<InodeId>> {
        let now = MachineClock.monotonic();
        let state = self.state.lock();
        let belief = state.names.get(&(parent, name.clone())).filter(|belief| now < belief.until)?;
        Some(belief.value)
    }

    /// What it believes of an inode.
    pub(crate) fn attributes_of(&self, inode: InodeId) -> Option<Attributes> {
        let now = MachineClock.monotonic();
        let state = self.state.lock();
        state.attributes.get(&inode).filter(|belief| now < belief.until).map(|belief| belief.value)
    }

    fn until(&self, ttl: Duration) -> Option<Duration> {
        (!ttl.is_zero()).then(|| MachineClock.monotonic() + ttl.min(LONGEST_TTL) + self.longer)
    }

    /// It is told what a name stands for, and for how long.
    pub(crate) fn tell_name(&self, asked: Asked, parent: InodeId, name: Name, value: Option<InodeId>, ttl: Duration) {
        let Some(until) = self.until(ttl) else { return };
        let mut state = self.state.lock();
        if state.names_told <= asked.0 {
            state.names.insert((parent, name), Belief { value, until });
        }
    }

    /// It is told attributes, and for how long.
    pub(crate) fn tell_attributes(&self, asked: Asked, value: Attributes, ttl: Duration) {
        let Some(until) = self.until(ttl) else { return };
        let mut state = self.state.lock();
        if state.attributes_told.get(&value.inode).is_none_or(|told| *told <= asked.0) {
            state.attributes.insert(value.inode, Belief { value, until });
        }
    }

    /// A program's own change of a name came back: what it stood for is not believed any more, nor
    /// attributes of what the kernel took that for.
    pub(crate) fn changed(&self, parent: InodeId, name: &Name) {
        self.state.lock().changed(parent, name);
    }

    /// The same of a rename. What the kernel believes of a name it takes along with it.
    pub(crate) fn renamed(&self, from: (InodeId, Name), to: (InodeId, Name)) {
        let mut state = self.state.lock();
        let moved = state.changed(from.0, &from.1);
        state.changed(to.0, &to.1);
        if let Some(moved) = moved {
            state.names.insert(to, moved);
        }
    }

    /// A program's own change of a file came back.
    pub(crate) fn changed_file(&self, inode: InodeId) {
        self.state.lock().attributes.remove(&inode);
    }
}

impl State {
    fn changed(&mut self, parent: InodeId, name: &Name) -> Option<Belief<Option<InodeId>>> {
        let stood_for = self.names.remove(&(parent, name.clone()));
        let inode = stood_for.as_ref().and_then(|belief| belief.value);
        for inode in inode.into_iter().chain([parent]) {
            self.attributes.remove(&inode);
        }
        stood_for
    }

    fn forget_names(&mut self) {
        self.told += 1;
        self.names_told = self.told;
        self.names.clear();
    }
}

#[async_trait]
impl KernelCaches for SimKernel {
    async fn attributes(&self, inode: InodeId) {
        let mut state = self.state.lock();
        state.told += 1;
        let told = state.told;
        state.attributes_told.insert(inode, told);
        state.attributes.remove(&inode);
    }

    /// Simulated programs ask for none.
    fn acls(&self, _inode: InodeId) {}

    async fn names(&self, _directory: InodeId) {
        self.state.lock().forget_names();
    }

    async fn pages(&self, inode: InodeId) {
        self.attributes(inode).await;
    }

    fn uncovered(&self, _inode: InodeId) {}

    fn moves_name(&self) {
        self.state.lock().forget_names();
    }
}
