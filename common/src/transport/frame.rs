//! Frames: what is on a stream before the message and the raw data. Pure: bytes in, values out.
//!
//! A request is a fixed header, `header_bytes` of message, `payload_bytes` of data, end of stream:
//! ```text
//! 0  u8   service            8  u32  payload bytes
//! 1  u8   frame version      12 u32  timeout in ms
//! 2  u16  zero               16 u64  request id
//! 4  u32  message bytes      24 message, then payload
//! ```
//! An answer likewise:
//! ```text
//! 0  u8   status (0 answer, 1 the message is a ServiceError)
//! 1  u8   frame version      8  u32  payload bytes
//! 2  u16  zero               12 message, then payload
//! 4  u32  message bytes
//! ```
//! Integers are little-endian. Lengths are checked against `limits` before anything is allocated.

use std::time::Duration;

use crate::ids::RequestId;
use crate::limits::{MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES};
use crate::protocol::Service;

/// The layout above.
pub const FRAME_VERSION: u8 = 1;
/// Size of a request's fixed header, in bytes.
pub const REQUEST_BYTES: usize = 24;
/// Size of an answer's fixed header, in bytes.
pub const ANSWER_BYTES: usize = 12;

/// A frame that is none. The stream is refused; nothing was carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// From a peer with another frame layout.
    #[error("frame version {0} is not {FRAME_VERSION}: upgrade the older of the two programs")]
    Version(u8),
    /// No service has this number.
    #[error("no service has the number {0}")]
    Service(u8),
    /// No status has this number.
    #[error("no status has the number {0}")]
    Status(u8),
    /// Bytes that must be zero are not.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// A part is larger than its limit, in bytes.
    #[error("the {part} has {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Which part.
        part: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The stream ended too early or too late.
    #[error("the stream has {have} bytes, the frame says {want}")]
    Length {
        /// Bytes received (at least).
        have: usize,
        /// Bytes announced.
        want: usize,
    },
}

/// Fixed header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFrame {
    /// To whom.
    pub service: Service,
    /// Size of the message, in bytes.
    pub header_bytes: usize,
    /// Size of the raw data, in bytes.
    pub payload_bytes: usize,
    /// How long the caller waits; millisecond resolution, at most 49 days.
    pub timeout: Duration,
    /// Traces the FUSE call that caused it.
    pub request: RequestId,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The message is the service's answer.
    Answer,
    /// The message is a `ServiceError`.
    Error,
}

/// Fixed header of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerFrame {
    /// What the message is.
    pub status: Status,
    /// Size of the message, in bytes.
    pub header_bytes: usize,
    /// Size of the raw data, in bytes.
    pub payload_bytes: usize,
}

impl RequestFrame {
    /// The fixed header. Errors: a part is too large.
    pub fn encode(&self) -> Result<[u8; REQUEST_BYTES], FrameError> {
        let (header, payload) = checked_lengths(self.header_bytes, self.payload_bytes)?;
        // Rounded up, so that a wait of less than a millisecond does not become none.
        let timeout_ms = self.timeout.as_nanos().div_ceil(1_000_000);
        let timeout_ms = u32::try_from(timeout_ms).unwrap_or(u32::MAX);
        let mut bytes = [0; REQUEST_BYTES];
        bytes[0] = self.service.as_byte();
        bytes[1] = FRAME_VERSION;
        bytes[4..8].copy_from_slice(&header.to_le_bytes());
        bytes[8..12].copy_from_slice(&payload.to_le_bytes());
        bytes[12..16].copy_from_slice(&timeout_ms.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.request.0.to_le_bytes());
        Ok(bytes)
    }

    /// Reads a fixed header.
    pub fn decode(bytes: &[u8; REQUEST_BYTES]) -> Result<Self, FrameError> {
        check_version(bytes[1], &bytes[2..4])?;
        let service = Service::from_byte(bytes[0]).ok_or(FrameError::Service(bytes[0]))?;
        let (header_bytes, payload_bytes) = decode_lengths(bytes)?;
        Ok(Self {
            service,
            header_bytes,
            payload_bytes,
            timeout: Duration::from_millis(u64::from(read_u32(bytes, 12))),
            request: RequestId(u64::from(read_u32(bytes, 16)) | u64::from(read_u32(bytes, 20)) << 32),
        })
    }
}

impl AnswerFrame {
    /// The fixed header. Errors: a part is too large.
    pub fn encode(&self) -> Result<[u8; ANSWER_BYTES], FrameError> {
        let (header, payload) = checked_lengths(self.header_bytes, self.payload_bytes)?;
        let mut bytes = [0; ANSWER_BYTES];
        bytes[0] = match self.status {
            Status::Answer => 0,
            Status::Error => 1,
        };
        bytes[1] = FRAME_VERSION;
        bytes[4..8].copy_from_slice(&header.to_le_bytes());
        bytes[8..12].copy_from_slice(&payload.to_le_bytes());
        Ok(bytes)
    }

