//! A file that is exercised, and what must be in it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cairn_cluster_tests::harness::SharedMapping;
use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use rustix::fs::{Advice, FallocateFlags, copy_file_range, fadvise, fallocate};

use super::operation::Operation;

/// Steps that a failure shows.
const SHOWN: usize = 30;

/// Sizes, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Longest file.
    pub(crate) length: u64,
    /// Longest range of one operation.
    pub(crate) operation: u64,
}

/// One file on several mounts, and its bytes as they must be.
pub(crate) struct Exerciser {
    rng: StdRng,
    limits: Limits,
    /// The file's path on each mount, and a descriptor that stays open there.
    sites: Vec<(PathBuf, File)>,
    expected: Vec<u8>,
    /// Leaders die meanwhile: reads may be cut at an older length (docs/semantics.md).
    failovers: bool,
    /// Reads that were right when they were tried again.
    cut: u64,
    steps: u64,
    last: VecDeque<String>,
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).expect("open")
}

fn span(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

impl Exerciser {
    /// Makes the file, empty, at the first of the paths; all of them lead to it.
    pub(crate) fn new(rng: StdRng, limits: Limits, paths: Vec<PathBuf>, failovers: bool) -> Self {
        let sites = paths.into_iter().map(|path| (path.clone(), open(&path))).collect();
        Self { rng, limits, sites, expected: Vec::new(), failovers, cut: 0, steps: 0, last: VecDeque::new() }
    }

    /// One operation on one of the mounts.
    pub(crate) fn step(&mut self) {
        let site = self.rng.random_range(0..self.sites.len());
        let operation = Operation::random(&mut self.rng, self.limits, self.expected.len() as u64);
        self.steps += 1;
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(format!("{} mount {site} {operation:?}, {} bytes", self.steps, self.expected.len()));
        self.carry_out(site, operation);
        if self.rng.random_bool(0.02) {
            self.compare_all();
        }
    }

    /// Reads all of it on every mount.
    pub(crate) fn compare_all(&mut self) {
        for site in 0..self.sites.len() {
            let whole = std::fs::read(&self.sites[site].0).unwrap_or_else(|error| self.fail("read all", &error));
            self.compare(site, "read all", 0, &whole, self.expected.len());
        }
    }

    fn carry_out(&mut self, site: usize, operation: Operation) {
        let file = &self.sites[site].1;
        let result = match &operation {
            Operation::Read(range) => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                let mut count = read_fully(file, range.start, &mut bytes);
                let right = self.expected.len().saturating_sub(range.start as usize).min(bytes.len());
                if self.failovers && count.as_ref().is_ok_and(|count| *count < right) {
                    self.cut += 1;
                    count = read_fully(&self.sites[site].1, range.start, &mut bytes);
                }
                count.map(|count| self.compare(site, "read", range.start, &bytes[..count], bytes.len()))
            }
            Operation::MapRead(range) => self.map(site, range, |exerciser, bytes| {
                exerciser.compare(site, "mapped read", range.start, bytes, bytes.len());
            }),
            Operation::Write(range) => {
                let bytes = self.fresh(range);
                self.sites[site].1.write_all_at(&bytes, range.start).map(|()| self.put(range, &bytes))
            }
            Operation::MapWrite(range) => self.map_write(site, range),
            Operation::Append(count) => {
                let end = self.expected.len() as u64;
                let bytes = self.fresh(&(end..end + count));
                let opened = File::options().append(true).open(&self.sites[site].0);
                // One call: only that is atomic.
                opened.and_then(|mut file| file.write(&bytes)).map(|written| {
                    assert_eq!(written, bytes.len(), "an append was cut");
                    self.put(&(end..end + count), &bytes);
                })
            }
            Operation::Truncate(length) => file.set_len(*length).map(|()| self.expected.resize(*length as usize, 0)),
            Operation::Punch(range) => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                self.fallocate(site, flags, range).map(|()| self.zero(range, true))
            }
            Operation::Zero(range, keep) => {
                let keeps = if *keep { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
                self.fallocate(site, FallocateFlags::ZERO_RANGE | keeps, range).map(|()| self.zero(range, *keep))
            }
            Operation::Allocate(range) => self.fallocate(site, FallocateFlags::empty(), range).map(|()| {
                let length = self.expected.len().max(range.end as usize);
                self.expected.resize(length, 0);
            }),
            Operation::CopyRange(source, to) => self.copy(site, source, *to),
            Operation::Size => file.metadata().map(|seen| self.check_length(site, seen.len())),
            Operation::Sync(data) => {
                if *data {
                    file.sync_data()
                } else {
                    file.sync_all()
                }
            }
            Operation::Reopen => {
                self.sites[site].1 = open(&self.sites[site].0);
                Ok(())
            }
            Operation::DropPages => fadvise(file, 0, None, Advice::DontNeed).map_err(Into::into),
            Operation::Empty => {
                File::options().write(true).truncate(true).open(&self.sites[site].0).map(|_| self.expected.clear())
            }
        };
        result.unwrap_or_else(|error| self.fail("failed", &error));
    }

    fn fallocate(&self, site: usize, flags: FallocateFlags, range: &Range<u64>) -> std::io::Result<()> {
        Ok(fallocate(&self.sites[site].1, flags, range.start, range.end - range.start)?)
    }

    /// A mapping of a descriptor of its own, which the kernel asks about when it is opened.
    fn map(&self, site: usize, range: &Range<u64>, look: impl FnOnce(&Self, &[u8])) -> std::io::Result<()> {
        if self.expected.is_empty() {
            return Ok(());
        }
        let file = open(&self.sites[site].0);
        self.know_length(site, &file)?;
        let mut mapping = SharedMapping::of(&file, self.expected.len())?;
        look(self, &mapping.bytes_mut()[span(range)]);
        Ok(())
    }

    fn map_write(&mut self, site: usize, range: &Range<u64>) -> std::io::Result<()> {
        let file = open(&self.sites[site].0);
        // As every program that maps a file: it must know how long that is.
        self.know_length(site, &file)?;
        if self.expected.len() < range.end as usize {
            file.set_len(range.end)?;
            self.expected.resize(range.end as usize, 0);
        }
        let bytes = self.fresh(range);
        let mut mapping = SharedMapping::of(&file, range.end as usize)?;
        mapping.bytes_mut()[span(range)].copy_from_slice(&bytes);
        mapping.sync()?;
        self.put(range, &bytes);
        Ok(())
    }

    fn copy(&mut self, site: usize, source: &Range<u64>, to: u64) -> std::io::Result<()> {
        let file = &self.sites[site].1;
        // Linux cuts the range at the length that it knows, and asks for none (docs/semantics.md).
        self.know_length(site, file)?;
        let (mut from, mut at) = (source.start, to);
        while from < source.end {
            let left = (source.end - from) as usize;
            let copied = copy_file_range(file, Some(&mut from), file, Some(&mut at), left)?;
            if copied == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let bytes = self.expected[span(source)].to_vec();
        self.put(&(to..to + bytes.len() as u64), &bytes);
        Ok(())
    }

    /// Bytes that were never in the file before, all but certainly.
    fn fresh(&mut self, range: &Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    fn put(&mut self, range: &Range<u64>, bytes: &[u8]) {
        let length = self.expected.len().max(range.end as usize);
        self.expected.resize(length, 0);
        self.expected[span(range)].copy_from_slice(bytes);
    }

    fn zero(&mut self, range: &Range<u64>, keep_length: bool) {
        if !keep_length && self.expected.len() < range.end as usize {
            self.expected.resize(range.end as usize, 0);
        }
        let end = self.expected.len().min(range.end as usize);
        let from = end.min(range.start as usize);
        self.expected[from..end].fill(0);
    }

    /// Has the kernel ask for the length. It may throw the answer away (docs/semantics.md), and then uses the
    /// length of before, once: a seek to the end shows which it has.
    fn know_length(&self, site: usize, mut file: &File) -> std::io::Result<()> {
        self.check_length(site, file.metadata()?.len());
        let length = self.expected.len() as u64;
        for _ in 0..3 {
            if file.seek(SeekFrom::End(0))? == length {
                return Ok(());
            }
        }
        self.fail("failed", &"the kernel does not take the length in")
    }

    /// Reads that were cut at an older length while a new leader took over.
    pub(crate) fn cut(&self) -> u64 {
        self.cut
    }

    fn check_length(&self, site: usize, length: u64) {
        if length != self.expected.len() as u64 {
            self.fail(&format!("mount {site}: the length"), &format!("{length} instead of {}", self.expected.len()));
        }
    }

    /// `found` are bytes from `offset` on, where `wanted` were asked for.
    fn compare(&self, site: usize, what: &str, offset: u64, found: &[u8], wanted: usize) {
        let from = self.expected.len().min(offset as usize);
        let right = &self.expected[from..self.expected.len().min(offset as usize + wanted)];
        if found == right {
            return;
        }
        let at = found.iter().zip(right).position(|(a, b)| a != b).unwrap_or(found.len().min(right.len()));
        let wrong = found.iter().zip(right).filter(|(a, b)| a != b).count();
        let show = |bytes: &[u8]| bytes.iter().skip(at).take(16).copied().collect::<Vec<u8>>();
        self.fail(
            &format!("mount {site}: {what} of {wanted} bytes at {offset}"),
            &format!(
                "{} bytes instead of {}; {wrong} differ, the first at {}: {:?} instead of {:?}",
                found.len(),
                right.len(),
                offset as usize + at,
                show(found),
                show(right)
            ),
        )
    }

    fn fail(&self, what: &str, error: &dyn std::fmt::Display) -> ! {
        let last: Vec<&str> = self.last.iter().map(String::as_str).collect();
        panic!("step {}: {what}: {error}\n{}", self.steps, last.join("\n"))
    }
}

/// Up to the end of the file.
fn read_fully(file: &File, offset: u64, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}
