//! The planted bug of a fenced flush that is accepted: what an end of a session removes is kept, and
//! put back while one of its commits is carried out.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_common::ids::SessionId;
use cairn_common::protocol::metadata::Mutation;
use cairn_meta::namespace;
use cairn_meta::namespace::command::{Action, Command, Outcome};
use cairn_meta::storage::{ReadView, StorageError, Transaction};

/// First bytes of the keys of sessions and of their slots.
const SESSION_TABLES: [u8; 2] = [0x30, 0x31];

/// What ended sessions were.
#[derive(Default)]
pub(crate) struct Reopened(BTreeMap<SessionId, BTreeMap<Bytes, Bytes>>);

impl Reopened {
    pub(crate) fn apply(&mut self, tx: &mut Transaction<'_>, command: &Command) -> Result<Outcome, StorageError> {
        if let Action::EndSession { session } = &command.action {
            let removed = {
                let mut own = Transaction::new(&*tx);
                namespace::apply(&mut own, command)?;
                own.into_changes()
            };
            for (key, _) in removed.iter().filter(|(key, change)| change.is_none() && SESSION_TABLES.contains(&key[0]))
            {
                if let Some(value) = tx.get(key)? {
                    self.0.entry(*session).or_default().insert(key.clone(), value);
                }
            }
            return namespace::apply(tx, command);
        }
        let Action::Mutate { stamp, mutation: Mutation::Commit { .. }, .. } = &command.action else {
            return namespace::apply(tx, command);
        };
        let fenced = {
            let mut own = Transaction::new(&*tx);
            namespace::apply(&mut own, command)? == Outcome::Fenced
        };
        let Some(kept) = self.0.get(&stamp.session).filter(|_| fenced) else { return namespace::apply(tx, command) };
        kept.iter().for_each(|(key, value)| tx.put(key.clone(), value.clone()));
        let outcome = namespace::apply(tx, command)?;
        kept.keys().for_each(|key| tx.delete(key.clone()));
        Ok(outcome)
    }
}
