//! Attributes: read, changed, and the truncation of files.

use std::sync::Arc;
use std::time::Instant;

use cairn_common::client::ClientError;
use cairn_common::clock::{Clock, SystemClock};
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::limits::FILE_MAX_BYTES;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{
    AttributeChanges, Attributes, Mutation, MutationResult, Query, QueryResult, Statfs, TimeChange,
};

use super::{Caller, Filesystem};
use crate::backend::unexpected;
use crate::open_files::FileState;

impl Filesystem {
    /// Attributes of an inode.
    pub async fn attributes(&self, request: RequestId, inode: InodeId) -> Result<Attributes, ClientError> {
        if let Some(attributes) = self.try_attributes(inode) {
            return Ok(attributes);
        }
        // Taken before the question: a commit that overtakes the answer is then not overlooked.
        let file = self.files.get(inode).map(|file| {
            let doubts = file.lock().doubts();
            (file, doubts)
        });
        let fresh = match self.ask(request, Query::Attributes { inode }).await {
            Ok(QueryResult::Attributes(fresh)) => fresh,
            Ok(_) => return Err(unexpected("a question for attributes")),
            Err(error) => return self.departed_or(inode, error),
        };
        Ok(match file {
            Some((file, doubts)) => file.observe_answer(fresh, doubts),
            None => self.observe(fresh),
        })
    }

    /// The same for the kernel. Tells also whether the answer itself makes the kernel drop the pages that it
    /// has of the file, because the modification time is another than the one that it knows.
    pub async fn attributes_for_kernel(
        &self,
        request: RequestId,
        inode: InodeId,
    ) -> Result<(Attributes, bool), ClientError> {
        let attributes = self.attributes(request, inode).await?;
        let is_modified = self.files.get(inode).is_some_and(|file| file.lock().tell_mtime(attributes.mtime));
        Ok((attributes, is_modified))
    }

    /// What this mount has removed and somebody still has, instead of an error.
    fn departed_or(&self, inode: InodeId, error: ClientError) -> Result<Attributes, ClientError> {
        match error {
            ClientError::Fs(FsError::Stale) => self.departed.attributes(inode).ok_or(error),
            _ => Err(error),
        }
    }

    /// Changes attributes. Dirty bytes of the file go first: a later commit would change mtime, mode
    /// and size again. That holds for bytes behind a new size, too: until the cluster has cut the file,
    /// another mount may ask for them.
    pub async fn set_attributes(
        self: &Arc<Self>,
        caller: Caller,
        inode: InodeId,
        changes: AttributeChanges,
    ) -> Result<Attributes, ClientError> {
        if changes.size.is_some_and(|size| size > FILE_MAX_BYTES) {
            return Err(FsError::FileTooBig.into());
        }
        let request = caller.request;
        if is_times_only(&changes)
            && let Some(shown) = self.set_times_in_memory(inode, &changes)
        {
            return Ok(shown);
        }
        if changes.atime.is_some() {
            self.access_time_is_set(inode).await;
        }
        match self.change_attributes(request, inode, Mutation::SetAttributes { inode, changes }).await {
            Err(ClientError::Fs(FsError::Stale)) => self.departed.change(inode, &changes).ok_or(FsError::Stale.into()),
            result => result,
        }
    }

    /// A change that brings new attributes of an inode, behind what is dirty of it.
    pub(super) async fn change_attributes(
        self: &Arc<Self>,
        request: RequestId,
        inode: InodeId,
        mutation: Mutation,
    ) -> Result<Attributes, ClientError> {
        let resizes = matches!(&mutation, Mutation::SetAttributes { changes, .. } if changes.size.is_some());
        let file = self.files.get(inode).filter(|file| resizes || file.is_dirty());
        let Some(file) = file else {
            let result = self.change(request, mutation).await?;
            return attributes_of(result).map(|fresh| self.observe(fresh));
        };
        let fresh = attributes_of(self.change_behind_writes(request, &file, mutation).await?)?;
        Ok(file.observe(fresh))
    }

    /// A change of a file's bytes or length, behind all that was written before it. It goes on if the
    /// future is dropped.
    pub(super) async fn change_behind_writes(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
        mutation: Mutation,
    ) -> Result<MutationResult, ClientError> {
        let (filesystem, file) = (self.clone(), file.clone());
        let change = tokio::spawn(async move {
            let _ordering = file.ordering.clone().lock_owned().await;
            {
                let _changing = file.changing.clone().lock_owned().await;
                // Bytes lost for good are reported by fsync or close; this call may be what makes room.
                let flushed = filesystem.flush_locked(request, &file).await;
                if let Err(error @ (ClientError::TimedOut { .. } | ClientError::SessionFenced { .. })) = flushed {
                    return Err(error);
                }
            }
            let result = filesystem.submit(request, mutation).await?;
            // Before a later change of the file can begin.
            if let MutationResult::Attributes(fresh) | MutationResult::Ranged { attributes: fresh, .. } = &result {
                file.lock().merge(*fresh);
            }
            Ok(result)
        });
        change
            .await
            .unwrap_or_else(|error| Err(ClientError::Protocol { reason: format!("a change of a file: {error}") }))
    }

    /// Under the exclusive lease times wait for the next flush.
    fn set_times_in_memory(&self, inode: InodeId, changes: &AttributeChanges) -> Option<Attributes> {
        let file = self.files.get(inode)?;
        let now = SystemClock.wall();
        let at = |change: TimeChange| change.at(now);
        let shown = {
            let mut inner = file.lock();
            let time = self.leases.time();
            let known = inner.certain().filter(|_| inner.exclusive.may_buffer(&time))?;
            let mut times = inner.pending_times.unwrap_or_default();
            if let Some(atime) = changes.atime {
                times.atime = Some(at(atime));
                inner.access_time_is_set();
            }
            times.mtime = changes.mtime.map(at).or(times.mtime);
            times.ctime = now;
            inner.pending_times = Some(times);
            inner.dirty_since.get_or_insert_with(Instant::now);
            inner.shown(known)
        };
        self.files.mark_dirty(&file);
        Some(shown)
    }

    /// Space and inodes.
    pub async fn statfs(&self, caller: Caller) -> Result<Statfs, ClientError> {
        match self.ask(caller.request, Query::Statfs).await? {
            QueryResult::Statfs(statfs) => Ok(statfs),
            _ => Err(unexpected("statfs")),
        }
    }
}

fn attributes_of(result: MutationResult) -> Result<Attributes, ClientError> {
    match result {
        MutationResult::Attributes(attributes) => Ok(attributes),
        _ => Err(unexpected("a change of attributes")),
    }
}

fn is_times_only(changes: &AttributeChanges) -> bool {
    let AttributeChanges { mode, uid, gid, size, atime, mtime, ctime: _ } = changes;
    let others = mode.is_some() || uid.is_some() || gid.is_some() || size.is_some();
    !others && (atime.is_some() || mtime.is_some())
}
