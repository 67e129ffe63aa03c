//! The entries of a directory, as they were read in one go.

use std::sync::Arc;

use cairn_common::ids::InodeId;
use cairn_common::name::Name;
use cairn_common::protocol::metadata::{DirectoryEntry, NodeKind};

/// Cookie of the first entry behind `.` and `..`.
pub(super) const FIRST_COOKIE: u64 = 3;
/// A longer listing is not remembered.
const LISTING_MAX: usize = 1 << 16;

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListingEntry {
    /// Where to go on behind it.
    pub cookie: u64,
    /// Its name.
    pub name: Name,
    /// Its inode.
    pub inode: InodeId,
    /// The inode's kind, which never changes.
    pub kind: NodeKind,
}

impl From<&DirectoryEntry> for ListingEntry {
    fn from(entry: &DirectoryEntry) -> Self {
        Self { cookie: entry.cookie, name: entry.name.clone(), inode: entry.inode, kind: entry.kind }
    }
}

/// Entries in the order of their cookies, shared with the listings that programs are at.
pub type ListingEntries = Arc<Vec<ListingEntry>>;

/// All entries of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeListing {
    /// The entries.
    pub entries: ListingEntries,
    /// The cookies are places among these entries, and mean nothing to the cluster.
    pub own_cookies: bool,
}

/// The cluster's entries, from the first on, as far as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Listing {
    entries: ListingEntries,
    /// Read up to here.
    position: u64,
    /// None is behind these.
    end: bool,
}

impl Listing {
    /// Of a directory without entries.
    pub(super) fn empty() -> Self {
        Self { end: true, position: u64::MAX, ..Self::default() }
    }

    /// Takes in a page that follows `after`, if it continues this; answers whether it is complete with it,
    /// or `None` if it became too long.
    pub(super) fn add_page(&mut self, after: u64, page: &[DirectoryEntry], end: bool) -> Option<bool> {
        if self.end || self.position != after {
            return Some(false);
        }
        if self.entries.len() + page.len() > LISTING_MAX {
            return None;
        }
        Arc::make_mut(&mut self.entries).extend(page.iter().map(ListingEntry::from));
        self.position = page.last().map_or(self.position, |entry| entry.cookie);
        self.end = end;
        Some(end)
    }

    /// The entries, if they are all.
    pub(super) fn whole(&self) -> Option<&ListingEntries> {
        self.end.then_some(&self.entries)
    }
}
