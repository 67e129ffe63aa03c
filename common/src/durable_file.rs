//! Durable file operations.
