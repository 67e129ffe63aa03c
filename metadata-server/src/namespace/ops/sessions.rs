//! Sessions begin and end.

use cairn_common::ids::{InodeId, SessionEpoch, SessionId};

use super::{locks, opens};
use crate::namespace::command::Outcome;
use crate::namespace::keys::{self, Counter, KeyFields};
use crate::namespace::read;
use crate::namespace::records::Session;
use crate::namespace::state::State;
use crate::storage::StorageError;

/// Session numbers are never reused, so all epochs begin alike; a renewed session would grow it.
const FIRST_EPOCH: SessionEpoch = SessionEpoch(1);

pub(crate) fn open_session(state: &mut State<'_, '_>, client: &str, slots: u16) -> Result<Outcome, StorageError> {
    let session = SessionId(state.next(Counter::LastSession, 0)?);
    let record = Session { epoch: FIRST_EPOCH, slots, opened: state.time, client: client.to_owned() };
    state.put(keys::session(session), &record);
    Ok(Outcome::Session { session, epoch: FIRST_EPOCH })
}

/// Removes a session with its locks, opens and slots, and the files that only it kept. The work grows with
/// what the session has, not with what there is.
pub(crate) fn end_session(state: &mut State<'_, '_>, session: SessionId) -> Result<(), StorageError> {
    if read::plain::<Session>(state.view(), &keys::session(session))?.is_none() {
        return Ok(());
    }
    locks::drop_all(state, session)?;
    for key in read::keys_of(state.view(), keys::session_opens(session))? {
        let mut fields = KeyFields::of(&key);
        fields.u64()?;
        let inode = InodeId(fields.u64()?);
        fields.end()?;
        opens::close(state, session, inode)?;
    }
    for key in read::keys_of(state.view(), keys::slots(session))? {
        state.delete(key);
    }
    state.delete(keys::session(session));
    Ok(())
}
