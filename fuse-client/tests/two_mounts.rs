//! Random operations on two mounts in turn, against a plain map, while messages take their time: what
//! an operation has done, every later one sees, on whichever mount (P1).

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{AttributeChanges, RenameMode};
use cairn_mount::filesystem::Filesystem;
use proptest::prelude::*;
use support::{FakeCluster, append, caller, mount, name, read_only, read_write};

#[derive(Clone, Debug)]
enum Step {
    Write { file: u8, offset: u64, length: usize, byte: u8 },
    Append { file: u8, length: usize, byte: u8 },
    Read { file: u8 },
    Stat { file: u8 },
    Truncate { file: u8, size: u64 },
    Chmod { file: u8, mode: u32 },
    Unlink { file: u8 },
    Rename { from: u8, to: u8 },
    List,
    NewLeader,
}

fn step() -> impl Strategy<Value = Step> {
    let file = 0..3_u8;
    let offset = prop_oneof![0..100_u64, 4000..4200_u64];
    prop_oneof![
        5 => (file.clone(), offset.clone(), 1..300_usize, 1..u8::MAX)
            .prop_map(|(file, offset, length, byte)| Step::Write { file, offset, length, byte }),
        2 => (file.clone(), 1..50_usize, 1..u8::MAX)
            .prop_map(|(file, length, byte)| Step::Append { file, length, byte }),
        5 => file.clone().prop_map(|file| Step::Read { file }),
        5 => file.clone().prop_map(|file| Step::Stat { file }),
        1 => (file.clone(), offset).prop_map(|(file, size)| Step::Truncate { file, size }),
        1 => (file.clone(), 0..0o777_u32).prop_map(|(file, mode)| Step::Chmod { file, mode }),
        1 => file.clone().prop_map(|file| Step::Unlink { file }),
        2 => (file.clone(), file).prop_map(|(from, to)| Step::Rename { from, to }),
        2 => Just(Step::List),
        1 => Just(Step::NewLeader),
    ]
}

/// What a file is.
#[derive(Clone, Debug)]
struct Model {
    bytes: Vec<u8>,
    mode: u32,
}

fn name_of(file: u8) -> String {
    format!("file{file}")
}

