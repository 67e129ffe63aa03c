//! The core without a kernel: random operations against a plain vector, with servers that fail; and
//! single promises of the write path.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::metadata::{AllocateMode, AttributeChanges};
use cairn_mount::filesystem::Filesystem;
use proptest::prelude::*;
use support::{FakeCluster, append, caller, create, mount, read_write, sync, until, write};

#[derive(Clone, Debug)]
enum Step {
    Write { file: usize, offset: u64, length: usize, seed: u8 },
    Read { file: usize, offset: u64, length: u32 },
    Truncate { file: usize, size: u64 },
    Allocate { file: usize, offset: u64, length: u64, mode: AllocateMode },
    Copy { from: usize, offset: u64, file: usize, to: u64, length: u64 },
    Sync { file: usize },
    Reopen { file: usize },
    Size { file: usize },
    FailPuts { times: u32 },
    FailReads { times: u32 },
    Wait,
}

fn offsets() -> impl Strategy<Value = u64> {
    // Around the limits of inline files, groups and blocks, and anywhere.
    prop_oneof![0u64..6000, (4 << 20) - 5000..(4u64 << 20) + 5000, 0u64..9 << 20]
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 1usize..5000, 2 => 1usize..300_000, 1 => (4usize << 20)..(5 << 20)]
}

fn allocate_mode() -> impl Strategy<Value = AllocateMode> {
    prop_oneof![Just(AllocateMode::Fill), Just(AllocateMode::Zero), Just(AllocateMode::Punch)]
}

fn step() -> impl Strategy<Value = Step> {
    let file = 0usize..2;
    prop_oneof![
        8 => (file.clone(), offsets(), lengths(), any::<u8>())
            .prop_map(|(file, offset, length, seed)| Step::Write { file, offset, length, seed }),
        6 => (file.clone(), offsets(), 1u32..400_000).prop_map(|(file, offset, length)| Step::Read { file, offset, length }),
        2 => (file.clone(), prop_oneof![Just(0), offsets()]).prop_map(|(file, size)| Step::Truncate { file, size }),
        2 => (file.clone(), offsets(), 1u64..6 << 20, allocate_mode())
            .prop_map(|(file, offset, length, mode)| Step::Allocate { file, offset, length, mode }),
        2 => (file.clone(), offsets(), file.clone(), offsets(), 1u64..6 << 20)
            .prop_map(|(from, offset, file, to, length)| Step::Copy { from, offset, file, to, length }),
        2 => file.clone().prop_map(|file| Step::Sync { file }),
        1 => file.clone().prop_map(|file| Step::Reopen { file }),
        1 => file.prop_map(|file| Step::Size { file }),
        1 => (1u32..3).prop_map(|times| Step::FailPuts { times }),
        1 => (1u32..3).prop_map(|times| Step::FailReads { times }),
        1 => Just(Step::Wait),
    ]
}

