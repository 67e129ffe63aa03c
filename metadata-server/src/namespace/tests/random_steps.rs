//! Random steps, and what they mean in a given state: a pick chooses among what is there, mostly of
//! a fitting kind, so that long runs keep hitting the same few names and inodes.

use bytes::Bytes;
use cairn_common::block::{BlockHash, BlockId};
use cairn_common::clock::Timestamp;
use cairn_common::codec;
use cairn_common::extent::{BlockReference, Extent, ExtentContent, NewExtent};
use cairn_common::ids::{InodeId, PoolId, TableEpoch};
use cairn_common::name::Name;
use cairn_common::posix_acl::{AclEntry, AclKind, AclTag, PosixAcl};
use cairn_common::protocol::metadata::{
    AllocateMode, AttributeChanges, Mutation, NewNode, NodeKind, OpenMode, RenameMode, TimeChange, XattrMode,
};
use proptest::prelude::*;

use super::model::Model;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Change { session: u8, slot: u8, change: Change },
    Retry { session: u8, slot: u8 },
    WrongSequence { session: u8, slot: u8, ahead: u8 },
    OpenSession,
    EndSession { session: u8 },
    CollectGarbage { limit: u8 },
    EndEntry,
}

/// A change whose inodes and names are picks.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Create { parent: u16, name: u8, node: u8, mode: u16, umask: u16, exclusive: bool, open: u8 },
    Open { file: u16, write: bool, lease: bool },
    Acquire { file: u16 },
    GiveUp { files: Vec<u16> },
    Release { opens: Vec<(u16, bool)> },
    SetAttributes { inode: u16, size: Option<u16>, mode: Option<u16>, owner: u8, times: u8, ctime: Option<i8> },
    Link { inode: u16, parent: u16, name: u8 },
    Unlink { parent: u16, name: u8 },
    RemoveDirectory { parent: u16, name: u8 },
    Rename { parent: u16, name: u8, new_parent: u16, new_name: u8, mode: u8 },
    Commit { file: u16, start: u8, pieces: Vec<Piece>, append: bool, minimum: u8, mtime: Option<i8> },
    SetXattr { inode: u16, name: u8, value: u8, mode: u8 },
    RemoveXattr { inode: u16, name: u8 },
    SetAcl { inode: u16, of: u8, default: bool, list: u8, bits: [u8; 4], clear: bool },
    Allocate { file: u16, offset: u8, length: u8, mode: u8 },
    CopyRange { source: u16, source_offset: u8, file: u16, offset: u8, length: u8 },
    Accessed { inodes: Vec<(u16, u32)> },
}

