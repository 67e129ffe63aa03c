//! POSIX semantics without a kernel: what each call does, on any backend. One file a group of calls.
//! What leases cover is told from memory ([`from_memory`]); everything else is asked for (P1).

mod accesses;
pub mod acls;
pub mod attributes;
mod cluster_calls;
mod departed;
pub mod directories;
pub mod files;
pub mod from_memory;
pub mod locks;
pub mod names;
pub mod ranges;
mod recalls;
pub mod seek;
pub mod session_events;
pub mod shutdown;
mod writes;
pub mod xattrs;

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_common::client::{ClientError, ClientEvent, WriteGrant};
use cairn_common::ids::{InodeId, LeaseGeneration, RequestId};
use cairn_common::protocol::metadata::Attributes;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, watch};

use crate::access_times::AccessTimes;
use crate::backend::Backend;
use crate::filesystem::departed::Departed;
use crate::filesystem::directories::DirectoryHandle;
use crate::kernel_caches::{KernelCaches, NoKernel};
use crate::lease_book::LeaseBook;
use crate::lock_book::LockBook;
use crate::open_files::{FileHandle, HandleTable, OpenFiles, releaser};
use crate::read_path::block_reader::BlockReader;
use crate::recent_recalls::RecentRecalls;
use crate::settings::MountSettings;
use crate::write_path::flusher;

/// Who calls, and the id that follows the call through every server.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Traces the call.
    pub request: RequestId,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Permission bits that what it makes is not to have, unless a default access control list decides that.
    /// Known only of calls that make something.
    pub umask: u32,
}

/// A mounted file system.
pub struct Filesystem {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) settings: MountSettings,
    pub(crate) runtime: Handle,
    pub(crate) files: Arc<OpenFiles>,
    pub(crate) handles: HandleTable<FileHandle>,
    pub(crate) directories: HandleTable<DirectoryHandle>,
    pub(crate) departed: Departed,
    pub(crate) access_times: AccessTimes,
    pub(crate) grant: Arc<WriteGrant>,
    pub(crate) uploads: Semaphore,
    pub(crate) blocks: Arc<BlockReader>,
    pub(crate) leases: Arc<LeaseBook>,
    pub(crate) locks: Arc<LockBook>,
    kernel: RwLock<Arc<dyn KernelCaches>>,
    pub(crate) recent_recalls: RecentRecalls,
    /// Tickets of recalls that are being obeyed.
    recalls: Mutex<BTreeSet<u64>>,
    /// Held while a new generation of leases is taken over.
    taking_over: tokio::sync::Mutex<()>,
    newest_generation: watch::Sender<LeaseGeneration>,
}

impl Filesystem {
    /// A file system on a backend, with its background tasks on the current tokio runtime. `events`
    /// are what the cluster asks of this mount.
    pub fn start(
        backend: Arc<dyn Backend>,
        settings: MountSettings,
        events: UnboundedReceiver<ClientEvent>,
    ) -> Arc<Self> {
        let leases = Arc::new(LeaseBook::new(backend.leases(), settings.cache));
        backend.write_grant().set_limit(settings.dirty_limit_bytes);
        let filesystem = Arc::new(Self {
            files: Arc::new(OpenFiles::new(leases.clone())),
            handles: HandleTable::default(),
            directories: HandleTable::default(),
            departed: Departed::default(),
            access_times: AccessTimes::default(),
            grant: backend.write_grant(),
            uploads: Semaphore::new(settings.uploads_at_once),
            blocks: BlockReader::new(backend.clone(), settings.block_cache_bytes),
            runtime: Handle::current(),
            leases,
            locks: Arc::default(),
            kernel: RwLock::new(Arc::new(NoKernel)),
            recent_recalls: RecentRecalls::default(),
            recalls: Mutex::default(),
            taking_over: tokio::sync::Mutex::default(),
            newest_generation: watch::Sender::new(LeaseGeneration(0)),
            backend,
            settings,
        });
        tokio::spawn(flusher::run(Arc::downgrade(&filesystem)));
        tokio::spawn(releaser::run(Arc::downgrade(&filesystem)));
        tokio::spawn(session_events::run(Arc::downgrade(&filesystem), events));
        filesystem
    }

    /// From here on the caches of this kernel follow the leases. Before it is set nothing may go out
    /// with a lifetime.
    pub fn set_kernel(&self, kernel: Arc<dyn KernelCaches>) {
        *self.kernel.write() = kernel;
    }

    pub(crate) fn kernel(&self) -> Arc<dyn KernelCaches> {
        self.kernel.read().clone()
    }

    /// Requests answered from memory, and questions sent to the cluster.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.leases.hits_and_misses()
    }

    /// Inodes that are remembered under shared leases.
    pub fn leases_held(&self) -> usize {
        self.leases.lock().len()
    }

    /// The bounds of this mount.
    pub fn settings(&self) -> &MountSettings {
        &self.settings
    }

    /// Bytes that are written but not committed.
    pub fn dirty_bytes(&self) -> u64 {
        self.files.dirty_files().iter().map(|file| file.lock().dirty.bytes()).sum()
    }

    /// Bytes that may be written and not committed.
    pub fn granted_bytes(&self) -> u64 {
        self.grant.granted()
    }

    /// An open file.
    pub fn handle(&self, number: u64) -> Result<Arc<FileHandle>, ClientError> {
        self.handles.get(number)
    }

    /// Attributes from the cluster, as programs on this mount are to see them.
    pub(crate) fn observe(&self, fresh: Attributes) -> Attributes {
        let fresh = self.leases.lock().accesses().shown(fresh);
        match self.files.get(fresh.inode) {
            Some(file) => file.observe(fresh),
            None => fresh,
        }
    }

    /// Flushes a file if it is one that this mount has dirty bytes of.
    pub(crate) async fn flush_inode(self: &Arc<Self>, request: RequestId, inode: InodeId) -> Result<(), ClientError> {
        match self.files.get(inode) {
            Some(file) => self.flush_file(request, &file).await,
            None => Ok(()),
        }
    }

    /// Flushes everything that this mount has pending.
    pub(crate) async fn flush_all(self: &Arc<Self>, request: RequestId) -> Result<(), ClientError> {
        let files = self.files.dirty_files();
        let flushes = files.iter().map(|file| self.flush_file(request, file));
        futures::future::join_all(flushes).await.into_iter().collect()
    }
}
