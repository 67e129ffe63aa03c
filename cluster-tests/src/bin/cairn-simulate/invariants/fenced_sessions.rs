//! A session that was ended changes nothing any more.

use std::collections::BTreeMap;

use cairn_common::clock::Timestamp;
use cairn_common::ids::SessionId;
use cairn_meta::namespace::command::{Action, Command, Outcome};

use crate::observer::Changes;

/// When each session was ended, by the stamp of the command: stamps grow along the log.
#[derive(Default)]
pub(crate) struct FencedSessions {
    ended: BTreeMap<SessionId, Timestamp>,
}

impl FencedSessions {
    /// A server has applied a command.
    pub(crate) fn applied(&mut self, command: &Command, outcome: &Outcome, changes: &Changes) -> Option<String> {
        match &command.action {
            Action::EndSession { session } => {
                let ended = self.ended.entry(*session).or_insert(command.time);
                *ended = command.time.min(*ended);
                None
            }
            Action::Mutate { stamp, mutation, .. } => {
                let ended = self.ended.get(&stamp.session).is_some_and(|ended| *ended < command.time);
                (ended && (*outcome != Outcome::Fenced || !changes.is_empty())).then(|| {
                    format!(
                        "fenced sessions: session {} was ended, and then did {mutation:?}: {outcome:?}",
                        stamp.session
                    )
                })
            }
            _ => None,
        }
    }
}
