//! Gives registrations back that nobody uses, many in one change, a while after their last use, so that
//! reopening is free; one for writing not before its bytes are flushed, and the exclusive lease goes
//! with it. Also gives back shared leases that the cache has no room for, and tells when files were read.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::limits::MAX_LEASES_PER_MESSAGE;
use cairn_common::protocol::metadata::{Mutation, OpenMode};
use tokio::sync::OwnedMutexGuard;

use super::file_state::FileState;
use crate::filesystem::Filesystem;

/// How often idle registrations are looked at.
const TICK: Duration = Duration::from_millis(25);
/// Most registrations in one change.
const BATCH: usize = 1024;

type Candidate = (Arc<FileState>, OpenMode, OwnedMutexGuard<()>);

/// Runs until the file system is gone.
pub async fn run(filesystem: std::sync::Weak<Filesystem>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(filesystem) = filesystem.upgrade() else { return };
        release_idle(&filesystem, false).await;
        return_surplus(&filesystem);
        filesystem.tell_accesses(filesystem.settings.access_time_delay).await;
    }
}

/// Releases what is idle for long enough, or (`all`) whatever is idle.
pub async fn release_idle(filesystem: &Filesystem, all: bool) {
    let settings = &filesystem.settings;
    let idle = filesystem.files.take_idle();
    if idle.is_empty() {
        return;
    }
    let crowded = idle.len() > settings.idle_registrations_max;
    let (mut batch, mut later): (Vec<Candidate>, Vec<_>) = (Vec::new(), Vec::new());
    for (file, mode) in idle {
        let delay = match mode {
            OpenMode::Read => settings.read_release_delay,
            OpenMode::Write => settings.write_release_delay,
        };
        let (used, registered, idle_for, dirty) = {
            let mut inner = file.lock();
            let dirty = !inner.is_clean();
            let registration = inner.registration(mode);
            registration.queued = false;
            let idle_for = registration.idle_since.map_or(Duration::ZERO, |since| since.elapsed());
            (registration.pins > 0, registration.registered, idle_for, dirty)
        };
        if used {
            // Its next last user puts it here again.
            continue;
        }
        if !registered {
            filesystem.files.forget_if_idle(&file);
            continue;
        }
        let due = all || crowded || idle_for >= delay;
        let must_wait = mode == OpenMode::Write && dirty;
        match file.registering.clone().try_lock_owned() {
            Ok(guard) if due && !must_wait && batch.len() < BATCH => batch.push((file, mode, guard)),
            _ => later.push((file, mode)),
        }
    }
    for (file, mode) in &later {
        file.lock().registration(*mode).queued = true;
    }
    filesystem.files.put_back_idle(later);
    let kernel = filesystem.kernel();
    // Somebody may have begun to use a file before its lock was taken.
    batch.retain(|(file, mode, _)| {
        let mut inner = file.lock();
        let clean = *mode == OpenMode::Read || inner.is_clean();
        let registration = inner.registration(*mode);
        let released = clean && registration.pins == 0 && registration.registered;
        if released && *mode == OpenMode::Write {
            // Readers that have it open have pages under it.
            if inner.exclusive.is_held() && inner.registration(OpenMode::Read).pins > 0 {
                kernel.uncovered(file.inode);
            }
            inner.exclusive.leave();
        }
        released
    });
    if !batch.is_empty() {
        release(filesystem, batch).await;
    }
}

async fn release(filesystem: &Filesystem, mut batch: Vec<Candidate>) {
    batch.sort_by_key(|(file, mode, _)| (file.inode, *mode));
    batch.dedup_by_key(|(file, mode, _)| (file.inode, *mode));
    let opens: Vec<(InodeId, OpenMode)> = batch.iter().map(|(file, mode, _)| (file.inode, *mode)).collect();
    let count = opens.len();
    let released = filesystem.submit(RequestId::random(), Mutation::Release { opens }).await;
    match released {
        Ok(_) | Err(ClientError::SessionFenced { .. }) => {}
        Err(error) => tracing::error!(%error, count, "registrations could not be released"),
    }
    for (file, mode, guard) in batch {
        {
            let mut inner = file.lock();
            inner.registration(mode).registered = false;
            if mode == OpenMode::Write {
                filesystem.leases.lock().gave_up(file.inode);
                inner.exclusive.ended();
                inner.no_capability = false;
                inner.capability_generation += 1;
            }
        }
        file.exclusive_ended.notify_waiters();
        drop(guard);
        filesystem.files.forget_if_idle(&file);
    }
}

/// Gives shared leases back, in the background. After an error nothing is remembered about these
/// inodes any more under this generation: the leader may still take their leases.
fn return_surplus(filesystem: &Arc<Filesystem>) {
    let believed = filesystem.leases.lock().surplus_acls(MAX_LEASES_PER_MESSAGE);
    if !believed.is_empty() {
        let kernel = filesystem.kernel();
        believed.into_iter().for_each(|inode| kernel.acls(inode));
    }
    let (generation, inodes) = {
        let mut cache = filesystem.leases.lock();
        let time = filesystem.leases.time();
        (time.generation, cache.take_surplus(MAX_LEASES_PER_MESSAGE, time.now))
    };
    if inodes.is_empty() {
        return;
    }
    let filesystem = filesystem.clone();
    tokio::spawn(async move {
        match filesystem.backend.return_leases(RequestId::random(), generation, inodes.clone()).await {
            Ok(()) => filesystem.leases.lock().returned(&inodes),
            Err(error) => tracing::debug!(%error, count = inodes.len(), "leases could not be given back"),
        }
    });
}
