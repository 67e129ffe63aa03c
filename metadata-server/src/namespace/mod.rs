//! The pure state machine: `apply` changes, `answer` reads. One file an operation.

pub mod command;
