//! A run of bytes that became a block: put once, again only after a failure, or when its owners have changed
//! before it was committed. What was acknowledged to a program is charged, and finds room on full disks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::block::{BlockHash, BlockId};
use cairn_common::client::{Charge, ClientError, Placed, PutRoom};
use cairn_common::extent::{BlockReference, Extent, ExtentContent, NewExtent};
use cairn_common::ids::{PoolId, RequestId, TableEpoch};
use cairn_common::limits::CALL_TIMEOUT;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use crate::backend::Backend;

/// Blocks above this length, in bytes, are hashed on the blocking pool: about 0.1 ms.
const HASH_INLINE_BYTES: usize = 256 << 10;

/// How often a session that was cut off is looked at again.
const CUT_OFF_TICK: Duration = Duration::from_millis(50);

/// Bytes that do not change any more, on their way into the cluster.
#[derive(Debug)]
pub struct Upload {
    bytes: Bytes,
    /// The bytes travel in the commit itself; no chunk server sees them.
    inline: bool,
    /// Given back when nothing can put these bytes any more, also when newer ones have taken their place.
    charge: Charge,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stored: Arc<OnceCell<Stored>>,
    /// A commit of it was refused for being placed by this table.
    refused: Option<TableEpoch>,
}

#[derive(Debug)]
struct Stored {
    block: BlockId,
    placed: Placed,
}

impl Upload {
    /// Bytes to be put, or (`inline`) to be committed as they are. With a charge they were acknowledged to a
    /// program already.
    pub fn new(bytes: Bytes, inline: bool, charge: Charge) -> Arc<Self> {
        Arc::new(Self { bytes, inline, charge, state: Mutex::default() })
    }

    /// Bytes charged for it; none if no program was told that it is written.
    pub fn charged(&self) -> u64 {
        self.charge.bytes()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never, in practice: a run has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether a commit may name it.
    pub fn is_stored(&self) -> bool {
        self.inline || self.state.lock().stored.initialized()
    }

    /// Makes the block durable on a write quorum, once; several callers share the work.
    ///
    /// # Errors
    /// `NoSpace` of bytes without a charge says that nothing was changed. With one it says that the write
    /// reserve is used up, which only others than mounts can have done.
    pub async fn store(&self, backend: &dyn Backend, slots: &Semaphore, request: RequestId) -> Result<(), ClientError> {
        if self.inline {
            return Ok(());
        }
        let (stored, refused) = {
            let state = self.state.lock();
            (state.stored.clone(), state.refused)
        };
        let put = || async {
            // The semaphore is never closed; without a permit the put is only less orderly.
            let _slot = slots.acquire().await.ok();
            let hash = hash(self.bytes.clone()).await?;
            let block = BlockId { pool: PoolId::DEFAULT, hash };
            let placed = self.put(backend, request, block, refused).await?;
            Ok(Stored { block, placed })
        };
        stored.get_or_try_init(put).await.map(|_| ())
    }

    async fn put(
        &self,
        backend: &dyn Backend,
        request: RequestId,
        block: BlockId,
        refused: Option<TableEpoch>,
    ) -> Result<Placed, ClientError> {
        let put = |room| backend.put(request, block, self.bytes.clone(), refused, room);
        if self.charged() == 0 {
            return put(PutRoom::Free).await;
        }
        let grant = backend.write_grant();
        if !grant.is_full() {
            match put(PutRoom::Free).await {
                Err(ClientError::NoSpace { reason }) => {
                    // Before any of the reserve is used: from here on nothing is added to what may need it.
                    if grant.mark_full(backend.leases().now()) {
                        tracing::warn!(%request, reason, "the disks are full: writes are not buffered any more");
                    }
                }
                other => return other,
            }
        }
        until_renewed(backend).await?;
        put(PutRoom::Reserve).await
    }

    /// The block, once it is durable.
    pub fn block(&self) -> Option<(BlockId, Bytes)> {
        let stored = self.state.lock().stored.clone();
        stored.get().map(|stored| (stored.block, self.bytes.clone()))
    }

    /// A commit was refused because the owners have changed: [`Self::store`] puts it again.
    pub fn put_again(&self) {
        let mut state = self.state.lock();
        if let Some(stored) = state.stored.get() {
            *state = State { stored: Arc::default(), refused: Some(stored.placed.table) };
        }
    }

    /// The extent for `length` bytes from `block_offset` of these bytes on, which belong to `offset`
    /// of the file. None while the block is not durable.
    pub fn extent(&self, offset: u64, block_offset: u32, length: u64) -> Option<NewExtent> {
        if self.inline {
            let from = block_offset as usize;
            let content = ExtentContent::Inline(self.bytes.slice(from..from + length as usize));
            let extent = Extent { offset, length, content };
            return Some(NewExtent { extent, missed: Vec::new(), table: TableEpoch::default() });
        }
        let stored = self.state.lock().stored.clone();
        let stored = stored.get()?;
        let reference = BlockReference { block: stored.block, block_offset, block_length: self.bytes.len() as u32 };
        let extent = Extent { offset, length, content: ExtentContent::Block(reference) };
        Some(NewExtent { extent, missed: stored.placed.missed.clone(), table: stored.placed.table })
    }
}

/// Waits until the session is known to live: when it is over, its part of the reserve is others'.
async fn until_renewed(backend: &dyn Backend) -> Result<(), ClientError> {
    let leases = backend.leases();
    let begun = leases.now();
    while !leases.read().exclusive_valid() {
        if backend.is_fenced() {
            return Err(ClientError::SessionFenced { session: backend.session() });
        }
        let waited = leases.now().saturating_sub(begun);
        if waited >= CALL_TIMEOUT {
            let tried = "the disks are full, and no leader renews the session".into();
            return Err(ClientError::TimedOut { what: "put a block", waited, tried });
        }
        tokio::time::sleep(CUT_OFF_TICK).await;
    }
    Ok(())
}

async fn hash(bytes: Bytes) -> Result<BlockHash, ClientError> {
    if bytes.len() <= HASH_INLINE_BYTES {
        return Ok(BlockHash::of(&bytes));
    }
    cairn_common::blocking::run(move || BlockHash::of(&bytes))
        .await
        .map_err(|error| ClientError::Protocol { reason: format!("hashing a block: {error}") })
}
