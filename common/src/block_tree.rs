//! Verified partial reads by the BLAKE3 tree.
