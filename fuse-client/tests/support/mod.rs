//! A cluster in memory that can be told to fail: files as extents, blocks as bytes, with the errors
//! that a real one has when servers die. For tests of the core only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_common::block::{BlockHash, BlockId};
use cairn_common::block_tree::covering_groups;
use cairn_common::client::{Answer, Changed, ClientError, ClientEvent, LeaseClock, Reclaimed, VerifiedRange};
use cairn_common::clock::{SystemClock, Timestamp};
use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::{CommitSequence, DataVersion, DiskId, InodeId, LeaseGeneration, RequestId};
use cairn_common::limits::INLINE_MAX_BYTES;
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{
    Attributes, ChangeEffects, Mutation, MutationResult, NodeKind, Query, QueryResult,
};
use cairn_mount::backend::Backend;
use cairn_mount::filesystem::files::OpenOptions;
use cairn_mount::filesystem::{Caller, Filesystem};
use cairn_mount::settings::MountSettings;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// The cluster.
#[derive(Default)]
pub(crate) struct FakeCluster {
    state: Mutex<State>,
    /// So many puts fail as if no quorum answered.
    pub(crate) failing_puts: AtomicU32,
    /// So many puts are refused for want of space.
    pub(crate) full_puts: AtomicU32,
    /// So many reads of blocks and of metadata fail.
    pub(crate) failing_reads: AtomicU32,
    /// While locked, commits wait: their answer is late.
    pub(crate) commits: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    names: BTreeMap<(InodeId, Name), InodeId>,
    files: BTreeMap<InodeId, File>,
    blocks: HashMap<BlockId, Bytes>,
    clock: u32,
    puts: u32,
    opens: u32,
}

struct File {
    attributes: Attributes,
    extents: BTreeMap<u64, Extent>,
}

