//! Writes and the write reserve: what is acknowledged before it is committed is within the grant and finds room
//! on full disks; what is not is refused before it changes anything.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::RequestId;
use cairn_mount::filesystem::Filesystem;
use support::{FakeCluster, append, caller, create, mount, sync, until, write};

async fn try_write(filesystem: &Arc<Filesystem>, handle: u64, offset: u64, data: &[u8]) -> Result<u32, ClientError> {
    let handle = filesystem.handle(handle).unwrap();
    filesystem.write(RequestId::random(), &handle, offset, Bytes::copy_from_slice(data)).await
}

fn is_full(result: &Result<u32, ClientError>) -> bool {
    matches!(result, Err(ClientError::NoSpace { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_changes_nothing() {
    let cluster = Arc::new(FakeCluster::default());
    cluster.granted.store(0, Ordering::SeqCst);
    let filesystem = mount(&cluster).await.filesystem;
    let (inode, handle) = create(&filesystem, "full").await;
    let contents = vec![1; 10_000];
    write(&filesystem, handle, 0, &contents).await;
    assert_eq!((filesystem.dirty_bytes(), cluster.contents(inode)), (0, contents.clone()), "committed when it returns");
    cluster.disks_are_full.store(true, Ordering::SeqCst);
    let before = filesystem.attributes(RequestId::random(), inode).await.unwrap();
    let appending = filesystem.open(caller(), inode, append()).await.unwrap();
    assert!(is_full(&try_write(&filesystem, handle, 5000, &[2; 10_000]).await));
    assert!(is_full(&try_write(&filesystem, handle, 100, &[2; 10]).await));
    assert!(is_full(&try_write(&filesystem, appending, 0, &[2; 10_000]).await));
    assert_eq!(filesystem.attributes(RequestId::random(), inode).await.unwrap(), before);
    assert_eq!(cluster.contents(inode), contents);
    assert_eq!(cluster.reserve_bytes.load(Ordering::SeqCst), 0);
    sync(&filesystem, handle).await.expect("nothing is pending and nothing was lost");
    // What goes into the metadata needs no disk.
    let (small, handle) = create(&filesystem, "small").await;
    write(&filesystem, handle, 0, b"inline").await;
    assert_eq!(cluster.contents(small), b"inline");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_takes_from_the_reserve_and_ends_buffering() {
    let cluster = Arc::new(FakeCluster::default());
    let filesystem = mount(&cluster).await.filesystem;
    let (inode, handle) = create(&filesystem, "buffered").await;
    let (other, second) = create(&filesystem, "other").await;
    write(&filesystem, handle, 0, &[1; 300_000]).await;
    write(&filesystem, second, 0, &[2; 5000]).await;
    assert_eq!(filesystem.dirty_bytes(), 305_000);
    cluster.disks_are_full.store(true, Ordering::SeqCst);
    sync(&filesystem, handle).await.expect("the reserve has room");
    assert_eq!(cluster.contents(inode), vec![1; 300_000]);
    assert!(is_full(&try_write(&filesystem, handle, 0, &[3; 10_000]).await), "nothing is buffered any more");
    sync(&filesystem, second).await.expect("this, too, was acknowledged");
    assert_eq!(cluster.contents(other), vec![2; 5000]);
    assert_eq!(cluster.reserve_bytes.load(Ordering::SeqCst), 305_000);
    // There is room again, and for a while the mount does not believe it.
    cluster.disks_are_full.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(600)).await;
    write(&filesystem, handle, 0, &[4; 10_000]).await;
    assert_eq!(filesystem.dirty_bytes(), 0);
    assert_eq!(cluster.contents(inode)[..10_000], [4; 10_000]);
    until("writes are buffered again", || filesystem.granted_bytes() > 0).await;
    write(&filesystem, handle, 0, &[5; 10_000]).await;
    assert_eq!(filesystem.dirty_bytes(), 10_000);
    assert_eq!(filesystem.shut_down().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_buffered_than_granted() {
    let cluster = Arc::new(FakeCluster::default());
    cluster.granted.store(100_000, Ordering::SeqCst);
    let filesystem = mount(&cluster).await.filesystem;
    let (inode, handle) = create(&filesystem, "little").await;
    let mut expected = Vec::new();
    for n in 0..40u8 {
        write(&filesystem, handle, expected.len() as u64, &[n; 20_000]).await;
        expected.extend([n; 20_000]);
        assert!(filesystem.dirty_bytes() <= 100_000);
    }
    write(&filesystem, handle, 0, &[99; 200_000]).await;
    expected[..200_000].fill(99);
    assert_eq!(filesystem.dirty_bytes(), 0, "it never fits: behind the others, and committed");
    assert_eq!(cluster.contents(inode), expected);
}

/// Bytes on their way that newer ones have replaced need room all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_again_is_charged_until_it_is_stored() {
    let cluster = Arc::new(FakeCluster::default());
    cluster.granted.store(100_000, Ordering::SeqCst);
    let filesystem = mount(&cluster).await.filesystem;
    let (inode, handle) = create(&filesystem, "again").await;
    let late = cluster.commits.lock().await;
    write(&filesystem, handle, 0, &[1; 60_000]).await;
    let gave_up = tokio::time::timeout(Duration::from_millis(100), sync(&filesystem, handle)).await;
    assert!(gave_up.is_err(), "the commit has no answer yet");
    let again = tokio::time::timeout(Duration::from_millis(100), try_write(&filesystem, handle, 0, &[2; 60_000])).await;
    assert!(again.is_err(), "there is no room for both");
    drop(late);
    write(&filesystem, handle, 0, &[3; 60_000]).await;
    sync(&filesystem, handle).await.unwrap();
    assert_eq!(cluster.contents(inode), vec![3; 60_000]);
}
