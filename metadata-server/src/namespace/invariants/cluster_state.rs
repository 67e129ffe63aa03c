//! Chunk servers, disks, the partition table and the repair queue.

use cairn_common::block::BlockId;
use cairn_common::ids::{ChunkNodeId, DiskId, PoolId};

use super::{Findings, each};
use crate::namespace::keys::{self, Counter, ROWS_PER_CHUNK, Table};
use crate::namespace::read;
use crate::namespace::records::{ChunkNode, Cluster, Disk, Marker, Number, OwnedRow, PartitionRows};
use crate::storage::{ReadView, StorageError};

pub(super) fn check(view: &dyn ReadView, findings: &mut Findings) -> Result<(), StorageError> {
    check_servers(view, findings)?;
    check_rows(view, findings)?;
    check_repairs(view, findings)
}

fn check_servers(view: &dyn ReadView, findings: &mut Findings) -> Result<(), StorageError> {
    each::<ChunkNode>(view, Table::ChunkNode, &mut |mut key, record| {
        let node = ChunkNodeId(key.u32()?);
        key.end()?;
        let index = read::plain::<Number>(view, &keys::chunk_node_by_incarnation(record.incarnation))?;
        findings.expect(index == Some(Number(u64::from(node.0))), || {
            format!("chunk server {node} is not under its incarnation")
        });
        for disk in &record.disks {
            let known = read::plain::<Disk>(view, &keys::disk(*disk))?;
            findings.expect(known.is_some_and(|known| known.node == node), || {
                format!("disk {disk} of chunk server {node} is not known or of another")
            });
        }
        Ok(())
    })?;
    each::<Number>(view, Table::ChunkNodeByIncarnation, &mut |mut key, Number(number)| {
        let incarnation = key.u128()?;
        key.end()?;
        let known = match u32::try_from(number) {
            Ok(number) => read::plain::<ChunkNode>(view, &keys::chunk_node(ChunkNodeId(number)))?,
            Err(_) => None,
        };
        findings.expect(known.is_some_and(|known| known.incarnation.0 == incarnation), || {
            format!("incarnation {incarnation:032x} leads to chunk server {number}, which has another")
        });
        Ok(())
    })?;
    each::<Disk>(view, Table::Disk, &mut |mut key, record| {
        let disk = DiskId(key.u32()?);
        key.end()?;
        let index = read::plain::<Number>(view, &keys::disk_by_uuid(record.uuid))?;
        findings.expect(index == Some(Number(u64::from(disk.0))), || format!("disk {disk} is not under its UUID"));
        let server = read::plain::<ChunkNode>(view, &keys::chunk_node(record.node))?.is_some();
        findings.expect(server, || format!("disk {disk} is of chunk server {}, which is not known", record.node));
        Ok(())
    })?;
    each::<Number>(view, Table::DiskByUuid, &mut |mut key, Number(number)| {
        let uuid = key.u128()?;
        key.end()?;
        let known = match u32::try_from(number) {
            Ok(number) => read::plain::<Disk>(view, &keys::disk(DiskId(number)))?,
            Err(_) => None,
        };
        findings.expect(known.is_some_and(|known| known.uuid.0 == uuid), || {
            format!("UUID {uuid:032x} leads to disk {number}, which has another")
        });
        Ok(())
    })
}

fn check_rows(view: &dyn ReadView, findings: &mut Findings) -> Result<(), StorageError> {
    let cluster = read::plain::<Cluster>(view, &keys::cluster())?;
    let partitions = cluster.map_or(0, |cluster| cluster.partitions);
    each::<PartitionRows>(view, Table::PartitionRows, &mut |mut key, rows| {
        let (pool, chunk) = (PoolId(key.u16()?), key.u32()?);
        key.end()?;
        let expected = ROWS_PER_CHUNK.min(partitions.saturating_sub(chunk.saturating_mul(ROWS_PER_CHUNK)));
        findings.expect(pool == PoolId::DEFAULT && rows.0.len() == expected as usize, || {
            format!("rows {chunk} of pool {pool} are {} and not {expected}", rows.0.len())
        });
        for OwnedRow { row, .. } in &rows.0 {
            for disk in row.current.iter().chain(&row.next) {
                let known = read::plain::<Disk>(view, &keys::disk(*disk))?.is_some();
                findings.expect(known, || format!("rows {chunk} name disk {disk}, which is not known"));
            }
        }
        Ok(())
    })
}

fn check_repairs(view: &dyn ReadView, findings: &mut Findings) -> Result<(), StorageError> {
    let (mut blocks, mut last): (u64, Option<BlockId>) = (0, None);
    each::<Marker>(view, Table::Repair, &mut |mut key, _| {
        let block = key.block()?;
        key.u32()?;
        key.end()?;
        blocks += u64::from(last != Some(block));
        last = Some(block);
        Ok(())
    })?;
    let counted = read::counter(view, Counter::UnderReplicatedBlocks, 0)?;
    findings.expect(blocks == counted, || format!("{blocks} blocks wait for repair, {counted} are counted"));
    Ok(())
}
