//! What is known of one leased inode. Everything here falls with the inode's lease.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::{CommitSequence, DataVersion, InodeId};
use cairn_common::name::Name;
use cairn_common::protocol::metadata::{Attributes, DirectoryEntry, NodeKind};

/// Extended attributes that are remembered of one inode.
const XATTRS_MAX: usize = 32;
/// Longest value of one that is remembered, in bytes.
const XATTR_VALUE_MAX_BYTES: usize = 1024;
/// Extents that are remembered of one file.
pub const EXTENTS_MAX: usize = 32;

/// A longer listing is not remembered.
const LISTING_MAX: usize = 1 << 16;

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
    pub(super) xattr_names: Option<Vec<Bytes>>,
    /// Of a directory: where `..` leads.
    pub(super) parent: Option<InodeId>,
    /// All extents of a file, of one version.
    extents: Option<(DataVersion, Vec<Extent>)>,
    names: BTreeMap<Name, Option<InodeId>>,
    /// Names that are not in `names` do not exist.
    complete: bool,
    listing: Option<Listing>,
    /// Version of the pages that the kernel keeps.
    pub(super) pages_of: Option<DataVersion>,
    /// Used since the last look of the eviction.
    pub(super) used: bool,
}

/// Entries of a directory by cookie, as far as they were read in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Listing {
    entries: BTreeMap<u64, (Name, InodeId, NodeKind)>,
    /// Read up to here.
    position: u64,
    end: bool,
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
        if inode.is_none() && self.complete {
            self.names.remove(&name);
        } else {
            self.names.insert(name, inode);
        }
        self.names.len() as isize - before as isize
    }

    /// Nothing is known of the name any more.
    pub(super) fn forget_name(&mut self, name: &Name) -> isize {
        self.complete = false;
        if self.names.remove(name).is_some() { -1 } else { 0 }
    }

    pub(super) fn names_known(&self) -> usize {
        self.names.len()
    }

    /// A directory without names.
    pub(super) fn set_empty(&mut self) {
        self.names.clear();
        self.complete = true;
        self.listing = Some(Listing { end: true, position: u64::MAX, ..Listing::default() });
    }

    /// The entries are not those of the last listing any more; names stay known.
    pub(super) fn forget_listing(&mut self) {
        self.listing = None;
    }

    /// Takes in a page that follows `after`, if it continues what is known. Answers how many names more
    /// are known now.
    pub(super) fn add_page(&mut self, after: u64, entries: &[DirectoryEntry], end: bool) -> isize {
        if after == 0 {
            self.listing = Some(Listing::default());
        }
        let Some(listing) = self.listing.as_mut().filter(|listing| !listing.end && listing.position == after) else {
            return 0;
        };
        for entry in entries {
            listing.entries.insert(entry.cookie, (entry.name.clone(), entry.inode, entry.kind));
            listing.position = entry.cookie;
        }
        listing.end = end;
        if listing.entries.len() > LISTING_MAX {
            self.listing = None;
            return 0;
        }
        if !end {
            return 0;
        }
        let before = self.names.len();
        self.complete = true;
        self.names = listing.entries.values().map(|(name, inode, _)| (name.clone(), Some(*inode))).collect();
        self.names.len() as isize - before as isize
    }

    /// All names that exist, when that is known and they are not more than `most`.
    pub(super) fn all_names(&self, most: usize) -> Option<Vec<(Name, InodeId)>> {
        if !self.complete || self.names.len() > most {
            return None;
        }
        Some(self.names.iter().filter_map(|(name, inode)| Some((name.clone(), (*inode)?))).collect())
    }

    /// Entries behind a cookie, when the whole listing is known; with it, whether these are the last.
    pub(super) fn page(&self, after: u64, limit: usize) -> Option<(Vec<DirectoryEntry>, bool)> {
        let listing = self.listing.as_ref().filter(|listing| listing.end)?;
        let behind = listing.entries.range(after + 1..);
        let entries: Vec<_> = behind
            .clone()
            .take(limit)
            .map(|(cookie, (name, inode, kind))| DirectoryEntry {
                name: name.clone(),
                inode: *inode,
                kind: *kind,
                cookie: *cookie,
                attributes: None,
            })
            .collect();
        let end = entries.len() < limit || behind.count() == entries.len();
        Some((entries, end))
    }

    /// A value, or that there is none.
    pub(super) fn xattr(&self, name: &[u8]) -> Option<Option<Bytes>> {
        if let Some(known) = self.xattrs.get(name) {
            return Some(known.clone());
        }
        let names = self.xattr_names.as_ref()?;
        (!names.iter().any(|known| known == name)).then_some(None)
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
