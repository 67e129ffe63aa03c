//! READDIRPLUS: fills an answer with entries and their attributes, for the kernel to believe as far as
//! leases go.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use cairn_common::client::ClientError;
use cairn_common::ids::InodeId;
use fuser::{FileAttr, Generation, INodeNo, ReplyDirectoryPlus};

use super::FuseAdapter;
use super::believed::Believed;
use super::convert::{file_attr, no_attr};
use crate::filesystem::Caller;
use crate::filesystem::directories::ListedEntry;

/// A handle of a directory that is listed.
pub(super) struct Listing {
    believed: Believed,
    directory: InodeId,
    handle: u64,
}

impl FuseAdapter {
    pub(super) fn listing(&self, directory: InodeId, handle: u64) -> Listing {
        Listing { believed: self.believed(), directory, handle }
    }
}

impl Listing {
    /// Fills `reply` with entries behind the cookie `after`, and gives it back.
    pub(super) async fn fill(
        self,
        caller: Caller,
        after: u64,
        mut reply: ReplyDirectoryPlus,
    ) -> (Result<(), ClientError>, ReplyDirectoryPlus) {
        let mut believes = false;
        // Before the first lifetime: a recall that comes from then on knows of this listing.
        let telling = |begins: bool| match begins {
            true => self.believed.listings().begin(self.directory, self.handle),
            false => self.believed.listings().read(self.directory, self.handle),
        };
        let listed = self.believed.filesystem().list_for_kernel(caller, self.handle, after, telling, |entry| {
            let (attr, ttl) = self.told(entry);
            let name = OsStr::from_bytes(entry.name);
            let has_room = !reply.add(attr.ino, entry.cookie, name, &ttl, &attr, Generation(0));
            believes |= has_room && !ttl.is_zero();
            has_room
        });
        let listed = listed.await;
        if !believes {
            self.believed.listings().read(self.directory, self.handle);
        }
        (listed, reply)
    }

    /// What the kernel is told of an entry, and for how long it may believe it.
    fn told(&self, entry: &ListedEntry<'_>) -> (FileAttr, Duration) {
        match &entry.attributes {
            // The kernel takes one lifetime for name and attributes.
            Some(attributes) => (file_attr(attributes), self.believed.entry(entry.inode, entry.ttl)),
            // `.` and `..`.
            None => (no_attr(INodeNo(entry.inode.0), entry.kind), Duration::ZERO),
        }
    }
}
