//! Frames on a stream.
