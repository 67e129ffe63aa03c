//! fallocate(2) and copy_file_range(2): changes of ranges that the metadata group makes alone, behind
//! what was written before. No bytes travel.

use std::sync::Arc;

use cairn_common::client::ClientError;
use cairn_common::ids::RequestId;
use cairn_common::limits::FILE_MAX_BYTES;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{AllocateMode, Mutation, MutationResult};

use super::{Caller, Filesystem};
use crate::backend::unexpected;
use crate::open_files::{FileHandle, FileState};

impl Filesystem {
    /// Allocates, zeroes or empties a range of a file. `keep_size`: the file does not grow, and nothing is
    /// allocated behind its end.
    ///
    /// # Errors
    /// `FileTooBig`; `NoSpace` when more is to be allocated than the cluster has free: no space is set
    /// apart, so a later write may fail with it all the same.
    pub async fn allocate(
        self: &Arc<Self>,
        caller: Caller,
        handle: &FileHandle,
        (mut offset, mut length): (u64, u64),
        mode: AllocateMode,
        keep_size: bool,
    ) -> Result<(), ClientError> {
        if length == 0 {
            return Err(FsError::Invalid.into());
        }
        if offset.checked_add(length).is_none_or(|end| end > FILE_MAX_BYTES) {
            return Err(FsError::FileTooBig.into());
        }
        if mode != AllocateMode::Punch {
            let free = self.statfs(caller).await?.free_bytes;
            if length > free {
                let reason = format!("{length} bytes are to be allocated, {free} are free");
                return Err(ClientError::NoSpace { reason });
            }
        }
        let file = handle.file();
        while length > 0 {
            let mutation = Mutation::Allocate { inode: file.inode, offset, length, mode, keep_size };
            let done = self.change_range(caller.request, file, mutation).await?;
            if done == 0 || done > length {
                return Err(unexpected("an allocation"));
            }
            offset += done;
            length -= done;
        }
        Ok(())
    }

    /// Copies a range of a file to a file (perhaps the same) without moving bytes. Answers how many bytes
    /// were copied; fewer than asked for at the end of the source, or when the range has very many extents.
    ///
    /// # Errors
    /// `Invalid` for ranges of one file that overlap; `FileTooBig`.
    pub async fn copy_range(
        self: &Arc<Self>,
        request: RequestId,
        (source, source_offset): (&FileHandle, u64),
        (to, offset): (&FileHandle, u64),
        length: u64,
    ) -> Result<u64, ClientError> {
        if self.handle_accessed(source) {
            self.kernel().attributes(source.file().inode).await;
        }
        let (source, file) = (source.file(), to.file());
        self.flush_file(request, source).await?;
        let (source, inode) = (source.inode, file.inode);
        let mutation = Mutation::CopyRange { source, source_offset, inode, offset, length };
        self.change_range(request, file, mutation).await
    }

    async fn change_range(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
        mutation: Mutation,
    ) -> Result<u64, ClientError> {
        match self.change_behind_writes(request, file, mutation).await? {
            MutationResult::Ranged { done, .. } => Ok(done),
            _ => Err(unexpected("a change of a range")),
        }
    }
}
