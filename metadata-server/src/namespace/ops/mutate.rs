//! A mount's change, exactly once: the slot remembers the last one and its outcome, also when that
//! is an error.

use bytes::Bytes;
use cairn_common::codec;
use cairn_common::ids::{InodeId, SessionId};
use cairn_common::protocol::metadata::{Mutation, MutationResult, Stamp};

use super::commit::{self, Commit};
use super::create::{self, Create};
use super::ranges::{self, Range};
use super::rename::{self, Place};
use super::{accessed, acl, link, locks, opens, set_attributes, unlink, xattr};
use crate::namespace::command::Outcome;
use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::keys;
use crate::namespace::read;
use crate::namespace::records::{Session, Slot};
use crate::namespace::state::State;
use crate::storage::StorageError;

pub(crate) fn mutate(
    state: &mut State<'_, '_>,
    stamp: &Stamp,
    mutation: &Mutation,
    pinned: &[InodeId],
    keep_open: Option<&[SessionId]>,
) -> Result<Outcome, StorageError> {
    let session = read::plain::<Session>(state.view(), &keys::session(stamp.session))?;
    let Some(session) = session.filter(|session| session.epoch == stamp.epoch) else {
        return Ok(Outcome::Fenced);
    };
    if stamp.slot.0 >= session.slots || stamp.sequence == 0 {
        return Ok(Outcome::BadSequence);
    }
    let slot_key = keys::slot(stamp.session, stamp.slot);
    let slot = read::plain::<Slot>(state.view(), &slot_key)?;
    let last = slot.as_ref().map_or(0, |slot| slot.sequence);
    if let Some(slot) = slot
        && slot.sequence == stamp.sequence
    {
        let changed = slot.changed;
        return codec::decode(&slot.outcome)
            .map(|result| Outcome::Mutated { result, changed, remembered: true })
            .map_err(|error| corrupt(format!("outcome in slot {} of session {}: {error}", stamp.slot, stamp.session)));
    }
    if stamp.sequence - 1 != last {
        return Ok(Outcome::BadSequence);
    }
    let performed = state.atomically(|own| {
        own.touched.pinned = pinned.iter().copied().collect();
        let result = perform(own, stamp.session, mutation, keep_open)?;
        if needs_pins(mutation) {
            own.touched.check(own.view(), stamp.session, keep_open.is_some())?;
        }
        Ok((result, own.touched.changed.iter().copied().collect()))
    });
    let (result, changed): (_, Vec<InodeId>) = match performed {
        Ok((result, changed)) => (Ok(result), changed),
        Err(Fault::Fs(error)) => (Err(error), Vec::new()),
        Err(Fault::NotPinned(inodes)) => return Ok(Outcome::NotPinned { inodes }),
        Err(Fault::Storage(error)) => return Err(error),
    };
    let outcome = codec::encode(&result).map_err(|error| StorageError::Engine(format!("slot outcome: {error}")))?;
    let slot = Slot { sequence: stamp.sequence, changed: changed.clone(), outcome: Bytes::from(outcome) };
    state.put(slot_key, &slot);
    Ok(Outcome::Mutated { result, changed, remembered: false })
}

/// What gives back changes nothing that a mount can see: of a file that goes with its last open there
/// is no name and no open left.
pub(crate) fn needs_pins(mutation: &Mutation) -> bool {
    match mutation {
        Mutation::Release { .. } | Mutation::GiveUpExclusive { .. } => false,
        // Nobody has locks of others in memory.
        Mutation::SetLock { .. } | Mutation::Unlock { .. } => false,
        // An access time is worth no recall.
        Mutation::Accessed { .. } => false,
        _ => true,
    }
}

fn perform(
    state: &mut State<'_, '_>,
    session: SessionId,
    mutation: &Mutation,
    keep_open: Option<&[SessionId]>,
) -> Result<MutationResult, Fault> {
    let openers = keep_open.unwrap_or_default();
    match mutation {
        Mutation::Create { parent, name, node, mode, umask, uid, gid, exclusive, open, exclusive_lease } => {
            create::create(
                state,
                session,
                &Create {
                    parent: *parent,
                    name,
                    node,
                    mode: *mode,
                    umask: *umask,
                    uid: *uid,
                    gid: *gid,
                    exclusive: *exclusive,
                    open: *open,
                    exclusive_lease: *exclusive_lease,
                },
            )
        }
        Mutation::Open { inode, mode, exclusive_lease } => opens::open(state, session, *inode, *mode, *exclusive_lease),
        Mutation::AcquireExclusive { inode } => opens::acquire_exclusive(state, session, *inode),
        Mutation::GiveUpExclusive { inodes } => opens::give_up_exclusive(state, session, inodes),
        Mutation::Release { opens } => opens::release(state, session, opens),
        Mutation::SetAttributes { inode, changes } => set_attributes::set_attributes(state, *inode, changes),
        Mutation::Link { inode, parent, name } => link::link(state, session, *inode, *parent, name),
        Mutation::Unlink { parent, name } => unlink::unlink(state, *parent, name, openers),
        Mutation::RemoveDirectory { parent, name } => unlink::remove_directory(state, *parent, name),
        Mutation::Rename { parent, name, new_parent, new_name, mode } => {
            let (from, to) = (Place { parent: *parent, name }, Place { parent: *new_parent, name: new_name });
            rename::rename(state, from, to, *mode, openers)
        }
        Mutation::Commit { inode, extents, append, minimum_size, mtime } => commit::commit(
            state,
            &Commit { inode: *inode, extents, append: *append, minimum_size: *minimum_size, mtime: *mtime },
        ),
        Mutation::SetXattr { inode, name, value, mode } => xattr::set(state, *inode, name, value, *mode),
        Mutation::RemoveXattr { inode, name } => xattr::remove(state, *inode, name),
        Mutation::SetAcl { inode, kind, acl, clear_sgid } => {
            acl::set(state, *inode, *kind, acl.as_deref(), *clear_sgid)
        }
        Mutation::Allocate { inode, offset, length, mode, keep_size } => {
            ranges::allocate(state, Range { inode: *inode, offset: *offset, length: *length }, *mode, *keep_size)
        }
        Mutation::CopyRange { source, source_offset, inode, offset, length } => {
            let to = Range { inode: *inode, offset: *offset, length: *length };
            ranges::copy(state, *source, *source_offset, to)
        }
        Mutation::SetLock { lock, ticket: _, behind } => locks::set(state, session, lock, *behind),
        Mutation::Unlock { inode, owners, range } => locks::unlock(state, session, *inode, owners, *range),
        Mutation::Accessed { accesses } => accessed::accessed(state, accesses),
    }
}