#[derive(Clone, Debug)]
pub(super) struct Piece {
    gap: u8,
    length: u8,
    content: u8,
    seed: u8,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (any::<u8>(), 0..3u8, change()).prop_map(|(session, slot, change)| Step::Change { session, slot, change }),
        3 => (any::<u8>(), 0..3u8).prop_map(|(session, slot)| Step::Retry { session, slot }),
        1 => (any::<u8>(), 0..5u8, 2..4u8)
            .prop_map(|(session, slot, ahead)| Step::WrongSequence { session, slot, ahead }),
        1 => Just(Step::OpenSession),
        1 => any::<u8>().prop_map(|session| Step::EndSession { session }),
        3 => (1..8u8).prop_map(|limit| Step::CollectGarbage { limit }),
        5 => Just(Step::EndEntry),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let create = (any::<u16>(), any::<u8>(), any::<u8>(), any::<[u16; 2]>(), any::<bool>(), any::<u8>()).prop_map(
        |(parent, name, node, [mode, umask], exclusive, open)| Change::Create {
            parent,
            name,
            node,
            mode,
            umask,
            exclusive,
            open,
        },
    );
    let acl = (any::<u16>(), any::<u8>(), any::<bool>(), any::<u8>(), [0..8u8, 0..8u8, 0..8u8, 0..8u8], any::<bool>())
        .prop_map(|(inode, of, default, list, bits, clear)| Change::SetAcl { inode, of, default, list, bits, clear });
    let attributes = (
        any::<u16>(),
        prop::option::weighted(0.6, 0..320u16),
        prop::option::of(any::<u16>()),
        any::<u8>(),
        any::<u8>(),
        prop::option::of(any::<i8>()),
    )
        .prop_map(|(inode, size, mode, owner, times, ctime)| Change::SetAttributes {
            inode,
            size,
            mode,
            owner,
            times,
            ctime,
        });
    let piece = (0..40u8, 0..40u8, any::<u8>(), 0..4u8).prop_map(|(gap, length, content, seed)| Piece {
        gap,
        length,
        content,
        seed,
    });
    let commit = (
        any::<u16>(),
        0..200u8,
        prop::collection::vec(piece, 0..5),
        prop::bool::weighted(0.3),
        any::<u8>(),
        prop::option::of(any::<i8>()),
    )
        .prop_map(|(file, start, pieces, append, minimum, mtime)| Change::Commit {
            file,
            start,
            pieces,
            append,
            minimum,
            mtime,
        });
    let rename = (any::<u16>(), any::<u8>(), any::<u16>(), any::<u8>(), any::<u8>()).prop_map(
        |(parent, name, new_parent, new_name, mode)| Change::Rename { parent, name, new_parent, new_name, mode },
    );
    prop_oneof![
        10 => create,
        4 => (any::<u16>(), any::<bool>(), any::<bool>())
            .prop_map(|(file, write, lease)| Change::Open { file, write, lease }),
        2 => any::<u16>().prop_map(|file| Change::Acquire { file }),
        1 => prop::collection::vec(any::<u16>(), 0..4).prop_map(|files| Change::GiveUp { files }),
        5 => prop::collection::vec((any::<u16>(), any::<bool>()), 0..4).prop_map(|opens| Change::Release { opens }),
        6 => attributes,
        3 => (any::<u16>(), any::<u16>(), any::<u8>())
            .prop_map(|(inode, parent, name)| Change::Link { inode, parent, name }),
        6 => (any::<u16>(), any::<u8>()).prop_map(|(parent, name)| Change::Unlink { parent, name }),
        4 => (any::<u16>(), any::<u8>()).prop_map(|(parent, name)| Change::RemoveDirectory { parent, name }),
        10 => rename,
        14 => commit,
        2 => (any::<u16>(), any::<u8>(), any::<u8>(), any::<u8>())
            .prop_map(|(inode, name, value, mode)| Change::SetXattr { inode, name, value, mode }),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(inode, name)| Change::RemoveXattr { inode, name }),
        6 => acl,
        6 => (any::<u16>(), any::<u8>(), any::<u8>(), any::<u8>())
            .prop_map(|(file, offset, length, mode)| Change::Allocate { file, offset, length, mode }),
        6 => (any::<u16>(), any::<u8>(), any::<u16>(), any::<u8>(), any::<u8>()).prop_map(
            |(source, source_offset, file, offset, length)| Change::CopyRange {
                source,
                source_offset,
                file,
                offset,
                length,
            }
        ),
        3 => prop::collection::vec((any::<u16>(), 0..200_000u32), 0..4).prop_map(|inodes| Change::Accessed { inodes }),
    ]
}

