//! Flush of one file: freezes what is dirty, makes it durable on a write quorum, names it to the
//! metadata group. When [`Filesystem::flush_file`] answers Ok, every byte that was written before is
//! on stable storage in both places (P2).

use std::sync::Arc;

use cairn_common::client::ClientError;
use cairn_common::extent::{Extent, NewExtent};
use cairn_common::ids::{DataVersion, RequestId};
use cairn_common::limits::{INLINE_MAX_BYTES, MAX_EXTENTS_PER_MESSAGE};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{AttributeChanges, Attributes, Mutation, MutationResult, TimeChange};
use futures::future::try_join_all;

use super::dirty_map::Committing;
use super::upload::Upload;
use crate::backend::unexpected;
use crate::filesystem::Filesystem;
use crate::lease::EXTENTS_MAX;
use crate::open_files::{FileInner, FileState};

/// Larger blocks are not kept for readers when they are written: whoever streams does not read again soon.
const REMEMBERED_BLOCK_BYTES: usize = 256 << 10;

/// Largest commit of inline bytes, in extents: the bytes travel in one Raft entry.
const MAX_INLINE_EXTENTS: usize = 64;

impl Filesystem {
    /// Commits all that is dirty in a file. It goes on if the future is dropped.
    pub async fn flush_file(self: &Arc<Self>, request: RequestId, file: &Arc<FileState>) -> Result<(), ClientError> {
        if !file.is_dirty() {
            return Ok(());
        }
        let (filesystem, file) = (self.clone(), file.clone());
        let flush = tokio::spawn(async move {
            let _ordering = file.ordering.clone().lock_owned().await;
            let _changing = file.changing.clone().lock_owned().await;
            filesystem.flush_locked(request, &file).await
        });
        flush.await.unwrap_or_else(|error| Err(ClientError::Protocol { reason: format!("flush: {error}") }))
    }

    /// The same for another mount that waits: a change of size that is under way does not hold it up.
    pub(crate) async fn flush_for_other(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
    ) -> Result<(), ClientError> {
        if !file.is_dirty() {
            return Ok(());
        }
        let (filesystem, file) = (self.clone(), file.clone());
        let flush = tokio::spawn(async move {
            let _changing = file.changing.clone().lock_owned().await;
            filesystem.flush_locked(request, &file).await
        });
        flush.await.unwrap_or_else(|error| Err(ClientError::Protocol { reason: format!("flush: {error}") }))
    }

