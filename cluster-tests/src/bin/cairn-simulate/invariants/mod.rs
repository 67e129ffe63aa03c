//! What must hold in every run, one file each. Some are asked while the servers apply commands
//! (`observer`), the others when the run is over.

pub(crate) mod dependency_closure;
pub(crate) mod durable_blocks;
pub(crate) mod durable_log;
pub(crate) mod equal_states;
pub(crate) mod fenced_sessions;
