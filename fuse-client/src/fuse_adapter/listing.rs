//! READDIRPLUS: fills an answer with entries and their attributes, for the kernel to believe as far as
//! leases go.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::InodeId;
use cairn_common::name::Name;
use cairn_common::protocol::metadata::Attributes;
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
        // Attributes that did not come with the entries; None: the inode is gone meanwhile.
        let mut asked: HashMap<InodeId, Option<Attributes>> = HashMap::new();
        let result = loop {
            let (mut added, mut missing, mut believes) = (0, None, false);
            let listed = self.believed.filesystem().list(caller, self.handle, after, true, |entry| {
                let Some(told) = self.told(entry, &asked) else {
                    missing = Some(entry.inode);
                    return false;
                };
                let Some((attr, ttl)) = told else { return true };
                let name = OsStr::from_bytes(&entry.name);
                let has_room = !reply.add(attr.ino, entry.cookie, name, &ttl, &attr, Generation(0));
                added += u32::from(has_room);
                believes |= has_room && !ttl.is_zero();
                has_room
            });
            let listed = listed.await;
            if !believes {
                self.believed.listings().read(self.directory, self.handle);
            }
            // What is here is given out before anything is asked for.
            match (listed, missing) {
                (Ok(()), Some(inode)) if added == 0 => {
                    match self.believed.filesystem().attributes(caller.request, inode).await {
                        Ok(attributes) => asked.insert(inode, Some(attributes)),
                        Err(ClientError::Fs(_)) => asked.insert(inode, None),
                        Err(error) => break Err(error),
                    };
                }
                (listed, _) => break listed,
            }
        };
        (result, reply)
    }

    /// What the kernel is told of an entry, and for how long it may believe it. The outer None: its
    /// attributes have to be asked for; the inner: it is left out.
    fn told(
        &self,
        entry: &ListedEntry,
        asked: &HashMap<InodeId, Option<Attributes>>,
    ) -> Option<Option<(FileAttr, Duration)>> {
        if entry.name == b"." || entry.name == b".." {
            return Some(Some((no_attr(INodeNo(entry.inode.0), entry.kind), Duration::ZERO)));
        }
        let attributes = match entry.attributes {
            Some(attributes) => attributes,
            None => match asked.get(&entry.inode)? {
                Some(attributes) => *attributes,
                None => return Some(None),
            },
        };
        // Before the first lifetime: a recall that comes from now on knows of this listing.
        self.believed.listings().begin(self.directory, self.handle);
        let name = Name::new(Bytes::copy_from_slice(&entry.name));
        // The kernel takes one lifetime for both.
        let ttl = name.map_or(Duration::ZERO, |name| {
            let ttl = self.believed.name(self.directory, &name, Some(attributes.inode));
            if ttl.is_zero() { ttl } else { ttl.min(self.believed.attributes(&attributes)) }
        });
        Some(Some((file_attr(&attributes), ttl)))
    }
}
