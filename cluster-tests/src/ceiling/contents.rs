//! The bytes of a file in memory: pieces of 1 MiB, so that a file grows without being copied.

const PIECE: usize = 1 << 20;

/// Bytes of a file. Holes read as zeros and cost nothing until they are written.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// A piece may be shorter than it could be: what is missing is zeros.
    pieces: Vec<Vec<u8>>,
    length: u64,
}

impl Contents {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that take up memory.
    pub(super) fn allocated(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    pub(super) fn write(&mut self, offset: u64, mut data: &[u8]) {
        let mut at = offset as usize;
        self.length = self.length.max(offset + data.len() as u64);
        while !data.is_empty() {
            let (piece, within) = (at / PIECE, at % PIECE);
            let take = data.len().min(PIECE - within);
            if self.pieces.len() <= piece {
                self.pieces.resize_with(piece + 1, Vec::new);
            }
            let piece = &mut self.pieces[piece];
            if piece.len() < within + take {
                piece.resize(within + take, 0);
            }
            piece[within..within + take].copy_from_slice(&data[..take]);
            data = &data[take..];
            at += take;
        }
    }

    /// At most `size` bytes; fewer at the end of the file.
    pub(super) fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let size = size.min(self.length.saturating_sub(offset) as usize);
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let at = offset as usize + bytes.len();
            let (piece, within) = (at / PIECE, at % PIECE);
            let take = (size - bytes.len()).min(PIECE - within);
            let stored = self.pieces.get(piece).and_then(|piece| piece.get(within..)).unwrap_or_default();
            let stored = &stored[..stored.len().min(take)];
            bytes.extend_from_slice(stored);
            bytes.resize(bytes.len() + take - stored.len(), 0);
        }
        bytes
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            let (piece, within) = (length as usize / PIECE, length as usize % PIECE);
            self.pieces.truncate(piece + usize::from(within > 0));
            if let Some(last) = self.pieces.get_mut(piece) {
                last.truncate(within);
            }
        }
        self.length = length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_cut_tails_are_zeros() {
        let mut contents = Contents::default();
        contents.write(PIECE as u64 - 1, b"abc");
        assert_eq!(contents.read(PIECE as u64 - 2, 100), b"\0abc");
        contents.set_length(PIECE as u64);
        contents.set_length(PIECE as u64 + 2);
        assert_eq!(contents.read(PIECE as u64 - 1, 100), b"a\0\0");
        assert_eq!(contents.length(), PIECE as u64 + 2);
    }
}
