//! Chunk servers and their disks get numbers that are never given twice.

use cairn_common::ids::{ChunkNodeId, DiskId};
use cairn_common::protocol::chunk_control::{RegisteredDisk, Registration};

use crate::namespace::command::Outcome;
use crate::namespace::fault::corrupt;
use crate::namespace::keys::{self, Counter};
use crate::namespace::read;
use crate::namespace::records::{ChunkNode, Disk, Number};
use crate::namespace::state::State;
use crate::storage::StorageError;

/// Makes a server known or brings it up to date. The table's epoch grows when the location of a
/// known disk changes: its name, its address, or the server that has it.
pub(crate) fn register(state: &mut State<'_, '_>, new: &Registration) -> Result<Outcome, StorageError> {
    let (node, known) = node_of(state, new)?;
    let mut moved = known.is_some_and(|known| known.address != new.address || known.name != new.name);
    let mut disks = Vec::with_capacity(new.disks.len());
    for disk in &new.disks {
        let (id, disk_moved) = register_disk(state, node, disk)?;
        moved |= disk_moved;
        disks.push(id);
    }
    let mut distinct = disks.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let record = ChunkNode {
        incarnation: new.incarnation,
        address: new.address,
        name: new.name.clone(),
        failure_domain: new.failure_domain.clone(),
        disks: distinct,
    };
    state.put(keys::chunk_node(node), &record);
    if moved {
        state.next(Counter::TableEpoch, 0)?;
    }
    Ok(Outcome::Registered { node, disks })
}

/// The number of the incarnation, old or new, and what was known about it.
fn node_of(state: &mut State<'_, '_>, new: &Registration) -> Result<(ChunkNodeId, Option<ChunkNode>), StorageError> {
    let key = keys::chunk_node_by_incarnation(new.incarnation);
    if let Some(Number(number)) = read::plain(state.view(), &key)? {
        let node = ChunkNodeId(narrow(number)?);
        let known = read::plain::<ChunkNode>(state.view(), &keys::chunk_node(node))?
            .ok_or_else(|| corrupt(format!("chunk server {node} has an incarnation and no record")))?;
        return Ok((node, Some(known)));
    }
    let number = state.next(Counter::LastChunkNode, 0)?;
    state.put(key, &Number(number));
    Ok((ChunkNodeId(narrow(number)?), None))
}

/// The number of the disk, old or new, and whether it came from another server.
fn register_disk(
    state: &mut State<'_, '_>,
    node: ChunkNodeId,
    new: &RegisteredDisk,
) -> Result<(DiskId, bool), StorageError> {
    let key = keys::disk_by_uuid(new.uuid);
    let (id, moved) = match read::plain::<Number>(state.view(), &key)? {
        Some(Number(number)) => {
            let id = DiskId(narrow(number)?);
            let known = read::plain::<Disk>(state.view(), &keys::disk(id))?
                .ok_or_else(|| corrupt(format!("disk {id} has a UUID and no record")))?;
            if known.node != node {
                take_from(state, known.node, id)?;
            }
            (id, known.node != node)
        }
        None => {
            let number = state.next(Counter::LastDisk, 0)?;
            state.put(key, &Number(number));
            (DiskId(narrow(number)?), false)
        }
    };
    state.put(keys::disk(id), &Disk { uuid: new.uuid, node, capacity_bytes: new.capacity_bytes });
    Ok((id, moved))
}

/// A disk that was carried to another server is no longer listed by its old one.
fn take_from(state: &mut State<'_, '_>, node: ChunkNodeId, disk: DiskId) -> Result<(), StorageError> {
    let key = keys::chunk_node(node);
    let mut record = read::plain::<ChunkNode>(state.view(), &key)?
        .ok_or_else(|| corrupt(format!("disk {disk} is of chunk server {node}, which has no record")))?;
    record.disks.retain(|listed| *listed != disk);
    state.put(key, &record);
    Ok(())
}

fn narrow(number: u64) -> Result<u32, StorageError> {
    u32::try_from(number).map_err(|_| corrupt(format!("number {number} is beyond 32 bits")))
}