fn took(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn timed_out() -> ClientError {
    ClientError::TimedOut { what: "test", waited: Duration::ZERO, tried: "told to fail".into() }
}

impl State {
    fn now(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp { seconds: 1_000_000_000, nanos: self.clock }
    }

    fn file(&mut self, inode: InodeId) -> Result<&mut File, ClientError> {
        self.files.get_mut(&inode).ok_or(ClientError::Fs(FsError::Stale))
    }

    fn answer(&mut self, query: Query) -> Result<QueryResult, ClientError> {
        match query {
            Query::Attributes { inode } => Ok(QueryResult::Attributes(self.file(inode)?.attributes)),
            Query::Extents { inode, from, to } => {
                let file = self.file(inode)?;
                // Small pages, to have many.
                let touching = file.extents.values().filter(|e| e.offset < to && e.end() > from);
                let extents: Vec<Extent> = touching.take(3).cloned().collect();
                let complete_to = if extents.len() < 3 { u64::MAX } else { extents[2].end() };
                let (size, data_version) = (file.attributes.size, file.attributes.data_version);
                Ok(QueryResult::Extents { extents, complete_to, size, data_version })
            }
            other => panic!("the test cluster does not know {other:?}"),
        }
    }

    fn apply(&mut self, mutation: Mutation) -> Result<MutationResult, ClientError> {
        let now = self.now();
        match mutation {
            Mutation::Create { parent, name, mode, uid, gid, .. } => {
                let next = InodeId(2 + self.files.len() as u64);
                let inode = *self.names.entry((parent, name)).or_insert(next);
                let created = inode == next;
                let attributes = Attributes {
                    inode,
                    kind: NodeKind::File,
                    mode,
                    links: 1,
                    uid,
                    gid,
                    device: 0,
                    size: 0,
                    allocated: 0,
                    atime: now,
                    mtime: now,
                    ctime: now,
                    btime: now,
                    data_version: DataVersion(1),
                };
                let file = self.files.entry(inode).or_insert(File { attributes, extents: BTreeMap::new() });
                Ok(MutationResult::Node { attributes: file.attributes, created, exclusive: false })
            }
            Mutation::Open { inode, .. } => {
                self.opens += 1;
                let file = self.file(inode)?;
                Ok(MutationResult::Opened { attributes: file.attributes, exclusive: false, extents: None })
            }
            Mutation::Release { .. } => Ok(MutationResult::Done),
            Mutation::SetAttributes { inode, changes } => {
                let file = self.file(inode)?;
                if let Some(size) = changes.size {
                    file.cut(size, u64::MAX);
                    file.attributes.size = size;
                    file.attributes.data_version.0 += 1;
                }
                file.attributes.ctime = now;
                Ok(MutationResult::Attributes(file.attributes))
            }
            Mutation::Commit { inode, extents, append, minimum_size, .. } => {
                for new in &extents {
                    if let ExtentContent::Block(reference) = &new.extent.content {
                        assert!(
                            self.blocks.contains_key(&reference.block),
                            "a commit names a block that is not durable"
                        );
                    }
                    if let ExtentContent::Inline(bytes) = &new.extent.content {
                        assert!(bytes.len() <= INLINE_MAX_BYTES && bytes.len() as u64 == new.extent.length);
                    }
                }
                let file = self.file(inode)?;
                let base = if append { file.attributes.size } else { 0 };
                let mut last = 0;
                for new in extents {
                    let mut extent = new.extent;
                    extent.offset += base;
                    assert!(extent.offset >= last, "extents of a commit ascend");
                    last = extent.end();
                    file.cut(extent.offset, extent.end());
                    file.attributes.size = file.attributes.size.max(extent.end());
                    file.extents.insert(extent.offset, extent);
                }
                if !append {
                    file.attributes.size = file.attributes.size.max(minimum_size);
                }
                file.attributes.data_version.0 += 1;
                file.attributes.ctime = now;
                file.attributes.mtime = now;
                Ok(MutationResult::Committed { attributes: file.attributes, appended_at: base })
            }
            other => panic!("the test cluster does not know {other:?}"),
        }
    }
}

impl File {
    fn cut(&mut self, from: u64, to: u64) {
        let touched: Vec<u64> =
            self.extents.iter().filter(|(_, e)| e.offset < to && e.end() > from).map(|(o, _)| *o).collect();
        for offset in touched {
            let extent = self.extents.remove(&offset).unwrap();
            for part in [extent.slice(0, from), extent.slice(to, u64::MAX)].into_iter().flatten() {
                self.extents.insert(part.offset, part);
            }
        }
    }
}

impl FakeCluster {
    /// What the cluster holds of a file, by its extents.
    pub(crate) fn contents(&self, inode: InodeId) -> Vec<u8> {
        let state = self.state.lock();
        let file = &state.files[&inode];
        let mut bytes = vec![0; file.attributes.size as usize];
        for extent in file.extents.values() {
            let target = &mut bytes[extent.offset as usize..extent.end() as usize];
            match &extent.content {
                ExtentContent::Inline(inline) => target.copy_from_slice(inline),
                ExtentContent::Unwritten => {}
                ExtentContent::Block(reference) => {
                    let from = reference.block_offset as usize;
                    let block = &state.blocks[&reference.block];
                    assert_eq!(block.len(), reference.block_length as usize);
                    target.copy_from_slice(&block[from..from + extent.length as usize]);
                }
            }
        }
        bytes
    }

    /// Blocks put so far.
    pub(crate) fn puts(&self) -> u32 {
        self.state.lock().puts
    }

    /// Opens sent so far.
    pub(crate) fn opens(&self) -> u32 {
        self.state.lock().opens
    }
}

/// One mount of a test cluster.
pub(crate) struct FakeBackend(Arc<FakeCluster>);

#[async_trait]
impl Backend for FakeBackend {
    async fn query(&self, _: RequestId, query: Query, _: bool) -> Result<Answer, ClientError> {
        tokio::task::yield_now().await;
        if took(&self.0.failing_reads) {
            return Err(timed_out());
        }
        let result = match self.0.state.lock().answer(query) {
            Err(ClientError::Fs(error)) => Err(error),
            answer => Ok(answer?),
        };
        Ok(Answer { result, sequence: CommitSequence(0), grant: None })
    }

    async fn mutate(
        &self,
        request: RequestId,
        mutation: Mutation,
        covered: Vec<InodeId>,
    ) -> Result<Changed, ClientError> {
        self.submit(request, mutation, covered).await
    }

    fn submit(
        &self,
        _: RequestId,
        mutation: Mutation,
        _: Vec<InodeId>,
    ) -> BoxFuture<'static, Result<Changed, ClientError>> {
        let cluster = self.0.clone();
        let task = tokio::spawn(async move {
            if matches!(mutation, Mutation::Commit { .. }) {
                let _late = cluster.commits.lock().await;
            }
            let result = match cluster.state.lock().apply(mutation) {
                Err(ClientError::Fs(error)) => Err(error),
                answer => Ok(answer?),
            };
            Ok(Changed { result, effects: ChangeEffects::default() })
        });
        Box::pin(async move { task.await.unwrap() })
    }

    async fn reclaim(&self, _: RequestId, _: Vec<InodeId>) -> Result<Reclaimed, ClientError> {
        Ok(Reclaimed { held: Vec::new(), sequence: CommitSequence(0), generation: LeaseGeneration(0) })
    }

    async fn return_leases(&self, _: RequestId, _: LeaseGeneration, _: Vec<InodeId>) -> Result<(), ClientError> {
        Ok(())
    }

    fn leases(&self) -> Arc<LeaseClock> {
        Arc::new(LeaseClock::new(Arc::new(SystemClock)))
    }

    fn check_in(&self, _: LeaseGeneration) {}

    async fn put(&self, _: RequestId, block: BlockId, bytes: Bytes) -> Result<Vec<DiskId>, ClientError> {
        tokio::task::yield_now().await;
        if took(&self.0.full_puts) {
            return Err(ClientError::NoSpace { reason: "told to be full".into() });
        }
        if took(&self.0.failing_puts) {
            return Err(timed_out());
        }
        assert_eq!(BlockHash::of(&bytes), block.hash);
        let mut state = self.0.state.lock();
        state.puts += 1;
        state.blocks.insert(block, bytes);
        Ok(Vec::new())
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
        if took(&self.0.failing_reads) {
            return Err(timed_out());
        }
        let bytes = self.0.state.lock().blocks[&block].clone();
        assert_eq!(bytes.len(), block_bytes as usize);
        let range = covering_groups(block_bytes, offset, length).expect("a range within the block");
        Ok(VerifiedRange { offset: range.start, bytes: bytes.slice(range.start as usize..range.end as usize) })
    }

    async fn recall_done(&self, _: u64, _: bool) -> Result<(), ClientError> {
        Ok(())
    }

    async fn close(&self, _: Duration) -> Result<(), ClientError> {
        Ok(())
    }

    fn is_fenced(&self) -> bool {
        false
    }
}

/// A mount of the cluster, and the way to send it events.
pub(crate) fn mount(cluster: &Arc<FakeCluster>) -> (Arc<Filesystem>, mpsc::UnboundedSender<ClientEvent>) {
    let (events, received) = mpsc::unbounded_channel();
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
    (Filesystem::start(Arc::new(FakeBackend(cluster.clone())), settings, received), events)
}

/// Root calls.
pub(crate) fn caller() -> Caller {
    Caller { request: RequestId::random(), uid: 0, gid: 0 }
}

/// For reading and writing.
pub(crate) fn read_write() -> OpenOptions {
    OpenOptions { write: true, ..OpenOptions::default() }
}

/// For appending.
pub(crate) fn append() -> OpenOptions {
    OpenOptions { write: true, append: true, ..OpenOptions::default() }
}

/// Makes or opens a file in the root directory.
pub(crate) async fn create(filesystem: &Arc<Filesystem>, name: &str) -> (InodeId, u64) {
    let name = Name::new(name.as_bytes().to_vec()).unwrap();
    let (attributes, handle) =
        filesystem.create(caller(), InodeId::ROOT, name, 0o644, read_write()).await.expect("create");
    (attributes.inode, handle)
}
