//! What is known of one leased inode. Everything here falls with the inode's lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::{CommitSequence, DataVersion, InodeId};
use cairn_common::limits::POSIX_ACL_MAX_BYTES;
use cairn_common::name::Name;
use cairn_common::protocol::metadata::{Attributes, DirectoryEntry, NodeKind};

use super::listing::{FIRST_COOKIE, Listing, ListingEntries, ListingEntry, WholeListing};

/// Extended attributes that are remembered of one inode.
const XATTRS_MAX: usize = 32;
/// Longest value of one that is remembered, in bytes: no access control list is longer.
const XATTR_VALUE_MAX_BYTES: usize = POSIX_ACL_MAX_BYTES;
/// Extents that are remembered of one file.
pub const EXTENTS_MAX: usize = 32;

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KnownName {
    /// It stands for this inode.
    Present(InodeId),
    /// It does not exist.
    Absent,
}

/// Knowledge of one inode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CachedInode {
    /// State that `attributes` show.
    pub(super) sequence: CommitSequence,
    pub(super) attributes: Option<Attributes>,
    pub(super) target: Option<Bytes>,
    xattrs: BTreeMap<Bytes, Option<Bytes>>,
    xattr_names: Option<Vec<Bytes>>,
    /// Of a directory: where `..` leads.
    pub(super) parent: Option<InodeId>,
    /// All extents of a file, of one version.
    extents: Option<(DataVersion, Vec<Extent>)>,
    names: BTreeMap<Name, Option<InodeId>>,
    /// Names that are not in `names` do not exist.
    complete: bool,
    /// Shows what `names` does, if it is complete.
    listing: Option<Listing>,
    /// What `names` shows, in its order, if it was asked for: own changes leave the names known, but not
    /// where they are in the cluster's order.
    numbered: Option<ListingEntries>,
    /// Version of the pages that the kernel keeps.
    pub(super) pages_of: Option<DataVersion>,
    /// Used since the last look of the eviction.
    pub(super) used: bool,
}

impl CachedInode {
    pub(super) fn set_attributes(&mut self, attributes: Attributes, sequence: CommitSequence) {
        // The newest wins, whatever overtook what.
        if self.attributes.is_none() || sequence >= self.sequence {
            self.sequence = self.sequence.max(sequence);
            self.attributes = Some(attributes);
        }
    }

    pub(super) fn name(&self, name: &Name) -> Option<KnownName> {
        match self.names.get(name) {
            Some(Some(inode)) => Some(KnownName::Present(*inode)),
            Some(None) => Some(KnownName::Absent),
            None => self.complete.then_some(KnownName::Absent),
        }
    }

    /// Answers how many names more are known now.
    pub(super) fn set_name(&mut self, name: Name, inode: Option<InodeId>) -> isize {
        let before = self.names.len();
        let known = if inode.is_none() && self.complete {
            self.names.remove(&name)
        } else {
            // A name that is not known and one that is known to be absent are listed alike.
            self.names.insert(name, inode)
        };
        if known.flatten() != inode {
            self.forget_listing();
        }
        self.names.len() as isize - before as isize
    }

    /// Nothing is known of the name any more.
    pub(super) fn forget_name(&mut self, name: &Name) -> isize {
        self.complete = false;
        self.forget_listing();
        if self.names.remove(name).is_some() { -1 } else { 0 }
    }

    pub(super) fn names_known(&self) -> usize {
        self.names.len()
    }

    /// A directory without names.
    pub(super) fn set_empty(&mut self) {
        self.names.clear();
        self.complete = true;
        (self.listing, self.numbered) = (Some(Listing::empty()), None);
    }

    /// The entries are not those of the last listing any more; names stay known.
    pub(super) fn forget_listing(&mut self) {
        (self.listing, self.numbered) = (None, None);
    }

    /// Takes in a page that follows `after`, if it continues what is known. Answers how many names more
    /// are known now.
    pub(super) fn add_page(&mut self, after: u64, entries: &[DirectoryEntry], end: bool) -> isize {
        if after == 0 {
            self.listing = Some(Listing::default());
        }
        let Some(listing) = self.listing.as_mut() else { return 0 };
        match listing.add_page(after, entries, end) {
            None => {
                self.listing = None;
                return 0;
            }
            Some(false) => return 0,
            Some(true) => {}
        }
        let before = self.names.len();
        self.complete = true;
        self.numbered = None;
        let all = listing.whole().into_iter().flat_map(|entries| entries.iter());
        self.names = all.map(|entry| (entry.name.clone(), Some(entry.inode))).collect();
        self.names.len() as isize - before as isize
    }

