//! The amnesia layer.
