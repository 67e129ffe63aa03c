//! Listing of directories: a stream of pages behind a cookie, so that a directory of any size can be
//! listed while others change it, and an entry that stays is seen exactly once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

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
/// Entries whose attributes are looked up in one go.
const TOLD_AT_ONCE: usize = 128;
/// A listing is taken whole from memory if it is no longer.
const WHOLE_MAX: usize = 8192;

/// An open directory.
#[derive(Debug)]
pub struct DirectoryHandle {
    inode: InodeId,
    stream: tokio::sync::Mutex<Stream>,
}

/// Where a listing is.
#[derive(Debug, Default)]
struct Stream {
    /// Entries in the order of their cookies: a page of the cluster's, or (`whole`) all there were.
    entries: Vec<DirectoryEntry>,
    /// Place of the first entry that was not given out.
    next: usize,
    /// All entries were known when the listing began, and are all it shows. Cookies are places in it, and
    /// mean nothing to the cluster.
    whole: bool,
    /// Cookie of the last entry given out.
    position: u64,
    /// No entry is behind these.
    end: bool,
    /// Entries newer than the listing are not shown.
    up_to: u64,
    parent: Option<InodeId>,
}

/// Entries that follow each other.
struct Page {
    entries: Vec<DirectoryEntry>,
    /// They are the last.
    end: bool,
    /// No entry of the listing has a larger cookie.
    up_to: u64,
    /// They are all there are, with cookies of this mount's own.
    whole: bool,
    /// The attributes that came along are of now.
    fresh: bool,
}

/// What a program may be told of an entry.
struct Told {
    attributes: Option<Attributes>,
    /// How long the kernel may believe the name and the attributes.
    ttl: Duration,
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
    /// How long the kernel may believe the name and the attributes, if that was asked for.
    pub ttl: Duration,
}

/// What a listing is to tell beside names.
trait Detail: Sync {
    /// Whether attributes are told.
    const ATTRIBUTES: bool;
    /// What may be told of entries of a directory now.
    fn tell(&self, filesystem: &Filesystem, directory: InodeId, entries: &[DirectoryEntry]) -> Vec<Told>;
    /// Nothing of that was used.
    fn tell_nothing(&self) {}
}

/// Names and kinds.
struct NamesOnly;

/// Attributes, for nobody to keep.
struct WithAttributes;

/// Attributes, for a kernel to believe.
struct ForKernel<F> {
    telling: F,
}

impl Detail for NamesOnly {
    const ATTRIBUTES: bool = false;

    fn tell(&self, _: &Filesystem, _: InodeId, entries: &[DirectoryEntry]) -> Vec<Told> {
        entries.iter().map(|_| Told { attributes: None, ttl: Duration::ZERO }).collect()
    }
}

impl Detail for WithAttributes {
    const ATTRIBUTES: bool = true;

    fn tell(&self, filesystem: &Filesystem, _: InodeId, entries: &[DirectoryEntry]) -> Vec<Told> {
        let attributes = |entry: &DirectoryEntry| filesystem.try_attributes(entry.inode);
        entries.iter().map(|entry| Told { attributes: attributes(entry), ttl: Duration::ZERO }).collect()
    }
}

impl<F: Fn(bool) + Sync> Detail for ForKernel<F> {
    const ATTRIBUTES: bool = true;

    fn tell(&self, filesystem: &Filesystem, directory: InodeId, entries: &[DirectoryEntry]) -> Vec<Told> {
        (self.telling)(true);
        let told = filesystem.tell_entries(directory, entries);
        told.into_iter().map(|(attributes, ttl)| Told { attributes, ttl }).collect()
    }

    fn tell_nothing(&self) {
        (self.telling)(false);
    }
}

impl Stream {
    /// Goes to behind this cookie.
    fn seek(&mut self, position: u64) {
        if position == self.position {
            return;
        }
        self.position = position;
        if self.whole {
            self.next = self.entries.partition_point(|entry| entry.cookie <= position);
        } else {
            // These are of another place.
            self.entries.clear();
            (self.next, self.end) = (0, false);
        }
    }
}

