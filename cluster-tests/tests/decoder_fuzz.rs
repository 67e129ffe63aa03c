//! Bounded fuzzing of every decoder of bytes that others wrote: wire messages, frames, commands and
//! persisted records. No input panics or makes it allocate much more than it is long; what decodes
//! encodes to something that decodes to the same. Inputs are random bytes and mutations of inputs
//! that decoded before, so that the interesting ones breed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use cairn_cluster_tests::harness::Seed;
use cairn_common::codec;
use cairn_common::protocol::{FsError, ServiceError};
use cairn_common::protocol::{admin, chunk, chunk_control, metadata};
use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Time for each type.
const TIME: Duration = Duration::from_millis(700);
/// Most bytes that decoding may allocate at once. serde trusts a length up to 1 MiB.
const MAX_ALLOCATION: usize = 5 << 20;
/// Inputs that are kept to be mutated.
const CORPUS: usize = 400;

/// Notes the largest single allocation of the thread.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Breeds inputs for `decode` until the time is over; answers the distinct first bytes of inputs
/// that decoded (for an enum: its variants), and how many decoded.
fn fuzz<T>(seed: u64, decode: impl Fn(&[u8]) -> Option<T>, check: impl Fn(&T)) -> (BTreeSet<u8>, usize) {
    let mut rng = Seed(seed).rng(77);
    let (mut corpus, mut variants, mut decoded): (Vec<Vec<u8>>, _, _) = (Vec::new(), BTreeSet::new(), 0);
    let start = Instant::now();
    while start.elapsed() < TIME {
        let input = if corpus.is_empty() || rng.random_bool(0.3) {
            random_input(&mut rng)
        } else {
            let parent = &corpus[rng.random_range(0..corpus.len())];
            mutate(parent, &corpus[rng.random_range(0..corpus.len())], &mut rng)
        };
        LARGEST.set(0);
        let value = decode(&input);
        let largest = LARGEST.get();
        assert!(
            largest <= MAX_ALLOCATION.max(16 * input.len()),
            "{} bytes made the decoder allocate {largest}: {input:02x?}",
            input.len()
        );
        if let Some(value) = value {
            check(&value);
            decoded += 1;
            let is_new = input.first().is_some_and(|byte| variants.insert(*byte));
            if is_new || corpus.len() < CORPUS {
                corpus.push(input);
            } else {
                let place = rng.random_range(0..corpus.len());
                corpus[place] = input;
            }
        }
    }
    (variants, decoded)
}

/// Short, and rich in small numbers: tags and lengths.
fn random_input(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; if rng.random_bool(0.9) { rng.random_range(0..120) } else { rng.random_range(0..4_000) }];
    if rng.random_bool(0.3) {
        rng.fill_bytes(&mut bytes);
    } else {
        let most = [1, 3, 20, 255][rng.random_range(0..4)];
        bytes.iter_mut().for_each(|byte| *byte = rng.random_range(0..=most));
        if let Some(first) = bytes.first_mut() {
            *first = rng.random_range(0..24);
        }
    }
    bytes
}

fn mutate(parent: &[u8], other: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = parent.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let place = rng.random_range(0..=bytes.len());
        match rng.random_range(0..7) {
            0 => bytes.truncate(place),
            1 => bytes.insert(place, rng.random()),
            2 if place < bytes.len() => drop(bytes.remove(place)),
            3 if place < bytes.len() => bytes[place] ^= 1 << rng.random_range(0..8),
            // A length, as bincode writes large ones.
            4 => drop(bytes.splice(place..place, [[251, 252, 253][rng.random_range(0..3)], 255, 255, 255, 255])),
            5 => {
                let from = rng.random_range(0..=other.len());
                bytes.truncate(place);
                bytes.extend(&other[from..]);
            }
            _ if place < bytes.len() => bytes[place] = [0, 1, 250, 251, 252, 253, 255][rng.random_range(0..7)],
            _ => {}
        }
    }
    bytes
}

/// Fuzzes a codec message that has at least so many variants.
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, at_least: usize) {
    let seed = Seed::new(name).0;
    let check = |value: &T| {
        let encoded = codec::encode(value).expect("what was decoded can be encoded");
        let again: T = codec::decode(&encoded).expect("and decoded again");
        assert_eq!(&again, value);
        assert_eq!(codec::encode(&again).expect("the same"), encoded, "encoding is stable");
    };
    let (variants, decoded) = fuzz(seed, |bytes| codec::decode::<T>(bytes).ok(), check);
    eprintln!("{name}: {decoded} inputs decoded, {} variants", variants.len());
    assert!(variants.len() >= at_least, "{name}: only {} of {at_least} variants were met", variants.len());
}

#[test]
fn metadata_messages() {
    message::<metadata::MetadataRequest>("MetadataRequest", 9);
    message::<metadata::MetadataReply>("MetadataReply", 7);
    message::<metadata::Mutation>("Mutation", 11);
    message::<metadata::Query>("Query", 8);
    message::<metadata::MutationResult>("MutationResult", 5);
    message::<metadata::QueryResult>("QueryResult", 6);
}

#[test]
fn chunk_messages() {
    message::<chunk::ChunkRequest>("ChunkRequest", 4);
    message::<chunk::ChunkReply>("ChunkReply", 4);
    message::<chunk_control::ChunkControlRequest>("ChunkControlRequest", 3);
    message::<chunk_control::ChunkControlReply>("ChunkControlReply", 3);
}

#[test]
fn admin_messages_and_errors() {
    message::<admin::AdminRequest>("AdminRequest", 4);
    message::<admin::AdminReply>("AdminReply", 4);
    message::<ServiceError>("ServiceError", 9);
    message::<FsError>("FsError", 20);
}

#[test]
fn commands_of_raft_entries() {
    use cairn_meta::namespace::command::{Action, Command, Outcome};
    message::<Action>("Action", 10);
    message::<Outcome>("Outcome", 8);
    message::<Command>("Command", 20);
}

/// Headers of the chunk store's records: any bytes, and any bytes below a checksum that fits.
#[test]
fn headers_of_chunk_records() {
    use cairn_chunk::block_store::record::{HEADER_BYTES, MAGIC, RecordHeader};
    /// Bytes that the checksum, which follows them, covers.
    const COVERED: usize = 176;
    let sealed = |input: &[u8]| {
        let mut bytes = [0; HEADER_BYTES];
        let length = input.len().min(HEADER_BYTES);
        bytes[..length].copy_from_slice(&input[..length]);
        let loose = RecordHeader::decode(&bytes).ok();
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        // Version, plain, no shard, groups of 16 KiB: most inputs are to come further than these.
        let wanted = [1, bytes[9] & 1, bytes[10], 14 | (bytes[11] & 1)];
        bytes[8..12].copy_from_slice(&wanted);
        bytes[58..60].fill(0);
        let checksum = blake3::hash(&bytes[..COVERED]);
        bytes[COVERED..].copy_from_slice(&checksum.as_bytes()[..HEADER_BYTES - COVERED]);
        RecordHeader::decode(&bytes).ok().or(loose)
    };
    let check = |header: &RecordHeader| {
        assert_eq!(RecordHeader::decode(&header.encode()), Ok(*header), "what was read is written the same");
        assert!(header.record_bytes() > HEADER_BYTES as u64);
    };
    let (_, decoded) = fuzz(Seed::new("RecordHeader").0, sealed, check);
    eprintln!("RecordHeader: {decoded} inputs decoded");
    assert!(decoded > 1000, "hardly any input came as far as a header");
}
