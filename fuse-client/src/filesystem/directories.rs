//! Listing of directories: a stream of pages behind a cookie, so that a directory of any size can be
//! listed while others change it, and an entry that stays is seen exactly once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::metadata::{Attributes, NodeKind, Query, QueryResult};

use super::{Caller, Filesystem};
use crate::backend::unexpected;
use crate::lease::{ListingEntries, ListingEntry};

/// Cookies of `.` and `..`; entries have larger ones.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Entries of the first page and of later ones.
const PAGE: (u32, u32) = (512, 2048);
/// Entries whose attributes are looked up in one go.
const TOLD_AT_ONCE: usize = 128;
/// A listing whose entries have to be numbered is taken from memory if it is no longer.
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
    /// Entries in the order of their cookies: a page of the cluster's, or all there were.
    entries: ListingEntries,
    /// Attributes that came along with them; a place may be missing.
    came_along: Vec<Option<Attributes>>,
    /// Place of the first entry that was not given out.
    next: usize,
    /// The cookies are this mount's own: all entries were known when the listing began, and are all it
    /// shows.
    own_cookies: bool,
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
    entries: ListingEntries,
    came_along: Vec<Option<Attributes>>,
    /// They are the last.
    end: bool,
    /// No entry of the listing has a larger cookie.
    up_to: u64,
    /// They are all there are, with cookies of this mount's own.
    own_cookies: bool,
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
pub struct ListedEntry<'a> {
    /// The inode.
    pub inode: InodeId,
    /// Where to go on behind this entry.
    pub cookie: u64,
    /// Its kind.
    pub kind: NodeKind,
    /// Its name.
    pub name: &'a [u8],
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
    fn tell(
        &self,
        filesystem: &Filesystem,
        directory: InodeId,
        entries: &ListingEntries,
        places: Range<usize>,
    ) -> Vec<Told>;
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

    fn tell(&self, _: &Filesystem, _: InodeId, _: &ListingEntries, places: Range<usize>) -> Vec<Told> {
        places.map(|_| Told { attributes: None, ttl: Duration::ZERO }).collect()
    }
}

impl Detail for WithAttributes {
    const ATTRIBUTES: bool = true;

    fn tell(&self, filesystem: &Filesystem, _: InodeId, entries: &ListingEntries, places: Range<usize>) -> Vec<Told> {
        let attributes = |entry: &ListingEntry| filesystem.try_attributes(entry.inode);
        entries[places].iter().map(|entry| Told { attributes: attributes(entry), ttl: Duration::ZERO }).collect()
    }
}

impl<F: Fn(bool) + Sync> Detail for ForKernel<F> {
    const ATTRIBUTES: bool = true;

    fn tell(
        &self,
        filesystem: &Filesystem,
        directory: InodeId,
        entries: &ListingEntries,
        places: Range<usize>,
    ) -> Vec<Told> {
        (self.telling)(true);
        let told = filesystem.tell_entries(directory, entries, places);
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
        if self.own_cookies {
            self.next = self.entries.partition_point(|entry| entry.cookie <= position);
        } else {
            // These are of another place.
            self.entries = ListingEntries::default();
            (self.next, self.end) = (0, false);
        }
    }

    /// Goes on with these entries, which lie behind the position.
    fn go_on(&mut self, page: Page) {
        self.next = page.entries.partition_point(|entry| entry.cookie <= self.position);
        (self.entries, self.came_along, self.end) = (page.entries, page.came_along, page.end);
    }
}

impl Filesystem {
    /// Opens a directory; answers the handle's number.
    pub fn open_directory(&self, inode: InodeId) -> u64 {
        self.directories.insert(DirectoryHandle { inode, stream: tokio::sync::Mutex::default() }).0
    }

