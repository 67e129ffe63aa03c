//! How much may still be written to a disk: what is free for everybody, and the write reserve behind it.

use super::disk::Space;
use super::options::StoreOptions;

/// Most of the reserve, in bytes, that is left to the index and the file system when puts may use it.
const FLOOR_BYTES: u64 = 64 << 20;

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// The disk's capacity.
    pub(super) total_bytes: u64,
    /// Free, with the reserve.
    pub(super) free_bytes: u64,
    /// The reserve, as far as the capacity allows for one.
    pub(super) reserve_bytes: u64,
    /// See [`Space::file_system`].
    pub(super) file_system: u64,
}

impl Room {
    /// What a file system has for a store that uses `used` bytes of it.
    pub(super) fn of(space: Space, used: u64, options: &StoreOptions) -> Self {
        let (total_bytes, free_bytes) = match options.capacity_bytes {
            0 => (space.total_bytes, space.free_bytes),
            limit => (limit.min(space.total_bytes), limit.saturating_sub(used).min(space.free_bytes)),
        };
        Self { total_bytes, free_bytes, reserve_bytes: options.reserve(total_bytes), file_system: space.file_system }
    }

    /// What a put may take that may use the reserve, or not.
    pub(super) fn for_puts(&self, may_use_reserve: bool) -> u64 {
        let kept = if may_use_reserve { (self.reserve_bytes / 4).min(FLOOR_BYTES) } else { self.reserve_bytes };
        self.free_bytes.saturating_sub(kept)
    }

    /// So many bytes go.
    pub(super) fn take(&mut self, bytes: u64) {
        self.free_bytes = self.free_bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_within_the_capacity_and_leaves_a_floor() {
        let options = StoreOptions { capacity_bytes: 1000, reserve_bytes: Some(100), ..StoreOptions::default() };
        let space = Space { total_bytes: 5000, free_bytes: 4000, file_system: 7 };
        let mut room = Room::of(space, 600, &options);
        assert_eq!((room.total_bytes, room.free_bytes), (1000, 400));
        assert_eq!((room.for_puts(false), room.for_puts(true)), (300, 375));
        room.take(350);
        assert_eq!((room.for_puts(false), room.for_puts(true)), (0, 25));
        let room = Room::of(Space { free_bytes: 90, ..space }, 600, &options);
        assert_eq!(room.for_puts(false), 0, "the file system is full with something else");
    }
}
