//! Locks of files: flock(2) and fcntl(2). The cluster decides and this mount believes nothing by itself;
//! it only knows what it was given, to be able to give it back. Who waits has a place in the leader's
//! queue and asks again when it is its turn.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::FsError;
use cairn_common::protocol::locks::{HeldLock, LockKind, LockOwner, LockRange, LockRequest, LockWait};
use cairn_common::protocol::metadata::{Mutation, MutationResult, Query, QueryResult};
use tokio::sync::oneshot;

use super::Filesystem;
use crate::backend::unexpected;
use crate::lock_book::Using;

/// One poll of the leader's queue. Below the time of an attempt, so that a dead leader is noticed.
const POLL: Duration = Duration::from_millis(1000);

/// What has become of a lock that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// The caller has it.
    Granted,
    /// The caller was interrupted, and has not got it.
    Interrupted,
}

impl Filesystem {
    /// Locks a range through an open file. `Locked` if another's lock is in the way.
    pub async fn lock(self: &Arc<Self>, request: RequestId, handle: u64, lock: LockRequest) -> Result<(), ClientError> {
        if self.try_lock(request, handle, lock, 0).await? { Ok(()) } else { Err(FsError::Locked.into()) }
    }

    /// The same, and waits for as long as it takes, but not when `interrupted` is ready. Fails if no leader
    /// answers for as long as a call takes.
    pub async fn lock_waiting(
        self: &Arc<Self>,
        request: RequestId,
        handle: u64,
        lock: LockRequest,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Locked, ClientError> {
        let ticket = self.locks.ticket();
        if self.try_lock_bounded(request, handle, lock, ticket).await? {
            return Ok(Locked::Granted);
        }
        let result = self.wait_in_queue(request, handle, lock, ticket, interrupted).await;
        if !matches!(result, Ok(Locked::Granted)) {
            let backend = self.backend.clone();
            self.runtime.spawn(async move {
                if let Err(error) = backend.leave_lock_queue(request, ticket).await {
                    tracing::debug!(%request, %error, "a wait for a lock was not given up; it ends by itself");
                }
            });
        }
        result
    }

    async fn wait_in_queue(
        self: &Arc<Self>,
        request: RequestId,
        handle: u64,
        lock: LockRequest,
        ticket: u64,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Locked, ClientError> {
        tokio::pin!(interrupted);
        loop {
            let turn = tokio::select! {
                turn = self.backend.await_lock(request, ticket, lock, POLL) => turn?,
                () = &mut interrupted => return Ok(Locked::Interrupted),
            };
            match turn {
                LockWait::Busy => {}
                // From here to the answer nobody is interrupted: it is short, and definite.
                LockWait::Free => {
                    if self.try_lock_bounded(request, handle, lock, ticket).await? {
                        return Ok(Locked::Granted);
                    }
                }
                LockWait::Deadlock => return Err(FsError::Deadlock.into()),
                LockWait::TooMany => return Err(FsError::NoLocks.into()),
            }
        }
    }

    async fn try_lock_bounded(
        self: &Arc<Self>,
        request: RequestId,
        handle: u64,
        lock: LockRequest,
        ticket: u64,
    ) -> Result<bool, ClientError> {
        let waited = self.settings.call_timeout;
        match tokio::time::timeout(waited, self.try_lock(request, handle, lock, ticket)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { what: "lock", waited, tried: "the metadata leader".into() }),
        }
    }

    /// Asks the cluster once. If nobody waits for the answer any more the lock is given back.
    async fn try_lock(
        self: &Arc<Self>,
        request: RequestId,
        handle: u64,
        lock: LockRequest,
        ticket: u64,
    ) -> Result<bool, ClientError> {
        let owned = self.locks.enter(lock.inode, lock.owner);
        let changing = owned.changing().lock_owned().await;
        let (answer_to, answer) = oneshot::channel();
        let filesystem = self.clone();
        self.runtime.spawn(async move {
            let set = Mutation::SetLock { lock, ticket, behind: false };
            let result = match filesystem.submit(request, set).await {
                Ok(MutationResult::Done) => {
                    owned.given(&lock, handle);
                    Ok(true)
                }
                Ok(MutationResult::LockRefused) => {
                    if lock.owner.kind == LockKind::Flock {
                        owned.gone(LockRange::WHOLE);
                    }
                    Ok(false)
                }
                Ok(_) => Err(unexpected("a lock")),
                Err(error) => Err(error),
            };
            let given = matches!(result, Ok(true));
            if answer_to.send(result).is_err() && given {
                tracing::warn!(%request, inode = %lock.inode, "a lock came too late and is given back");
                if let Err(error) = filesystem.give_back(request, &owned, &lock).await {
                    tracing::error!(%request, %error, "a lock could not be given back");
                }
            }
            drop(changing);
        });
        answer.await.map_err(|_| unexpected("a lock"))?
    }

    async fn give_back(&self, request: RequestId, owned: &Using, lock: &LockRequest) -> Result<(), ClientError> {
        let (inode, owners, range) = (lock.inode, vec![lock.owner], lock.range);
        let result = self.submit(request, Mutation::Unlock { inode, owners, range }).await;
        owned.gone(range);
        result.map(|_| ())
    }

    /// Unlocks a range. Costs nothing if the owner holds none of it. Goes on if the future is dropped.
    pub async fn unlock(
        self: &Arc<Self>,
        request: RequestId,
        inode: InodeId,
        owner: LockOwner,
        range: LockRange,
    ) -> Result<(), ClientError> {
        let Some(owned) = self.locks.find(inode, owner) else { return Ok(()) };
        let (answer_to, answer) = oneshot::channel();
        let filesystem = self.clone();
        self.runtime.spawn(async move {
            let changing = owned.changing().lock_owned().await;
            let mut result = Ok(());
            if owned.holds_any(range) {
                let unlock = Mutation::Unlock { inode, owners: vec![owner], range };
                result = filesystem.submit(request, unlock).await.map(|_| ());
                // After an error the session is over, and its locks are.
                owned.gone(range);
            }
            drop(changing);
            // Nobody may wait any more.
            let _ = answer_to.send(result);
        });
        answer.await.map_err(|_| unexpected("an unlock"))?
    }

    /// The lock that is in the way of one, and whether a program of this mount holds it.
    pub async fn lock_in_the_way(
        &self,
        request: RequestId,
        lock: LockRequest,
    ) -> Result<Option<(HeldLock, bool)>, ClientError> {
        let session = self.backend.session();
        match self.ask(request, Query::LockInTheWay { session, lock }).await? {
            QueryResult::Lock(held) => Ok(held.map(|held| (held, held.session == session))),
            _ => Err(unexpected("a question for a lock")),
        }
    }

    /// Whether a program of this mount has a lock on the file, or is asking for one.
    pub fn concerns_locks(&self, inode: InodeId) -> bool {
        self.locks.concerns(inode)
    }

    /// Whether a process has, or is asking for, locks that go when it closes the file.
    pub fn closes_locks(&self, inode: InodeId, process: u64) -> bool {
        self.locks.has(inode, LockOwner { kind: LockKind::Posix, id: process })
    }

    /// Whether somebody has to begin to look at a process that was given a lock through an open file: the
    /// kernel does not tell of its closes (see `FileHandle::tells_closes`), and nobody looks at it yet.
    pub fn begin_watch(&self, inode: InodeId, handle: u64, owner: LockOwner) -> bool {
        owner.kind == LockKind::Posix
            && self.handles.get(handle).is_ok_and(|handle| !handle.tells_closes)
            && self.locks.begin_watch(inode, owner)
    }

    /// Whether to go on looking, because the process still has locks.
    pub fn goes_on_watching(&self, inode: InodeId, owner: LockOwner) -> bool {
        self.locks.goes_on_watching(inode, owner)
    }

    /// A process has closed a descriptor of the file: its POSIX locks go, through whichever descriptor they
    /// were taken.
    pub async fn close_locks(self: &Arc<Self>, request: RequestId, inode: InodeId, process: u64) {
        let owner = LockOwner { kind: LockKind::Posix, id: process };
        if let Err(error) = self.unlock(request, inode, owner, LockRange::WHOLE).await {
            tracing::warn!(%request, %inode, %error, "locks did not go with a close");
        }
    }

    /// An open file is gone, and the locks that belong to it go.
    pub(super) fn release_locks(self: &Arc<Self>, inode: InodeId, handle: u64) {
        for owner in self.locks.handle_is_gone(inode, handle) {
            let filesystem = self.clone();
            self.runtime.spawn(async move {
                let request = RequestId::random();
                if let Err(error) = filesystem.unlock(request, inode, owner, LockRange::WHOLE).await {
                    tracing::warn!(%request, %inode, %error, "locks did not go with their open file");
                }
            });
        }
    }
}
