//! All metadata servers make the same of the same commands: whoever applies a command, now or again
//! after a restart, gets the same outcome and the same changes.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;

use cairn_common::clock::Timestamp;
use cairn_common::codec;
use cairn_meta::namespace::command::{Command, Outcome};
use cairn_meta::storage::ReadView;

use crate::observer::Changes;

/// What became of each command, by its stamp, which no other command has.
#[derive(Default)]
pub(crate) struct EqualStates {
    seen: BTreeMap<Timestamp, (u64, usize)>,
}

impl EqualStates {
    /// Whether no server has applied it yet.
    pub(crate) fn is_new(&self, command: &Command) -> bool {
        !self.seen.contains_key(&command.time)
    }

    /// A server has applied a command.
    pub(crate) fn applied(
        &mut self,
        node: usize,
        command: &Command,
        outcome: &Outcome,
        changes: &Changes,
    ) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        hasher.write(&codec::encode(command).unwrap_or_default());
        hasher.write(&codec::encode(outcome).unwrap_or_default());
        changes.hash(&mut hasher);
        let found = hasher.finish();
        let (expected, first) = *self.seen.entry(command.time).or_insert((found, node));
        (expected != found).then(|| {
            format!(
                "equal states: metadata servers {first} and {node} made different things of {command:?}: {outcome:?}"
            )
        })
    }
}

/// A hash over all keys and values.
pub(crate) fn state_hash(view: &dyn ReadView) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        key.hash(&mut hasher);
        value.hash(&mut hasher);
        ControlFlow::Continue(())
    };
    // The engine in memory cannot fail; a difference would show.
    let _ = view.scan(&[1], &[0xff], &mut visit);
    hasher.finish()
}
