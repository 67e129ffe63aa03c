//! A page of a directory, in the order of cookies: entries keep theirs while they stay, and new ones
//! get larger ones, so a reader meets everything that stays exactly once.

use std::ops::ControlFlow;

use cairn_common::ids::InodeId;
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{DirectoryEntry, QueryResult};

use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::keys::{self, KeyFields};
use crate::namespace::read::{self, Direction};
use crate::namespace::records::{self, OrderedEntry};
use crate::storage::ReadView;

/// Most entries in one answer.
const PAGE_MAX: u32 = 4096;

/// The fields of `Query::ReadDirectory`.
pub(super) struct Page {
    pub(super) inode: InodeId,
    pub(super) after: u64,
    pub(super) up_to: u64,
    pub(super) limit: u32,
    pub(super) attributes: bool,
}

pub(super) fn read_directory(view: &dyn ReadView, page: &Page) -> Result<QueryResult, Fault> {
    if page.limit == 0 {
        return Err(FsError::Invalid.into());
    }
    let directory = read::directory(view, page.inode)?;
    let limit = page.limit.min(PAGE_MAX) as usize;
    let (mut entries, mut end) = (Vec::new(), true);
    let from = keys::entry_order(page.inode, page.after.saturating_add(1));
    let to = keys::end_of(&keys::entry_order(page.inode, page.up_to));
    read::scan(view, (from, to), Direction::Forward, &mut |key, value| {
        if entries.len() == limit {
            end = false;
            return Ok(ControlFlow::Break(()));
        }
        let mut fields = KeyFields::of(key);
        fields.u64()?;
        let cookie = fields.u64()?;
        fields.end()?;
        let (_, OrderedEntry { inode, kind, name }) = records::decode_versioned(value)?;
        let name = Name::new(name).map_err(|_| corrupt(format!("directory {} has a bad name", page.inode)))?;
        entries.push(DirectoryEntry { name, inode, kind, cookie, attributes: None });
        Ok(ControlFlow::Continue(()))
    })?;
    if page.attributes {
        for entry in &mut entries {
            entry.attributes = Some(read::named_inode(view, entry.inode)?.attributes(entry.inode));
        }
    }
    Ok(QueryResult::Entries { entries, end, last_cookie: directory.next_cookie - 1 })
}
