//! The slots of a session (NFSv4.1 style). A slot carries one change at a time; its sequence number
//! makes a retry harmless. A slot comes back only when its change has a definite answer.

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::ids::SlotId;

/// A slot that carries a change.
#[derive(Debug)]
pub struct Slot {
    /// Its number.
    pub id: SlotId,
    /// Sequence number of the change that it carries now.
    pub sequence: u64,
}

/// The free slots.
#[derive(Debug)]
pub struct SlotPool {
    free: Mutex<Vec<Slot>>,
    available: Semaphore,
}

impl SlotPool {
    /// All slots of a new session: the first change of each has sequence 1.
    pub fn new(slots: u16) -> Self {
        let free = (0..slots).rev().map(|id| Slot { id: SlotId(id), sequence: 1 }).collect();
        Self { free: Mutex::new(free), available: Semaphore::new(usize::from(slots)) }
    }

    /// Waits for a free slot. The caller bounds the wait.
    pub async fn take(&self) -> Slot {
        loop {
            // The semaphore is never closed; were it, the loop would go round and find no slot.
            if let Ok(permit) = self.available.acquire().await {
                permit.forget();
            }
            if let Some(slot) = self.free.lock().pop() {
                return slot;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Gives a slot back whose change has its answer.
    pub fn settled(&self, slot: Slot) {
        self.free.lock().push(Slot { id: slot.id, sequence: slot.sequence + 1 });
        self.available.add_permits(1);
    }

    /// Gives a slot back whose change was refused before it could take effect: the number is used again.
    pub fn unused(&self, slot: Slot) {
        self.free.lock().push(slot);
        self.available.add_permits(1);
    }

    /// Slots that are free now.
    pub fn free_count(&self) -> usize {
        self.free.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sequence_grows_only_when_settled() {
        let pool = SlotPool::new(1);
        let slot = pool.take().await;
        assert_eq!((slot.id, slot.sequence), (SlotId(0), 1));
        assert!(futures::poll!(Box::pin(pool.take())).is_pending(), "one slot, one change");
        pool.settled(slot);
        assert_eq!(pool.take().await.sequence, 2);
    }
}