    /// Gives entries behind the cookie `after` (0: from the start, as of now) to `take` until it
    /// refuses one; what it refused comes again next time. `plus`: with attributes, which all have then.
    pub async fn list(
        &self,
        caller: Caller,
        handle: u64,
        after: u64,
        plus: bool,
        take: impl FnMut(&ListedEntry<'_>) -> bool + Send,
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
        take: impl FnMut(&ListedEntry<'_>) -> bool + Send,
    ) -> Result<(), ClientError> {
        self.list_with(caller, handle, after, ForKernel { telling }, take).await
    }

    async fn list_with<D: Detail>(
        &self,
        caller: Caller,
        handle: u64,
        after: u64,
        detail: D,
        mut take: impl FnMut(&ListedEntry<'_>) -> bool + Send,
    ) -> Result<(), ClientError> {
        let directory = self.directories.get(handle)?;
        let inode = directory.inode;
        let mut stream = directory.stream.lock().await;
        // Whether attributes that came along with entries were asked for by this call.
        let mut fresh = false;
        if after == 0 {
            self.accessed(inode);
            (*stream, fresh) = self.begin(caller.request, inode, D::ATTRIBUTES).await?;
        }
        let mut taken = 0;
        for (cookie, inode) in [(DOT, inode), (DOT_DOT, stream.parent.unwrap_or(inode))] {
            if after < cookie {
                let (name, kind) = (&b".."[..cookie as usize], NodeKind::Directory);
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
                let entries = stream.entries.clone();
                let told = detail.tell(self, inode, &entries, stream.next..until);
                for Told { attributes, ttl } in told {
                    let entry = &entries[stream.next];
                    let came_along = || {
                        let attributes = stream.came_along.get(stream.next).copied().flatten();
                        attributes.filter(|_| fresh).map(|fresh| self.observe(fresh))
                    };
                    let attributes = if D::ATTRIBUTES { attributes.or_else(came_along) } else { None };
                    if D::ATTRIBUTES && attributes.is_none() {
                        break;
                    }
                    let (inode, cookie, kind) = (entry.inode, entry.cookie, entry.kind);
                    let name = entry.name.as_bytes();
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
            fresh = page.fresh;
            stream.go_on(page);
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
            let ListingEntry { inode, cookie, .. } = stream.entries[stream.next];
            match self.attributes(request, inode).await {
                Ok(attributes) => {
                    stream.came_along.resize(stream.entries.len(), None);
                    let place = stream.next;
                    stream.came_along[place] = Some(attributes);
                }
                // It is gone meanwhile.
                Err(ClientError::Fs(_)) => {
                    stream.position = cookie;
                    stream.next += 1;
                }
                Err(error) => return Err(error),
            }
            return Ok(());
        }
        // What came along is as old as the question. Asked for again, for all entries at once.
        if !stream.own_cookies {
            let up_to = if stream.up_to == 0 { u64::MAX } else { stream.up_to };
            let page = self.ask_for_page(request, inode, stream.position, up_to, PAGE.1, true).await?;
            stream.go_on(page);
            return Ok(());
        }
        let (mut after, mut up_to, mut known) = (0, u64::MAX, HashMap::new());
        loop {
            let page = self.ask_for_page(request, inode, after, up_to, PAGE.1, true).await?;
            after = page.entries.last().map_or(after, |entry| entry.cookie);
            known.extend(page.came_along.into_iter().flatten().map(|attributes| (attributes.inode, attributes)));
            if page.end || known.len() > 2 * WHOLE_MAX {
                break;
            }
            up_to = page.up_to;
        }
        stream.came_along = stream.entries.iter().map(|entry| known.get(&entry.inode).copied()).collect();
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
        let Page { entries, came_along, end, up_to, own_cookies, fresh } = page;
        let parent = Some(parent);
        Ok((Stream { entries, came_along, next: 0, own_cookies, position: 0, end, up_to, parent }, fresh))
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
        // Own cookies are no place to go on from: none are made for that.
        let most = if after == 0 { WHOLE_MAX } else { 0 };
        let remembered = self.leases.told(|cache, time| cache.whole_listing(inode, most, time));
        let remembered = remembered.and_then(|whole| {
            let last = whole.entries.last().map_or(DOT_DOT, |entry| entry.cookie);
            // What is newer than the listing stays out of it.
            let may_go_on = !whole.own_cookies && last <= up_to;
            (after == 0 || may_go_on).then(|| Page {
                entries: whole.entries,
                came_along: Vec::new(),
                end: true,
                up_to: last,
                own_cookies: whole.own_cookies,
                fresh: false,
            })
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
                let came_along = entries.iter().map(|entry| entry.attributes).collect();
                let entries = Arc::new(entries.iter().map(ListingEntry::from).collect());
                Ok(Page { entries, came_along, end, up_to: last_cookie, own_cookies: false, fresh: plus })
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