    /// All entries, in the cluster's order or with cookies of their own, if that is known without a look
    /// at other inodes.
    pub(super) fn whole_listing(&self) -> Option<WholeListing> {
        let listing = self.listing.as_ref().and_then(Listing::whole);
        let own_cookies = listing.is_none();
        let entries = listing.or(self.numbered.as_ref())?.clone();
        Some(WholeListing { entries, own_cookies })
    }

    /// Whether these entries are all, and as they are now.
    pub(super) fn is_whole(&self, entries: &ListingEntries) -> bool {
        let listing = self.listing.as_ref().and_then(Listing::whole);
        [listing, self.numbered.as_ref()].into_iter().flatten().any(|known| Arc::ptr_eq(known, entries))
    }

    /// All names that exist, when that is known and they are not more than `most`.
    pub(super) fn all_names(&self, most: usize) -> Option<Vec<(Name, InodeId)>> {
        if !self.complete || self.names.len() > most {
            return None;
        }
        Some(self.names.iter().filter_map(|(name, inode)| Some((name.clone(), (*inode)?))).collect())
    }

    /// Gives names that exist cookies in their order. They must be all of [`Self::all_names`].
    pub(super) fn number(&mut self, names: Vec<(Name, InodeId)>, kinds: Vec<NodeKind>) -> ListingEntries {
        let numbered = (FIRST_COOKIE..).zip(names).zip(kinds);
        let entry = |((cookie, (name, inode)), kind)| ListingEntry { cookie, name, inode, kind };
        self.numbered.insert(Arc::new(numbered.map(entry).collect())).clone()
    }

    /// A value, or that there is none.
    pub(super) fn xattr(&self, name: &[u8]) -> Option<Option<Bytes>> {
        if let Some(known) = self.xattrs.get(name) {
            return Some(known.clone());
        }
        let has_none = self.attributes.is_some_and(|known| !known.xattrs.may_have(name))
            || self.xattr_names.as_ref().is_some_and(|names| !names.iter().any(|known| known == name));
        has_none.then_some(None)
    }

    /// Names of all.
    pub(super) fn xattr_names(&self) -> Option<Vec<Bytes>> {
        let has_none = self.attributes.is_some_and(|known| !known.xattrs.any());
        if has_none { Some(Vec::new()) } else { self.xattr_names.clone() }
    }

    pub(super) fn set_xattr_names(&mut self, names: Vec<Bytes>) {
        self.xattr_names = Some(names);
    }

    /// Nothing is known of the one of this name any more.
    pub(super) fn forget_xattr(&mut self, name: &[u8]) {
        self.xattrs.remove(name);
        self.xattr_names = None;
    }

    pub(super) fn set_xattr(&mut self, name: Bytes, value: Option<Bytes>) {
        let fits = value.as_ref().is_none_or(|value| value.len() <= XATTR_VALUE_MAX_BYTES);
        if fits && (self.xattrs.len() < XATTRS_MAX || self.xattrs.contains_key(&name)) {
            self.xattrs.insert(name, value);
        } else {
            self.xattrs.remove(&name);
        }
    }

    pub(super) fn forget_xattrs(&mut self) {
        self.xattrs.clear();
        self.xattr_names = None;
    }

    pub(super) fn extents(&self) -> Option<(DataVersion, &[Extent])> {
        self.extents.as_ref().map(|(version, extents)| (*version, &extents[..]))
    }

    /// Answers how many bytes more are held in them.
    pub(super) fn set_extents(&mut self, version: DataVersion, extents: Vec<Extent>) -> isize {
        let before = self.inline_bytes();
        self.extents = (extents.len() <= EXTENTS_MAX).then_some((version, extents));
        self.inline_bytes() as isize - before as isize
    }

    /// Bytes of the file that are held here.
    pub(super) fn inline_bytes(&self) -> usize {
        let inline = |extent: &Extent| match &extent.content {
            ExtentContent::Inline(bytes) => bytes.len(),
            _ => 0,
        };
        self.extents.iter().flat_map(|(_, extents)| extents).map(inline).sum()
    }
}
