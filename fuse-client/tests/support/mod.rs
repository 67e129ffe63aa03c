//! A cluster in memory that can be told to fail: files as extents, blocks as bytes, leases with all of
//! their messages, with the errors that a real one has when servers die. For tests of the core only.

#![allow(dead_code, reason = "each test program uses a part of it")]

mod leader;
mod locks;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_common::block::{BlockHash, BlockId};
use cairn_common::block_tree::covering_groups;
use cairn_common::client::{
    Answer, Changed, ClientError, LeaseClock, MetadataClient, MetadataClientSettings, Placed, PutRoom, Reclaimed,
    VerifiedRange, WriteGrant,
};
use cairn_common::clock::SystemClock;
use cairn_common::ids::{InodeId, LeaseGeneration, RequestId, SessionId, TableEpoch};
use cairn_common::name::Name;
use cairn_common::protocol::locks::{LockRequest, LockWait};
use cairn_common::protocol::metadata::{Mutation, Query};
use cairn_mount::backend::Backend;
use cairn_mount::filesystem::files::OpenOptions;
use cairn_mount::filesystem::{Caller, Filesystem};
use cairn_mount::settings::MountSettings;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

pub(crate) use leader::FakeCluster;
use leader::FakeNetwork;

fn took(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn timed_out() -> ClientError {
    ClientError::TimedOut { what: "test", waited: Duration::ZERO, tried: "told to fail".into() }
}

/// One mount of a test cluster: metadata through the real client, blocks from memory.
pub(crate) struct FakeBackend {
    cluster: Arc<FakeCluster>,
    metadata: MetadataClient,
}

#[async_trait]
impl Backend for FakeBackend {
    async fn query(&self, request: RequestId, query: Query, lease: bool) -> Result<Answer, ClientError> {
        if took(&self.cluster.failing_reads) {
            return Err(timed_out());
        }
        self.metadata.query(request, query, lease).await
    }

    fn submit(
        &self,
        request: RequestId,
        mutation: Mutation,
        covered: Vec<InodeId>,
    ) -> BoxFuture<'static, Result<Changed, ClientError>> {
        self.metadata.submit(request, mutation, covered)
    }

    async fn reclaim(&self, request: RequestId, inodes: Vec<InodeId>) -> Result<Reclaimed, ClientError> {
        self.metadata.reclaim(request, inodes).await
    }

    async fn return_leases(
        &self,
        request: RequestId,
        generation: LeaseGeneration,
        inodes: Vec<InodeId>,
    ) -> Result<(), ClientError> {
        self.metadata.return_leases(request, generation, inodes).await
    }

    fn leases(&self) -> Arc<LeaseClock> {
        self.metadata.leases().clone()
    }

    fn write_grant(&self) -> Arc<WriteGrant> {
        self.metadata.write_grant().clone()
    }

    fn check_in(&self, generation: LeaseGeneration) {
        self.metadata.check_in(generation);
    }

    async fn put(
        &self,
        _: RequestId,
        block: BlockId,
        bytes: Bytes,
        refused: Option<TableEpoch>,
        room: PutRoom,
    ) -> Result<Placed, ClientError> {
        tokio::task::yield_now().await;
        if self.cluster.disks_are_full.load(Ordering::SeqCst) && room == PutRoom::Free {
            return Err(ClientError::NoSpace { reason: "told to be full".into() });
        }
        if took(&self.cluster.refused_puts) {
            return Err(ClientError::Refused { reason: "told to refuse".into() });
        }
        if room == PutRoom::Reserve {
            self.cluster.reserve_bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
        if took(&self.cluster.failing_puts) {
            return Err(timed_out());
        }
        assert_eq!(BlockHash::of(&bytes), block.hash);
        self.cluster.puts.fetch_add(1, Ordering::SeqCst);
        self.cluster.state.lock().blocks.insert(block, bytes);
        Ok(Placed { table: TableEpoch(refused.map_or(1, |refused| refused.0 + 1)), missed: Vec::new() })
    }

    async fn get(
        &self,
        _: RequestId,
        block: BlockId,
        block_bytes: u32,
        offset: u32,
        length: u32,
    ) -> Result<VerifiedRange, ClientError> {
        tokio::task::yield_now().await;
        if took(&self.cluster.failing_reads) {
            return Err(timed_out());
        }
        let bytes = self.cluster.state.lock().blocks[&block].clone();
        assert_eq!(bytes.len(), block_bytes as usize);
        let range = covering_groups(block_bytes, offset, length).expect("a range within the block");
        Ok(VerifiedRange { offset: range.start, bytes: bytes.slice(range.start as usize..range.end as usize) })
    }

    async fn recall_done(&self, ticket: u64, open: bool) -> Result<(), ClientError> {
        self.metadata.recall_done(ticket, open).await
    }

    async fn close(&self, bound: Duration) -> Result<(), ClientError> {
        self.metadata.close(bound).await
    }

    async fn await_lock(
        &self,
        request: RequestId,
        ticket: u64,
        lock: LockRequest,
        wait: Duration,
    ) -> Result<LockWait, ClientError> {
        self.metadata.await_lock(request, ticket, lock, wait).await
    }

    async fn leave_lock_queue(&self, request: RequestId, ticket: u64) -> Result<(), ClientError> {
        self.metadata.leave_lock_queue(request, ticket).await
    }

    fn session(&self) -> SessionId {
        self.metadata.session()
    }

    fn is_fenced(&self) -> bool {
        *self.metadata.fenced().borrow()
    }
}

/// A mount, and its session.
pub(crate) struct Mount {
    pub(crate) filesystem: Arc<Filesystem>,
    pub(crate) session: SessionId,
    pub(crate) leases: Arc<LeaseClock>,
}

/// A mount of the cluster whose leases count already.
pub(crate) async fn mount(cluster: &Arc<FakeCluster>) -> Mount {
    let settings = MountSettings {
        dirty_limit_bytes: 12 << 20,
        commit_batch_bytes: 1 << 20,
        flush_interval: Duration::from_millis(150),
        read_release_delay: Duration::from_millis(60),
        write_release_delay: Duration::from_millis(30),
        block_cache_bytes: 1 << 20,
        call_timeout: Duration::from_secs(5),
        ..MountSettings::default()
    };
    let server = SocketAddr::from(([127, 0, 0, 1], 1));
    let client_settings = MetadataClientSettings {
        call_timeout: Duration::from_secs(5),
        attempt_timeout: Duration::from_secs(5),
        ..MetadataClientSettings::new(vec![server], "test".into())
    };
    let (events, received) = mpsc::unbounded_channel();
    let network = Arc::new(FakeNetwork(cluster.clone()));
    let metadata =
        MetadataClient::open(network, client_settings, Arc::new(SystemClock), events).await.expect("a session");
    let (session, leases) = (metadata.session(), metadata.leases().clone());
    let backend = Arc::new(FakeBackend { cluster: cluster.clone(), metadata });
    let filesystem = Filesystem::start(backend, settings, received);
    until("leases count", || leases.read().shared_valid()).await;
    Mount { filesystem, session, leases }
}

/// Waits for something that must come.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Root calls.
pub(crate) fn caller() -> Caller {
    Caller { request: RequestId::random(), uid: 0, gid: 0, umask: 0 }
}

/// For reading.
pub(crate) fn read_only() -> OpenOptions {
    OpenOptions::default()
}

/// For reading and writing.
pub(crate) fn read_write() -> OpenOptions {
    OpenOptions { write: true, ..OpenOptions::default() }
}

/// For appending.
pub(crate) fn append() -> OpenOptions {
    OpenOptions { write: true, append: true, ..OpenOptions::default() }
}

/// A name.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes().to_vec()).expect("a name")
}

/// Makes or opens a file in the root directory.
pub(crate) async fn create(filesystem: &Arc<Filesystem>, text: &str) -> (InodeId, u64) {
    let (attributes, handle) =
        filesystem.create(caller(), InodeId::ROOT, name(text), 0o644, read_write()).await.expect("create");
    (attributes.inode, handle)
}

/// Writes through a handle.
pub(crate) async fn write(filesystem: &Arc<Filesystem>, handle: u64, offset: u64, data: &[u8]) {
    let handle = filesystem.handle(handle).unwrap();
    filesystem.write(RequestId::random(), &handle, offset, Bytes::copy_from_slice(data)).await.unwrap();
}

/// fsync.
pub(crate) async fn sync(filesystem: &Arc<Filesystem>, handle: u64) -> Result<(), ClientError> {
    filesystem.sync(RequestId::random(), &filesystem.handle(handle).unwrap()).await
}
