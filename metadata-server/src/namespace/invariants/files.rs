//! What hangs on inodes: extents and their back-references, symlink targets, extended attributes,
//! garbage.

use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::InodeId;
use cairn_common::posix_acl::{AclKind, PosixAcl};
use cairn_common::protocol::metadata::NodeKind;

use std::ops::ControlFlow;

use super::{Findings, each, each_versioned};
use crate::namespace::file_map;
use crate::namespace::keys::{self, Table, VOLUME};
use crate::namespace::read::{self, Direction};
use crate::namespace::records::{self, Garbage, Inode, Marker, Opaque, StoredExtent};
use crate::storage::{ReadView, StorageError};

pub(super) fn check(view: &dyn ReadView, findings: &mut Findings) -> Result<(), StorageError> {
    each_versioned::<Inode>(view, Table::Inode, &mut |mut key, _, inode| {
        let id = InodeId(key.u64()?);
        check_extents(view, findings, id, &inode)?;
        let listed = listed_bytes(view, id)?;
        findings.expect(listed == u64::from(inode.xattr_list_bytes), || {
            format!("inode {id} counts {} bytes of attribute names and has {listed}", inode.xattr_list_bytes)
        });
        check_acls(view, findings, id, &inode)?;
        let target = read::latest::<Opaque>(view, &keys::symlink(id))?.map(|(_, Opaque(target))| target.len() as u64);
        let expected = (inode.kind == NodeKind::Symlink).then_some(inode.size);
        findings.expect(target == expected, || format!("inode {id} has a target of {target:?} bytes"));
        Ok(())
    })?;
    check_leftovers(view, findings)
}

/// Extents of one inode: shown ones neither overlap nor go beyond the end, all have back-references,
/// all are counted.
fn check_extents(view: &dyn ReadView, findings: &mut Findings, id: InodeId, inode: &Inode) -> Result<(), StorageError> {
    let (mut allocated, mut behind) = (0, 0);
    read::scan(view, keys::extents(id), Direction::Forward, &mut |key, value| {
        let (sequence, stored) = records::decode_versioned::<StoredExtent>(value)?;
        let extent = stored.at(file_map::offset_of(key)?);
        allocated += extent.length;
        if inode.shows(extent.offset, sequence) {
            findings.expect(extent.length > 0 && extent.offset >= behind && extent.end() <= inode.size, || {
                format!("extent {extent:?} of inode {id} overlaps or ends beyond {}", inode.size)
            });
            behind = extent.end();
        }
        Ok(ControlFlow::Continue(()))
    })?;
    findings.expect(allocated == inode.allocated, || {
        format!("inode {id} counts {} bytes allocated and has {allocated}", inode.allocated)
    });
    findings.expect(inode.is_file() || allocated == 0, || format!("inode {id} has extents and is no file"));
    let garbage = read::plain::<Garbage>(view, &keys::garbage(id))?.is_some();
    findings.expect(garbage == inode.trim.is_some(), || format!("inode {id}: {:?}, garbage: {garbage}", inode.trim));
    Ok(())
}

fn listed_bytes(view: &dyn ReadView, id: InodeId) -> Result<u64, StorageError> {
    let mut listed = 0;
    let prefix = keys::xattrs(id).0.len();
    read::scan(view, keys::xattrs(id), Direction::Forward, &mut |key, _| {
        listed += (key.len() - prefix + 1) as u64;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(listed)
}

/// Lists are there exactly where the inode says so, valid, and where they may be; an access list says more
/// than the mode, and what both say is the same.
fn check_acls(view: &dyn ReadView, findings: &mut Findings, id: InodeId, inode: &Inode) -> Result<(), StorageError> {
    for kind in AclKind::ALL {
        let name = kind.xattr_name();
        let row = read::latest::<Opaque>(view, &keys::xattr(id, name.as_bytes()))?;
        findings.expect(row.is_some() == inode.has_acl(kind), || {
            format!("inode {id} has {name}: {}, and says {}", row.is_some(), inode.has_acl(kind))
        });
        let Some((_, Opaque(value))) = row else { continue };
        let Ok(Some(acl)) = PosixAcl::from_xattr(&value) else {
            findings.expect(false, || format!("{name} of inode {id} is no list: {value:02x?}"));
            continue;
        };
        let mode = inode.mode & 0o777;
        match kind {
            AclKind::Access => findings
                .expect(!acl.is_minimal() && acl.permission_bits() == mode && inode.kind != NodeKind::Symlink, || {
                    format!("inode {id} has mode {mode:o} and {acl:?}")
                }),
            AclKind::Default => {
                findings.expect(inode.is_directory(), || format!("inode {id} has a default list and is no directory"));
            }
        }
    }
    Ok(())
}

/// Nothing is left of inodes that are gone but garbage, and back-references are those of extents.
fn check_leftovers(view: &dyn ReadView, findings: &mut Findings) -> Result<(), StorageError> {
    each_versioned::<StoredExtent>(view, Table::Extent, &mut |mut key, _, stored| {
        let id = InodeId(key.u64()?);
        let extent = stored.at(key.u64()?);
        if let ExtentContent::Block(reference) = &extent.content {
            let there = read::plain::<Marker>(view, &keys::backref(&reference.block, id, extent.offset))?.is_some();
            findings.expect(there, || format!("extent {extent:?} of inode {id} has no back-reference"));
        }
        let kept = read::inode(view, id)?.is_some() || read::plain::<Garbage>(view, &keys::garbage(id))?.is_some();
        findings.expect(kept, || format!("extent {} of inode {id}, which is gone", extent.offset));
        Ok(())
    })?;
    each::<Marker>(view, Table::Backref, &mut |mut key, _| {
        let block = key.block()?;
        let (volume, id, offset) = (key.u32()?, InodeId(key.u64()?), key.u64()?);
        key.end()?;
        let extent: Option<Extent> =
            read::latest::<StoredExtent>(view, &keys::extent(id, offset))?.map(|(_, stored)| stored.at(offset));
        let refers = extent.is_some_and(
            |extent| matches!(extent.content, ExtentContent::Block(reference) if reference.block == block),
        );
        findings.expect(refers && volume == VOLUME.0, || {
            format!("back-reference of {block} to {id} at {offset} has no extent")
        });
        Ok(())
    })?;
    for table in [Table::Xattr, Table::Symlink] {
        each_versioned::<Opaque>(view, table, &mut |mut key, _, _| {
            let id = InodeId(key.u64()?);
            let there = read::inode(view, id)?.is_some();
            findings.expect(there, || format!("{table:?} of inode {id}, which is gone"));
            Ok(())
        })?;
    }
    Ok(())
}
