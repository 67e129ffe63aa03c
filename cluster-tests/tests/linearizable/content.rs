//! What reads and stats tell about a file, as facts for the checker.

use cairn_cluster_tests::checker::{Call, Inode, Reply, Value};
use rustix::fs::Stat;

use super::handle::Handle;
use super::recorder::{Recorder, Span};

/// A cell; four of them fill a page.
pub(super) const CELL_BYTES: usize = 1024;
const PAGE_CELLS: u32 = 4;
/// Cells that a read of everything asks for: more than a file grows to.
pub(super) const MOST_CELLS: u32 = 32;

/// A read. Linux copies page by page and looks at the size before each, so each page is a read with a
/// moment of its own; and a copy of a cell may meet one into it, so each word is.
pub(super) fn read(recorder: &mut Recorder<'_>, span: Span, handle: &Handle, (cell, cells): (u32, u32), bytes: &[u8]) {
    let inode = handle.inode;
    // Appenders bypass the kernel's pages.
    let fact = if handle.appends { Recorder::fact } else { Recorder::fact_through_pages };
    if !bytes.len().is_multiple_of(CELL_BYTES) {
        return recorder.broken(format!("read of inode {inode}: {} bytes are no number of cells", bytes.len()));
    }
    let mut found: Vec<Value> = Vec::new();
    for (index, bytes) in bytes.chunks_exact(CELL_BYTES).enumerate() {
        let seen = match values(bytes) {
            Ok(seen) => seen,
            Err(fault) => {
                return recorder.broken(format!("read of cell {} of inode {inode}: {fault}", cell as usize + index));
            }
        };
        found.push(seen[0]);
        for value in &seen[1..] {
            let call = Call::Cell { inode, cell: cell + index as u32 };
            fact(recorder, span, call, Reply::Cells(vec![*value]));
        }
    }
    for (from, cells) in pages(cell, cells) {
        let part = found.get((from - cell) as usize..).unwrap_or_default();
        let part = &part[..part.len().min(cells as usize)];
        fact(recorder, span, Call::Read { inode, cell: from, cells }, Reply::Cells(part.to_vec()));
    }
}

/// Cells, page by page: where each begins, and how many it has.
pub(super) fn pages(cell: u32, cells: u32) -> impl Iterator<Item = (u32, u32)> {
    let end = cell + cells;
    let next = move |from: u32| ((from / PAGE_CELLS + 1) * PAGE_CELLS).min(end);
    std::iter::successors(Some(cell), move |from| Some(next(*from)))
        .take_while(move |from| *from < end)
        .map(move |from| (from, next(from) - from))
}

/// The values of a cell's words, each once: one, unless a write was under way.
fn values(cell: &[u8]) -> Result<Vec<Value>, String> {
    let (words, _) = cell.as_chunks::<8>();
    let mut seen = Vec::new();
    for (position, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let value = (word >> 32) as Value;
        if value != 0 && word & 0xffff_ffff != position as u64 || value == 0 && word != 0 {
            return Err(format!("word {position} is {word:#x}, which nobody wrote there"));
        }
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    Ok(seen)
}

/// A stat of a file; answers its size in cells.
pub(super) fn attributes(recorder: &mut Recorder<'_>, span: Span, inode: Inode, found: &Stat) -> u32 {
    let size = found.st_size as u64;
    if !size.is_multiple_of(CELL_BYTES as u64) {
        recorder.broken(format!("stat of inode {inode}: {size} bytes are no number of cells"));
    }
    let cells = (size / CELL_BYTES as u64) as u32;
    recorder.fact(span, Call::Size { inode }, Reply::Size(cells));
    let links = u32::try_from(found.st_nlink).unwrap_or(u32::MAX);
    recorder.fact(span, Call::Stat { inode }, Reply::Attributes(found.st_mode & 0o7777, links));
    cells
}
