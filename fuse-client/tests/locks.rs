//! Locks in the core, on a cluster in memory: what is sent, what is given back, and what is not believed.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::FsError;
use cairn_common::protocol::locks::{LockKind, LockOwner, LockRange, LockRequest};
use cairn_mount::filesystem::Filesystem;
use cairn_mount::filesystem::locks::Locked;
use support::{FakeCluster, Mount, create, mount, until};

const PROCESS: u64 = 11;

fn lock(inode: InodeId, owner: LockOwner, start: u64, end: u64) -> LockRequest {
    LockRequest { inode, owner, range: LockRange { start, end }, write: true, pid: 1 }
}

fn process(id: u64) -> LockOwner {
    LockOwner { kind: LockKind::Posix, id }
}

fn request() -> RequestId {
    RequestId::random()
}

fn held(cluster: &FakeCluster, inode: InodeId) -> usize {
    cluster.state.lock().locks.held(inode).len()
}

/// Changes of locks that were sent so far.
fn sent(cluster: &FakeCluster) -> u32 {
    cluster.state.lock().locks.changes
}

async fn two_mounts() -> (Arc<FakeCluster>, Mount, Mount, InodeId, u64) {
    let cluster = Arc::new(FakeCluster::default());
    let (one, two) = (mount(&cluster).await, mount(&cluster).await);
    let (inode, handle) = create(&one.filesystem, "f").await;
    (cluster, one, two, inode, handle)
}

async fn take(filesystem: &Arc<Filesystem>, handle: u64, lock: LockRequest) {
    filesystem.lock(request(), handle, lock).await.expect("nobody else has it");
}

#[tokio::test]
async fn what_is_not_held_costs_nothing() {
    let (cluster, one, _, inode, handle) = two_mounts().await;
    let filesystem = &one.filesystem;
    filesystem.close_locks(request(), inode, PROCESS).await;
    filesystem.unlock(request(), inode, process(PROCESS), LockRange::WHOLE).await.unwrap();
    assert_eq!(sent(&cluster), 0);
    take(filesystem, handle, lock(inode, process(PROCESS), 0, 9)).await;
    assert!(filesystem.closes_locks(inode, PROCESS) && !filesystem.closes_locks(inode, PROCESS + 1));
    filesystem.unlock(request(), inode, process(PROCESS), LockRange { start: 10, end: 99 }).await.unwrap();
    filesystem.close_locks(request(), inode, PROCESS + 1).await;
    assert_eq!((sent(&cluster), held(&cluster, inode)), (1, 1));
    filesystem.close_locks(request(), inode, PROCESS).await;
    assert_eq!((sent(&cluster), held(&cluster, inode)), (2, 0));
    assert!(!filesystem.concerns_locks(inode));
}

#[tokio::test]
async fn an_open_file_takes_its_own_locks_along() {
    let (cluster, one, _, inode, handle) = two_mounts().await;
    let (_, other) = create(&one.filesystem, "f").await;
    for (kind, id, at) in [(LockKind::Flock, handle, 0), (LockKind::Ofd, handle, 10), (LockKind::Ofd, other, 20)] {
        let through = id;
        take(&one.filesystem, through, lock(inode, LockOwner { kind, id }, at, at + 9)).await;
    }
    assert_eq!(held(&cluster, inode), 3);
    one.filesystem.release(handle);
    until("they are gone", || held(&cluster, inode) == 1).await;
    one.filesystem.release(other);
    until("all are gone", || held(&cluster, inode) == 0).await;
}

/// A program was told ETIMEDOUT and believes that it has not got the lock.
#[tokio::test]
async fn a_lock_that_comes_too_late_is_given_back() {
    let (cluster, one, two, inode, handle) = two_mounts().await;
    cluster.cut_off(one.session, true);
    let asked = one.filesystem.lock(request(), handle, lock(inode, process(PROCESS), 0, 9));
    let answer = tokio::time::timeout(Duration::from_millis(100), asked).await;
    assert!(answer.is_err(), "the cluster cannot be reached");
    cluster.cut_off(one.session, false);
    until("it was carried out", || sent(&cluster) == 2).await;
    assert_eq!(held(&cluster, inode), 0);
    until("nothing is remembered", || !one.filesystem.concerns_locks(inode)).await;
    take(&two.filesystem, 0, lock(inode, process(PROCESS), 0, 9)).await;
}

#[tokio::test]
async fn a_wait_ends_with_the_lock_or_by_an_interruption() {
    let (_, one, two, inode, handle) = two_mounts().await;
    let wanted = lock(inode, process(PROCESS), 0, 9);
    take(&one.filesystem, handle, wanted).await;
    let refused = two.filesystem.lock(request(), 0, wanted).await;
    assert_eq!(refused, Err(ClientError::Fs(FsError::Locked)));
    let soon = tokio::time::sleep(Duration::from_millis(30));
    assert_eq!(two.filesystem.lock_waiting(request(), 0, wanted, soon).await, Ok(Locked::Interrupted));
    assert!(!two.filesystem.concerns_locks(inode), "it has nothing to give back");
    let never = std::future::pending();
    let unlock = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        one.filesystem.unlock(request(), inode, process(PROCESS), LockRange::WHOLE).await.unwrap();
    };
    let (waited, ()) = tokio::join!(two.filesystem.lock_waiting(request(), 0, wanted, never), unlock);
    assert_eq!(waited, Ok(Locked::Granted));
    assert!(two.filesystem.concerns_locks(inode));
}

/// Another mount may have the lock by then: nothing is pretended.
#[tokio::test]
async fn a_mount_that_lost_its_session_fails_every_call_about_locks() {
    let (cluster, one, _, inode, handle) = two_mounts().await;
    let wanted = lock(inode, process(PROCESS), 0, 9);
    take(&one.filesystem, handle, wanted).await;
    cluster.end(one.session);
    let filesystem = &one.filesystem;
    let fenced = |error: ClientError| assert!(matches!(error, ClientError::SessionFenced { .. }), "{error}");
    fenced(filesystem.lock(request(), handle, wanted).await.unwrap_err());
    fenced(filesystem.lock_in_the_way(request(), wanted).await.unwrap_err());
    let never = std::future::pending();
    fenced(filesystem.lock_waiting(request(), handle, wanted, never).await.unwrap_err());
    fenced(filesystem.unlock(request(), inode, process(PROCESS), LockRange::WHOLE).await.unwrap_err());
    filesystem.close_locks(request(), inode, PROCESS).await;
    assert!(!filesystem.concerns_locks(inode), "what is lost is forgotten");
}
