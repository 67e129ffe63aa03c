//! No command is applied anywhere before it is durable in the logs of a majority.

use std::sync::Arc;

use cairn_meta::namespace::command::Command;
use cairn_meta::raft::memory_log::LogDisk;

/// The logs of all metadata servers.
pub(crate) struct DurableLog(Vec<Arc<LogDisk>>);

impl DurableLog {
    pub(crate) fn new(logs: Vec<Arc<LogDisk>>) -> Self {
        Self(logs)
    }

    /// A command was applied for the first time anywhere.
    pub(crate) fn applied(&self, command: &Command) -> Option<String> {
        let durable = self.0.iter().filter(|log| log.has_durably(command.time)).count();
        (durable <= self.0.len() / 2)
            .then(|| format!("durable log: a command is applied that {durable} logs have durably: {command:?}"))
    }
}
