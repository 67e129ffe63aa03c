//! A read of a file: extents of the newest version seen, blocks, and the dirty bytes of this mount
//! over them.

use std::sync::Arc;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::{DataVersion, RequestId};
use cairn_common::limits::MAX_BLOCK_BYTES;
use cairn_common::protocol::metadata::{Query, QueryResult};
use futures::future::try_join_all;

use crate::backend::unexpected;
use crate::filesystem::Filesystem;
use crate::open_files::{FileHandle, FileState};

/// Extents are asked for in windows of this length, in bytes: a question for 64 full blocks.
const EXTENT_WINDOW: u64 = 256 << 20;

/// What a read stands on, taken at one moment.
struct View {
    end: u64,
    remote_size: u64,
    version: Option<DataVersion>,
    dirty: Vec<(u64, Bytes)>,
}

impl Filesystem {
    /// Reads at most `length` bytes; fewer only at the end of the file.
    pub async fn read(
        self: &Arc<Self>,
        request: RequestId,
        handle: &FileHandle,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, ClientError> {
        let file = handle.file();
        // The newest there is: a lease says that it is known, or the leader is asked.
        self.attributes(request, file.inode).await?;
        let view = view(file, offset, u64::from(length));
        self.handle_accessed(handle);
        if offset >= view.end {
            return Ok(Vec::new());
        }
        let sequential = handle.pattern.lock().observe(offset, view.end - offset);
        let mut buffer = vec![0; (view.end - offset) as usize];
        let remote_end = view.end.min(view.remote_size);
        if offset < remote_end && !covers(&view.dirty, offset, remote_end) {
            let target = &mut buffer[..(remote_end - offset) as usize];
            self.read_remote(request, file, view.version, offset, target, sequential).await?;
        }
        for (start, bytes) in &view.dirty {
            let at = (start - offset) as usize;
            buffer[at..at + bytes.len()].copy_from_slice(bytes);
        }
        if sequential {
            self.read_ahead(request, file, view.end);
        }
        Ok(buffer)
    }

    /// Fills `target` with the file's bytes in the cluster; holes stay as they are (zeros).
    async fn read_remote(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
        version: Option<DataVersion>,
        offset: u64,
        target: &mut [u8],
        sequential: bool,
    ) -> Result<(), ClientError> {
        let extents = self.extents(request, file, version, (offset, offset + target.len() as u64)).await?;
        let mut fetches = Vec::new();
        let (mut rest, mut at) = (target, offset);
        for extent in extents {
            let (_, from) = rest.split_at_mut((extent.offset - at) as usize);
            let (part, behind) = from.split_at_mut(extent.length as usize);
            (rest, at) = (behind, extent.end());
            match extent.content {
                ExtentContent::Inline(bytes) => part.copy_from_slice(&bytes),
                ExtentContent::Unwritten => {}
                ExtentContent::Block(reference) => {
                    let ahead = sequential && extent.length * 2 >= u64::from(reference.block_length).min(1 << 20);
                    fetches.push(async move { self.blocks.read(request, reference, part, ahead).await });
                }
            }
        }
        try_join_all(fetches).await.map(|_| ())
    }

    /// The extents within `[from, to)`, cut to it, of `version` or newer.
    async fn extents(
        &self,
        request: RequestId,
        file: &Arc<FileState>,
        version: Option<DataVersion>,
        (from, to): (u64, u64),
    ) -> Result<Vec<Extent>, ClientError> {
        let (mut found, mut at) = (Vec::new(), from);
        while at < to {
            let (extents, complete_to) = self.extents_page(request, file, version, (at, to)).await?;
            found.extend(extents);
            at = complete_to;
        }
        Ok(found)
    }

    /// The first of these extents, as many as one answer tells, and up to where they are all: behind
    /// `from`, at most `to`.
    pub(crate) async fn extents_page(
        &self,
        request: RequestId,
        file: &Arc<FileState>,
        version: Option<DataVersion>,
        (from, to): (u64, u64),
    ) -> Result<(Vec<Extent>, u64), ClientError> {
        if let Some(version) = version
            && let Some(extents) = self.known_extents(file, version, from, to)
        {
            return Ok((extents, to));
        }
        let until = to.max((from / EXTENT_WINDOW + 1) * EXTENT_WINDOW);
        let query = Query::Extents { inode: file.inode, from, to: until };
        let QueryResult::Extents { extents, complete_to, size, data_version } = self.ask(request, query).await? else {
            return Err(unexpected("a question for extents"));
        };
        if complete_to <= from {
            return Err(unexpected("a question for extents"));
        }
        let complete_to = complete_to.min(until);
        let end = complete_to.min(to);
        let found = extents.iter().filter_map(|extent| extent.slice(from, end)).collect();
        let mut inner = file.lock();
        inner.saw_bytes(data_version, size);
        inner.extents.insert(data_version, from, complete_to, extents);
        Ok((found, end))
    }

    /// The same without a question.
    fn known_extents(&self, file: &FileState, version: DataVersion, from: u64, to: u64) -> Option<Vec<Extent>> {
        let mut inner = file.lock();
        if let Some(extents) = inner.extents.lookup(version, from, to) {
            return Some(extents);
        }
        let all = self.leases.told(|cache, time| cache.extents(file.inode, version, time))?;
        inner.extents.insert(version, 0, u64::MAX, all);
        inner.extents.lookup(version, from, to)
    }

    /// The same of a handle.
    pub fn try_read_of(&self, handle: u64, offset: u64, length: u32) -> Option<Vec<u8>> {
        let handle = self.handles.get(handle).ok()?;
        self.try_read(&handle, offset, length)
    }

    /// A read that needs no question and no block that is not here; `None` if it does.
    pub fn try_read(&self, handle: &FileHandle, offset: u64, length: u32) -> Option<Vec<u8>> {
        let file = handle.file();
        self.try_attributes(file.inode)?;
        let view = view(file, offset, u64::from(length));
        if offset >= view.end {
            return Some(Vec::new());
        }
        let mut buffer = vec![0; (view.end - offset) as usize];
        let remote_end = view.end.min(view.remote_size);
        if offset < remote_end && !covers(&view.dirty, offset, remote_end) {
            for extent in self.known_extents(file, view.version?, offset, remote_end)? {
                let part = &mut buffer[(extent.offset - offset) as usize..][..extent.length as usize];
                match extent.content {
                    ExtentContent::Inline(bytes) => part.copy_from_slice(&bytes),
                    ExtentContent::Unwritten => {}
                    ExtentContent::Block(reference) if self.blocks.read_cached(reference, part) => {}
                    ExtentContent::Block(_) => return None,
                }
            }
        }
        for (start, bytes) in &view.dirty {
            let at = (start - offset) as usize;
            buffer[at..at + bytes.len()].copy_from_slice(bytes);
        }
        handle.pattern.lock().observe(offset, view.end - offset);
        self.handle_accessed(handle);
        Some(buffer)
    }

    /// Begins to fetch the blocks behind `from`, as far as their extents are known.
    fn read_ahead(self: &Arc<Self>, request: RequestId, file: &Arc<FileState>, from: u64) {
        let span = u64::from(self.settings.read_ahead_blocks) * MAX_BLOCK_BYTES as u64;
        let extents = {
            let inner = file.lock();
            let to = (from + span).min(inner.remote_size());
            let Some(version) = inner.version() else { return };
            if from >= to { None } else { inner.extents.lookup(version, from, to) }
        };
        for extent in extents.into_iter().flatten().take(self.settings.read_ahead_blocks as usize + 1) {
            if let ExtentContent::Block(reference) = extent.content {
                self.blocks.fetch_ahead(request, reference);
            }
        }
    }
}

fn view(file: &FileState, offset: u64, length: u64) -> View {
    let inner = file.lock();
    let end = inner.shown_size().min(offset.saturating_add(length));
    View { end, remote_size: inner.remote_size(), version: inner.version(), dirty: inner.shown_bytes(offset, end) }
}

/// Whether the dirty bytes leave no gap in `[from, to)`.
fn covers(dirty: &[(u64, Bytes)], from: u64, to: u64) -> bool {
    let mut at = from;
    for (start, bytes) in dirty {
        if *start > at {
            return false;
        }
        at = at.max(start + bytes.len() as u64);
    }
    at >= to
}
