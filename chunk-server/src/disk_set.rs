//! All disks of this server, and the numbers that the cluster gave them. A disk that failed keeps its
//! place and its number, so that the cluster hears of it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use cairn_common::ids::{DiskId, DiskUuid};
use parking_lot::RwLock;

use crate::block_store::file_disk::FileDisk;
use crate::block_store::{DiskStore, StoreOptions, StoreReport};
use crate::identity::disk_folder::DiskFolder;
use crate::identity::{DiskState, KnownDisk};

/// One disk.
pub struct DiskSlot {
    /// Its UUID.
    pub uuid: DiskUuid,
    capacity_bytes: u64,
    state: SlotState,
}

enum SlotState {
    Open {
        store: Arc<DiskStore>,
        /// Keeps the folder locked; None in tests.
        _folder: Option<DiskFolder>,
    },
    Failed(String),
}

/// The disks of a server.
pub struct DiskSet {
    slots: Vec<DiskSlot>,
    /// Slot of each number; empty before the first registration.
    numbers: RwLock<HashMap<DiskId, usize>>,
}

impl DiskSet {
    /// Opens the disks that are there, all at once. A disk that cannot be opened is failed; the server
    /// goes on with the others. Blocks on IO.
    pub fn open(disks: Vec<KnownDisk>, options: StoreOptions) -> Self {
        let slots = std::thread::scope(|scope| {
            let opening: Vec<_> =
                disks.into_iter().map(|disk| scope.spawn(move || DiskSlot::open(disk, options))).collect();
            let joined = opening.into_iter().map(|slot| slot.join());
            joined.map(|slot| slot.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        Self { slots, numbers: RwLock::default() }
    }

    /// Of stores that are open already.
    pub fn of_stores(stores: Vec<Arc<DiskStore>>) -> Self {
        let slot = |store: Arc<DiskStore>| DiskSlot {
            uuid: store.uuid(),
            capacity_bytes: store.report().capacity_bytes,
            state: SlotState::Open { store, _folder: None },
        };
        Self { slots: stores.into_iter().map(slot).collect(), numbers: RwLock::default() }
    }

    /// The disks in the order of the registration.
    pub fn slots(&self) -> &[DiskSlot] {
        &self.slots
    }

    /// Takes the numbers that the cluster gave, in the order of [`DiskSet::slots`].
    pub fn number(&self, disks: &[DiskId]) {
        *self.numbers.write() = disks.iter().copied().zip(0..self.slots.len()).collect();
    }

    /// The disks with their numbers, in the order of the registration; empty before the first.
    pub fn numbered(&self) -> Vec<(DiskId, &DiskSlot)> {
        let mut numbers: Vec<(DiskId, usize)> = self.numbers.read().iter().map(|(id, slot)| (*id, *slot)).collect();
        numbers.sort_unstable_by_key(|(_, slot)| *slot);
        numbers.into_iter().map(|(id, slot)| (id, &self.slots[slot])).collect()
    }

    /// Makes the indexes durable, so that the next start reads little. Puts must have ended.
    pub fn close(&self) {
        for store in self.slots.iter().filter_map(DiskSlot::store).filter(|store| store.failure().is_none()) {
            if let Err(error) = store.flush_index() {
                tracing::warn!(disk = %store.uuid(), %error, "cannot make the index durable; the next start reads more");
            }
        }
    }

    /// The store of a disk, if this server has it and could open it.
    pub fn store(&self, disk: DiskId) -> Option<Arc<DiskStore>> {
        let slot = *self.numbers.read().get(&disk)?;
        self.slots[slot].store().cloned()
    }
}

impl DiskSlot {
    fn open(disk: KnownDisk, options: StoreOptions) -> Self {
        let state = match disk.state {
            DiskState::Failed(reason) => Err(reason),
            DiskState::Present(folder) => {
                open_store(&folder.segments(), &folder.index(), disk.uuid, options).map(|store| (store, folder))
            }
        };
        let state = match state {
            Ok((store, folder)) => SlotState::Open { store, _folder: Some(folder) },
            Err(reason) => {
                tracing::error!(disk = %disk.uuid, %reason, "disk cannot be opened; the server goes on without it");
                SlotState::Failed(reason)
            }
        };
        Self { uuid: disk.uuid, capacity_bytes: disk.capacity_bytes, state }
    }

    /// The store, if the disk could be opened.
    pub fn store(&self) -> Option<&Arc<DiskStore>> {
        match &self.state {
            SlotState::Open { store, .. } => Some(store),
            SlotState::Failed(_) => None,
        }
    }

    /// Its state. Blocks on a statfs.
    pub fn report(&self) -> StoreReport {
        match &self.state {
            SlotState::Open { store, .. } => store.report(),
            SlotState::Failed(reason) => StoreReport {
                capacity_bytes: self.capacity_bytes,
                free_bytes: 0,
                reserve_bytes: 0,
                room_bytes: 0,
                file_system: 0,
                blocks: 0,
                damaged_blocks: 0,
                failure: Some(reason.clone()),
            },
        }
    }
}

fn open_store(segments: &Path, index: &Path, uuid: DiskUuid, options: StoreOptions) -> Result<Arc<DiskStore>, String> {
    DiskStore::open(Arc::new(FileDisk::new(segments)), index, uuid, options)
        .map(Arc::new)
        .map_err(|error| error.to_string())
}
