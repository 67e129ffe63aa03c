//! Two mounts of one cluster under leases, without a kernel: nothing that one has changed is ever
//! missed by the other, and what only one uses costs no question.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::clock::Timestamp;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::posix_acl::{AclEntry, AclKind, AclTag, PosixAcl};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{AttributeChanges, NewNode, OpenMode, RenameMode, TimeChange, XattrMode};
use cairn_mount::filesystem::acls::CallerGroups;
use cairn_mount::filesystem::files::OpenOptions;
use cairn_mount::filesystem::{Caller, Filesystem};
use cairn_mount::kernel_caches::KernelCaches;
use cairn_mount::open_files::KernelPages;
use cairn_mount::settings::MountSettings;
use parking_lot::Mutex;
use support::{FakeCluster, append, caller, create, mount, name, read_only, read_write, sync, until, write};

async fn read(filesystem: &Arc<Filesystem>, handle: u64) -> Vec<u8> {
    filesystem.read(RequestId::random(), &filesystem.handle(handle).unwrap(), 0, 1 << 20).await.unwrap()
}

async fn size(filesystem: &Arc<Filesystem>, inode: InodeId) -> u64 {
    filesystem.attributes(RequestId::random(), inode).await.unwrap().size
}

async fn chmod(filesystem: &Arc<Filesystem>, inode: InodeId, mode: u32) {
    let changes = AttributeChanges { mode: Some(mode), ..AttributeChanges::default() };
    filesystem.set_attributes(caller(), inode, changes).await.unwrap();
}

