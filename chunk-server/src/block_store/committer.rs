//! Group commit: writes the records of many puts and makes them durable with one fdatasync. The only
//! code that writes to segments after recovery; it runs on one thread a disk.
//!
//! Durability: the order is records, fdatasync, (for a new segment) fsync of the folder, index,
//! answer. Nothing is answered `Durable` before all of it. After a failed sync the disk is failed.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use cairn_common::block::BlockId;
use cairn_common::ids::DiskUuid;
use cairn_common::protocol::chunk::PutOutcome;

use super::disk::{SegmentFile, SegmentId};
use super::index::{Change, Position};
use super::index_entry::IndexEntry;
use super::journal::News;
use super::prepared::PreparedBlock;
use super::record::{HEADER_BYTES, RECORD_ALIGN, RecordHeader, record_bytes};
use super::recovery::Recovered;
use super::room::Room;
use super::shared::Shared;
use cairn_common::telemetry::metric_names;

/// Space is reserved in steps of this, in bytes, so that segments are contiguous on the disk.
const RESERVE_STEP_BYTES: u64 = 32 << 20;
/// With no more free than this, in bytes, nothing is reserved: on a disk that is nearly full it would look
/// as if the write reserve were in use.
const ROOMY_BYTES: u64 = 8 * RESERVE_STEP_BYTES;
/// Generation of every record until garbage collection raises it.
const FIRST_GENERATION: u64 = 1;

/// Writes to one disk.
pub(super) struct Committer {
    shared: Arc<Shared>,
    disk: DiskUuid,
    active: Option<Active>,
    last_segment: SegmentId,
    last_batch: u64,
    /// A segment was made and the folder not synced since.
    folder_is_dirty: bool,
    /// There is enough room that some of it may be set aside for a segment.
    is_roomy: bool,
}

/// The segment that grows.
struct Active {
    segment: SegmentId,
    file: Arc<dyn SegmentFile>,
    end: u64,
    reserved: u64,
}

/// Where the outcome of a block comes from.
enum Place {
    Known(PutOutcome),
    Write(usize),
}

struct Write<'a> {
    block: &'a PreparedBlock,
    heals: bool,
    outcome: PutOutcome,
}

impl Committer {
    /// Goes on where recovery ended.
    pub(super) fn new(shared: Arc<Shared>, disk: DiskUuid, recovered: &Recovered) -> io::Result<Self> {
        let position = recovered.position;
        let active = if position.segment.0 == 0 || recovered.needs_new_segment {
            None
        } else {
            let file = shared.segments.file(position.segment)?;
            Some(Active { segment: position.segment, file, end: position.offset, reserved: position.offset })
        };
        Ok(Self {
            shared,
            disk,
            active,
            last_segment: position.segment,
            last_batch: position.batch,
            folder_is_dirty: false,
            is_roomy: false,
        })
    }

    /// Stores what the jobs bring; one outcome a block, in their order.
    pub(super) fn commit(&mut self, jobs: &[&[PreparedBlock]]) -> Vec<Vec<PutOutcome>> {
        let mut writes: Vec<Write<'_>> = Vec::new();
        let mut first: HashMap<BlockId, usize> = HashMap::new();
        let mut room = self.shared.room();
        self.is_roomy = room.for_puts(false) > ROOMY_BYTES;
        let mut place_of = |prepared| self.place(prepared, &mut writes, &mut first, &mut room);
        let places: Vec<Vec<Place>> = jobs.iter().map(|blocks| blocks.iter().map(&mut place_of).collect()).collect();
        let mut done = 0;
        while done < writes.len() && self.shared.health.failure().is_none() {
            let run = self.run_length(&writes[done..]);
            self.write_run(&mut writes[done..done + run]);
            done += run;
        }
        let outcome = |place: Place| match place {
            Place::Known(outcome) => outcome,
            Place::Write(index) => writes[index].outcome,
        };
        places.into_iter().map(|places| places.into_iter().map(outcome).collect()).collect()
    }

