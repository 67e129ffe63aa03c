//! Answers of the core as replies to the kernel.

use std::time::Duration;

use bytes::Bytes;
use cairn_common::ids::InodeId;
use cairn_common::name::Name;
use cairn_common::protocol::metadata::{Attributes, NodeKind};
use fuser::{Errno, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyXattr};

use super::believed::Believed;
use super::convert::{file_attr, no_attr};
use super::kernel::Kernel;
use crate::filesystem::from_memory::ToldName;
use crate::open_files::{FileHandle, KernelPages};

/// The answer to a LOOKUP: the kernel may also believe that there is no such name.
pub(super) fn reply_lookup(
    reply: ReplyEntry,
    believed: &Believed,
    parent: InodeId,
    name: &Name,
    result: Result<Attributes, Errno>,
) {
    match result {
        Ok(attributes) => {
            let attribute_ttl = believed.attributes(&attributes);
            let name_ttl = believed.name(parent, name, Some(attributes.inode));
            reply.entry_with_ttls(&attribute_ttl, &name_ttl, &file_attr(&attributes), Generation(0));
        }
        Err(errno) if errno == Errno::ENOENT => {
            reply_absent(reply, believed.name(parent, name, None));
        }
        Err(errno) => reply.error(errno),
    }
}

/// The answer to a LOOKUP from memory.
pub(super) fn reply_told(reply: ReplyEntry, kernel: &Kernel, told: &ToldName) {
    let name_ttl = kernel.name_ttl(told.name_ttl);
    match &told.attributes {
        Some(attributes) => {
            let attribute_ttl = kernel.attribute_ttl(attributes.inode, told.attribute_ttl);
            reply.entry_with_ttls(&attribute_ttl, &name_ttl, &file_attr(attributes), Generation(0));
        }
        None => reply_absent(reply, name_ttl),
    }
}

fn reply_absent(reply: ReplyEntry, ttl: Duration) {
    if ttl.is_zero() {
        reply.error(Errno::ENOENT);
    } else {
        // Inode 0 says so to the kernel.
        reply.entry(&ttl, &no_attr(INodeNo(0), NodeKind::File), Generation(0));
    }
}

/// The answer to what makes a name: attributes are for this moment only.
pub(super) fn reply_made(
    reply: ReplyEntry,
    believed: &Believed,
    parent: InodeId,
    name: &Name,
    result: Result<Attributes, Errno>,
) {
    match result {
        Ok(attributes) => {
            let name_ttl = believed.name(parent, name, Some(attributes.inode));
            reply.entry_with_ttls(&Duration::ZERO, &name_ttl, &file_attr(&attributes), Generation(0));
        }
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn reply_attr(reply: ReplyAttr, ttl: Duration, result: Result<Attributes, Errno>) {
    match result {
        Ok(attributes) => reply.attr(&ttl, &file_attr(&attributes)),
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn reply_empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn reply_xattr(reply: ReplyXattr, size: u32, result: Result<Bytes, Errno>) {
    match result {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(errno),
    }
}

/// How the kernel treats an open file. A close costs a request only where it has to be told.
pub(super) fn fopen_flags(handle: &FileHandle) -> FopenFlags {
    let mut flags = match handle.pages {
        KernelPages::Keep => FopenFlags::FOPEN_KEEP_CACHE,
        KernelPages::Renew => FopenFlags::empty(),
        KernelPages::Bypass => FopenFlags::FOPEN_DIRECT_IO,
    };
    if !handle.tells_closes {
        flags |= FopenFlags::FOPEN_NOFLUSH;
    }
    flags
}
