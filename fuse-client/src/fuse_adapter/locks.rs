//! Requests for locks: whose they are, and waiting for them until the caller is interrupted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::locks::{LockKind, LockOwner, LockRange, LockRequest};
use fuser::{Errno, ReplyEmpty, ReplyLock};

use super::FuseAdapter;
use super::caller_task::{CallerTask, LockCall};
use super::dispatch::finish;
use super::replies::reply_empty;
use crate::filesystem::Filesystem;
use crate::filesystem::locks::Locked;

/// How often a process is looked at whose closes are not told.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A request for a lock, or about one.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskedLock {
    pub(super) task: CallerTask,
    pub(super) inode: InodeId,
    pub(super) handle: u64,
    /// The kernel's name for the owner: a process for POSIX locks, an open file for others.
    pub(super) kernel_owner: u64,
    pub(super) range: LockRange,
    /// The process.
    pub(super) pid: u32,
}

impl AskedLock {
    /// Whose the lock is. The kernel's names for open files are used again at once when one is gone, and
    /// its end is told late: the number of the handle never is.
    fn owner(&self, call: LockCall) -> LockOwner {
        let of_handle = |kind| LockOwner { kind, id: self.handle };
        match call {
            LockCall::Flock => of_handle(LockKind::Flock),
            LockCall::Ofd => of_handle(LockKind::Ofd),
            // flock has the whole file, always.
            LockCall::Unseen if self.range == LockRange::WHOLE => of_handle(LockKind::Unseen),
            LockCall::Posix | LockCall::Unseen => LockOwner { kind: LockKind::Posix, id: self.kernel_owner },
        }
    }

    /// Whose locks an unlock is about.
    fn owners(&self, call: LockCall) -> Vec<LockOwner> {
        match call {
            LockCall::Unseen => {
                let calls = [LockCall::Flock, LockCall::Ofd, LockCall::Posix, LockCall::Unseen];
                calls.into_iter().map(|call| self.owner(call)).collect()
            }
            call => vec![self.owner(call)],
        }
    }

    fn lock(&self, call: LockCall, write: bool) -> LockRequest {
        LockRequest { inode: self.inode, owner: self.owner(call), range: self.range, write, pid: self.pid }
    }
}

/// The kernel does not tell of closes of what was opened for reading before there were locks: POSIX locks
/// that were taken through it go at its last close, and when their process is seen to be gone, for a
/// child may have it open for longer.
fn watch(filesystem: &Arc<Filesystem>, asked: AskedLock, owner: LockOwner) {
    if !filesystem.begin_watch(asked.inode, asked.handle, owner) {
        return;
    }
    let filesystem = filesystem.clone();
    tokio::spawn(async move {
        let process = CallerTask::of(asked.pid);
        while filesystem.goes_on_watching(asked.inode, owner) {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if process.is_gone().await {
                filesystem.close_locks(RequestId::random(), asked.inode, owner.id).await;
            }
        }
    });
}

impl FuseAdapter {
    /// F_SETLK, F_SETLKW, flock: `kind` is F_RDLCK, F_WRLCK or F_UNLCK.
    pub(super) fn set_lock(&self, asked: AskedLock, kind: i32, wait: bool, reply: ReplyEmpty) {
        let write = match kind {
            libc::F_RDLCK => false,
            libc::F_WRLCK => true,
            libc::F_UNLCK => return self.unlock(asked, reply),
            _ => return reply.error(Errno::EINVAL),
        };
        if wait {
            return self.lock_waiting(asked, write, reply);
        }
        let (filesystem, request) = (self.filesystem.clone(), RequestId::random());
        let work = async move {
            let lock = asked.lock(asked.task.lock_call().await, write);
            filesystem.lock(request, asked.handle, lock).await?;
            watch(&filesystem, asked, lock.owner);
            Ok(())
        };
        self.run_apart("setlk", request, work, |result| reply_empty(reply, result));
    }

    fn unlock(&self, asked: AskedLock, reply: ReplyEmpty) {
        if !self.filesystem.concerns_locks(asked.inode) {
            return reply.ok();
        }
        let (filesystem, request) = (self.filesystem.clone(), RequestId::random());
        let work = async move {
            for owner in asked.owners(asked.task.lock_call().await) {
                filesystem.unlock(request, asked.inode, owner, asked.range).await?;
            }
            Ok(())
        };
        self.run_apart("setlk", request, work, |result| reply_empty(reply, result));
    }

    /// Not bounded while somebody can end it: the caller by a signal. Whoever cannot be seen is bounded as
    /// every other request is, or it could never be killed.
    fn lock_waiting(&self, asked: AskedLock, write: bool, reply: ReplyEmpty) {
        let (filesystem, request) = (self.filesystem.clone(), RequestId::random());
        let (begun, bound) = (Instant::now(), self.bound);
        self.runtime.spawn(async move {
            let lock = asked.lock(asked.task.lock_call().await, write);
            let is_visible = asked.task.is_visible();
            let waiting = filesystem.lock_waiting(request, asked.handle, lock, asked.task.interrupted());
            let result = if is_visible {
                waiting.await
            } else {
                tokio::time::timeout(bound, waiting).await.unwrap_or_else(|_| {
                    let tried = "the caller of a lock cannot be seen".to_owned();
                    Err(ClientError::TimedOut { what: "lock", waited: bound, tried })
                })
            };
            match finish("setlkw", request, begun, result) {
                Ok(Locked::Granted) => {
                    watch(&filesystem, asked, lock.owner);
                    reply.ok();
                }
                Ok(Locked::Interrupted) => reply.error(Errno::EINTR),
                Err(errno) => reply.error(errno),
            }
        });
    }

    /// F_GETLK: what is in the way, with its process if that is on this mount, else with 0.
    pub(super) fn get_lock(&self, asked: AskedLock, kind: i32, reply: ReplyLock) {
        let (filesystem, request) = (self.filesystem.clone(), RequestId::random());
        let work = async move {
            let lock = asked.lock(asked.task.lock_call().await, kind == libc::F_WRLCK);
            filesystem.lock_in_the_way(request, lock).await
        };
        self.run_apart("getlk", request, work, move |result| match result {
            Ok(None) => reply.locked(asked.range.start, asked.range.end, libc::F_UNLCK, 0),
            Ok(Some((held, is_ours))) => {
                let kind = if held.write { libc::F_WRLCK } else { libc::F_RDLCK };
                reply.locked(held.range.start, held.range.end, kind, if is_ours { held.pid } else { 0 });
            }
            Err(errno) => reply.error(errno),
        });
    }
}
