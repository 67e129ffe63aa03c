//! Listing of directories: a stream of pages behind a cookie, so that a directory of any size can be
//! listed while others change it, and an entry that stays is seen exactly once.

use std::collections::VecDeque;
use std::sync::Arc;

use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::metadata::{Attributes, DirectoryEntry, NodeKind, Query, QueryResult};

use super::{Caller, Filesystem};
use crate::backend::unexpected;

/// Cookies of `.` and `..`; entries have larger ones.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Entries of the first page and of later ones.
const PAGE: (u32, u32) = (512, 2048);

/// An open directory.
#[derive(Debug)]
pub struct DirectoryHandle {
    inode: InodeId,
    stream: tokio::sync::Mutex<Stream>,
}

/// Where a listing is.
#[derive(Debug, Default)]
struct Stream {
    /// Entries behind `position` that were fetched already.
    page: VecDeque<DirectoryEntry>,
    /// Cookie of the last entry given out.
    position: u64,
    /// No entry is behind the page.
    end: bool,
    /// Entries newer than the listing are not shown.
    up_to: u64,
    parent: Option<InodeId>,
}

/// An entry as the kernel wants it.
#[derive(Clone, Debug)]
pub struct ListedEntry {
    /// The inode.
    pub inode: InodeId,
    /// Where to go on behind this entry.
    pub cookie: u64,
    /// Its kind.
    pub kind: NodeKind,
    /// Its name.
    pub name: Vec<u8>,
    /// Its attributes, if they were asked for and may be told (not for `.` and `..`).
    pub attributes: Option<Attributes>,
}

impl Filesystem {
    /// Opens a directory; answers the handle's number.
    pub fn open_directory(&self, inode: InodeId) -> u64 {
        self.directories.insert(DirectoryHandle { inode, stream: tokio::sync::Mutex::default() })
    }

    /// Gives entries behind the cookie `after` (0: from the start, as of now) to `take` until it
    /// refuses one; what it refused comes again next time. `plus`: with attributes.
    pub async fn list(
        &self,
        caller: Caller,
        handle: u64,
        after: u64,
        plus: bool,
        mut take: impl FnMut(&ListedEntry) -> bool + Send,
    ) -> Result<(), ClientError> {
        let directory = self.directories.get(handle)?;
        let mut stream = directory.stream.lock().await;
        if after == 0 {
            *stream = self.begin(caller.request, directory.inode, plus).await?;
        }
        let mut taken = 0;
        for (cookie, inode) in [(DOT, directory.inode), (DOT_DOT, stream.parent.unwrap_or(directory.inode))] {
            if after < cookie {
                let name = vec![b'.'; cookie as usize];
                if !take(&ListedEntry { inode, cookie, kind: NodeKind::Directory, name, attributes: None }) {
                    return Ok(());
                }
                taken += 1;
            }
        }
        let position = if after <= DOT_DOT { 0 } else { after };
        if position != stream.position {
            // A seek: the page is of another place.
            stream.page.clear();
            stream.position = position;
            stream.end = false;
        }
        loop {
            while let Some(entry) = stream.page.pop_front() {
                let listed = ListedEntry {
                    inode: entry.inode,
                    cookie: entry.cookie,
                    kind: entry.kind,
                    name: entry.name.as_bytes().to_vec(),
                    // The page may have waited here for a while: only what may be told now.
                    attributes: if plus { self.try_attributes(entry.inode) } else { None },
                };
                if !take(&listed) {
                    stream.page.push_front(entry);
                    return Ok(());
                }
                stream.position = entry.cookie;
                taken += 1;
            }
            // What is here is given out before more is fetched.
            if stream.end || taken > 0 {
                return Ok(());
            }
            let (after, up_to) = (stream.position, stream.up_to);
            let up_to = if up_to == 0 { u64::MAX } else { up_to };
            let (page, end, _) = self.page(caller.request, directory.inode, after, up_to, PAGE.1, plus).await?;
            (stream.page, stream.end) = (page, end);
        }
    }

    /// The first page of a listing that begins now.
    async fn begin(&self, request: RequestId, inode: InodeId, plus: bool) -> Result<Stream, ClientError> {
        let parent = async {
            if inode == InodeId::ROOT {
                return Ok(inode);
            }
            if let Some(parent) = self.leases.told(|cache, time| cache.parent(inode, time)) {
                return Ok(parent);
            }
            match self.ask(request, Query::Parent { inode }).await? {
                QueryResult::Attributes(parent) => Ok(parent.inode),
                _ => Err(unexpected("a question for a parent")),
            }
        };
        let ((page, end, up_to), parent) =
            futures::try_join!(self.page(request, inode, 0, u64::MAX, PAGE.0, plus), parent)?;
        Ok(Stream { page, position: 0, end, up_to, parent: Some(parent) })
    }

    async fn page(
        &self,
        request: RequestId,
        inode: InodeId,
        after: u64,
        up_to: u64,
        limit: u32,
        plus: bool,
    ) -> Result<(VecDeque<DirectoryEntry>, bool, u64), ClientError> {
        let remembered = self.leases.told(|cache, time| cache.page(inode, after, limit as usize, time));
        if let Some((entries, end)) = remembered {
            self.leases.hit();
            // Nothing newer is in a listing that is still leased.
            return Ok((entries.into(), end, u64::MAX));
        }
        let query = Query::ReadDirectory { inode, after, up_to, limit, attributes: plus };
        match self.ask(request, query).await? {
            QueryResult::Entries { entries, end, last_cookie } => Ok((entries.into(), end, last_cookie)),
            _ => Err(unexpected("a question for entries")),
        }
    }

    /// fsync(2) of a directory: everything that this mount has pending (the kernel forwards no sync).
    pub async fn sync_directory(self: &Arc<Self>, caller: Caller) -> Result<(), ClientError> {
        self.flush_all(caller.request).await
    }

    /// Closes a directory.
    pub fn release_directory(&self, handle: u64) {
        self.directories.remove(handle);
    }
}
