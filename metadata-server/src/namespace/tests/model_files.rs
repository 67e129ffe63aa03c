//! The reference model's operations on bytes and attributes.

use std::time::Duration;

use bytes::Bytes;
use cairn_common::clock::Timestamp;
use cairn_common::extent::{ExtentContent, NewExtent};
use cairn_common::ids::InodeId;
use cairn_common::limits::{INLINE_MAX_BYTES, MAX_STAMP_AHEAD};
use cairn_common::posix_acl::AclKind;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{AllocateMode, AttributeChanges, MutationResult, TimeChange, XattrMode};

use super::model::{ATIME, Answer, CTIME, MTIME, Model};

/// The model keeps bytes one by one: tests stay below this, or above what a file may have.
pub(super) const MODEL_FILE_MAX: u64 = 1 << 20;

impl Model {
    pub(super) fn set_attributes(&mut self, time: Timestamp, id: InodeId, changes: &AttributeChanges) -> Answer {
        let id = if changes.size.is_some() { self.file(id)? } else { self.requested(id)? };
        let node = self.node(id);
        if let Some(size) = changes.size {
            if size > MODEL_FILE_MAX {
                return Err(FsError::FileTooBig);
            }
            if size != node.bytes.len() as u64 {
                node.bytes.resize(size as usize, None);
                node.data_version += 1;
            }
            node.times[MTIME] = time;
        }
        if let Some(mode) = changes.mode {
            node.mode = mode;
            if let Some(acl) = node.acl(AclKind::Access) {
                node.keep_acl(AclKind::Access, acl.with_permission_bits(mode));
            }
        }
        node.uid = changes.uid.unwrap_or(node.uid);
        node.gid = changes.gid.unwrap_or(node.gid);
        for (which, change) in [(ATIME, changes.atime), (MTIME, changes.mtime)] {
            match change {
                None => {}
                Some(TimeChange::Now) => node.times[which] = time,
                Some(TimeChange::At(at)) => node.times[which] = at,
            }
        }
        let after_the_last = node.times[CTIME].plus(Duration::from_nanos(1));
        node.times[CTIME] = changes.ctime.map_or(time, |at| at.min(time).max(after_the_last));
        Ok(MutationResult::Attributes(self.attributes(id)))
    }

    pub(super) fn accessed(&mut self, time: Timestamp, accesses: &[(InodeId, Timestamp)]) -> Answer {
        for (id, at) in accesses {
            let at = (*at).min(time.plus(MAX_STAMP_AHEAD));
            let Some(node) = self.nodes.get_mut(&id.0) else { continue };
            let [atime, mtime, ctime, _] = node.times;
            let is_first_since_a_change = atime <= mtime || atime <= ctime;
            if at > atime && (is_first_since_a_change || at.seconds - atime.seconds >= 86_400) {
                node.times[ATIME] = at;
            }
        }
        Ok(MutationResult::Done)
    }

    /// The bytes of an extent; an error if they are not as long as it says.
    fn content(&self, content: &ExtentContent, length: u64) -> Result<Bytes, FsError> {
        let length = length as usize;
        match content {
            ExtentContent::Inline(bytes) if bytes.len() == length && length <= INLINE_MAX_BYTES => Ok(bytes.clone()),
            ExtentContent::Inline(_) => Err(FsError::Invalid),
            ExtentContent::Unwritten => Ok(Bytes::from(vec![0; length])),
            ExtentContent::Block(reference) => {
                let block = self.blocks.get(&reference.block).ok_or(FsError::Invalid)?;
                let from = reference.block_offset as usize;
                if reference.block_length as usize != block.len() || from + length > block.len() {
                    return Err(FsError::Invalid);
                }
                Ok(block.slice(from..from + length))
            }
        }
    }

    pub(super) fn commit(
        &mut self,
        time: Timestamp,
        id: InodeId,
        extents: &[NewExtent],
        append: bool,
        minimum_size: u64,
        mtime: Option<Timestamp>,
    ) -> Answer {
        let id = self.file(id)?;
        let mut bytes = self.nodes[&id].bytes.clone();
        let old_size = bytes.len();
        let base = if append { old_size as u64 } else { 0 };
        let mut behind = base;
        for NewExtent { extent, .. } in extents {
            let offset = extent.offset.checked_add(base).ok_or(FsError::FileTooBig)?;
            let end = offset.checked_add(extent.length).ok_or(FsError::FileTooBig)?;
            if end > MODEL_FILE_MAX {
                return Err(FsError::FileTooBig);
            }
            if extent.length == 0 || offset < behind {
                return Err(FsError::Invalid);
            }
            behind = end;
            let content = self.content(&extent.content, extent.length)?;
            let size = bytes.len().max(end as usize);
            bytes.resize(size, None);
            for (at, byte) in content.iter().enumerate() {
                bytes[offset as usize + at] = Some(*byte);
            }
        }
        if !append && minimum_size > MODEL_FILE_MAX {
            return Err(FsError::FileTooBig);
        }
        if !append && minimum_size as usize > bytes.len() {
            bytes.resize(minimum_size as usize, None);
        }
        let node = self.node(id);
        let old_version = node.data_version;
        if !extents.is_empty() || bytes.len() != old_size {
            node.data_version += 1;
            node.mode = without_suid_sgid(node.mode);
        }
        node.bytes = bytes;
        node.times[MTIME] = mtime.map_or(time, |mtime| mtime.min(time.plus(MAX_STAMP_AHEAD)));
        let same_version = u32::from(node.data_version == old_version);
        let last_change = node.times[CTIME].plus(Duration::from_nanos(1) * same_version);
        node.times[CTIME] = node.times[MTIME].min(time).max(last_change);
        Ok(MutationResult::Committed {
            attributes: self.attributes(id),
            appended_at: if append { old_size as u64 } else { 0 },
        })
    }

