//! Open files: open, write, append, flush, fsync, release.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::clock::{Clock, SystemClock};
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::limits::{FILE_MAX_BYTES, INLINE_MAX_BYTES, MAX_BLOCK_BYTES};
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Attributes, Mutation, MutationResult, NewNode, NodeKind, OpenMode};
use tokio::sync::oneshot;

use super::{Caller, Filesystem};
use crate::backend::unexpected;
use crate::open_files::{FileHandle, Pin};
use crate::write_path::upload::Upload;

/// How a program opens a file: the bits of open(2) that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// O_WRONLY or O_RDWR.
    pub write: bool,
    /// O_APPEND together with writing.
    pub append: bool,
    /// O_DIRECT: the kernel caches nothing.
    pub direct: bool,
    /// O_EXCL together with O_CREAT.
    pub exclusive: bool,
}

impl OpenOptions {
    /// The mode of the registration.
    pub fn mode(self) -> OpenMode {
        if self.write { OpenMode::Write } else { OpenMode::Read }
    }
}

impl Filesystem {
    /// Opens a file; answers the handle's number.
    pub async fn open(
        self: &Arc<Self>,
        caller: Caller,
        inode: InodeId,
        options: OpenOptions,
    ) -> Result<u64, ClientError> {
        let pin = self.register(caller.request, self.files.pin(inode, options.mode())).await?;
        Ok(self.add_handle(pin, options))
    }

    /// Makes a file and opens it. `mode` has the umask applied. Answers `Stale` when another mount
    /// made the name at the same time and the caller may not just have that file: the kernel then
    /// looks the name up again.
    pub async fn create(
        self: &Arc<Self>,
        caller: Caller,
        parent: InodeId,
        name: Name,
        mode: u32,
        options: OpenOptions,
    ) -> Result<(Attributes, u64), ClientError> {
        let Caller { request, uid, gid } = caller;
        let mutation = Mutation::Create {
            parent,
            name,
            node: NewNode::File,
            mode: mode & 0o7777,
            uid,
            gid,
            exclusive: options.exclusive,
            open: Some(options.mode()),
            exclusive_lease: false,
        };
        let (filesystem, (answer_to, answer)) = (self.clone(), oneshot::channel());
        tokio::spawn(async move {
            // If nobody waits for the answer any more, the pin goes with it and releases the file.
            let result = filesystem.submit(request, mutation).await;
            let _ = answer_to.send(filesystem.created(result, options.mode()));
        });
        let (attributes, created, pin) = answer.await.map_err(|_| unexpected("a create"))??;
        if !created && (attributes.kind != NodeKind::File || uid != 0) {
            return Err(FsError::Stale.into());
        }
        let shown = pin.file().observe(attributes);
        Ok((shown, self.add_handle(pin, options)))
    }

    fn created(
        self: &Arc<Self>,
        result: Result<MutationResult, ClientError>,
        mode: OpenMode,
    ) -> Result<(Attributes, bool, Pin), ClientError> {
        let MutationResult::Node { attributes, created, .. } = result? else { return Err(unexpected("a create")) };
        let pin = self.files.pin(attributes.inode, mode);
        {
            let mut inner = pin.file().lock();
            inner.merge(attributes);
            inner.registration(mode).registered = true;
            if created {
                inner.no_capability = true;
                inner.extents.insert(attributes.data_version, 0, u64::MAX, Vec::new());
            }
        }
        Ok((attributes, created, pin))
    }

    /// Makes the cluster know that this mount uses the file, unless it does already.
    async fn register(self: &Arc<Self>, request: RequestId, pin: Pin) -> Result<Pin, ClientError> {
        let registering = pin.file().registering.clone().lock_owned().await;
        let mode = pin.mode();
        if pin.file().lock().registration(mode).registered {
            return Ok(pin);
        }
        let (filesystem, (answer_to, answer)) = (self.clone(), oneshot::channel());
        tokio::spawn(async move {
            let inode = pin.file().inode;
            let opened = match filesystem.submit(request, Mutation::Open { inode, mode, exclusive_lease: false }).await
            {
                Ok(MutationResult::Opened { attributes, extents, .. }) => {
                    let mut inner = pin.file().lock();
                    inner.merge(attributes);
                    inner.registration(mode).registered = true;
                    if let Some(extents) = extents {
                        inner.extents.insert(attributes.data_version, 0, u64::MAX, extents);
                    }
                    drop(inner);
                    Ok(pin)
                }
                Ok(_) => Err(unexpected("an open")),
                Err(error) => Err(error),
            };
            drop(registering);
            let _ = answer_to.send(opened);
        });
        answer.await.map_err(|_| unexpected("an open"))?
    }

