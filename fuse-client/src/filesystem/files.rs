//! Open files: open, create, flush, fsync, release.

use std::sync::Arc;

use cairn_common::client::ClientError;
use cairn_common::extent::Extent;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Attributes, Mutation, MutationResult, NewNode, NodeKind, OpenMode, Query};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::{Caller, Filesystem};
use crate::backend::unexpected;
use crate::lease::{Grant, Question};
use crate::open_files::{FileHandle, FileState, KernelPages, Pin};

/// How a program opens a file: the bits of open(2) that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// O_WRONLY or O_RDWR.
    pub write: bool,
    /// O_APPEND together with writing.
    pub append: bool,
    /// O_EXCL together with O_CREAT.
    pub exclusive: bool,
    /// O_NOATIME.
    pub no_atime: bool,
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
        let pin = self.files.pin(inode, options.mode());
        if let Some(known) = self.opens_from_memory(&pin) {
            return Ok(self.add_handle(pin, options, known.attributes).0);
        }
        if options.mode() == OpenMode::Read {
            // With its attributes comes a lease, most of the time, and the pin keeps it.
            self.attributes(caller.request, inode).await?;
            if let Some(known) = self.opens_from_memory(&pin) {
                return Ok(self.add_handle(pin, options, known.attributes).0);
            }
        }
        let pin = self.register(caller.request, pin).await?;
        Ok(self.add_handle(pin, options, None).0)
    }

    /// The same without waiting, with the handle; `None` if it needs a question.
    pub fn try_open(&self, inode: InodeId, options: OpenOptions) -> Option<(u64, Arc<FileHandle>)> {
        let pin = self.files.pin(inode, options.mode());
        let known = self.opens_from_memory(&pin)?;
        Some(self.add_handle(pin, options, known.attributes))
    }

    /// Makes a file and opens it. Answers `Stale` when another mount
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
        let Caller { request, uid, gid, umask } = caller;
        let mutation = Mutation::Create {
            parent,
            name,
            node: NewNode::File,
            mode: mode & 0o7777,
            umask,
            uid,
            gid,
            exclusive: options.exclusive,
            open: Some(options.mode()),
            exclusive_lease: options.write,
        };
        let (filesystem, (answer_to, answer)) = (self.clone(), oneshot::channel());
        let question = self.leases.lock().ask_exclusive();
        tokio::spawn(async move {
            // If nobody waits for the answer any more, the pin goes with it and releases the file.
            let result = filesystem.submit(request, mutation).await;
            let _ = answer_to.send(filesystem.created(question, result, options.mode()));
        });
        let (attributes, is_new, pin) = answer.await.map_err(|_| unexpected("a create"))??;
        if !is_new && (attributes.kind != NodeKind::File || uid != 0) {
            return Err(FsError::Stale.into());
        }
        let shown = pin.file().observe(attributes);
        // A file that was there already: a release of its registration may be on its way, and may have
        // been carried out after this create. Whoever has the lock knows which it is.
        let pin = if is_new { pin } else { self.register(request, pin).await? };
        Ok((shown, self.add_handle(pin, options, None).0))
    }

    fn created(
        self: &Arc<Self>,
        question: Question,
        result: Result<MutationResult, ClientError>,
        mode: OpenMode,
    ) -> Result<(Attributes, bool, Pin), ClientError> {
        let (attributes, created, exclusive) = match result {
            Ok(MutationResult::Node { attributes, created, exclusive }) => (attributes, created, exclusive),
            other => {
                self.leases.lock().exclusive_answered(question, None);
                return Err(other.err().unwrap_or_else(|| unexpected("a create")));
            }
        };
        let pin = self.files.pin(attributes.inode, mode);
        if created {
            let extents = Some(Vec::new());
            self.registered(pin.file(), mode, question, Opened { attributes, exclusive, extents });
            let mut inner = pin.file().lock();
            inner.no_capability = true;
            inner.exclusive.made();
        } else {
            // A lease that came with it is not used: it is given up when it is asked for.
            self.leases.lock().exclusive_answered(question, Some(attributes.inode));
        }
        Ok((attributes, created, pin))
    }

    /// Makes the cluster know that this mount uses the file, unless it does already.
    async fn register(self: &Arc<Self>, request: RequestId, pin: Pin) -> Result<Pin, ClientError> {
        let registering = pin.file().registering.clone().lock_owned().await;
        let mode = pin.mode();
        if pin.file().lock().registration(mode).registered {
            // Nothing is known for certain any more: the leader must say that this session goes on.
            self.ask(request, Query::Attributes { inode: pin.file().inode }).await?;
            return Ok(pin);
        }
        let mutation = Mutation::Open { inode: pin.file().inode, mode, exclusive_lease: mode == OpenMode::Write };
        self.open_in_cluster(request, pin.file().clone(), mode, mutation, registering).await?;
        Ok(pin)
    }

    /// Asks for the exclusive lease on a file that is registered for writing, unless it is held or not
    /// worth asking for. Answers whether writes may stay in memory.
    pub(super) async fn acquire_exclusive(
        self: &Arc<Self>,
        request: RequestId,
        file: &Arc<FileState>,
    ) -> Result<bool, ClientError> {
        let registering = file.registering.clone().lock_owned().await;
        {
            let mut inner = file.lock();
            let time = self.leases.time();
            let registered = inner.registration(OpenMode::Write).registered;
            if inner.exclusive.may_buffer(&time) {
                return Ok(true);
            }
            if !registered || !inner.exclusive.may_ask(time.now) {
                return Ok(false);
            }
        }
        let mutation = Mutation::AcquireExclusive { inode: file.inode };
        self.open_in_cluster(request, file.clone(), OpenMode::Write, mutation, registering).await?;
        Ok(file.lock().exclusive.may_buffer(&self.leases.time()))
    }

    /// Goes on when nobody waits for it any more, so that no answer that brings a lease is missed.
    async fn open_in_cluster(
        self: &Arc<Self>,
        request: RequestId,
        file: Arc<FileState>,
        mode: OpenMode,
        mutation: Mutation,
        registering: OwnedMutexGuard<()>,
    ) -> Result<(), ClientError> {
        let (filesystem, (answer_to, answer)) = (self.clone(), oneshot::channel());
        let question = self.leases.lock().ask_exclusive();
        tokio::spawn(async move {
            let result = match filesystem.submit(request, mutation).await {
                Ok(MutationResult::Opened { attributes, exclusive, extents }) => {
                    filesystem.registered(&file, mode, question, Opened { attributes, exclusive, extents });
                    Ok(())
                }
                other => {
                    filesystem.leases.lock().exclusive_answered(question, None);
                    Err(other.err().unwrap_or_else(|| unexpected("an open")))
                }
            };
            drop(registering);
            let _ = answer_to.send(result);
        });
        answer.await.map_err(|_| unexpected("an open"))?
    }

    /// The cluster has a file on its list, and perhaps gave the exclusive lease.
    fn registered(self: &Arc<Self>, file: &Arc<FileState>, mode: OpenMode, question: Question, opened: Opened) {
        let mut inner = file.lock();
        inner.merge(opened.attributes);
        inner.registration(mode).registered = true;
        if let Some(extents) = opened.extents {
            inner.extents.insert(opened.attributes.data_version, 0, u64::MAX, extents);
        }
        let recalled = self.leases.lock().exclusive_answered(question, Some(file.inode));
        if mode == OpenMode::Write {
            let now = self.leases.time().now;
            if inner.exclusive.answered(opened.exclusive, recalled, now) == Grant::GiveUp {
                inner.exclusive.leave();
                let (filesystem, file) = (self.clone(), file.clone());
                tokio::spawn(async move {
                    filesystem.tell_given_up(RequestId::random(), &file).await;
                });
            }
        }
    }

    /// `known`: attributes that were just told from memory.
    fn add_handle(&self, pin: Pin, options: OpenOptions, known: Option<Attributes>) -> (u64, Arc<FileHandle>) {
        let pages = self.kernel_pages(pin.file(), options, known);
        let tells_closes = options.write || self.locks.concerns(pin.file().inode);
        let (number, handle) = self.handles.insert(FileHandle::new(pin, options, pages, tells_closes));
        if pages == KernelPages::Keep && !options.write {
            self.opened_to_read(&handle);
        }
        (number, handle)
    }

    /// What the kernel is to do with pages for a handle that is being made.
    fn kernel_pages(&self, file: &FileState, options: OpenOptions, known: Option<Attributes>) -> KernelPages {
        let time = self.leases.time();
        let is_alone = !self.recent_recalls.contains(file.inode, time.now);
        let may_cache = match options.mode() {
            // Only the cluster knows the end.
            OpenMode::Write if options.append => false,
            OpenMode::Write => is_alone && file.lock().exclusive.may_buffer(&time),
            OpenMode::Read => is_alone,
        };
        if !may_cache {
            return KernelPages::Bypass;
        }
        let Some(attributes) = known.or_else(|| self.try_attributes_of(file)) else {
            return KernelPages::Bypass;
        };
        let version = attributes.data_version;
        // Of this version, and nobody else has changed the file since they were read?
        let keeps = self.leases.told(|cache, time| Some(cache.opened(file.inode, version, time)));
        if keeps == Some(true) { KernelPages::Keep } else { KernelPages::Renew }
    }

    /// close(2) of one descriptor: reports what went wrong, and commits unless the exclusive lease
    /// makes that unnecessary: who asks recalls it.
    pub async fn flush(self: &Arc<Self>, request: RequestId, handle: &FileHandle) -> Result<(), ClientError> {
        if !handle.writable {
            return Ok(());
        }
        if handle.file().lock().exclusive.may_buffer(&self.leases.time()) {
            return handle.unreported_failure().map_or(Ok(()), Err);
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
    pub fn release(self: &Arc<Self>, handle: u64) {
        if let Some(closed) = self.handles.remove(handle) {
            self.release_locks(closed.file().inode, handle);
        }
    }

    /// Files that programs have open.
    pub fn open_handles(&self) -> usize {
        self.handles.count()
    }
}

/// What the cluster said about a file that it has on its list now.
struct Opened {
    attributes: Attributes,
    exclusive: bool,
    extents: Option<Vec<Extent>>,
}