/// Repeats a call that the test has told to fail for a while.
async fn patiently<T, F: Future<Output = Result<T, ClientError>>>(mut call: impl FnMut() -> F) -> T {
    for _ in 0..20 {
        match call().await {
            Ok(value) => return value,
            Err(ClientError::TimedOut { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("fails too often");
}

async fn read(filesystem: &Arc<Filesystem>, handle: u64, offset: u64, length: u32) -> Vec<u8> {
    let handle = filesystem.handle(handle).unwrap();
    patiently(|| async {
        // What the kernel does before a cached read.
        filesystem.attributes(RequestId::random(), handle.file().inode).await?;
        filesystem.read(RequestId::random(), &handle, offset, length).await
    })
    .await
}

async fn run(steps: Vec<Step>) {
    let cluster = Arc::new(FakeCluster::default());
    let filesystem = mount(&cluster).await.filesystem;
    let mut files: Vec<(InodeId, u64, Vec<u8>)> = Vec::new();
    for name in ["a", "b"] {
        let (inode, handle) = create(&filesystem, name).await;
        files.push((inode, handle, Vec::new()));
    }
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Write { file, offset, length, seed } => {
                let (_, handle, model) = &mut files[file];
                let data: Vec<u8> = (0..length).map(|n| (n as u8).wrapping_mul(31) ^ seed ^ (n >> 12) as u8).collect();
                let handle = filesystem.handle(*handle).unwrap();
                // As the kernel: at most 1 MiB a request.
                for (piece, chunk) in data.chunks(1 << 20).enumerate() {
                    let at = offset + ((piece as u64) << 20);
                    let bytes = Bytes::copy_from_slice(chunk);
                    let written = patiently(|| filesystem.write(RequestId::random(), &handle, at, bytes.clone())).await;
                    assert_eq!(written as usize, chunk.len());
                }
                let end = offset as usize + length;
                if model.len() < end {
                    model.resize(end, 0);
                }
                model[offset as usize..end].copy_from_slice(&data);
            }
            Step::Read { file, offset, length } => {
                let (_, handle, model) = &files[file];
                let found = read(&filesystem, *handle, offset, length).await;
                let from = (offset as usize).min(model.len());
                let to = (from + length as usize).min(model.len());
                assert!(found == model[from..to], "step {number}: {step:?} differs from the model");
            }
            Step::Truncate { file, size } => {
                let (inode, _, model) = &mut files[file];
                let changes = AttributeChanges { size: Some(size), ..AttributeChanges::default() };
                let attributes = patiently(|| filesystem.set_attributes(caller(), *inode, changes)).await;
                assert_eq!(attributes.size, size, "step {number}");
                model.resize(size as usize, 0);
            }
            Step::Allocate { file, offset, length, mode } => {
                let (_, handle, model) = &mut files[file];
                let handle = filesystem.handle(*handle).unwrap();
                patiently(|| filesystem.allocate(caller(), &handle, (offset, length), mode, false)).await;
                let end = (offset + length) as usize;
                if mode != AllocateMode::Punch && model.len() < end {
                    model.resize(end, 0);
                }
                if mode != AllocateMode::Fill {
                    let end = end.min(model.len());
                    model[(offset as usize).min(end)..end].fill(0);
                }
            }
            Step::Copy { from, offset, file, to, length } => {
                let handles = [from, file].map(|file| filesystem.handle(files[file].1).unwrap());
                if from == file && offset.abs_diff(to) < length {
                    continue;
                }
                let copied = patiently(|| {
                    filesystem.copy_range(RequestId::random(), (&handles[0], offset), (&handles[1], to), length)
                });
                let copied = copied.await as usize;
                let source = &files[from].2;
                let begin = (offset as usize).min(source.len());
                let bytes =
                    source[begin..(offset + length).min(source.len() as u64).max(begin as u64) as usize].to_vec();
                assert_eq!(copied, bytes.len(), "step {number}: {step:?}");
                let (model, to) = (&mut files[file].2, to as usize);
                if copied > 0 && model.len() < to + copied {
                    model.resize(to + copied, 0);
                }
                if copied > 0 {
                    model[to..to + copied].copy_from_slice(&bytes);
                }
            }
            Step::Sync { file } => {
                let (inode, handle, model) = &files[file];
                let handle = filesystem.handle(*handle).unwrap();
                patiently(|| filesystem.sync(RequestId::random(), &handle)).await;
                assert!(cluster.contents(*inode) == *model, "step {number}: not all was committed");
            }
            Step::Reopen { file } => {
                let (inode, handle, _) = &mut files[file];
                let old = filesystem.handle(*handle).unwrap();
                patiently(|| filesystem.flush(RequestId::random(), &old)).await;
                drop(old);
                filesystem.release(*handle);
                *handle = filesystem.open(caller(), *inode, read_write()).await.unwrap();
            }
            Step::Size { file } => {
                let (inode, _, model) = &files[file];
                let attributes = patiently(|| filesystem.attributes(RequestId::random(), *inode)).await;
                assert_eq!(attributes.size as usize, model.len(), "step {number}");
            }
            Step::FailPuts { times } => cluster.failing_puts.store(times, Ordering::SeqCst),
            Step::FailReads { times } => cluster.failing_reads.store(times, Ordering::SeqCst),
            Step::Wait => tokio::time::sleep(Duration::from_millis(40)).await,
        }
    }
    cluster.failing_puts.store(0, Ordering::SeqCst);
    cluster.failing_reads.store(0, Ordering::SeqCst);
    assert_eq!(filesystem.shut_down().await, 0, "nothing is lost");
    assert_eq!(filesystem.dirty_bytes(), 0);
    let second = mount(&cluster).await.filesystem;
    for (inode, _, model) in &files {
        assert!(cluster.contents(*inode) == *model, "the cluster differs from the model at the end");
        let handle = second.open(caller(), *inode, read_write()).await.unwrap();
        let found = read(&second, handle, 0, u32::MAX).await;
        assert!(found == *model, "a second mount differs from the model");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn files_are_what_was_written(steps in prop::collection::vec(step(), 1..50)) {
        runtime().block_on(run(steps));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_mounts_write_different_bytes_of_one_page() {
    let cluster = Arc::new(FakeCluster::default());
    let (first, second) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, one) = create(&first, "page").await;
    let (_, two) = create(&second, "page").await;
    for n in 0..2000 {
        let (filesystem, handle) = if n % 2 == 0 { (&first, one) } else { (&second, two) };
        write(filesystem, handle, n, &[n as u8]).await;
    }
    sync(&first, one).await.unwrap();
    sync(&second, two).await.unwrap();
    let expected: Vec<u8> = (0..2000).map(|n| n as u8).collect();
    assert_eq!(cluster.contents(inode), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_of_two_mounts_never_overwrite_each_other() {
    let cluster = Arc::new(FakeCluster::default());
    let (first, second) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, _) = create(&first, "log").await;
    let mut tasks = Vec::new();
    for (filesystem, byte) in [(first, b'a'), (second, b'b')] {
        tasks.push(tokio::spawn(async move {
            let handle = filesystem.open(caller(), inode, append()).await.unwrap();
            for length in [1, 100, 5000, 3] {
                write(&filesystem, handle, 0, &vec![byte; length]).await;
            }
            sync(&filesystem, handle).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let contents = cluster.contents(inode);
    assert_eq!(contents.len(), 2 * 5104);
    assert_eq!(contents.iter().filter(|byte| **byte == b'a').count(), 5104);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_data_is_reported_once_by_each_handle() {
    let cluster = Arc::new(FakeCluster::default());
    let filesystem = mount(&cluster).await.filesystem;
    let (inode, first) = create(&filesystem, "full").await;
    let second = filesystem.open(caller(), inode, read_write()).await.unwrap();
    cluster.refused_puts.store(1, Ordering::SeqCst);
    write(&filesystem, first, 0, &[1; 10_000]).await;
    // The flusher is refused in the background.
    let begun = std::time::Instant::now();
    while filesystem.dirty_bytes() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the flusher does not run");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let lost = |result: Result<(), ClientError>| matches!(result, Err(ClientError::Refused { .. }));
    assert!(lost(sync(&filesystem, first).await), "the first handle reports it");
    assert!(sync(&filesystem, first).await.is_ok(), "once");
    let handle = filesystem.handle(second).unwrap();
    assert!(lost(filesystem.flush(RequestId::random(), &handle).await), "the second reports it at close");
    assert!(sync(&filesystem, second).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_does_not_overtake_a_newer_one() {
    let cluster = Arc::new(FakeCluster::default());
    let filesystem = mount(&cluster).await.filesystem;
    let (inode, handle) = create(&filesystem, "order").await;
    write(&filesystem, handle, 0, b"old").await;
    let late = cluster.commits.lock().await;
    let gave_up = tokio::time::timeout(Duration::from_millis(50), sync(&filesystem, handle)).await;
    assert!(gave_up.is_err(), "the commit has no answer yet");
    write(&filesystem, handle, 0, b"new").await;
    let again = tokio::time::timeout(Duration::from_millis(50), sync(&filesystem, handle)).await;
    assert!(again.is_err(), "the newer commit waits for the older one");
    assert_eq!(read(&filesystem, handle, 0, 10).await, b"new");
    drop(late);
    sync(&filesystem, handle).await.unwrap();
    assert_eq!(cluster.contents(inode), b"new");
}

#[tokio::test(flavor = "multi_thread")]
async fn unflushed_data_is_committed_by_itself() {
    let cluster = Arc::new(FakeCluster::default());
    let filesystem = mount(&cluster).await.filesystem;
    let (inode, handle) = create(&filesystem, "background").await;
    write(&filesystem, handle, 0, b"by itself").await;
    assert!(cluster.contents(inode).is_empty(), "the exclusive lease lets it wait");
    until("the flush interval", || cluster.contents(inode) == b"by itself").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_scattered_writes_share_blocks_and_full_blocks_leave_early() {
    let cluster = Arc::new(FakeCluster::default());
    let filesystem = mount(&cluster).await.filesystem;
    let (_, handle) = create(&filesystem, "scattered").await;
    for n in 0..200 {
        write(&filesystem, handle, n * 50_000, &[n as u8; 1000]).await;
    }
    sync(&filesystem, handle).await.unwrap();
    assert_eq!(cluster.puts.load(Ordering::SeqCst), 1, "200 small runs are one block");
    for n in 0..8 {
        write(&filesystem, handle, n << 20, &vec![n as u8; 1 << 20]).await;
    }
    let begun = std::time::Instant::now();
    while cluster.puts.load(Ordering::SeqCst) < 3 {
        assert!(begun.elapsed() < Duration::from_secs(5), "full blocks wait for a flush");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reopening_within_the_delay_is_free() {
    let cluster = Arc::new(FakeCluster::default());
    let filesystem = mount(&cluster).await.filesystem;
    let (inode, handle) = create(&filesystem, "reopened").await;
    filesystem.release(handle);
    for _ in 0..5 {
        let handle = filesystem.open(caller(), inode, read_write()).await.unwrap();
        filesystem.release(handle);
    }
    assert_eq!(cluster.opens(), 0, "the registration of the create lasts");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let handle = filesystem.open(caller(), inode, read_write()).await.unwrap();
    assert_eq!(cluster.opens(), 1, "it was released meanwhile");
    filesystem.release(handle);
}
