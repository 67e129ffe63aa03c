//! Frames on a QUIC stream: writing whole ones, reading whole ones. Data is copied once on the way
//! in (from packets into one buffer) and not at all on the way out. It bounds sizes, not time: the
//! callers bound time.

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};

use crate::transport::frame::{ANSWER_BYTES, AnswerFrame, FrameError, REQUEST_BYTES, RequestFrame, Status};

/// Packets taken from the connection under one lock.
const CHUNKS: usize = 32;
/// A message up to this size, in bytes, is copied behind the fixed header to be sent as one piece.
const JOIN_BYTES: usize = 4 << 10;

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFrameError {
    /// The stream or connection broke.
    #[error(transparent)]
    Stream(#[from] ReadError),
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Reads exact numbers of bytes.
pub(super) struct FrameReader {
    stream: RecvStream,
    chunks: [Bytes; CHUNKS],
    next: usize,
    filled: usize,
    received: usize,
}

impl FrameReader {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, chunks: std::array::from_fn(|_| Bytes::new()), next: 0, filled: 0, received: 0 }
    }

    /// The stream, to stop it.
    pub(super) fn stream(&mut self) -> &mut RecvStream {
        &mut self.stream
    }

    pub(super) async fn request(&mut self) -> Result<RequestFrame, ReadFrameError> {
        let mut fixed = [0; REQUEST_BYTES];
        self.fill(&mut fixed).await?;
        Ok(RequestFrame::decode(&fixed)?)
    }

    pub(super) async fn answer(&mut self) -> Result<AnswerFrame, ReadFrameError> {
        let mut fixed = [0; ANSWER_BYTES];
        self.fill(&mut fixed).await?;
        Ok(AnswerFrame::decode(&fixed)?)
    }

    /// Message and payload, after which the stream must end.
    pub(super) async fn body(&mut self, header: usize, payload: usize) -> Result<(Bytes, Bytes), ReadFrameError> {
        let header = self.take(header).await?;
        let payload = self.take(payload).await?;
        let want = self.received;
        if self.more().await? {
            return Err(FrameError::Length { have: want + 1, want }.into());
        }
        Ok((header, payload))
    }

    async fn take(&mut self, bytes: usize) -> Result<Bytes, ReadFrameError> {
        // The frame's limits were checked; untouched pages of a large buffer cost nothing.
        let mut out = BytesMut::with_capacity(bytes);
        while out.len() < bytes {
            let piece = self.piece(bytes - out.len()).await?;
            out.extend_from_slice(&piece);
        }
        Ok(out.freeze())
    }

    async fn fill(&mut self, out: &mut [u8]) -> Result<(), ReadFrameError> {
        let mut at = 0;
        while at < out.len() {
            let piece = self.piece(out.len() - at).await?;
            out[at..at + piece.len()].copy_from_slice(&piece);
            at += piece.len();
        }
        Ok(())
    }

    /// Between 1 and `most` bytes.
    async fn piece(&mut self, most: usize) -> Result<Bytes, ReadFrameError> {
        if !self.more().await? {
            return Err(FrameError::Length { have: self.received, want: self.received + most }.into());
        }
        let chunk = &mut self.chunks[self.next];
        let piece = chunk.split_to(most.min(chunk.len()));
        self.received += piece.len();
        Ok(piece)
    }

    /// Waits until there is a byte; false at the end of the stream.
    async fn more(&mut self) -> Result<bool, ReadError> {
        loop {
            while self.next < self.filled {
                if !self.chunks[self.next].is_empty() {
                    return Ok(true);
                }
                self.chunks[self.next] = Bytes::new();
                self.next += 1;
            }
            match self.stream.read_chunks(&mut self.chunks).await? {
                None => return Ok(false),
                Some(filled) => (self.next, self.filled) = (0, filled),
            }
        }
    }
}

/// Why a frame was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteFrameError {
    /// The stream or connection broke.
    #[error(transparent)]
    Stream(#[from] WriteError),
    /// It is too large.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Writes a request and ends the stream.
pub(super) async fn write_request(
    stream: &mut SendStream,
    frame: &RequestFrame,
    header: &Bytes,
    payload: &[Bytes],
) -> Result<(), WriteFrameError> {
    write(stream, &frame.encode()?, header, payload).await
}

/// Writes an answer and ends the stream.
pub(super) async fn write_answer(
    stream: &mut SendStream,
    status: Status,
    header: &Bytes,
    payload: &[Bytes],
) -> Result<(), WriteFrameError> {
    let frame = AnswerFrame { status, header_bytes: header.len(), payload_bytes: payload_bytes(payload) };
    write(stream, &frame.encode()?, header, payload).await
}

/// Size of a payload in pieces.
pub(super) fn payload_bytes(payload: &[Bytes]) -> usize {
    payload.iter().map(Bytes::len).sum()
}

async fn write(
    stream: &mut SendStream,
    fixed: &[u8],
    header: &Bytes,
    payload: &[Bytes],
) -> Result<(), WriteFrameError> {
    let mut pieces = Vec::with_capacity(2 + payload.len());
    if header.len() <= JOIN_BYTES {
        let mut first = BytesMut::with_capacity(fixed.len() + header.len());
        first.extend_from_slice(fixed);
        first.extend_from_slice(header);
        pieces.push(first.freeze());
    } else {
        pieces.push(Bytes::copy_from_slice(fixed));
        pieces.push(header.clone());
    }
    pieces.extend(payload.iter().filter(|piece| !piece.is_empty()).cloned());
    stream.write_all_chunks(&mut pieces).await?;
    // Fails only if the stream was finished or reset before, and it was not.
    let _ = stream.finish();
    Ok(())
}
