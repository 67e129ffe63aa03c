//! Directories: entries by name and by cookie are the same, every inode has as many names as links,
//! every directory lies under the root.

use std::collections::{BTreeMap, BTreeSet};

use cairn_common::ids::{CommitSequence, InodeId};
use cairn_common::name::Name;
use cairn_common::protocol::metadata::NodeKind;

use super::{Findings, each, each_versioned};
use crate::namespace::keys::{self, Counter, Table};
use crate::namespace::read;
use crate::namespace::records::{Entry, FIRST_COOKIE, Inode, Marker, OrderedEntry};
use crate::storage::{ReadView, StorageError};

/// What entries say about an inode.
#[derive(Clone, Copy, Default)]
struct Named {
    names: u32,
    /// Of a directory.
    entries: u64,
    subdirectories: u32,
    last_cookie: u64,
}

pub(super) fn check(view: &dyn ReadView, findings: &mut Findings) -> Result<(), StorageError> {
    let mut named: BTreeMap<InodeId, Named> = BTreeMap::new();
    let last_sequence = CommitSequence(read::counter(view, Counter::CommitSequence, 0)?);
    each_versioned::<Entry>(view, Table::Entry, &mut |mut key, sequence, entry| {
        let parent = InodeId(key.u64()?);
        let name = key.rest().to_vec();
        let told = || format!("entry {:?} of directory {parent}", String::from_utf8_lossy(&name));
        findings.expect(sequence <= last_sequence, || format!("{} is of the future", told()));
        findings.expect(Name::new(name.clone()).is_ok(), || format!("{} has a bad name", told()));
        findings.expect(entry.cookie >= FIRST_COOKIE, || format!("{} has cookie {}", told(), entry.cookie));
        let ordered = read::latest::<OrderedEntry>(view, &keys::entry_order(parent, entry.cookie))?;
        let same = ordered.is_some_and(|(_, ordered)| {
            (ordered.inode, ordered.kind, &ordered.name[..]) == (entry.inode, entry.kind, &name[..])
        });
        findings.expect(same, || format!("{} is not under its cookie", told()));
        match read::inode(view, entry.inode)? {
            None => findings.expect(false, || format!("{} names inode {}, which is gone", told(), entry.inode)),
            Some(inode) => {
                findings.expect(inode.kind == entry.kind, || format!("{} has another kind than its inode", told()));
                findings.expect(!inode.is_directory() || inode.parent == parent, || {
                    format!("{} is a directory with parent {}", told(), inode.parent)
                });
            }
        }
        named.entry(entry.inode).or_default().names += 1;
        let directory = named.entry(parent).or_default();
        directory.entries += 1;
        directory.subdirectories += u32::from(entry.kind == NodeKind::Directory);
        directory.last_cookie = directory.last_cookie.max(entry.cookie);
        Ok(())
    })?;
    each_versioned::<OrderedEntry>(view, Table::EntryOrder, &mut |mut key, sequence, ordered| {
        let (parent, cookie) = (InodeId(key.u64()?), key.u64()?);
        key.end()?;
        findings.expect(sequence <= last_sequence, || format!("cookie {cookie} of {parent} is of the future"));
        let entry = read::entry(view, parent, &ordered.name)?;
        findings.expect(entry.is_some_and(|entry| entry.cookie == cookie), || {
            format!("cookie {cookie} of directory {parent} has no entry")
        });
        Ok(())
    })?;
    check_inodes(view, findings, named)
}

fn check_inodes(
    view: &dyn ReadView,
    findings: &mut Findings,
    mut named: BTreeMap<InodeId, Named>,
) -> Result<(), StorageError> {
    let last_sequence = CommitSequence(read::counter(view, Counter::CommitSequence, 0)?);
    let last_inode = read::counter(view, Counter::LastInode, 0)?;
    let mut count = 0;
    let mut under_root = BTreeSet::from([InodeId::ROOT]);
    each_versioned::<Inode>(view, Table::Inode, &mut |mut key, sequence, inode| {
        let id = InodeId(key.u64()?);
        key.end()?;
        count += 1;
        findings.expect(sequence <= last_sequence, || format!("inode {id} is of the future"));
        findings.expect(id.0 <= last_inode, || format!("inode {id} was never given out"));
        let told = named.remove(&id).unwrap_or_default();
        if inode.is_directory() {
            let names = u32::from(id != InodeId::ROOT);
            findings.expect(told.names == names, || format!("directory {id} has {} names", told.names));
            findings.expect(inode.links == 2 + told.subdirectories, || {
                format!("directory {id} has {} links and {} subdirectories", inode.links, told.subdirectories)
            });
            findings.expect(inode.size == told.entries, || {
                format!("directory {id} has size {} and {} entries", inode.size, told.entries)
            });
            findings.expect(told.last_cookie < inode.next_cookie, || {
                format!("directory {id} would give out cookie {} again", inode.next_cookie)
            });
            let lies = lies_under(view, id, &mut under_root)?;
            findings.expect(lies, || format!("directory {id} does not lie under the root"));
            return Ok(());
        }
        findings.expect(inode.links == told.names, || {
            format!("inode {id} has {} links and {} names", inode.links, told.names)
        });
        findings.expect(told.entries == 0, || format!("inode {id} has entries and is no directory"));
        let orphan = read::plain::<Marker>(view, &keys::orphan(id))?.is_some();
        findings
            .expect(orphan == (inode.links == 0), || format!("inode {id} has {} links; orphan: {orphan}", inode.links));
        if orphan {
            let open = read::any(view, keys::opens(id))?;
            findings.expect(open, || format!("orphan {id} is not open anywhere"));
        }
        Ok(())
    })?;
    for id in named.keys() {
        findings.expect(false, || format!("inode {id} has names or entries and is gone"));
    }
    each::<Marker>(view, Table::Orphan, &mut |mut key, _| {
        let id = InodeId(key.u64()?);
        key.end()?;
        let there = read::inode(view, id)?.is_some();
        findings.expect(there, || format!("orphan {id} is gone"));
        Ok(())
    })?;
    let counted = read::counter(view, Counter::Inodes, 0)?;
    findings.expect(counted == count, || format!("{count} inodes are there, {counted} are counted"));
    Ok(())
}

/// Whether the parents of a directory lead to the root.
fn lies_under(view: &dyn ReadView, id: InodeId, under_root: &mut BTreeSet<InodeId>) -> Result<bool, StorageError> {
    let mut path = BTreeSet::new();
    let mut at = id;
    while !under_root.contains(&at) {
        // Met before on this path: a cycle.
        if !path.insert(at) {
            return Ok(false);
        }
        match read::inode(view, at)? {
            Some(inode) if inode.is_directory() => at = inode.parent,
            _ => return Ok(false),
        }
    }
    under_root.append(&mut path);
    Ok(true)
}
