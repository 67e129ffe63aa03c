//! Requests from mounts, chunk servers and administrators.