fn not_found<T>(result: Result<T, ClientError>) -> bool {
    matches!(result, Err(ClientError::Fs(FsError::NotFound)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_mount_uses_alone_costs_no_question() {
    let cluster = Arc::new(FakeCluster::default());
    let a = mount(&cluster).await.filesystem;
    let directory = a.make_node(caller(), InodeId::ROOT, name("d"), NewNode::Directory, 0o755).await.unwrap().inode;
    let target = NewNode::Symlink(Bytes::from_static(b"where"));
    let link = a.make_node(caller(), directory, name("link"), target, 0o777).await.unwrap().inode;
    let before = cluster.questions();
    assert!(not_found(a.lookup(caller(), directory, name("file")).await), "a directory of one's own is known");
    let (made, handle) = a.create(caller(), directory, name("file"), 0o644, read_write()).await.unwrap();
    write(&a, handle, 0, b"bytes").await;
    a.flush(RequestId::random(), &a.handle(handle).unwrap()).await.unwrap();
    a.release(handle);
    assert!(cluster.contents(made.inode).is_empty(), "close does not flush");
    assert_eq!(a.lookup(caller(), directory, name("file")).await.unwrap().size, 5);
    let (handle, _) = a.try_open(made.inode, read_only()).expect("no question");
    assert_eq!(a.try_read(&a.handle(handle).unwrap(), 0, 100).expect("no question"), b"bytes");
    assert_eq!(a.try_read_link(link).unwrap(), "where");
    assert!(matches!(a.try_xattr(made.inode, b"user.x"), Some(Err(ClientError::Fs(FsError::NoAttribute)))));
    sync(&a, handle).await.unwrap();
    assert_eq!(a.try_read(&a.handle(handle).unwrap(), 0, 100).expect("what was committed is known"), b"bytes");
    assert_eq!(cluster.questions(), before);
    let listing = a.open_directory(directory);
    for _ in 0..2 {
        let mut names = Vec::new();
        let take = |entry: &cairn_mount::filesystem::directories::ListedEntry| {
            names.push(entry.name.to_vec());
            true
        };
        a.list(caller(), listing, 0, true, take).await.unwrap();
        assert_eq!(names.len(), 4, "{names:?}");
    }
    assert_eq!(cluster.questions(), before, "all that is in it was made here");
    assert_eq!(cluster.opens(), 0, "no open was registered");
}

/// Names that one call of a listing gives behind `after`, at most so many, with their cookies.
async fn some_names(filesystem: &Arc<Filesystem>, listing: u64, after: u64, most: usize) -> Vec<(Vec<u8>, u64)> {
    let mut names = Vec::new();
    let take = |entry: &cairn_mount::filesystem::directories::ListedEntry<'_>| {
        let has_room = names.len() < most;
        if has_room {
            names.push((entry.name.to_vec(), entry.cookie));
        }
        has_room
    };
    filesystem.list(caller(), listing, after, true, take).await.unwrap();
    names
}

/// All names behind `after`.
async fn names_behind(filesystem: &Arc<Filesystem>, listing: u64, mut after: u64) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let names = some_names(filesystem, listing, after, 9).await;
        let Some((_, cookie)) = names.last() else { return all };
        after = *cookie;
        all.extend(names.into_iter().map(|(name, _)| name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_began_from_memory_does_not_show_what_was_made_since() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let mut last = InodeId::ROOT;
    for file in ["x", "y", "z"] {
        let (inode, handle) = create(&b, file).await;
        b.release(handle);
        last = inode;
    }
    let listing = a.open_directory(InodeId::ROOT);
    assert_eq!(names_behind(&a, listing, 0).await.len(), 5, "now all are known");
    let before = cluster.questions();
    let begun = some_names(&a, listing, 0, 3).await;
    assert_eq!(begun.last().map(|(name, _)| &name[..]), Some(&b"x"[..]));
    assert_eq!(cluster.questions(), before, "from memory");
    b.unlink(caller(), InodeId::ROOT, name("x")).await.unwrap();
    let (_, handle) = create(&b, "x").await;
    b.release(handle);
    // So that the rest has to be asked for.
    chmod(&b, last, 0o600).await;
    let rest = names_behind(&a, listing, begun[2].1).await;
    assert_eq!(rest, [b"y".to_vec(), b"z".to_vec()], "x is listed once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_on_one_mount_is_seen_on_the_other_at_once() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, writer) = create(&a, "file").await;
    let (_, reader) = create(&b, "file").await;
    for round in 0..20_u8 {
        write(&a, writer, u64::from(round), &[round]).await;
        assert_eq!(size(&b, inode).await, u64::from(round) + 1);
        assert_eq!(read(&b, reader).await, (0..=round).collect::<Vec<_>>());
    }
    chmod(&b, inode, 0o600).await;
    assert_eq!(a.attributes(RequestId::random(), inode).await.unwrap().mode, 0o600);
    b.set_xattr(caller(), inode, "user.x".into(), "1".into(), XattrMode::Any).await.unwrap();
    assert_eq!(a.xattr(caller(), inode, "user.x".into()).await.unwrap(), "1");
    b.unlink(caller(), InodeId::ROOT, name("file")).await.unwrap();
    assert!(not_found(a.lookup(caller(), InodeId::ROOT, name("file")).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_of_one_mount_wait_in_memory_and_land_behind_those_of_the_other() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, first) = create(&a, "log").await;
    let (one, two) =
        (a.open(caller(), inode, append()).await.unwrap(), b.open(caller(), inode, append()).await.unwrap());
    a.release(first);
    let mut expected = Vec::new();
    for round in 0..10_u8 {
        for (filesystem, handle) in [(&a, one), (&a, one), (&b, two)] {
            write(filesystem, handle, 0, &[round; 3]).await;
            expected.extend([round; 3]);
        }
    }
    sync(&a, one).await.unwrap();
    sync(&b, two).await.unwrap();
    assert_eq!(cluster.contents(inode), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_file_outlives_its_last_name_on_another_mount() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    for recalled_before in [false, true] {
        let (inode, handle) = create(&a, "file").await;
        write(&a, handle, 0, b"kept").await;
        sync(&a, handle).await.unwrap();
        a.release(handle);
        let opens = cluster.opens();
        let handle = b.open(caller(), inode, read_only()).await.unwrap();
        assert_eq!(cluster.opens(), opens, "a lease is enough");
        if recalled_before {
            chmod(&a, inode, 0o600).await;
        }
        a.unlink(caller(), InodeId::ROOT, name("file")).await.unwrap();
        assert_eq!(read(&b, handle).await, b"kept", "recalled before: {recalled_before}");
        b.release(handle);
        until("the orphan goes", || !cluster.state.lock().nodes.contains_key(&inode)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_a_removed_file_stay_for_a_mount_that_has_it_open() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, handle) = create(&a, "file").await;
    let reader = b.open(caller(), inode, read_only()).await.unwrap();
    write(&a, handle, 0, b"new").await;
    a.release(handle);
    a.unlink(caller(), InodeId::ROOT, name("file")).await.unwrap();
    assert_eq!(read(&b, reader).await, b"new");
    b.release(reader);
    // What nobody else can have opened goes without a flush.
    let (_, handle) = create(&a, "own").await;
    write(&a, handle, 0, &[1; 70_000]).await;
    a.release(handle);
    let puts = cluster.puts.load(Ordering::SeqCst);
    a.unlink(caller(), InodeId::ROOT, name("own")).await.unwrap();
    assert_eq!((a.dirty_bytes(), cluster.puts.load(Ordering::SeqCst)), (0, puts));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_onto_another_name_of_the_same_file_leaves_both() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let directory = a.make_node(caller(), InodeId::ROOT, name("d"), NewNode::Directory, 0o755).await.unwrap().inode;
    let (inode, _) = create(&a, "one").await;
    b.link(caller(), inode, directory, name("two")).await.unwrap();
    // This mount knows the old name, and nothing of the new one.
    assert_eq!(a.lookup(caller(), InodeId::ROOT, name("one")).await.unwrap().inode, inode);
    let (from, to) = ((InodeId::ROOT, name("one")), (directory, name("two")));
    a.rename(caller(), from, to, RenameMode::Replace).await.unwrap();
    for (parent, child) in [(InodeId::ROOT, "one"), (directory, "two")] {
        assert_eq!(a.lookup(caller(), parent, name(child)).await.unwrap().inode, inode, "{child}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_is_cut_off_tells_nothing_from_memory_and_holds_nobody_up_for_long() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await, mount(&cluster).await);
    let (inode, handle) = create(&b.filesystem, "file").await;
    b.filesystem.release(handle);
    a.filesystem.lookup(caller(), InodeId::ROOT, name("file")).await.unwrap();
    assert!(a.filesystem.try_attributes(inode).is_some());
    cluster.cut_off(a.session, true);
    let begun = Instant::now();
    chmod(&b.filesystem, inode, 0o600).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(a.filesystem.try_attributes(inode).is_none(), "its lease was over before that");
    assert!(a.filesystem.try_lookup(InodeId::ROOT, &name("file")).is_none());
    assert!(a.filesystem.try_open(inode, read_only()).is_none());
    assert_eq!(a.filesystem.attribute_ttl(inode), Duration::ZERO);
    cluster.cut_off(a.session, false);
    until("leases count again", || a.leases.read().shared_valid()).await;
    assert_eq!(a.filesystem.attributes(RequestId::random(), inode).await.unwrap().mode, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_finds_open_files_reclaimed_and_nothing_old_is_told() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await, mount(&cluster).await);
    let (inode, writer) = create(&b.filesystem, "file").await;
    write(&b.filesystem, writer, 0, b"kept").await;
    sync(&b.filesystem, writer).await.unwrap();
    b.filesystem.release(writer);
    let handle = a.filesystem.open(caller(), inode, read_only()).await.unwrap();
    let generation = a.leases.read().generation;
    cluster.change_leader();
    until("the new generation", || {
        let time = a.leases.read();
        time.generation > generation && time.shared_valid() && b.leases.read().shared_valid()
    })
    .await;
    assert!(a.filesystem.try_attributes(inode).is_some(), "reclaimed");
    assert!(a.filesystem.try_lookup(InodeId::ROOT, &name("file")).is_none(), "not reclaimed");
    b.filesystem.unlink(caller(), InodeId::ROOT, name("file")).await.unwrap();
    assert_eq!(read(&a.filesystem, handle).await, b"kept", "the new leader asked for it, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_mount_tells_nothing_and_reports_what_it_could_not_write() {
    let cluster = Arc::new(FakeCluster::default());
    let a = mount(&cluster).await;
    let (inode, handle) = create(&a.filesystem, "file").await;
    write(&a.filesystem, handle, 0, b"lost").await;
    cluster.end(a.session);
    until("it knows", || !a.leases.read().exclusive_valid()).await;
    assert!(a.filesystem.try_attributes(inode).is_none());
    assert!(a.filesystem.attributes(RequestId::random(), inode).await.is_err());
    assert!(a.filesystem.try_write(RequestId::random(), handle, 0, b"more").is_none());
    let open = a.filesystem.handle(handle).unwrap();
    assert!(a.filesystem.write(RequestId::random(), &open, 0, "more".into()).await.is_err());
    for options in [read_only(), read_write()] {
        assert!(a.filesystem.open(caller(), inode, options).await.is_err(), "{options:?}");
    }
    assert!(sync(&a.filesystem, handle).await.is_err(), "the bytes are lost");
    assert_eq!(a.filesystem.dirty_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_wait_under_the_exclusive_lease_and_are_the_last_word() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, handle) = create(&a, "unpacked").await;
    write(&a, handle, 0, b"bytes").await;
    let old = Timestamp { seconds: 1000, nanos: 5 };
    let at = Some(TimeChange::At(old));
    let changes = AttributeChanges { atime: at, mtime: at, ..AttributeChanges::default() };
    let shown = a.set_attributes(caller(), inode, changes).await.unwrap();
    assert_eq!((shown.mtime, shown.atime, shown.size), (old, old, 5));
    assert!(cluster.contents(inode).is_empty(), "nothing was sent");
    let elsewhere = b.attributes(RequestId::random(), inode).await.unwrap();
    assert_eq!((elsewhere.mtime, elsewhere.atime, elsewhere.size), (old, old, 5));
    write(&a, handle, 0, b"B").await;
    assert_ne!(b.attributes(RequestId::random(), inode).await.unwrap().mtime, old, "a write is later than that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_shown_here_at_once_and_told_to_the_cluster_later() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, handle) = create(&a, "read").await;
    write(&a, handle, 0, b"bytes").await;
    sync(&a, handle).await.unwrap();
    let written = a.attributes(RequestId::random(), inode).await.unwrap();
    let sneaking = OpenOptions { no_atime: true, ..read_only() };
    let sneaking = b.open(caller(), inode, sneaking).await.unwrap();
    assert_eq!(read(&b, sneaking).await, b"bytes");
    assert_eq!(b.attributes(RequestId::random(), inode).await.unwrap().atime, written.atime, "O_NOATIME");

    let reader = b.open(caller(), inode, read_only()).await.unwrap();
    assert_eq!(read(&b, reader).await, b"bytes");
    let shown = b.attributes(RequestId::random(), inode).await.unwrap();
    assert!(shown.atime > written.mtime, "{shown:?}");
    assert_eq!((shown.mtime, shown.ctime), (written.mtime, written.ctime));
    assert_eq!(read(&b, reader).await, b"bytes");
    assert_eq!(b.attributes(RequestId::random(), inode).await.unwrap().atime, shown.atime, "one is news, two are not");
    b.release(reader);
    // An answer of the cluster's that does not know it yet.
    chmod(&b, inode, 0o600).await;
    assert_eq!(b.attributes(RequestId::random(), inode).await.unwrap().atime, shown.atime);
    until("the cluster knows", || cluster.attributes(inode).atime == shown.atime).await;

    // What a program sets is not overtaken by a read of before.
    let (other, handle) = create(&b, "set").await;
    write(&b, handle, 0, b"bytes").await;
    sync(&b, handle).await.unwrap();
    assert_eq!(read(&b, handle).await, b"bytes");
    let old = Timestamp { seconds: 1000, nanos: 5 };
    let changes = AttributeChanges { atime: Some(TimeChange::At(old)), ..AttributeChanges::default() };
    b.set_attributes(caller(), other, changes).await.unwrap();
    sync(&b, handle).await.unwrap();
    assert_eq!(b.attributes(RequestId::random(), other).await.unwrap().atime, old);
    tokio::time::sleep(MountSettings::default().access_time_delay * 2).await;
    assert_eq!(cluster.attributes(other).atime, old);
}

/// Writes down what it is told.
#[derive(Default)]
struct FakeKernel(Mutex<Vec<(&'static str, InodeId)>>);

#[async_trait]
impl KernelCaches for FakeKernel {
    async fn attributes(&self, inode: InodeId) {
        self.0.lock().push(("attributes", inode));
    }
    fn acls(&self, inode: InodeId) {
        self.0.lock().push(("acls", inode));
    }
    async fn names(&self, directory: InodeId) {
        self.0.lock().push(("names", directory));
    }
    async fn pages(&self, inode: InodeId) {
        self.0.lock().push(("pages", inode));
    }
    fn uncovered(&self, inode: InodeId) {
        self.0.lock().push(("uncovered", inode));
    }
    fn moves_name(&self) {
        self.0.lock().push(("moves", InodeId::ROOT));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_forgets_before_another_mount_changes_what_it_was_told() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let kernel = Arc::new(FakeKernel::default());
    a.set_kernel(kernel.clone());
    let (inode, handle) = create(&b, "file").await;
    b.release(handle);
    let take = || std::mem::take(&mut *kernel.0.lock());
    a.lookup(caller(), InodeId::ROOT, name("file")).await.unwrap();
    chmod(&b, inode, 0o600).await;
    assert!(take().is_empty(), "it was told nothing with a lifetime");
    a.lookup(caller(), InodeId::ROOT, name("file")).await.unwrap();
    let (attributes, entry) = (a.attribute_ttl(inode), a.name_ttl(InodeId::ROOT, &name("file"), Some(inode)));
    assert!(attributes > Duration::ZERO && attributes < Duration::from_secs(1) && entry > Duration::ZERO);
    assert_eq!(a.name_ttl(InodeId::ROOT, &name("file"), None), Duration::ZERO, "it is there");
    chmod(&b, inode, 0o644).await;
    assert_eq!(take(), [("attributes", inode)]);
    b.unlink(caller(), InodeId::ROOT, name("file")).await.unwrap();
    assert_eq!(take(), [("names", InodeId::ROOT)]);
    let (inode, handle) = create(&b, "pages").await;
    b.release(handle);
    let handle = a.open(caller(), inode, read_only()).await.unwrap();
    assert_eq!(a.handle(handle).unwrap().pages, KernelPages::Renew, "the first open throws old pages away");
    let second = a.open(caller(), inode, read_only()).await.unwrap();
    assert_eq!(a.handle(second).unwrap().pages, KernelPages::Keep);
    a.release(second);
    chmod(&b, inode, 0o600).await;
    assert!(take().contains(&("pages", inode)), "an open file may have pages");
    a.release(handle);
}

/// It knows the names of its requests, not what they stand for in the cluster.
#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_hears_of_everything_that_an_own_change_wrote() {
    let cluster = Arc::new(FakeCluster::default());
    let a = mount(&cluster).await.filesystem;
    let kernel = Arc::new(FakeKernel::default());
    a.set_kernel(kernel.clone());
    let take = || std::mem::take(&mut *kernel.0.lock());
    let (_, from) = create(&a, "from").await;
    let (target, to) = create(&a, "to").await;
    a.link(caller(), target, InodeId::ROOT, name("other")).await.unwrap();
    [from, to].into_iter().for_each(|handle| a.release(handle));
    a.attributes(RequestId::random(), target).await.unwrap();
    assert!(a.attribute_ttl(target) > Duration::ZERO, "the kernel is told");
    take();
    a.rename(caller(), (InodeId::ROOT, name("from")), (InodeId::ROOT, name("to")), RenameMode::Replace).await.unwrap();
    let told = take();
    assert!(told.contains(&("attributes", target)), "it has one name less: {told:?}");
    assert!(!told.iter().any(|(what, _)| *what == "moves"));
    let folder = a.make_node(caller(), InodeId::ROOT, name("folder"), NewNode::Directory, 0o755).await.unwrap().inode;
    a.rename(caller(), (InodeId::ROOT, name("to")), (folder, name("to")), RenameMode::Replace).await.unwrap();
    assert!(take().iter().any(|(what, _)| *what == "moves"), "what it believes of the name goes along");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_keeps_no_pages_for_a_writer_who_is_not_alone() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, handle) = create(&a, "file").await;
    assert_ne!(a.handle(handle).unwrap().pages, KernelPages::Bypass, "nobody else has it");
    // Whoever has just given the lease up gets it only after a pause.
    let other = b.open(caller(), inode, read_write()).await.unwrap();
    let again = a.open(caller(), inode, read_write()).await.unwrap();
    let pages = [b.handle(other).unwrap().pages, a.handle(again).unwrap().pages];
    assert!(pages.contains(&KernelPages::Bypass), "{pages:?}");
}

/// One mount makes a file longer, the other looks: never less than was there when it began to look.
#[tokio::test(flavor = "multi_thread")]
async fn no_look_is_older_than_what_was_done_before_it() {
    let cluster = Arc::new(FakeCluster::default());
    cluster.jitter_ms.store(3, Ordering::SeqCst);
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, handle) = create(&a, "file").await;
    let (done, begun) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (done_by_a, begun_by_a) = (done.clone(), begun.clone());
    let writer = tokio::spawn(async move {
        for length in 1..=300 {
            begun_by_a.store(length, Ordering::SeqCst);
            if length % 3 == 0 {
                let changes = AttributeChanges { size: Some(length), ..AttributeChanges::default() };
                a.set_attributes(caller(), inode, changes).await.unwrap();
            } else {
                write(&a, handle, length - 1, b"x").await;
            }
            assert_eq!(size(&a, inode).await, length);
            done_by_a.store(length, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_micros(rand::random::<u64>() % 3000)).await;
        }
    });
    let mut looks = 0;
    while !writer.is_finished() {
        let least = done.load(Ordering::SeqCst);
        let seen = size(&b, inode).await;
        let most = begun.load(Ordering::SeqCst);
        assert!(least <= seen && seen <= most, "{least} <= {seen} <= {most}");
        looks += 1;
        if looks % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    writer.await.unwrap();
    assert!(looks > 100);
}

/// A write without the exclusive lease that has not returned is seen on all mounts or on none: not here,
/// while its commit is on the way, and then not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_seen_nowhere_before_its_commit() {
    let cluster = Arc::new(FakeCluster::default());
    cluster.no_leases.store(true, Ordering::SeqCst);
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, handle) = create(&a, "file").await;
    let late = cluster.commits.lock().await;
    let (writing, puts) = (a.clone(), cluster.puts.load(Ordering::SeqCst));
    let writer = tokio::spawn(async move { write(&writing, handle, 0, &[7; 100_000]).await });
    until("the bytes are taken in", || cluster.puts.load(Ordering::SeqCst) > puts).await;
    for mount in [&a, &b] {
        assert_eq!(size(mount, inode).await, 0);
    }
    assert!(read(&a, handle).await.is_empty());
    drop(late);
    writer.await.unwrap();
    assert_eq!((size(&a, inode).await, size(&b, inode).await), (100_000, 100_000));
    assert_eq!(read(&a, handle).await, [7; 100_000]);
}

/// A create of a name that exists opens that file. The registration of its last use may be given back at
/// the same moment, and the two messages overtake each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_of_a_file_that_is_being_released_leaves_it_registered() {
    let cluster = Arc::new(FakeCluster::default());
    let mount = mount(&cluster).await;
    let (inode, handle) = create(&mount.filesystem, "f").await;
    mount.filesystem.release(handle);
    cluster.jitter_ms.store(12, Ordering::SeqCst);
    for round in 0..60 {
        // The registration is given back 30 to 55 ms after its last use.
        tokio::time::sleep(Duration::from_millis(24 + round % 24)).await;
        let (_, handle) = create(&mount.filesystem, "f").await;
        tokio::time::sleep(Duration::from_millis(15)).await;
        let registered = cluster.state.lock().opens.contains(&(inode, mount.session, OpenMode::Write));
        assert!(registered, "round {round}: the cluster does not know that the file is in use");
        write(&mount.filesystem, handle, 0, &[round as u8]).await;
        sync(&mount.filesystem, handle).await.unwrap();
        mount.filesystem.release(handle);
    }
}

const ACCESS: &[u8] = AclKind::Access.xattr_name().as_bytes();

/// Owner, user 5, owning group, mask, others.
fn list(permissions: [u8; 5]) -> Bytes {
    let tags = [AclTag::UserObj, AclTag::User(5), AclTag::GroupObj, AclTag::Mask, AclTag::Other];
    let entries = tags.into_iter().zip(permissions).map(|(tag, permissions)| AclEntry { tag, permissions });
    PosixAcl::new(entries.collect()).unwrap().to_xattr()
}

async fn set_acl(filesystem: &Arc<Filesystem>, inode: InodeId, acl: Option<Bytes>) {
    let groups = CallerGroups::default();
    filesystem.set_acl(caller(), inode, AclKind::Access, acl, &groups).await.unwrap();
}

async fn access_list(filesystem: &Arc<Filesystem>, inode: InodeId) -> Option<Bytes> {
    match filesystem.xattr(caller(), inode, Bytes::from_static(ACCESS)).await {
        Ok(value) => Some(value),
        Err(ClientError::Fs(FsError::NoAttribute)) => None,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_list_is_not_asked_about() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let (inode, handle) = create(&b, "file").await;
    b.release(handle);
    a.lookup(caller(), InodeId::ROOT, name("file")).await.unwrap();
    let questions = cluster.questions();
    assert_eq!(access_list(&a, inode).await, None);
    assert!(not_found_attribute(a.xattr(caller(), inode, Bytes::from_static(b"security.capability")).await));
    assert_eq!(a.xattr_names(caller(), inode, true).await.unwrap(), Bytes::new());
    assert_eq!(cluster.questions(), questions, "its attributes tell that there is none");
    set_acl(&b, inode, Some(list([7, 6, 0, 5, 1]))).await;
    assert_eq!(access_list(&a, inode).await, Some(list([7, 6, 0, 5, 1])));
    let questions = cluster.questions();
    assert_eq!(access_list(&a, inode).await, Some(list([7, 6, 0, 5, 1])));
    assert_eq!(cluster.questions(), questions, "remembered under the lease");
    assert_eq!(access_list(&b, inode).await, Some(list([7, 6, 0, 5, 1])));
    set_acl(&b, inode, None).await;
    assert_eq!((access_list(&a, inode).await, access_list(&b, inode).await), (None, None));
}

fn not_found_attribute<T>(result: Result<T, ClientError>) -> bool {
    matches!(result, Err(ClientError::Fs(FsError::NoAttribute)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_the_kernel_keeps_is_forgotten_however_late_it_changes() {
    let cluster = Arc::new(FakeCluster::default());
    let (a, b) = (mount(&cluster).await.filesystem, mount(&cluster).await.filesystem);
    let kernel = Arc::new(FakeKernel::default());
    a.set_kernel(kernel.clone());
    let take = || std::mem::take(&mut *kernel.0.lock());
    let (inode, handle) = create(&b, "file").await;
    b.release(handle);
    assert!(!a.tell_acl(inode, ACCESS, None), "no lease: nobody would make it forget");
    a.lookup(caller(), InodeId::ROOT, name("file")).await.unwrap();
    assert!(a.tell_acl(inode, ACCESS, None));
    assert!(!a.tell_acl(inode, ACCESS, Some(&list([7, 6, 0, 5, 1]))), "an answer of before");
    set_acl(&b, inode, Some(list([7, 6, 0, 5, 1]))).await;
    assert_eq!(take(), [("acls", inode)], "also without a word about attributes");
    assert!(!a.tell_acl(inode, ACCESS, None), "recalled");
    let value = access_list(&a, inode).await;
    a.attributes(RequestId::random(), inode).await.unwrap();
    assert!(a.tell_acl(inode, ACCESS, value.as_ref()));
    // What this mount does itself changes the list, too; from before it is sent until it is answered the kernel
    // must ask.
    chmod(&a, inode, 0o640).await;
    assert_eq!(take(), [("attributes", inode)]);
    assert!(a.tell_acl(inode, ACCESS, access_list(&a, inode).await.as_ref()));
    assert!(a.kernel_forgot(inode), "it may have looked the file up again");
    assert!(!a.kernel_forgot(inode));
    set_acl(&b, inode, None).await;
    assert_eq!(take(), [], "the kernel had none");
    a.attributes(RequestId::random(), inode).await.unwrap();
    assert!(a.tell_acl(inode, ACCESS, None));
    cluster.change_leader();
    until("the kernel forgets", || take() == [("acls", inode)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn setgid_stays_for_members_of_the_group() {
    let cluster = Arc::new(FakeCluster::default());
    let a = mount(&cluster).await.filesystem;
    let (inode, handle) = create(&a, "file").await;
    a.release(handle);
    cluster.state.lock().node(inode).unwrap().attributes.gid = 7;
    let member = Caller { gid: 7, ..caller() };
    let groups =
        |supplementary: &[u32], keeps_setgid| CallerGroups { supplementary: supplementary.into(), keeps_setgid };
    let cases = [
        (caller(), groups(&[], false), 0),
        (caller(), groups(&[6, 7], false), 0o2000),
        (caller(), groups(&[6], true), 0o2000),
        (member, groups(&[], false), 0o2000),
    ];
    for (caller, groups, setgid) in cases {
        chmod(&a, inode, 0o2755).await;
        a.set_acl(caller, inode, AclKind::Access, Some(list([7, 6, 0, 5, 1])), &groups).await.unwrap();
        let mode = a.attributes(RequestId::random(), inode).await.unwrap().mode;
        assert_eq!(mode, 0o751 | setgid, "{groups:?}");
    }
}