async fn look_up(filesystem: &Arc<Filesystem>, file: u8) -> Option<InodeId> {
    match filesystem.lookup(caller(), InodeId::ROOT, name(&name_of(file))).await {
        Ok(attributes) => Some(attributes.inode),
        Err(ClientError::Fs(FsError::NotFound)) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn run(steps: Vec<(bool, Step)>) {
    let cluster = Arc::new(FakeCluster::default());
    let mounts = [mount(&cluster).await.filesystem, mount(&cluster).await.filesystem];
    cluster.jitter_ms.store(2, Ordering::SeqCst);
    let mut model: BTreeMap<u8, Model> = BTreeMap::new();
    for (number, (first, step)) in steps.into_iter().enumerate() {
        let filesystem = &mounts[usize::from(!first)];
        let at = format!("step {number}, {step:?} on mount {}", if first { 0 } else { 1 });
        apply(&cluster, filesystem, &mut model, step, &at).await;
    }
    for (index, filesystem) in mounts.iter().enumerate() {
        for file in 0..3 {
            apply(&cluster, filesystem, &mut model, Step::Read { file }, &format!("the end, mount {index}")).await;
        }
        assert_eq!(filesystem.shut_down().await, 0);
    }
}

async fn apply(
    cluster: &FakeCluster,
    filesystem: &Arc<Filesystem>,
    model: &mut BTreeMap<u8, Model>,
    step: Step,
    at: &str,
) {
    match step {
        Step::Write { file, offset, length, byte } => {
            let handle = open_or_create(filesystem, model, file, false).await;
            support::write(filesystem, handle, offset, &vec![byte; length]).await;
            close(filesystem, handle).await;
            let bytes = &mut model.get_mut(&file).expect("made above").bytes;
            let end = offset as usize + length;
            bytes.resize(bytes.len().max(end), 0);
            bytes[offset as usize..end].fill(byte);
        }
        Step::Append { file, length, byte } => {
            let handle = open_or_create(filesystem, model, file, true).await;
            support::write(filesystem, handle, 0, &vec![byte; length]).await;
            close(filesystem, handle).await;
            model.get_mut(&file).expect("made above").bytes.extend(vec![byte; length]);
        }
        Step::Read { file } => {
            let found = look_up(filesystem, file).await;
            assert_eq!(found.is_some(), model.contains_key(&file), "{at}");
            if let Some(inode) = found {
                let handle = filesystem.open(caller(), inode, read_only()).await.expect("open");
                let opened = filesystem.handle(handle).expect("open");
                let bytes = filesystem.read(RequestId::random(), &opened, 0, 1 << 20).await.expect("read");
                filesystem.release(handle);
                assert!(bytes == model[&file].bytes, "{at}: the bytes differ");
            }
        }
        Step::Stat { file } => {
            let found = look_up(filesystem, file).await;
            assert_eq!(found.is_some(), model.contains_key(&file), "{at}");
            if let Some(inode) = found {
                let attributes = filesystem.attributes(RequestId::random(), inode).await.expect("stat");
                let expected = &model[&file];
                assert_eq!((attributes.size as usize, attributes.mode), (expected.bytes.len(), expected.mode), "{at}");
            }
        }
        Step::Truncate { file, size } => {
            if let Some(inode) = look_up(filesystem, file).await {
                let changes = AttributeChanges { size: Some(size), ..AttributeChanges::default() };
                filesystem.set_attributes(caller(), inode, changes).await.expect("truncate");
                model.get_mut(&file).expect("it is there").bytes.resize(size as usize, 0);
            }
        }
        Step::Chmod { file, mode } => {
            if let Some(inode) = look_up(filesystem, file).await {
                let changes = AttributeChanges { mode: Some(mode), ..AttributeChanges::default() };
                filesystem.set_attributes(caller(), inode, changes).await.expect("chmod");
                model.get_mut(&file).expect("it is there").mode = mode;
            }
        }
        Step::Unlink { file } => {
            let result = filesystem.unlink(caller(), InodeId::ROOT, name(&name_of(file))).await;
            assert_eq!(result.is_ok(), model.remove(&file).is_some(), "{at}: {result:?}");
        }
        Step::Rename { from, to } if from != to => {
            let (old, new) = ((InodeId::ROOT, name(&name_of(from))), (InodeId::ROOT, name(&name_of(to))));
            let result = filesystem.rename(caller(), old, new, RenameMode::Replace).await;
            let moved = model.remove(&from);
            assert_eq!(result.is_ok(), moved.is_some(), "{at}: {result:?}");
            if let Some(moved) = moved {
                model.insert(to, moved);
            }
        }
        Step::Rename { .. } => {}
        Step::List => assert_eq!(list(filesystem).await, model.keys().map(|f| name_of(*f)).collect::<Vec<_>>(), "{at}"),
        Step::NewLeader => cluster.change_leader(),
    }
}

async fn open_or_create(
    filesystem: &Arc<Filesystem>,
    model: &mut BTreeMap<u8, Model>,
    file: u8,
    append_only: bool,
) -> u64 {
    let options = if append_only { append() } else { read_write() };
    match look_up(filesystem, file).await {
        Some(inode) => filesystem.open(caller(), inode, options).await.expect("open"),
        None => {
            assert!(model.insert(file, Model { bytes: Vec::new(), mode: 0o644 }).is_none(), "{file} is there");
            let made = filesystem.create(caller(), InodeId::ROOT, name(&name_of(file)), 0o644, options).await;
            made.expect("create").1
        }
    }
}

async fn close(filesystem: &Arc<Filesystem>, handle: u64) {
    let opened = filesystem.handle(handle).expect("open");
    filesystem.flush(RequestId::random(), &opened).await.expect("close");
    filesystem.release(handle);
}

async fn list(filesystem: &Arc<Filesystem>) -> Vec<String> {
    let handle = filesystem.open_directory(InodeId::ROOT);
    let (mut names, mut after) = (Vec::new(), 0);
    loop {
        let before = after;
        let take = |entry: &cairn_mount::filesystem::directories::ListedEntry| {
            after = entry.cookie;
            if entry.cookie > 2 {
                names.push(String::from_utf8(entry.name.to_vec()).expect("ASCII"));
            }
            true
        };
        filesystem.list(caller(), handle, before, true, take).await.expect("list");
        if after == before {
            break;
        }
    }
    filesystem.release_directory(handle);
    names.sort();
    names
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_mount_sees_what_was_done_before(steps in prop::collection::vec((any::<bool>(), step()), 1..80)) {
        runtime().block_on(run(steps));
    }
}
