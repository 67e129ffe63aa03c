//! The caches of this mount's kernel, as the core needs them: what to tell it, how often, and when it
//! has surely heard. What the notifier cannot promise alone is made up for here.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use cairn_common::ids::InodeId;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::listings::Listings;
use super::notifier::{Notifier, Told};
use crate::kernel_caches::KernelCaches;

/// Pages that a WRITE may have left without a lease fall so much later: see [`Kernel::drop_unleased_after_write`].
const AFTER_WRITE: Duration = Duration::from_millis(10);

/// No answer gives the kernel longer than this: after it, it has forgotten by itself.
pub(super) const LONGEST_TTL: Duration = Duration::from_secs(1);
/// When an inode is not known to the kernel it is told again after these pauses: an answer that was on
/// its way, and would be believed, has been read by then.
const AGAIN_AFTER: [Duration; 3] = [Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(15)];

/// The kernel's side of a mount.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// None until it is mounted.
    notifier: OnceLock<Arc<Notifier>>,
    pub(super) listings: Listings,
    /// Files of which it may have pages that no lease covers, each with a number that no READ of
    /// before has.
    unleased: Mutex<HashMap<InodeId, u64>>,
    reads: AtomicU64,
    /// Files that have WRITEs which wait for the cluster, and how many.
    writes: Arc<Mutex<HashMap<InodeId, u32>>>,
}

/// A WRITE that waits for the cluster, until it is dropped.
#[derive(Debug)]
pub(super) struct WaitingWrite {
    writes: Arc<Mutex<HashMap<InodeId, u32>>>,
    inode: InodeId,
}

impl Drop for WaitingWrite {
    fn drop(&mut self) {
        let mut writes = self.writes.lock();
        if let Some(count) = writes.get_mut(&self.inode) {
            *count -= 1;
            if *count == 0 {
                writes.remove(&self.inode);
            }
        }
    }
}

impl Kernel {
    /// From here on answers may be believed.
    pub(super) fn mounted(&self, notifier: Notifier) {
        let first = self.notifier.set(Arc::new(notifier));
        debug_assert!(first.is_ok(), "mounted once");
    }

    /// Whether it may be told attributes for longer than a moment.
    pub(super) fn may_believe_attributes(&self) -> bool {
        self.notifier.get().is_some()
    }

    /// Whether it may be told names for longer than a moment.
    pub(super) fn may_believe_names(&self) -> bool {
        self.notifier.get().is_some_and(|notifier| notifier.has_epochs())
    }

    /// How long it may believe attributes, of what leases allow. To be asked after those: READs that come
    /// from there on come under the lease.
    pub(super) fn attribute_ttl(&self, inode: InodeId, ttl: Duration) -> Duration {
        let may_believe = !ttl.is_zero() && self.may_believe_attributes() && !self.has_unleased(inode);
        if may_believe { ttl.min(LONGEST_TTL) } else { Duration::ZERO }
    }

    /// The same for names.
    pub(super) fn name_ttl(&self, ttl: Duration) -> Duration {
        if !ttl.is_zero() && self.may_believe_names() { ttl.min(LONGEST_TTL) } else { Duration::ZERO }
    }

    /// A READ has come while the file is not leased. Its pages fall at the next question for attributes,
    /// which the kernel asks before it gives a program anything out of them (by the answer, if the file was
    /// modified, or else by a notification); until then none may be answered with a lifetime.
    pub(super) fn fills_unleased(&self, inode: InodeId) {
        self.unleased.lock().insert(inode, self.reads.fetch_add(1, Ordering::Relaxed));
    }

    /// Whether there may be such pages of a file.
    pub(super) fn has_unleased(&self, inode: InodeId) -> bool {
        self.unleased.lock().contains_key(&inode)
    }

    /// Makes the kernel drop such pages; waits for READs that are filling some.
    pub(super) async fn drop_unleased(&self, inode: InodeId) {
        let Some(newest) = self.unleased.lock().get(&inode).copied() else { return };
        let Some(notifier) = self.notifier() else { return };
        or_wait("pages", inode, tell_pages(&notifier, inode).await).await;
        let mut unleased = self.unleased.lock();
        // Nobody has read meanwhile.
        if unleased.get(&inode) == Some(&newest) {
            unleased.remove(&inode);
        }
    }

    /// The same for whom nobody waits.
    pub(super) fn drop_unleased_soon(self: &Arc<Self>, runtime: &Handle, inode: InodeId) {
        self.drop_unleased_in(runtime, inode, Duration::ZERO);
    }

