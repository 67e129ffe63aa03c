//! Sessions: what they have open is written from both sides, and slots are theirs.

use cairn_common::codec;
use cairn_common::ids::{InodeId, SessionId};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::MutationResult;

use super::{Findings, each};
use crate::namespace::keys::{self, Counter, Table};
use crate::namespace::read;
use crate::namespace::records::{Marker, Number, Open, Session, Slot};
use crate::storage::{ReadView, StorageError};

pub(super) fn check(view: &dyn ReadView, findings: &mut Findings) -> Result<(), StorageError> {
    let last = read::counter(view, Counter::LastSession, 0)?;
    each::<Session>(view, Table::Session, &mut |mut key, _| {
        let session = key.u64()?;
        key.end()?;
        findings.expect(session <= last, || format!("session {session} was never given out"));
        Ok(())
    })?;
    each::<Open>(view, Table::Open, &mut |mut key, open| {
        let (id, session) = (InodeId(key.u64()?), SessionId(key.u64()?));
        key.end()?;
        let told = || format!("open of inode {id} by session {session}");
        findings.expect(open != Open::default(), || format!("{} counts nothing", told()));
        let file = read::inode(view, id)?.is_some_and(|inode| inode.is_file());
        findings.expect(file, || format!("{}, which is gone or no file", told()));
        let other = read::plain::<Marker>(view, &keys::session_open(session, id))?.is_some();
        findings.expect(other, || format!("{} is not known to the session", told()));
        let there = read::plain::<Session>(view, &keys::session(session))?.is_some();
        findings.expect(there, || format!("{}, which has ended", told()));
        Ok(())
    })?;
    each::<Marker>(view, Table::SessionOpen, &mut |mut key, _| {
        let (session, id) = (SessionId(key.u64()?), InodeId(key.u64()?));
        key.end()?;
        let other = read::plain::<Open>(view, &keys::open(id, session))?.is_some();
        findings.expect(other, || format!("session {session} has inode {id} open, which does not know"));
        Ok(())
    })?;
    each::<Number>(view, Table::Exclusive, &mut |mut key, holder| {
        let (id, session) = (InodeId(key.u64()?), SessionId(holder.0));
        key.end()?;
        let open = read::plain::<Open>(view, &keys::open(id, session))?;
        findings.expect(open.is_some_and(|open| open.writers > 0), || {
            format!("session {session} holds inode {id} exclusively and has it not open for writing")
        });
        Ok(())
    })?;
    each::<Slot>(view, Table::Slot, &mut |mut key, slot| {
        let (session, number) = (SessionId(key.u64()?), key.u16()?);
        key.end()?;
        let slots = read::plain::<Session>(view, &keys::session(session))?.map_or(0, |session| session.slots);
        findings.expect(number < slots, || format!("slot {number} of session {session}, which has {slots}"));
        let outcome = codec::decode::<Result<MutationResult, FsError>>(&slot.outcome);
        findings.expect(outcome.is_ok() && slot.sequence > 0, || {
            format!("slot {number} of session {session} remembers nothing readable")
        });
        Ok(())
    })
}