impl Filesystem {
    /// Opens a directory; answers the handle's number.
    pub fn open_directory(&self, inode: InodeId) -> u64 {
        self.directories.insert(DirectoryHandle { inode, stream: tokio::sync::Mutex::default() })
    }

    /// Gives entries behind the cookie `after` (0: from the start, as of now) to `take` until it
    /// refuses one; what it refused comes again next time. `plus`: with attributes, which all have then.
    pub async fn list(
        &self,
        caller: Caller,
        handle: u64,
        after: u64,
        plus: bool,
        take: impl FnMut(&ListedEntry) -> bool + Send,
    ) -> Result<(), ClientError> {
        if plus {
            self.list_with(caller, handle, after, WithAttributes, take).await
        } else {
            self.list_with(caller, handle, after, NamesOnly, take).await
        }
    }

    /// The same with attributes, and with lifetimes for names and attributes. `telling` is called with true
    /// before any of these is counted, and with false when none of them was given out.
    pub async fn list_for_kernel(
        &self,
        caller: Caller,
        handle: u64,
        after: u64,
        telling: impl Fn(bool) + Send + Sync,
        take: impl FnMut(&ListedEntry) -> bool + Send,
    ) -> Result<(), ClientError> {
        self.list_with(caller, handle, after, ForKernel { telling }, take).await
    }

    async fn list_with<D: Detail>(
        &self,
        caller: Caller,
        handle: u64,
        after: u64,
        detail: D,
        mut take: impl FnMut(&ListedEntry) -> bool + Send,
    ) -> Result<(), ClientError> {
        let directory = self.directories.get(handle)?;
        let inode = directory.inode;
        let mut stream = directory.stream.lock().await;
        // Whether attributes that came along with entries were asked for by this call.
        let mut fresh = false;
        if after == 0 {
            (*stream, fresh) = self.begin(caller.request, inode, D::ATTRIBUTES).await?;
        }
        let mut taken = 0;
        for (cookie, inode) in [(DOT, inode), (DOT_DOT, stream.parent.unwrap_or(inode))] {
            if after < cookie {
                let (name, kind) = (vec![b'.'; cookie as usize], NodeKind::Directory);
                if !take(&ListedEntry { inode, cookie, kind, name, attributes: None, ttl: Duration::ZERO }) {
                    return Ok(());
                }
                taken += 1;
            }
        }
        stream.seek(if after <= DOT_DOT { 0 } else { after });
        loop {
            while stream.next < stream.entries.len() {
                let until = stream.entries.len().min(stream.next + TOLD_AT_ONCE);
                let told = detail.tell(self, inode, &stream.entries[stream.next..until]);
                for Told { attributes, ttl } in told {
                    let entry = &stream.entries[stream.next];
                    let came_along = || entry.attributes.filter(|_| fresh).map(|fresh| self.observe(fresh));
                    let attributes = if D::ATTRIBUTES { attributes.or_else(came_along) } else { None };
                    if D::ATTRIBUTES && attributes.is_none() {
                        break;
                    }
                    let (inode, cookie, kind) = (entry.inode, entry.cookie, entry.kind);
                    let name = entry.name.as_bytes().to_vec();
                    if !take(&ListedEntry { inode, cookie, kind, name, attributes, ttl }) {
                        return Ok(());
                    }
                    stream.position = cookie;
                    stream.next += 1;
                    taken += 1;
                }
                if stream.next < until {
                    if taken > 0 {
                        return Ok(());
                    }
                    detail.tell_nothing();
                    self.ask_for_attributes(caller.request, inode, &mut stream, fresh).await?;
                    fresh = true;
                }
            }
            // What is here is given out before more is fetched.
            if stream.end || taken > 0 {
                return Ok(());
            }
            let (after, up_to) = (stream.position, stream.up_to);
            let up_to = if up_to == 0 { u64::MAX } else { up_to };
            let page = self.page(caller.request, inode, after, up_to, PAGE.1, D::ATTRIBUTES).await?;
            (stream.entries, stream.end, fresh) = (page.entries, page.end, page.fresh);
            stream.next = 0;
        }
    }

