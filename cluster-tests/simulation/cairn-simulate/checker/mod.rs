//! Whether a history could have happened one operation after another (Herlihy and Wing). Each object
//! is checked apart: a history is linearizable if that of each object is. The names of the whole tree
//! are one object, the bytes of each file are one.

pub(crate) mod bytes;
pub(crate) mod names;
mod search;

pub(crate) use search::{Event, Verdict, search};
