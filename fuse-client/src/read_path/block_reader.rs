//! Bytes of blocks: from the cache, or from a replica, verified. A whole block is fetched once, however
//! many readers wait for it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_common::block::BlockId;
use cairn_common::client::{ClientError, VerifiedRange};
use cairn_common::extent::BlockReference;
use cairn_common::ids::RequestId;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::block_cache::BlockCache;
use crate::backend::Backend;

type Fetch = Shared<BoxFuture<'static, Result<VerifiedRange, ClientError>>>;

/// Whole blocks that are fetched ahead at once.
const FETCHES_AHEAD_MAX: usize = 8;

/// Reads blocks.
pub struct BlockReader {
    backend: Arc<dyn Backend>,
    cache: BlockCache,
    whole: Mutex<HashMap<BlockId, Fetch>>,
}

impl BlockReader {
    /// A reader with an empty cache of so many bytes.
    pub fn new(backend: Arc<dyn Backend>, cache_bytes: usize) -> Arc<Self> {
        Arc::new(Self { backend, cache: BlockCache::new(cache_bytes), whole: Mutex::default() })
    }

    /// Copies out of the cache; false if a part is not there.
    pub fn read_cached(&self, reference: BlockReference, target: &mut [u8]) -> bool {
        self.cache.copy(reference.block, reference.block_offset, target)
    }

    /// Takes in a whole block that this mount has made itself.
    pub fn remember(&self, block: BlockId, bytes: &Bytes) {
        if !self.cache.has(block, 0) {
            self.cache.insert(block, 0, bytes);
        }
    }

    /// Fills `target` from a place in a block. `ahead`: the reader goes on, so the whole block comes.
    pub async fn read(
        self: &Arc<Self>,
        request: RequestId,
        reference: BlockReference,
        target: &mut [u8],
        ahead: bool,
    ) -> Result<(), ClientError> {
        if self.read_cached(reference, target) {
            return Ok(());
        }
        let under_way = self.whole.lock().get(&reference.block).cloned();
        let range = match under_way {
            Some(fetch) => fetch.await?,
            None if ahead => self.fetch_whole(request, reference).await?,
            None => {
                let (block, length) = (reference.block, target.len() as u32);
                let got = self.backend.get(request, block, reference.block_length, reference.block_offset, length);
                let range = got.await?;
                self.cache.insert(block, range.offset, &range.bytes);
                range
            }
        };
        let start = reference.block_offset.saturating_sub(range.offset) as usize;
        match range.bytes.get(start..start + target.len()) {
            Some(bytes) if reference.block_offset >= range.offset => target.copy_from_slice(bytes),
            _ => {
                let reason = format!("block {} is shorter than its extent says", reference.block);
                return Err(ClientError::Protocol { reason });
            }
        }
        Ok(())
    }

    /// Begins to fetch a whole block unless it is here or on its way.
    pub fn fetch_ahead(self: &Arc<Self>, request: RequestId, reference: BlockReference) {
        if self.cache.has(reference.block, reference.block_offset) || self.whole.lock().len() >= FETCHES_AHEAD_MAX {
            return;
        }
        drop(self.fetch_whole(request, reference));
    }

    fn fetch_whole(self: &Arc<Self>, request: RequestId, reference: BlockReference) -> Fetch {
        let mut whole = self.whole.lock();
        if let Some(fetch) = whole.get(&reference.block) {
            return fetch.clone();
        }
        let (reader, block, length) = (self.clone(), reference.block, reference.block_length);
        let task = tokio::spawn(async move {
            let result = reader.backend.get(request, block, length, 0, length).await;
            if let Ok(range) = &result {
                reader.cache.insert(block, range.offset, &range.bytes);
            }
            reader.whole.lock().remove(&block);
            result
        });
        let fetch: Fetch = async move {
            task.await
                .unwrap_or_else(|error| Err(ClientError::Protocol { reason: format!("fetching a block: {error}") }))
        }
        .boxed()
        .shared();
        whole.insert(block, fetch.clone());
        fetch
    }
}
