//! The Raft group.