    fn add_handle(&self, pin: Pin, options: OpenOptions) -> u64 {
        let direct = options.direct || options.append;
        self.handles.insert(FileHandle::new(pin, options.append, direct, options.write))
    }

    /// Takes a write in without waiting; None if it has to wait, or is an append.
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
        if handle.append || self.backend.is_fenced() || !self.budget.admits(data.len() as u64) {
            return None;
        }
        Some(self.take_in(request, &handle, offset, data))
    }

    /// Takes a write in, when there is room; an append is committed at the file's true end.
    pub async fn write(
        self: &Arc<Self>,
        request: RequestId,
        handle: &FileHandle,
        offset: u64,
        data: Bytes,
    ) -> Result<u32, ClientError> {
        if handle.append {
            return self.append(request, handle, data).await;
        }
        if self.backend.is_fenced() {
            // Buffered bytes could never be written.
            self.attributes(request, handle.file().inode).await?;
        }
        let bytes = data.len() as u64;
        let bound = self.settings.call_timeout;
        tokio::time::timeout(bound, self.budget.admitted(bytes)).await.map_err(|_| ClientError::TimedOut {
            what: "write",
            waited: bound,
            tried: format!("{} bytes wait to be committed", self.budget.used()),
        })?;
        self.take_in(request, handle, offset, &data)
    }

    fn take_in(
        self: &Arc<Self>,
        request: RequestId,
        handle: &FileHandle,
        offset: u64,
        data: &[u8],
    ) -> Result<u32, ClientError> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_MAX_BYTES);
        let Some(end) = end else { return Err(FsError::FileTooBig.into()) };
        if data.is_empty() {
            return Ok(0);
        }
        let file = handle.file();
        let mut full = Vec::new();
        {
            let mut inner = file.lock();
            let before = inner.dirty.bytes();
            inner.dirty.write(offset, data);
            inner.dirty_since.get_or_insert_with(Instant::now);
            inner.local_mtime = Some(SystemClock.wall());
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
        Ok(data.len() as u32)
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
            filesystem.store(request, &upload).await?;
            let extents = upload.extent(0, 0, length).into_iter().collect();
            let mtime = Some(SystemClock.wall());
            let commit = Mutation::Commit { inode: file.inode, extents, append: true, minimum_size: 0, mtime };
            match filesystem.submit(request, commit).await? {
                MutationResult::Committed { attributes, .. } => file.lock().merge(attributes),
                _ => return Err(unexpected("an append")),
            }
            Ok(length as u32)
        });
        append.await.unwrap_or_else(|error| Err(ClientError::Protocol { reason: format!("append: {error}") }))
    }

    /// close(2) of one descriptor: commits, and reports what went wrong. Also fsync(2).
    pub async fn flush(self: &Arc<Self>, request: RequestId, handle: &FileHandle) -> Result<(), ClientError> {
        if !handle.writable {
            return Ok(());
        }
        self.sync(request, handle).await
    }

    /// fsync(2) and fdatasync(2): every byte written before is on stable storage (P2).
    pub async fn sync(self: &Arc<Self>, request: RequestId, handle: &FileHandle) -> Result<(), ClientError> {
        let result = self.flush_file(request, handle.file()).await;
        let failure = handle.unreported_failure();
        result?;
        failure.map_or(Ok(()), Err)
    }

    /// The last descriptor of an open is gone.
    pub fn release(&self, handle: u64) {
        self.handles.remove(handle);
    }
}