/// What a change means now. Blocks that it names come into being in the model.
pub(super) fn resolve(change: &Change, model: &mut Model, now: Timestamp) -> Mutation {
    let mode_of = |write: bool| if write { OpenMode::Write } else { OpenMode::Read };
    match change {
        Change::Create { parent, name, node, mode, umask, exclusive, open } => Mutation::Create {
            parent: pick(model, *parent, NodeKind::Directory),
            name: name_of(*name),
            node: new_node(*node),
            mode: u32::from(*mode & 0o7777),
            umask: u32::from(*umask & 0o777),
            uid: u32::from(mode % 7),
            gid: u32::from(mode % 5),
            exclusive: *exclusive,
            open: match open % 4 {
                0 => Some(OpenMode::Read),
                1 => Some(OpenMode::Write),
                _ => None,
            },
            exclusive_lease: open / 4 % 2 == 0,
        },
        Change::Open { file, write, lease } => {
            Mutation::Open { inode: pick(model, *file, NodeKind::File), mode: mode_of(*write), exclusive_lease: *lease }
        }
        Change::Acquire { file } => Mutation::AcquireExclusive { inode: pick(model, *file, NodeKind::File) },
        Change::GiveUp { files } => {
            Mutation::GiveUpExclusive { inodes: files.iter().map(|file| pick(model, *file, NodeKind::File)).collect() }
        }
        Change::Release { opens } => Mutation::Release {
            opens: opens.iter().map(|(file, write)| (pick(model, *file, NodeKind::File), mode_of(*write))).collect(),
        },
        Change::SetAttributes { inode, size, mode, owner, times, ctime } => Mutation::SetAttributes {
            inode: pick(model, *inode, if owner.is_multiple_of(3) { NodeKind::Directory } else { NodeKind::File }),
            changes: AttributeChanges {
                mode: mode.map(|mode| u32::from(mode & 0o7777)),
                uid: owner.is_multiple_of(4).then_some(u32::from(*owner)),
                gid: owner.is_multiple_of(5).then_some(u32::from(*owner)),
                size: size.map(|size| if size == 319 { u64::MAX } else { u64::from(size) }),
                atime: time_change(times & 3),
                mtime: time_change(times >> 2 & 3),
                ctime: ctime.map(|ahead| seconds_ahead(now, ahead)),
            },
        },
        Change::Link { inode, parent, name } => Mutation::Link {
            inode: pick(model, *inode, NodeKind::File),
            parent: pick(model, *parent, NodeKind::Directory),
            name: name_of(*name),
        },
        Change::Unlink { parent, name } => {
            Mutation::Unlink { parent: pick(model, *parent, NodeKind::Directory), name: name_of(*name) }
        }
        Change::RemoveDirectory { parent, name } => {
            Mutation::RemoveDirectory { parent: pick(model, *parent, NodeKind::Directory), name: name_of(*name) }
        }
        Change::Rename { parent, name, new_parent, new_name, mode } => Mutation::Rename {
            parent: pick(model, *parent, NodeKind::Directory),
            name: name_of(*name),
            new_parent: pick(model, *new_parent, NodeKind::Directory),
            new_name: name_of(*new_name),
            mode: [RenameMode::Replace, RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange]
                [usize::from(mode % 4)],
        },
        Change::Commit { file, start, pieces, append, minimum, mtime } => Mutation::Commit {
            inode: pick(model, *file, NodeKind::File),
            extents: extents(model, if *append { 0 } else { u64::from(*start) }, pieces),
            append: *append,
            minimum_size: u64::from(*minimum),
            mtime: mtime.map(|ahead| seconds_ahead(now, ahead)),
        },
        Change::SetXattr { inode, name, value, mode } => Mutation::SetXattr {
            inode: pick(model, *inode, NodeKind::File),
            name: xattr_name(*name),
            value: Bytes::from(vec![*value; usize::from(*value)]),
            mode: [XattrMode::Any, XattrMode::Create, XattrMode::Replace][usize::from(mode % 3)],
        },
        Change::RemoveXattr { inode, name } => {
            Mutation::RemoveXattr { inode: pick(model, *inode, NodeKind::File), name: xattr_name(*name) }
        }
        Change::SetAcl { inode, of, default, list, bits, clear } => Mutation::SetAcl {
            inode: pick(
                model,
                *inode,
                [NodeKind::Directory, NodeKind::File, NodeKind::Directory, NodeKind::Symlink][usize::from(of % 4)],
            ),
            kind: if *default { AclKind::Default } else { AclKind::Access },
            acl: acl(*list, *bits),
            clear_sgid: *clear,
        },
        Change::Allocate { file, offset, length, mode } => Mutation::Allocate {
            inode: pick(model, *file, NodeKind::File),
            offset: far_or(*offset),
            length: u64::from(length / 2),
            mode: [AllocateMode::Fill, AllocateMode::Zero, AllocateMode::Punch][usize::from(mode % 3)],
            keep_size: mode / 3 % 2 == 0,
        },
        Change::CopyRange { source, source_offset, file, offset, length } => Mutation::CopyRange {
            source: pick(model, *source, NodeKind::File),
            source_offset: far_or(*source_offset),
            inode: pick(model, *file, NodeKind::File),
            offset: far_or(*offset),
            length: u64::from(length / 2),
        },
        Change::Accessed { inodes } => Mutation::Accessed {
            accesses: inodes
                .iter()
                .map(|(inode, ago)| {
                    let kind = if ago.is_multiple_of(3) { NodeKind::Directory } else { NodeKind::File };
                    let at = Timestamp { seconds: now.seconds + 10 - i64::from(*ago), nanos: 7 };
                    (pick(model, *inode, kind), at)
                })
                .collect(),
        },
    }
}

/// Mostly one of a few inodes of the kind, now and then any number.
fn pick(model: &Model, pick: u16, kind: NodeKind) -> InodeId {
    let which = usize::from(pick >> 4);
    let fitting: Vec<u64> = model.nodes.iter().filter(|(_, node)| node.kind == kind).map(|(id, _)| *id).collect();
    if pick.is_multiple_of(16) || fitting.is_empty() {
        return InodeId(which as u64 % (model.last_inode + 2));
    }
    InodeId(fitting[which % fitting.len().min(6)])
}