    fn place<'a>(
        &self,
        block: &'a PreparedBlock,
        writes: &mut Vec<Write<'a>>,
        first: &mut HashMap<BlockId, usize>,
        room: &mut Room,
    ) -> Place {
        if self.shared.health.failure().is_some() {
            return Place::Known(PutOutcome::NoDisk);
        }
        let name = block.block();
        if let Some(index) = first.get(&name) {
            return Place::Write(*index);
        }
        let known = match self.shared.index.entry(&name) {
            Ok(known) => known,
            Err(error) => {
                self.shared.health.fail(error.to_string());
                return Place::Known(PutOutcome::NoDisk);
            }
        };
        // In the index is only what is durable.
        if known.is_some_and(|known| !known.damaged) {
            metrics::counter!(metric_names::CHUNK_PUTS, "outcome" => "present").increment(1);
            return Place::Known(PutOutcome::Durable);
        }
        let bytes = record_bytes(block.data().len() as u32);
        if bytes > room.for_puts(block.may_use_reserve()) {
            return Place::Known(PutOutcome::NoSpace);
        }
        room.take(bytes);
        first.insert(name, writes.len());
        writes.push(Write { block, heals: known.is_some(), outcome: PutOutcome::NoDisk });
        Place::Write(writes.len() - 1)
    }

    /// How many of the writes go to the active segment; at least one, into a new segment if need be.
    fn run_length(&self, writes: &[Write<'_>]) -> usize {
        let mut room = match &self.active {
            Some(active) => self.shared.options.segment_bytes.saturating_sub(active.end),
            None => self.shared.options.segment_bytes,
        };
        let mut run = 0;
        for write in writes {
            let bytes = record_bytes(write.block.data().len() as u32);
            if bytes > room {
                break;
            }
            room -= bytes;
            run += 1;
        }
        run.max(1)
    }

    /// Writes records into one segment and makes them durable.
    fn write_run(&mut self, run: &mut [Write<'_>]) {
        match self.try_write_run(run) {
            Ok(()) => run.iter_mut().for_each(|write| write.outcome = PutOutcome::Durable),
            Err(Failure::Full) => run.iter_mut().for_each(|write| write.outcome = PutOutcome::NoSpace),
            Err(Failure::Disk(reason)) => self.shared.health.fail(reason),
        }
    }

    fn try_write_run(&mut self, run: &[Write<'_>]) -> Result<(), Failure> {
        let bytes: u64 = run.iter().map(|write| record_bytes(write.block.data().len() as u32)).sum();
        self.make_room(bytes)?;
        let Some(active) = &mut self.active else {
            return Err(Failure::Disk("no active segment".to_owned()));
        };
        let batch = self.last_batch + 1;
        let headers = headers(run, self.disk, active, batch);
        let encoded: Vec<[u8; HEADER_BYTES]> = headers.iter().map(RecordHeader::encode).collect();
        if let Err(error) = active.file.write_at(active.end, &pieces(run, &encoded)) {
            return Err(Self::written_badly(active, &error));
        }
        let began = Instant::now();
        active.file.sync_data().map_err(|error| disk("fdatasync of a segment", &error))?;
        metrics::histogram!(metric_names::CHUNK_FDATASYNC_SECONDS).record(began.elapsed().as_secs_f64());
        if self.folder_is_dirty {
            self.shared.segments.disk().sync_folder().map_err(|error| disk("fsync of the folder", &error))?;
            self.folder_is_dirty = false;
        }
        active.end += bytes;
        self.last_batch = batch;
        self.shared.add_used(bytes);
        let changes: Vec<Change> =
            headers.iter().map(|header| Change::Stored(header.block, IndexEntry::of(header, false))).collect();
        let position = Position { segment: active.segment, offset: active.end, batch };
        self.shared.index.apply(&changes, Some(position)).map_err(|error| Failure::Disk(error.to_string()))?;
        self.shared.index_is_dirty();
        for write in run.iter().filter(|write| write.heals) {
            self.shared.journal.add(write.block.block(), News::Repaired);
        }
        metrics::counter!(metric_names::CHUNK_PUTS, "outcome" => "stored").increment(run.len() as u64);
        metrics::histogram!(metric_names::CHUNK_BLOCKS_PER_FSYNC).record(run.len() as f64);
        metrics::counter!(metric_names::CHUNK_WRITTEN_BYTES).increment(bytes);
        Ok(())
    }

    /// Makes sure that the active segment takes so many bytes; begins a new one if it does not.
    fn make_room(&mut self, bytes: u64) -> Result<(), Failure> {
        let fits = |active: &Active| active.end == 0 || active.end + bytes <= self.shared.options.segment_bytes;
        if !self.active.as_ref().is_some_and(fits) {
            if let Some(full) = self.active.take() {
                // Only gives back what was reserved behind the end.
                if let Err(error) = full.file.truncate(full.end) {
                    tracing::warn!(segment = %full.segment, %error, "cannot give reserved space back");
                }
            }
            let segment = SegmentId(self.last_segment.0 + 1);
            let file = self.shared.segments.create(segment).map_err(|error| match is_full(&error) {
                true => Failure::Full,
                false => disk("creation of a segment", &error),
            })?;
            self.last_segment = segment;
            self.folder_is_dirty = true;
            self.active = Some(Active { segment, file, end: 0, reserved: 0 });
        }
        let is_roomy = self.is_roomy;
        let wants = |active: &&mut Active| is_roomy && active.end + bytes > active.reserved;
        if let Some(active) = self.active.as_mut().filter(wants) {
            let want = bytes.max(RESERVE_STEP_BYTES);
            let limit = self.shared.options.segment_bytes.saturating_sub(active.end).max(bytes);
            let step = want.min(limit);
            // A hint: file systems that cannot, and disks that are nearly full, go on without.
            if let Err(error) = active.file.reserve(active.end, step) {
                tracing::debug!(segment = %active.segment, %error, "cannot reserve space");
            }
            active.reserved = active.end + step;
        }
        Ok(())
    }

    /// After a failed write: a full disk is cut back and stays in service, any other is failed.
    fn written_badly(active: &Active, error: &io::Error) -> Failure {
        if is_full(error) {
            match active.file.truncate(active.end) {
                Ok(()) => Failure::Full,
                Err(error) => disk("cut of a segment after a full disk", &error),
            }
        } else {
            disk("write to a segment", error)
        }
    }
}

enum Failure {
    Full,
    Disk(String),
}

fn disk(action: &str, error: &io::Error) -> Failure {
    Failure::Disk(format!("{action} failed: {error}"))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn headers(run: &[Write<'_>], disk: DiskUuid, active: &Active, batch: u64) -> Vec<RecordHeader> {
    let mut offset = active.end;
    let mut headers = Vec::with_capacity(run.len());
    for write in run {
        let header = RecordHeader {
            disk,
            segment: active.segment,
            offset,
            batch,
            block: write.block.block(),
            shard: 0,
            generation: FIRST_GENERATION,
            encoding: write.block.encoding(),
            key_id: 0,
            logical_bytes: write.block.logical_bytes(),
            stored_bytes: write.block.data().len() as u32,
            stored_hash: write.block.tree().hash,
        };
        offset += header.record_bytes();
        headers.push(header);
    }
    headers
}

/// The bytes of the records one after another: header, chaining values, payload, padding.
fn pieces<'a>(run: &'a [Write<'_>], headers: &'a [[u8; HEADER_BYTES]]) -> Vec<IoSlice<'a>> {
    static PADDING: [u8; RECORD_ALIGN as usize] = [0; RECORD_ALIGN as usize];
    let mut pieces = Vec::with_capacity(run.len() * 4);
    for (write, header) in run.iter().zip(headers) {
        let groups = write.block.tree().groups.as_flattened();
        let data = write.block.data();
        let end = (HEADER_BYTES + groups.len() + data.len()) as u64;
        let padding = (end.next_multiple_of(RECORD_ALIGN) - end) as usize;
        pieces.push(IoSlice::new(header));
        if !groups.is_empty() {
            pieces.push(IoSlice::new(groups));
        }
        pieces.push(IoSlice::new(data));
        if padding > 0 {
            pieces.push(IoSlice::new(&PADDING[..padding]));
        }
    }
    pieces
}
