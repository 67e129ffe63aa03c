//! Flips bytes of a chunk server's segment files behind its back, as a disk that rots does.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;

/// Bytes that were flipped, to be flipped back.
pub struct Flipper {
    flipped: Vec<(PathBuf, u64)>,
}

impl Flipper {
    /// Flips one byte in about every `step` bytes of data of every segment file under `folder`.
    pub fn flip(folder: &Path, step: u64, rng: &mut StdRng) -> io::Result<Self> {
        let mut flipped = Vec::new();
        for path in segments(folder)? {
            let file = File::options().read(true).write(true).open(&path)?;
            let mut offset = rng.random_range(0..step);
            while let Some((start, end)) = next_data(&file, offset)? {
                offset = start.max(offset);
                while offset < end {
                    flip_byte(&file, offset)?;
                    flipped.push((path.clone(), offset));
                    offset += rng.random_range(1..2 * step);
                }
            }
            file.sync_all()?;
        }
        Ok(Self { flipped })
    }

    /// Number of bytes flipped.
    pub fn count(&self) -> usize {
        self.flipped.len()
    }

    /// Flips them back: what was repaired meanwhile lies elsewhere and is not touched.
    pub fn undo(self) -> io::Result<()> {
        for (path, offset) in self.flipped {
            match File::options().read(true).write(true).open(&path) {
                Ok(file) => flip_byte(&file, offset)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn flip_byte(file: &File, offset: u64) -> io::Result<()> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    byte[0] ^= 0x40;
    file.write_all_at(&byte, offset)
}

/// The next range at or behind `offset` that is no hole.
fn next_data(file: &File, offset: u64) -> io::Result<Option<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Segment files: all files of the folder `segments` of a disk.
fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(segments(&path)?);
        } else if path.parent().and_then(Path::file_name).is_some_and(|name| name == "segments") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
