//! Writes and appends. Under the exclusive lease they stay in memory until a flush; without it they are
//! committed before they return, because other mounts are answered without asking this one.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::clock::{Clock, SystemClock};
use cairn_common::ids::RequestId;
use cairn_common::limits::{FILE_MAX_BYTES, INLINE_MAX_BYTES, MAX_BLOCK_BYTES};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Mutation, MutationResult};

use super::Filesystem;
use crate::backend::unexpected;
use crate::open_files::{FileHandle, FileState};
use crate::write_path::upload::Upload;

/// Where a write goes.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// To this offset.
    At(u64),
    /// To the end of the file, which only the exclusive lease makes known.
    End,
}

impl Filesystem {
    /// Takes a write in without waiting; None if it has to wait.
    pub fn try_write(
        self: &Arc<Self>,
        request: RequestId,
        handle: u64,
        offset: u64,
        data: &[u8],
    ) -> Option<Result<u32, ClientError>> {
        let handle = match self.handles.get(handle) {
            Ok(handle) => handle,
            Err(error) => return Some(Err(error)),
        };
        if self.backend.is_fenced() || !self.budget.admits(data.len() as u64) {
            return None;
        }
        self.take_in(request, handle.file(), place(&handle, offset), data, true)
    }

    /// Takes a write in, when there is room.
    pub async fn write(
        self: &Arc<Self>,
        request: RequestId,
        handle: &FileHandle,
        offset: u64,
        data: Bytes,
    ) -> Result<u32, ClientError> {
        let file = handle.file();
        if self.backend.is_fenced() {
            // Buffered bytes could never be written.
            self.attributes(request, file.inode).await?;
        }
        let bytes = data.len() as u64;
        let bound = self.settings.call_timeout;
        tokio::time::timeout(bound, self.budget.admitted(bytes)).await.map_err(|_| ClientError::TimedOut {
            what: "write",
            waited: bound,
            tried: format!("{} bytes wait to be committed", self.budget.used()),
        })?;
        let place = place(handle, offset);
        let waited = file.wait_while_ending().await;
        if let Some(result) = self.take_in(request, file, place, &data, true) {
            return result;
        }
        // Who has just given the lease up lets the other mount have its turn.
        if !waited
            && self.acquire_exclusive(request, file).await?
            && let Some(result) = self.take_in(request, file, place, &data, true)
        {
            return result;
        }
        if handle.appends() {
            return self.append(request, handle, data).await;
        }
        let result = self.write_through(request, file, place, &data).await;
        if result.is_err() {
            // Said here; close need not say it again.
            let _ = handle.unreported_failure();
        }
        result
    }

    /// Commits a write before it returns.
    async fn write_through(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
        place: Place,
        data: &[u8],
    ) -> Result<u32, ClientError> {
        let Some(result) = self.take_in(request, file, place, data, false) else {
            return Err(unexpected("a write"));
        };
        let written = result?;
        self.flush_file(request, file).await?;
        Ok(written)
    }

    /// Takes bytes in; `only_under_lease`: if they may stay in memory, else None.
    fn take_in(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
        place: Place,
        data: &[u8],
        only_under_lease: bool,
    ) -> Option<Result<u32, ClientError>> {
        let mut full = Vec::new();
        {
            let mut inner = file.lock();
            let leased = inner.exclusive.may_buffer(&self.leases.time());
            if only_under_lease && !leased {
                return None;
            }
            let offset = match place {
                Place::At(offset) => offset,
                Place::End if leased && inner.certain().is_some() => inner.size(),
                Place::End => return None,
            };
            let end = offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_MAX_BYTES);
            let Some(end) = end else { return Some(Err(FsError::FileTooBig.into())) };
            if data.is_empty() {
                return Some(Ok(0));
            }
            let before = inner.dirty.bytes();
            inner.dirty.write(offset, data);
            inner.dirty_since.get_or_insert_with(Instant::now);
            inner.local_mtime = Some(SystemClock.wall());
            if let Some(times) = &mut inner.pending_times {
                times.mtime = None;
            }
            let mut window = offset / MAX_BLOCK_BYTES as u64 * MAX_BLOCK_BYTES as u64;
            while window < end {
                full.extend(inner.dirty.freeze_full_window(window));
                window += MAX_BLOCK_BYTES as u64;
            }
            let after = inner.dirty.bytes();
            drop(inner);
            self.budget.changed(before, after);
        }
        self.files.mark_dirty(file);
        for upload in full {
            self.upload_in_background(request, file.clone(), upload);
        }
        Some(Ok(data.len() as u32))
    }

    /// Puts bytes at the end of the file, wherever that is when the metadata group applies it.
    async fn append(
        self: &Arc<Self>,
        request: RequestId,
        handle: &FileHandle,
        data: Bytes,
    ) -> Result<u32, ClientError> {
        if data.is_empty() {
            return Ok(0);
        }
        let (filesystem, file) = (self.clone(), handle.file().clone());
        let append = tokio::spawn(async move {
            let _ordering = file.ordering.clone().lock_owned().await;
            let _changing = file.changing.clone().lock_owned().await;
            filesystem.flush_locked(request, &file).await?;
            let length = data.len() as u64;
            let upload = Upload::new(data, length <= INLINE_MAX_BYTES as u64);
            loop {
                filesystem.store(request, &upload).await?;
                let extents = upload.extent(0, 0, length).into_iter().collect();
                let mtime = Some(SystemClock.wall());
                let commit = Mutation::Commit { inode: file.inode, extents, append: true, minimum_size: 0, mtime };
                match filesystem.submit(request, commit).await {
                    Ok(MutationResult::Committed { attributes, .. }) => file.lock().merge(attributes),
                    // The owners of the block have changed since it was put.
                    Err(ClientError::Fs(FsError::PutAgain)) => {
                        upload.put_again();
                        continue;
                    }
                    Err(error) => return Err(error),
                    Ok(_) => return Err(unexpected("an append")),
                }
                return Ok(length as u32);
            }
        });
        append.await.unwrap_or_else(|error| Err(ClientError::Protocol { reason: format!("append: {error}") }))
    }
}

fn place(handle: &FileHandle, offset: u64) -> Place {
    if handle.appends() { Place::End } else { Place::At(offset) }
}