    pub(super) fn allocate(
        &mut self,
        time: Timestamp,
        id: InodeId,
        (offset, length): (u64, u64),
        mode: AllocateMode,
        keep_size: bool,
    ) -> Answer {
        let id = self.file(id)?;
        let end = offset.checked_add(length).filter(|end| *end <= MODEL_FILE_MAX).ok_or(FsError::FileTooBig)?;
        if length == 0 {
            return Err(FsError::Invalid);
        }
        let bytes = &mut self.node(id).bytes;
        if !keep_size && mode != AllocateMode::Punch && bytes.len() < end as usize {
            bytes.resize(end as usize, None);
        }
        for byte in bytes.iter_mut().take(end as usize).skip(offset as usize) {
            *byte = match mode {
                AllocateMode::Fill => byte.or(Some(0)),
                AllocateMode::Zero => Some(0),
                AllocateMode::Punch => None,
            };
        }
        self.ranged(time, id, length)
    }

    pub(super) fn copy_range(
        &mut self,
        time: Timestamp,
        (source, from): (InodeId, u64),
        (id, offset): (InodeId, u64),
        length: u64,
    ) -> Answer {
        let (source, id) = (self.file(source)?, self.file(id)?);
        let until = |offset: u64| offset.checked_add(length).filter(|end| *end <= MODEL_FILE_MAX);
        let source_end = until(from).ok_or(FsError::FileTooBig)?;
        let end = until(offset).ok_or(FsError::FileTooBig)?;
        if source == id && from < end && offset < source_end {
            return Err(FsError::Invalid);
        }
        let bytes = self.nodes[&source].bytes.clone();
        let copied: Vec<_> = bytes.into_iter().take(source_end as usize).skip(from as usize).collect();
        if copied.is_empty() {
            return Ok(MutationResult::Ranged { attributes: self.attributes(id), done: 0 });
        }
        let bytes = &mut self.node(id).bytes;
        let (begin, end) = (offset as usize, offset as usize + copied.len());
        if bytes.len() < end {
            bytes.resize(end, None);
        }
        bytes[begin..end].copy_from_slice(&copied);
        self.ranged(time, id, copied.len() as u64)
    }

    fn ranged(&mut self, time: Timestamp, id: u64, done: u64) -> Answer {
        let node = self.node(id);
        node.data_version += 1;
        node.mode = without_suid_sgid(node.mode);
        node.times[MTIME] = time;
        node.times[CTIME] = time;
        Ok(MutationResult::Ranged { attributes: self.attributes(id), done })
    }

    pub(super) fn set_xattr(
        &mut self,
        time: Timestamp,
        id: InodeId,
        name: &Bytes,
        value: &Bytes,
        mode: XattrMode,
    ) -> Answer {
        if name.is_empty() {
            return Err(FsError::Range);
        }
        if name.starts_with(b"system.") {
            return Err(FsError::NotSupported);
        }
        let id = self.requested(id)?;
        let node = self.node(id);
        match (mode, node.xattrs.contains_key(&name[..])) {
            (XattrMode::Create, true) => return Err(FsError::Exists),
            (XattrMode::Replace, false) => return Err(FsError::NoAttribute),
            _ => {}
        }
        node.xattrs.insert(name.to_vec(), value.clone());
        node.times[CTIME] = time;
        Ok(MutationResult::Done)
    }

    pub(super) fn remove_xattr(&mut self, time: Timestamp, id: InodeId, name: &Bytes) -> Answer {
        if name.is_empty() {
            return Err(FsError::Range);
        }
        if name.starts_with(b"system.") {
            return Err(FsError::NotSupported);
        }
        let id = self.requested(id)?;
        let node = self.node(id);
        node.xattrs.remove(&name[..]).ok_or(FsError::NoAttribute)?;
        node.times[CTIME] = time;
        Ok(MutationResult::Done)
    }
}

fn without_suid_sgid(mode: u32) -> u32 {
    let mode = mode & !0o4000;
    if mode & 0o010 != 0 { mode & !0o2000 } else { mode }
}
