//! [`Disk`] on a folder of the operating system's file system. It does what the trait says and
//! nothing else: no caching, no retry, no format knowledge.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use super::disk::{Disk, SegmentFile, SegmentId, Space};

/// Most buffers in one pwritev (Linux IOV_MAX).
const MAX_PIECES: usize = 1024;

/// Names the running kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A folder that holds segment files, named by their number in 16 hexadecimal digits.
#[derive(Debug)]
pub struct FileDisk {
    folder: PathBuf,
}

impl FileDisk {
    /// Uses an existing folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    fn path(&self, segment: SegmentId) -> PathBuf {
        self.folder.join(format!("{segment}.segment"))
    }
}

impl Disk for FileDisk {
    fn list(&self) -> io::Result<Vec<SegmentId>> {
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".segment"));
            if let Some(number) = number.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
                segments.push(SegmentId(number));
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    fn create(&self, segment: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path(segment))?;
        Ok(Arc::new(FileSegment { file }))
    }

    fn open(&self, segment: SegmentId) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(segment))?;
        Ok(Arc::new(FileSegment { file }))
    }

    fn remove(&self, segment: SegmentId) -> io::Result<()> {
        std::fs::remove_file(self.path(segment))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(Space {
            total_bytes: stat.f_blocks * stat.f_frsize,
            free_bytes: stat.f_bavail * stat.f_frsize,
            file_system: file_system(rustix::fs::stat(&self.folder)?.st_dev),
        })
    }
}

/// A device number means something within one running kernel only; servers in several containers have one.
fn file_system(device: u64) -> u64 {
    let Ok(boot) = std::fs::read(BOOT_ID) else { return 0 };
    let hash = blake3::Hasher::new().update(&boot).update(&device.to_le_bytes()).finalize();
    let mut number = [0; 8];
    number.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(number)
}

/// An open segment file.
#[derive(Debug)]
struct FileSegment {
    file: File,
}

impl SegmentFile for FileSegment {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn write_at(&self, mut offset: u64, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        let mut pieces: Vec<IoSlice<'_>> = pieces.to_vec();
        let mut left = pieces.as_mut_slice();
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match rustix::io::pwritev(&self.file, &left[..left.len().min(MAX_PIECES)], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            let before = bytes.len();
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) => debug_assert!(bytes.len() > before),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The allocator may have given more room than was asked for.
        bytes.truncate(length);
        Ok(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, length)?)
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, mode, offset, length)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_written_read_cut_and_listed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(folder.path());
        std::fs::write(folder.path().join("other"), b"x").unwrap();
        let file = disk.create(SegmentId(18)).unwrap();
        assert!(disk.create(SegmentId(18)).is_err(), "a segment is never made twice");
        disk.create(SegmentId(2)).unwrap();
        assert_eq!(disk.list().unwrap(), [SegmentId(2), SegmentId(18)]);

        let many: Vec<Vec<u8>> = (0..3000u32).map(|i| vec![i as u8; (i % 3) as usize]).collect();
        let pieces: Vec<IoSlice<'_>> = many.iter().map(|piece| IoSlice::new(piece)).collect();
        file.write_at(10, &pieces).unwrap();
        assert_eq!(file.read_at(10, 1 << 20).unwrap(), many.concat(), "more pieces than one pwritev takes");
        assert_eq!(file.read_at(11, 5).unwrap(), many.concat()[1..6]);
        assert!(file.read_at(1 << 30, 5).unwrap().is_empty());
        file.sync_data().unwrap();
        disk.sync_folder().unwrap();
        file.truncate(12).unwrap();
        assert_eq!(disk.open(SegmentId(18)).unwrap().length().unwrap(), 12);
        assert!(disk.space().unwrap().total_bytes > 0);
        disk.remove(SegmentId(2)).unwrap();
        assert_eq!(disk.list().unwrap(), [SegmentId(18)]);
    }
}