    /// Brings the attributes of the next entry, which may not be told from memory; `fresh`: they did not
    /// come along with the entries, because another mount has to be asked first.
    async fn ask_for_attributes(
        &self,
        request: RequestId,
        inode: InodeId,
        stream: &mut Stream,
        fresh: bool,
    ) -> Result<(), ClientError> {
        if fresh {
            let entry = &mut stream.entries[stream.next];
            match self.attributes(request, entry.inode).await {
                Ok(attributes) => entry.attributes = Some(attributes),
                // It is gone meanwhile.
                Err(ClientError::Fs(_)) => {
                    stream.position = entry.cookie;
                    stream.next += 1;
                }
                Err(error) => return Err(error),
            }
            return Ok(());
        }
        // What came along is as old as the question. Asked for again, for all entries at once.
        if !stream.whole {
            let up_to = if stream.up_to == 0 { u64::MAX } else { stream.up_to };
            let page = self.ask_for_page(request, inode, stream.position, up_to, PAGE.1, true).await?;
            (stream.entries, stream.end, stream.next) = (page.entries, page.end, 0);
            return Ok(());
        }
        let (mut after, mut up_to, mut known) = (0, u64::MAX, HashMap::new());
        loop {
            let page = self.ask_for_page(request, inode, after, up_to, PAGE.1, true).await?;
            after = page.entries.last().map_or(after, |entry| entry.cookie);
            known.extend(page.entries.into_iter().filter_map(|entry| Some((entry.inode, entry.attributes?))));
            if page.end || known.len() > 2 * WHOLE_MAX {
                break;
            }
            up_to = page.up_to;
        }
        for entry in &mut stream.entries[stream.next..] {
            entry.attributes = known.get(&entry.inode).copied();
        }
        Ok(())
    }

    /// A listing that begins now, and whether attributes come along that are of now.
    async fn begin(&self, request: RequestId, inode: InodeId, plus: bool) -> Result<(Stream, bool), ClientError> {
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
        let entries = self.page(request, inode, 0, u64::MAX, PAGE.0, plus);
        let (page, parent) = futures::try_join!(entries, parent)?;
        let Page { entries, end, up_to, whole, fresh } = page;
        Ok((Stream { entries, next: 0, whole, position: 0, end, up_to, parent: Some(parent) }, fresh))
    }

    /// Entries behind `after`: from memory, or from the cluster.
    async fn page(
        &self,
        request: RequestId,
        inode: InodeId,
        after: u64,
        up_to: u64,
        limit: u32,
        plus: bool,
    ) -> Result<Page, ClientError> {
        let remembered = self.leases.told(|cache, time| {
            if let Some((entries, end)) = cache.page(inode, after, limit as usize, time) {
                // Nothing newer is in a listing that is still leased.
                return Some(Page { entries, end, up_to: u64::MAX, whole: false, fresh: false });
            }
            if after > 0 {
                return None;
            }
            // Own changes leave the names known, but not where they are in the cluster's order.
            let entries = cache.whole_listing(inode, DOT_DOT + 1, WHOLE_MAX, time)?;
            Some(Page { entries, end: true, up_to: u64::MAX, whole: true, fresh: false })
        });
        if let Some(page) = remembered {
            self.leases.hit();
            return Ok(page);
        }
        self.ask_for_page(request, inode, after, up_to, limit, plus).await
    }

    async fn ask_for_page(
        &self,
        request: RequestId,
        inode: InodeId,
        after: u64,
        up_to: u64,
        limit: u32,
        plus: bool,
    ) -> Result<Page, ClientError> {
        let query = Query::ReadDirectory { inode, after, up_to, limit, attributes: plus };
        match self.ask(request, query).await? {
            QueryResult::Entries { entries, end, last_cookie } => {
                Ok(Page { entries, end, up_to: last_cookie, whole: false, fresh: plus })
            }
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
