//! File contents of checked histories: cells of one length, each written by one write with its own value,
//! so that a read tells which write it sees, and a mix of two is noticed.

use super::history::Value;

/// The bytes of cells with this value, `cell_bytes` each.
pub fn fill(value: Value, cells: u32, cell_bytes: usize) -> Vec<u8> {
    let mut cell = Vec::with_capacity(cell_bytes);
    for position in 0..cell_bytes / 8 {
        cell.extend_from_slice(&(u64::from(value) << 32 | position as u64).to_le_bytes());
    }
    cell.repeat(cells as usize)
}

/// The values of whole cells; an error tells which cell holds something that nobody wrote.
pub fn values(bytes: &[u8], cell_bytes: usize) -> Result<Vec<Value>, String> {
    if !bytes.len().is_multiple_of(cell_bytes) {
        return Err(format!("{} bytes, which is no number of cells of {cell_bytes}", bytes.len()));
    }
    bytes
        .chunks_exact(cell_bytes)
        .enumerate()
        .map(|(index, cell)| value(cell).ok_or(index))
        .collect::<Result<_, _>>()
        .map_err(|index| format!("cell {index} holds a mix of writes, or bytes that nobody wrote"))
}

fn value(cell: &[u8]) -> Option<Value> {
    if cell.iter().all(|byte| *byte == 0) {
        return Some(0);
    }
    let (words, []) = cell.as_chunks::<8>() else { return None };
    let value = (u64::from_le_bytes(*words.first()?) >> 32) as u32;
    let right =
        |(position, word): (usize, &[u8; 8])| u64::from_le_bytes(*word) == (u64::from(value) << 32 | position as u64);
    words.iter().enumerate().all(right).then_some(value)
}
