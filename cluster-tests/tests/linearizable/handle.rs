//! A file that is open, and what a program does through it.

use std::os::fd::OwnedFd;

use cairn_cluster_tests::checker::{Call, Inode, Reply, Value, cells};
use rustix::fs::{Mode, fchmod, fstat, ftruncate};
use rustix::io::{Errno, pread, pwrite, write};

use super::content::{self, CELL_BYTES};
use super::recorder::Recorder;

/// An open file.
pub(super) struct Handle {
    pub(super) inode: Inode,
    pub(super) fd: OwnedFd,
    /// Opened with O_APPEND: its writes land at the end, wherever they are meant to.
    pub(super) appends: bool,
}

impl Handle {
    /// Puts the value into cells: these, or as many at the end.
    pub(super) fn write(&self, recorder: &mut Recorder<'_>, cell: u32, cells: u32, value: Value) {
        let bytes = cells::fill(value, cells, CELL_BYTES);
        let inode = self.inode;
        if self.appends {
            let (result, span) = recorder.call("append", || write(&self.fd, &bytes));
            is_whole(recorder, "append", result, bytes.len());
            return recorder.done(span, Call::Append { inode, cells, value }, &result);
        }
        let (result, span) = recorder.call("write", || pwrite(&self.fd, &bytes, u64::from(cell) * CELL_BYTES as u64));
        is_whole(recorder, "write", result, bytes.len());
        // Linux hands it on page by page.
        for (cell, cells) in content::pages(cell, cells) {
            recorder.done(span, Call::Write { inode, cell, cells, value }, &result);
        }
    }

    /// Reads cells, up to the end.
    ///
    /// Of a file that is not read past its cache (as appenders do) Linux asks for the size first, and
    /// throws the answer away if it was told meanwhile that its attributes are old: it then reads up to
    /// a size of before. Only a stat has the answer itself; a read that ends elsewhere than stats before and
    /// after it is counted, and not judged.
    pub(super) fn read(&self, recorder: &mut Recorder<'_>, cell: u32, cells: u32) {
        let before = if self.appends { None } else { self.stat(recorder) };
        let mut bytes = vec![0; cells as usize * CELL_BYTES];
        let (result, span) =
            recorder.call("read", || pread(&self.fd, &mut bytes[..], u64::from(cell) * CELL_BYTES as u64));
        let length = match result {
            Ok(length) => length,
            Err(error) => {
                recorder.failure(&Call::Read { inode: self.inode, cell, cells }, error);
                return;
            }
        };
        let fits = |size: Option<u32>| {
            let end = size.unwrap_or(0).clamp(cell, cell + cells);
            length == (end - cell) as usize * CELL_BYTES
        };
        if self.appends || fits(self.stat(recorder)) && fits(before) {
            content::read(recorder, span, self, (cell, cells), &bytes[..length]);
        } else {
            recorder.seen.cut += 1;
        }
    }

    /// fstat; answers the size in cells.
    pub(super) fn stat(&self, recorder: &mut Recorder<'_>) -> Option<u32> {
        let (result, span) = recorder.call("fstat", || fstat(&self.fd));
        match result {
            Ok(found) => Some(content::attributes(recorder, span, self.inode, &found)),
            Err(error) => {
                recorder.failure(&Call::Size { inode: self.inode }, error);
                None
            }
        }
    }

    pub(super) fn truncate(&self, recorder: &mut Recorder<'_>, cells: u32) {
        let (result, span) = recorder.call("truncate", || ftruncate(&self.fd, u64::from(cells) * CELL_BYTES as u64));
        recorder.done(span, Call::Truncate { inode: self.inode, cells }, &result);
    }

    pub(super) fn change_mode(&self, recorder: &mut Recorder<'_>, mode: u32) {
        let (result, span) = recorder.call("chmod", || fchmod(&self.fd, Mode::from_raw_mode(mode)));
        let call = Call::ChangeMode { inode: self.inode, mode };
        let reply = match result {
            Ok(()) => Reply::Done,
            Err(error) => recorder.failure(&call, error),
        };
        recorder.fact(span, call, reply);
    }
}

fn is_whole(recorder: &mut Recorder<'_>, kind: &str, result: Result<usize, Errno>, bytes: usize) {
    if result.is_ok_and(|written| written != bytes) {
        recorder.broken(format!("{kind} of {bytes} bytes wrote {result:?}"));
    }
}
