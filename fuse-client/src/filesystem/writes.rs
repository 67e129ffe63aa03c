//! Writes and appends. Under the exclusive lease, and within what the leader has granted of the chunk servers'
//! write reserve, they stay in memory until a flush: room for them is certain. Without either they are put and
//! committed before they return, and fail with ENOSPC where that finds no room.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cairn_common::client::{Charge, ClientError};
use cairn_common::clock::{Clock, SystemClock};
use cairn_common::extent::{Extent, NewExtent};
use cairn_common::ids::RequestId;
use cairn_common::limits::{FILE_MAX_BYTES, INLINE_MAX_BYTES, MAX_BLOCK_BYTES};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Mutation, MutationResult};
use futures::future::try_join_all;

use super::Filesystem;
use crate::backend::unexpected;
use crate::open_files::{FileHandle, FileState};
use crate::write_path::dirty_map::DirtyMap;
use crate::write_path::upload::Upload;

/// Where a write goes.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// To this offset.
    At(u64),
    /// To the end of the file, which only the exclusive lease makes known.
    End,
}

/// A piece of a direct write: its offset in the file (of an append: in the write), and its bytes.
type Piece = (u64, Arc<Upload>);

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
        if self.backend.is_fenced() {
            return None;
        }
        let charge = self.grant.try_charge(DirtyMap::cost(data.len()))?;
        self.take_in(request, handle.file(), place(&handle, offset), data, charge)
    }

    /// Takes a write in, when there is room, or commits it.
    ///
    /// # Errors
    /// `NoSpace`: nothing was changed. `TimedOut` may leave the write under way: it may still happen, once.
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
        let place = place(handle, offset);
        let waited = file.wait_while_ending().await;
        // Who has just given the lease up lets the other mount have its turn.
        let leased = file.lock().exclusive.may_buffer(&self.leases.time())
            || (!waited && self.acquire_exclusive(request, file).await?);
        if leased
            && let Some(charge) = self.charge(data.len()).await?
            && let Some(result) = self.take_in(request, file, place, &data, charge)
        {
            return result;
        }
        self.write_direct(request, file, place, data).await
    }

    /// Room for a write of `bytes` bytes in memory; None if there is none to wait for.
    async fn charge(&self, bytes: usize) -> Result<Option<Charge>, ClientError> {
        let bound = self.settings.call_timeout;
        let charging = self.grant.charge(DirtyMap::cost(bytes));
        tokio::time::timeout(bound, charging).await.map_err(|_| ClientError::TimedOut {
            what: "write",
            waited: bound,
            tried: format!("{} bytes wait to be committed", self.grant.used()),
        })
    }

    /// Takes bytes in if they may stay in memory.
    fn take_in(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
        place: Place,
        data: &[u8],
        charge: Charge,
    ) -> Option<Result<u32, ClientError>> {
        let mut full = Vec::new();
        {
            let mut inner = file.lock();
            if !inner.exclusive.may_buffer(&self.leases.time()) {
                return None;
            }
            let offset = match place {
                Place::At(offset) => offset,
                Place::End if inner.certain().is_some() => inner.size(),
                Place::End => return None,
            };
            let end = match end_of(offset, data.len()) {
                Ok(end) => end,
                Err(error) => return Some(Err(error)),
            };
            if data.is_empty() {
                return Some(Ok(0));
            }
            inner.dirty.write(offset, data, charge);
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
        }
        self.files.mark_dirty(file);
        for upload in full {
            self.upload_in_background(request, file.clone(), upload);
        }
        Some(Ok(data.len() as u32))
    }

    /// Puts and commits a write, behind what was written before. It goes on if the future is dropped.
    async fn write_direct(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
        place: Place,
        data: Bytes,
    ) -> Result<u32, ClientError> {
        if let Place::At(offset) = place {
            end_of(offset, data.len())?;
        }
        if data.is_empty() {
            return Ok(0);
        }
        let length = data.len() as u32;
        let pieces = pieces(file, place, data);
        let (filesystem, file) = (self.clone(), file.clone());
        let write = tokio::spawn(async move {
            filesystem.store_pieces(request, &pieces).await?;
            let _ordering = file.ordering.clone().lock_owned().await;
            let _changing = file.changing.clone().lock_owned().await;
            filesystem.flush_locked(request, &file).await?;
            filesystem.commit_direct(request, &file, place, &pieces).await
        });
        write.await.unwrap_or_else(|error| Err(ClientError::Protocol { reason: format!("write: {error}") }))?;
        Ok(length)
    }

    async fn store_pieces(&self, request: RequestId, pieces: &[Piece]) -> Result<(), ClientError> {
        try_join_all(pieces.iter().map(|(_, upload)| self.store(request, upload))).await.map(|_| ())
    }

    /// Commits a direct write, by a caller that holds the file's `changing` lock: an append at the end of the
    /// file, wherever that is when the metadata group applies it.
    async fn commit_direct(
        &self,
        request: RequestId,
        file: &Arc<FileState>,
        place: Place,
        pieces: &[Piece],
    ) -> Result<(), ClientError> {
        let mtime = Some(SystemClock.wall());
        loop {
            let extent = |(offset, upload): &Piece| upload.extent(*offset, 0, upload.len() as u64);
            let extents: Vec<NewExtent> = pieces.iter().filter_map(extent).collect();
            let written: Vec<Extent> = extents.iter().map(|new| new.extent.clone()).collect();
            let end = written.last().map_or(0, Extent::end);
            let (append, minimum_size, base) = match place {
                Place::At(_) => (false, end, file.lock().version()),
                // Where it went is not known here.
                Place::End => (true, 0, None),
            };
            let commit = Mutation::Commit { inode: file.inode, extents, append, minimum_size, mtime };
            match self.submit(request, commit).await {
                Ok(MutationResult::Committed { attributes, .. }) => {
                    self.learn(&mut file.lock(), base, written, attributes);
                    return Ok(());
                }
                // The owners of some block have changed since it was put. A newer table each time, so this ends.
                Err(ClientError::Fs(FsError::PutAgain)) => {
                    pieces.iter().for_each(|(_, upload)| upload.put_again());
                    self.store_pieces(request, pieces).await?;
                }
                Err(error) => return Err(error),
                Ok(_) => return Err(unexpected("a write")),
            }
        }
    }
}

fn place(handle: &FileHandle, offset: u64) -> Place {
    if handle.appends() { Place::End } else { Place::At(offset) }
}

/// Where a write ends, if a file may be that long.
fn end_of(offset: u64, bytes: usize) -> Result<u64, ClientError> {
    let end = offset.checked_add(bytes as u64).filter(|end| *end <= FILE_MAX_BYTES);
    end.ok_or_else(|| FsError::FileTooBig.into())
}

/// Cuts a direct write where blocks of large files end. No program was told that it is written, so nothing is
/// charged and the reserve is not for it.
fn pieces(file: &FileState, place: Place, mut data: Bytes) -> Vec<Piece> {
    let (mut offset, inline) = match place {
        Place::At(offset) => (offset, file.lock().size().max(offset + data.len() as u64) <= INLINE_MAX_BYTES as u64),
        Place::End => (0, data.len() <= INLINE_MAX_BYTES),
    };
    let mut pieces = Vec::new();
    while !data.is_empty() {
        let room = MAX_BLOCK_BYTES - (offset % MAX_BLOCK_BYTES as u64) as usize;
        let piece = data.split_to(room.min(data.len()));
        let length = piece.len() as u64;
        pieces.push((offset, Upload::new(piece, inline, Charge::default())));
        offset += length;
    }
    pieces
}