/// Mostly within a small file, now and then where no file can be.
fn far_or(offset: u8) -> u64 {
    if offset == 255 { u64::MAX - 7 } else { u64::from(offset) }
}

fn name_of(pick: u8) -> Name {
    let bytes: &[u8] = match pick {
        0 => b"a/b",
        1 => b"..",
        _ => &b"abcd"[usize::from(pick % 4)..][..1],
    };
    codec::decode(&codec::encode(&Bytes::copy_from_slice(bytes)).unwrap()).unwrap()
}

fn xattr_name(pick: u8) -> Bytes {
    match pick % 8 {
        0 => Bytes::new(),
        1 => Bytes::from_static(b"system.posix_acl_access"),
        other => Bytes::from(format!("user.{}", other % 3)),
    }
}

/// Lists of every shape, and what is none.
fn acl(pick: u8, [user, group, other, more]: [u8; 4]) -> Option<Bytes> {
    let mut entries = vec![(AclTag::UserObj, user), (AclTag::GroupObj, group), (AclTag::Other, other)];
    match pick % 8 {
        0 => return None,
        1 => return Some(Bytes::from_static(&[2, 0, 0, 0])),
        2 => return Some(Bytes::from_static(b"no list")),
        3 | 4 => {}
        5 => entries.push((AclTag::Mask, more)),
        6 => entries.extend([(AclTag::User(5), more), (AclTag::Mask, other)]),
        _ => entries.extend([(AclTag::User(5), other), (AclTag::Group(6), more), (AclTag::Mask, user)]),
    }
    entries.sort_unstable();
    let entries = entries.into_iter().map(|(tag, permissions)| AclEntry { tag, permissions }).collect();
    Some(PosixAcl::new(entries).unwrap().to_xattr())
}

fn new_node(pick: u8) -> NewNode {
    match pick % 16 {
        0..8 => NewNode::File,
        8..12 => NewNode::Directory,
        12 => NewNode::Symlink(Bytes::from(vec![b'x'; usize::from(pick / 16)])),
        13 => NewNode::Fifo,
        14 => NewNode::Socket,
        _ if pick < 128 => NewNode::CharDevice(u64::from(pick)),
        _ => NewNode::BlockDevice(u64::from(pick)),
    }
}

fn seconds_ahead(now: Timestamp, seconds: i8) -> Timestamp {
    Timestamp { seconds: now.seconds + i64::from(seconds), nanos: 5 }
}

fn time_change(pick: u8) -> Option<TimeChange> {
    match pick {
        0 => Some(TimeChange::Now),
        1 => Some(TimeChange::At(Timestamp { seconds: -3, nanos: 999_999_999 })),
        _ => None,
    }
}

fn extents(model: &mut Model, start: u64, pieces: &[Piece]) -> Vec<NewExtent> {
    let mut offset = start;
    let mut extents = Vec::new();
    for piece in pieces {
        // Now and then pieces touch, or one begins before the last has ended, or is empty.
        offset = match piece.gap {
            0..25 => offset,
            39 => offset.saturating_sub(1),
            38 => u64::MAX - 3,
            gap => offset.saturating_add(u64::from(gap)),
        };
        let length = u64::from(piece.length);
        let bytes = |count: u64| -> Bytes { (0..count).map(|at| piece.seed * 50 + at as u8).collect() };
        let content = match piece.content % 16 {
            0..6 => ExtentContent::Inline(bytes(length)),
            6 => ExtentContent::Unwritten,
            7 if piece.seed == 0 => ExtentContent::Inline(bytes(length + 1)),
            other => {
                let block_offset = u32::from(other % 3);
                let whole = bytes(length + 4);
                let block = BlockId { pool: PoolId::DEFAULT, hash: BlockHash::of(&whole) };
                let block_offset = if other == 15 && piece.seed == 1 { 10 } else { block_offset };
                let reference = BlockReference { block, block_offset, block_length: whole.len() as u32 };
                model.blocks.insert(block, whole);
                ExtentContent::Block(reference)
            }
        };
        extents.push(NewExtent {
            extent: Extent { offset, length, content },
            missed: Vec::new(),
            table: TableEpoch(0),
        });
        offset = offset.saturating_add(length);
    }
    extents
}