    /// Reads a fixed header.
    pub fn decode(bytes: &[u8; ANSWER_BYTES]) -> Result<Self, FrameError> {
        check_version(bytes[1], &bytes[2..4])?;
        let status = match bytes[0] {
            0 => Status::Answer,
            1 => Status::Error,
            other => return Err(FrameError::Status(other)),
        };
        let (header_bytes, payload_bytes) = decode_lengths(bytes)?;
        Ok(Self { status, header_bytes, payload_bytes })
    }
}

fn check_version(version: u8, reserved: &[u8]) -> Result<(), FrameError> {
    if version != FRAME_VERSION {
        return Err(FrameError::Version(version));
    }
    if reserved.iter().any(|byte| *byte != 0) {
        return Err(FrameError::Reserved);
    }
    Ok(())
}

fn within(part: &'static str, bytes: usize, limit: usize) -> Result<u32, FrameError> {
    u32::try_from(bytes).ok().filter(|_| bytes <= limit).ok_or(FrameError::TooLarge { part, bytes, limit })
}

fn checked_lengths(header: usize, payload: usize) -> Result<(u32, u32), FrameError> {
    Ok((within("message", header, MAX_HEADER_BYTES)?, within("payload", payload, MAX_PAYLOAD_BYTES)?))
}

fn decode_lengths(bytes: &[u8]) -> Result<(usize, usize), FrameError> {
    let (header, payload) = (read_u32(bytes, 4) as usize, read_u32(bytes, 8) as usize);
    checked_lengths(header, payload)?;
    Ok((header, payload))
}

/// The caller passes a fixed header, which is longer than every offset used here.
fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> RequestFrame {
        RequestFrame {
            service: Service::Chunk,
            header_bytes: 0x0102,
            payload_bytes: 0x0030_0201,
            timeout: Duration::from_millis(2000),
            request: RequestId(0x1122_3344_5566_7788),
        }
    }

    #[test]
    fn golden_request() {
        let bytes = request().encode().unwrap();
        assert_eq!(
            bytes,
            [5, 1, 0, 0, 2, 1, 0, 0, 1, 2, 0x30, 0, 0xd0, 7, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]
        );
        assert_eq!(RequestFrame::decode(&bytes), Ok(request()));
    }

    #[test]
    fn golden_answer() {
        let answer = AnswerFrame { status: Status::Error, header_bytes: 7, payload_bytes: 9 };
        let bytes = answer.encode().unwrap();
        assert_eq!(bytes, [1, 1, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(AnswerFrame::decode(&bytes), Ok(answer));
    }

    #[test]
    fn refusals() {
        let good = request().encode().unwrap();
        let with = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            RequestFrame::decode(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 0), FrameError::Service(0));
        assert_eq!(with(0, 200), FrameError::Service(200));
        assert_eq!(with(1, 2), FrameError::Version(2));
        assert_eq!(with(3, 1), FrameError::Reserved);
        assert!(matches!(with(7, 0xff), FrameError::TooLarge { part: "message", .. }));
        assert!(matches!(with(11, 1), FrameError::TooLarge { part: "payload", .. }));
        let large = RequestFrame { payload_bytes: MAX_PAYLOAD_BYTES + 1, ..request() };
        assert!(matches!(large.encode(), Err(FrameError::TooLarge { part: "payload", .. })));
        let brief = RequestFrame { timeout: Duration::from_micros(1), ..request() };
        let brief = RequestFrame::decode(&brief.encode().unwrap()).unwrap();
        assert_eq!(brief.timeout, Duration::from_millis(1));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_decode_is_the_inverse(
            request in any::<[u8; REQUEST_BYTES]>(), answer in any::<[u8; ANSWER_BYTES]>()
        ) {
            if let Ok(frame) = RequestFrame::decode(&request) {
                prop_assert_eq!(frame.encode().unwrap(), request);
            }
            if let Ok(frame) = AnswerFrame::decode(&answer) {
                prop_assert_eq!(frame.encode().unwrap(), answer);
            }
        }

        #[test]
        fn nearly_valid_headers_are_exercised(
            service in 0u8..7, version in 0u8..3, header in 0u32..(MAX_HEADER_BYTES as u32 + 3),
            payload in 0u32..(MAX_PAYLOAD_BYTES as u32 + 3), rest in any::<[u8; 12]>()
        ) {
            let mut bytes = [0; REQUEST_BYTES];
            bytes[0] = service;
            bytes[1] = version;
            bytes[4..8].copy_from_slice(&header.to_le_bytes());
            bytes[8..12].copy_from_slice(&payload.to_le_bytes());
            bytes[12..].copy_from_slice(&rest);
            let valid = (1..=5).contains(&service) && version == FRAME_VERSION
                && header as usize <= MAX_HEADER_BYTES && payload as usize <= MAX_PAYLOAD_BYTES;
            match RequestFrame::decode(&bytes) {
                Ok(frame) => { prop_assert!(valid); prop_assert_eq!(frame.encode().unwrap(), bytes); }
                Err(_) => prop_assert!(!valid),
            }
        }
    }
}