    /// The same after a WRITE. What the program does next may be the first to ask for a length that another
    /// mount has changed, and a notification would have the kernel throw that answer away.
    pub(super) fn drop_unleased_after_write(self: &Arc<Self>, runtime: &Handle, inode: InodeId) {
        self.drop_unleased_in(runtime, inode, AFTER_WRITE);
    }

    fn drop_unleased_in(self: &Arc<Self>, runtime: &Handle, inode: InodeId, delay: Duration) {
        if self.has_unleased(inode) {
            let kernel = self.clone();
            runtime.spawn(async move {
                tokio::time::sleep(delay).await;
                kernel.drop_unleased(inode).await;
            });
        }
    }

    /// A WRITE has come that may have to wait for another mount. The kernel holds the pages that it writes
    /// until it is answered.
    pub(super) fn write_waits(&self, inode: InodeId) -> WaitingWrite {
        *self.writes.lock().entry(inode).or_default() += 1;
        WaitingWrite { writes: self.writes.clone(), inode }
    }

    fn notifier(&self) -> Option<Arc<Notifier>> {
        self.notifier.get().cloned()
    }

    async fn tell_names(&self, notifier: &Notifier, directory: InodeId) -> io::Result<()> {
        if !notifier.has_epochs() {
            return Ok(());
        }
        notifier.names()?;
        if self.listings.are_unread(directory) {
            // Either shows it. The second alone could wait for a create that waits for us.
            tokio::select! {
                () = self.listings.until_read(directory) => {}
                read = notifier.listings_read(directory) => read?,
            }
            notifier.names()?;
        }
        Ok(())
    }
}

async fn tell_pages(notifier: &Notifier, inode: InodeId) -> io::Result<()> {
    match notifier.pages(inode).await? {
        // Without pages, but an answer that brings it may be on its way.
        Told::Unknown => tell_attributes(notifier, inode).await,
        Told::Known => Ok(()),
    }
}

async fn tell_attributes(notifier: &Notifier, inode: InodeId) -> io::Result<()> {
    for pause in AGAIN_AFTER {
        if notifier.attributes(inode)? == Told::Known {
            return Ok(());
        }
        // Whoever comes by the name asks again, also if the answer that brings it is late.
        if notifier.has_epochs() {
            notifier.names()?;
        }
        tokio::time::sleep(pause).await;
    }
    notifier.attributes(inode).map(|_| ())
}

/// If the kernel could not be told, waits until it has forgotten what it was told with a lifetime.
async fn or_wait(what: &'static str, inode: InodeId, told: io::Result<()>) {
    if let Err(error) = told {
        tracing::error!(what, %inode, %error, "the kernel could not be told");
        tokio::time::sleep(LONGEST_TTL).await;
    }
}

#[async_trait]
impl KernelCaches for Kernel {
    async fn attributes(&self, inode: InodeId) {
        let Some(notifier) = self.notifier() else { return };
        let told = tell_attributes(&notifier, inode).await;
        or_wait("attributes", inode, told).await;
    }

    fn acls(&self, inode: InodeId) {
        if let Some(notifier) = self.notifier()
            && let Err(error) = notifier.attributes(inode)
        {
            tracing::error!(%inode, %error, "the kernel could not be told of an access control list");
        }
    }

    async fn names(&self, directory: InodeId) {
        let Some(notifier) = self.notifier() else { return };
        let told = self.tell_names(&notifier, directory).await;
        or_wait("names", directory, told).await;
    }

    async fn pages(&self, inode: InodeId) {
        if self.writes.lock().contains_key(&inode) {
            // The write may wait for the mount that waits for this. Its pages fall before the kernel gives
            // any of them to a program.
            self.fills_unleased(inode);
            return self.attributes(inode).await;
        }
        let Some(notifier) = self.notifier() else { return };
        let told = tell_pages(&notifier, inode).await;
        or_wait("pages", inode, told).await;
    }

    fn uncovered(&self, inode: InodeId) {
        self.fills_unleased(inode);
    }

    fn moves_name(&self) {
        // What it takes along has a lifetime that no lease on that directory covers.
        if let Some(notifier) = self.notifier().filter(|notifier| notifier.has_epochs())
            && let Err(error) = notifier.names()
        {
            tracing::warn!(%error, "the kernel could not be told of a rename");
        }
    }
}