    /// The same, by a caller that holds the file's `changing` lock.
    pub(crate) async fn flush_locked(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
    ) -> Result<(), ClientError> {
        let (uploads, owed, limit) = {
            let mut inner = file.lock();
            if inner.is_clean() {
                return Ok(());
            }
            let inline = inner.size() <= INLINE_MAX_BYTES as u64;
            inner.dirty.freeze_all(inline);
            inner.dirty_since = None;
            let limit = if inline { MAX_INLINE_EXTENTS } else { MAX_EXTENTS_PER_MESSAGE };
            (inner.dirty.uploads(), inner.dirty.frozen(), limit)
        };
        let stored = try_join_all(uploads.iter().map(|upload| self.store(request, upload))).await;
        let result = match stored {
            Ok(_) => match self.commit_frozen(request, file, &owed, limit).await {
                Ok(()) => self.send_times(request, file).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {}
            Err(ref error @ (ClientError::TimedOut { .. } | ClientError::NoSpace { .. })) => {
                // Nothing is lost: the bytes stay here and are tried again.
                if matches!(error, ClientError::NoSpace { .. }) {
                    self.grant.mark_full(self.leases.time().now);
                }
                let mut inner = file.lock();
                inner.dirty_since.get_or_insert_with(std::time::Instant::now);
            }
            Err(ref error) => self.give_up(file, error),
        }
        result
    }

    /// Commits what a flush has frozen. Not only what is still dirty of it: a byte that was written again
    /// while its block was on the way is in memory only, and the flush promised the one before it.
    async fn commit_frozen(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
        owed: &[Committing],
        limit: usize,
    ) -> Result<(), ClientError> {
        for parts in owed.chunks(limit) {
            self.commit_parts(request, file, parts).await?;
        }
        Ok(())
    }

    /// Commits what is stored already, from the file's first dirty byte on; leaves the rest.
    pub(crate) async fn commit_stored(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
    ) -> Result<(), ClientError> {
        loop {
            let parts = {
                let inner = file.lock();
                let inline = inner.size() <= INLINE_MAX_BYTES as u64;
                let limit = if inline { MAX_INLINE_EXTENTS } else { MAX_EXTENTS_PER_MESSAGE };
                inner.dirty.committable(limit).1
            };
            if parts.is_empty() {
                return Ok(());
            }
            self.commit_parts(request, file, &parts).await?;
        }
    }

    /// Commits parts whose blocks are durable.
    async fn commit_parts(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
        parts: &[Committing],
    ) -> Result<(), ClientError> {
        let (committed, base, written) = loop {
            let extents: Vec<NewExtent> = parts.iter().filter_map(Committing::extent).collect();
            let Some(last) = extents.last() else { return Ok(()) };
            let written: Vec<Extent> = extents.iter().map(|new| new.extent.clone()).collect();
            let (minimum_size, base, mtime) = {
                let inner = file.lock();
                // Not what the answer finds: that brings what is known up to date before it is here.
                (last.extent.end(), inner.version(), inner.local_mtime)
            };
            let commit = Mutation::Commit { inode: file.inode, extents, append: false, minimum_size, mtime };
            match self.submit(request, commit).await {
                // The owners of some block have changed since it was put. A newer table each time, so
                // this ends.
                Err(ClientError::Fs(FsError::PutAgain)) => {
                    parts.iter().for_each(|part| part.upload.put_again());
                    try_join_all(parts.iter().map(|part| self.store(request, &part.upload))).await?;
                }
                other => break (other?, base, written),
            }
        };
        let MutationResult::Committed { attributes, .. } = committed else {
            return Err(unexpected("a commit"));
        };
        {
            let mut inner = file.lock();
            inner.dirty.committed(parts);
            self.learn(&mut inner, base, written, attributes);
        }
        self.files.unmark_if_clean(file);
        Ok(())
    }

    /// What an own commit of these extents, made when `base` was known, says about a file.
    pub(crate) fn learn(
        &self,
        inner: &mut FileInner,
        base: Option<DataVersion>,
        written: Vec<Extent>,
        attributes: Attributes,
    ) {
        let after = attributes.data_version;
        // Versions are counted: it was made of what was known, and nothing came in between.
        if let Some(base) = base.filter(|base| base.0 + 1 == after.0) {
            inner.extents.committed(base, after, written);
            let all = inner.extents.all(after, EXTENTS_MAX);
            self.leases.lock().wrote(attributes.inode, base, after, all);
        }
        inner.merge(attributes);
    }

    /// Sends the times that a program has set, behind the bytes, whose commit sets some, too.
    async fn send_times(&self, request: RequestId, file: &Arc<FileState>) -> Result<(), ClientError> {
        let Some(times) = file.lock().pending_times else { return Ok(()) };
        if times.atime.is_some() {
            self.access_time_is_set(file.inode).await;
        }
        let (atime, mtime) = (times.atime.map(TimeChange::At), times.mtime.map(TimeChange::At));
        let changes = AttributeChanges { atime, mtime, ctime: Some(times.ctime), ..AttributeChanges::default() };
        match self.submit(request, Mutation::SetAttributes { inode: file.inode, changes }).await? {
            MutationResult::Attributes(attributes) => {
                let mut inner = file.lock();
                inner.merge(attributes);
                inner.pending_times = inner.pending_times.filter(|pending| *pending != times);
            }
            _ => return Err(unexpected("a change of times")),
        }
        self.files.unmark_if_clean(file);
        Ok(())
    }

    pub(crate) async fn store(&self, request: RequestId, upload: &Arc<Upload>) -> Result<(), ClientError> {
        upload.store(&*self.backend, &self.uploads, request).await?;
        // Who reads what was just written asks no chunk server.
        if let Some((block, bytes)) = upload.block().filter(|(_, bytes)| bytes.len() <= REMEMBERED_BLOCK_BYTES) {
            self.blocks.remember(block, &bytes);
        }
        Ok(())
    }

    /// The cluster has refused for good: the dirty bytes of the file are lost, and every open handle
    /// is told so once.
    fn give_up(&self, file: &Arc<FileState>, error: &ClientError) {
        let lost = {
            let mut inner = file.lock();
            let lost = inner.dirty.bytes();
            inner.dirty.clear();
            inner.pending_times = None;
            inner.dirty_since = None;
            inner.record_failure(error.clone());
            self.leases.lock().lost_bytes(file.inode);
            lost
        };
        self.files.unmark_if_clean(file);
        tracing::error!(inode = %file.inode, lost_bytes = lost, %error, "written data could not be committed and is lost");
    }
}
