//! The seam between the group and what it replicates. The namespace is the real one; tests of the
//! group use a tiny one.

use crate::namespace::command::{Command, Outcome};
use crate::storage::{StorageError, Transaction};

/// A pure state machine: the same state and command give the same changes and outcome on every
/// server. No clock, no randomness, no IO but the transaction.
pub trait StateMachineLogic: Send + Sync + 'static {
    /// Applies one command. An error means that the state cannot be trusted: the server stops.
    fn apply(&self, tx: &mut Transaction<'_>, command: &Command) -> Result<Outcome, StorageError>;
}

/// A plain function (`namespace::apply`) is a state machine.
impl<F> StateMachineLogic for F
where
    F: Fn(&mut Transaction<'_>, &Command) -> Result<Outcome, StorageError> + Send + Sync + 'static,
{
    fn apply(&self, tx: &mut Transaction<'_>, command: &Command) -> Result<Outcome, StorageError> {
        self(tx, command)
    }
}
