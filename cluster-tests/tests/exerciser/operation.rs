//! What the exerciser does in one step.

use std::ops::Range;

use rand::Rng;
use rand::rngs::StdRng;

use super::exerciser::Limits;

/// A step, on one mount. Ranges are of bytes.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// pread(2) through the descriptor that stays open.
    Read(Range<u64>),
    /// The same through a new mapping.
    MapRead(Range<u64>),
    /// pwrite(2).
    Write(Range<u64>),
    /// Stores through a new mapping, msync(2).
    MapWrite(Range<u64>),
    /// write(2) with `O_APPEND`.
    Append(u64),
    /// ftruncate(2).
    Truncate(u64),
    /// fallocate(2), `FALLOC_FL_PUNCH_HOLE`.
    Punch(Range<u64>),
    /// fallocate(2), `FALLOC_FL_ZERO_RANGE`, perhaps with `FALLOC_FL_KEEP_SIZE`.
    Zero(Range<u64>, bool),
    /// fallocate(2).
    Allocate(Range<u64>),
    /// copy_file_range(2) to this offset of the same file.
    CopyRange(Range<u64>, u64),
    /// fstat(2).
    Size,
    /// fsync(2), or fdatasync(2).
    Sync(bool),
    /// close(2) and open(2).
    Reopen,
    /// posix_fadvise(2), `POSIX_FADV_DONTNEED`: pages of the kernel go.
    DropPages,
    /// open(2) with `O_TRUNC`, seldom.
    Empty,
}

impl Operation {
    /// One of them by chance, for a file that is `length` bytes long now.
    pub(crate) fn random(rng: &mut StdRng, limits: Limits, length: u64) -> Self {
        // Short ranges often: what goes wrong does so at the edges of pages and blocks.
        let most = if rng.random_bool(0.3) { 64 } else { limits.operation };
        let range = |rng: &mut StdRng, end: u64| {
            let from = rng.random_range(0..end.max(1));
            from..(from + rng.random_range(1..=most)).min(end.max(1))
        };
        match rng.random_range(0..100) {
            0..16 => Self::Read(range(rng, limits.length)),
            16..26 => Self::MapRead(range(rng, length)),
            26..42 => Self::Write(range(rng, limits.length)),
            42..52 => Self::MapWrite(range(rng, limits.length)),
            52..58 if length < limits.length => Self::Append(rng.random_range(1..=most.min(limits.length - length))),
            58..64 => Self::Truncate(rng.random_range(0..=limits.length)),
            64..70 => Self::Punch(range(rng, limits.length)),
            70..74 => Self::Zero(range(rng, limits.length), rng.random()),
            74..77 => Self::Allocate(range(rng, limits.length)),
            77..83 if length > 1 => {
                let source = range(rng, length);
                let count = source.end - source.start;
                // Behind it or before it: the kernel refuses ranges that overlap.
                let behind = source.end..limits.length.saturating_sub(count).max(source.end);
                let before = 0..source.start.saturating_sub(count);
                let to = if before.is_empty() || rng.random() { behind } else { before };
                let to = rng.random_range(to.start..=to.end);
                Self::CopyRange(source, to)
            }
            83..89 => Self::Size,
            89..93 => Self::Sync(rng.random()),
            93..97 => Self::Reopen,
            97..99 => Self::DropPages,
            99 if rng.random_bool(0.2) => Self::Empty,
            _ => Self::Size,
        }
    }
}
