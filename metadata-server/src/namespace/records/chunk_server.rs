//! Chunk servers and their disks.

use std::net::SocketAddr;

use cairn_common::ids::{ChunkNodeId, DiskId, DiskUuid, Incarnation};

use super::Record;
use super::wire::{Reader, Writer};

/// A chunk server without its number, as it last registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkNode {
    pub(crate) incarnation: Incarnation,
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) failure_domain: String,
    pub(crate) disks: Vec<DiskId>,
}

/// A disk without its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) uuid: DiskUuid,
    /// The server that last registered it.
    pub(crate) node: ChunkNodeId,
    pub(crate) capacity_bytes: u64,
}

impl Record for ChunkNode {
    const NAME: &'static str = "chunk server";

    fn write(&self, out: &mut Writer) {
        v1::write_node(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read_node(input),
            _ => None,
        }
    }
}

impl Record for Disk {
    const NAME: &'static str = "disk";

    fn write(&self, out: &mut Writer) {
        v1::write_disk(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read_disk(input),
            _ => None,
        }
    }
}

/// Server: `{incarnation u128}{address}{name text}{failure domain text}{disks u32}{disk u32}…`.
/// Disk: `{uuid u128}{node u32}{capacity u64}`.
mod v1 {
    use super::*;

    pub(super) fn write_node(node: &ChunkNode, out: &mut Writer) {
        out.u128(node.incarnation.0);
        out.address(node.address);
        out.text(&node.name);
        out.text(&node.failure_domain);
        out.u32(node.disks.len() as u32);
        for disk in &node.disks {
            out.u32(disk.0);
        }
    }

    pub(super) fn read_node(input: &mut Reader<'_>) -> Option<ChunkNode> {
        Some(ChunkNode {
            incarnation: Incarnation(input.u128()?),
            address: input.address()?,
            name: input.text()?,
            failure_domain: input.text()?,
            disks: (0..input.u32()?).map(|_| input.u32().map(DiskId)).collect::<Option<_>>()?,
        })
    }

    pub(super) fn write_disk(disk: &Disk, out: &mut Writer) {
        out.u128(disk.uuid.0);
        out.u32(disk.node.0);
        out.u64(disk.capacity_bytes);
    }

    pub(super) fn read_disk(input: &mut Reader<'_>) -> Option<Disk> {
        Some(Disk { uuid: DiskUuid(input.u128()?), node: ChunkNodeId(input.u32()?), capacity_bytes: input.u64()? })
    }
}
