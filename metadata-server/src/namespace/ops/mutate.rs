//! A mount's change, exactly once: the slot remembers the last one and its outcome, also when that
//! is an error.

use bytes::Bytes;
use cairn_common::codec;
use cairn_common::ids::SessionId;
use cairn_common::protocol::metadata::{Mutation, MutationResult, Stamp};

use super::commit::{self, Commit};
use super::create::{self, Create};
use super::rename::{self, Place};
use super::{link, opens, set_attributes, unlink, xattr};
use crate::namespace::command::Outcome;
use crate::namespace::fault::{Fault, corrupt};
use crate::namespace::keys;
use crate::namespace::read;
use crate::namespace::records::{Session, Slot};
use crate::namespace::state::State;
use crate::storage::StorageError;

pub(crate) fn mutate(state: &mut State<'_, '_>, stamp: &Stamp, mutation: &Mutation) -> Result<Outcome, StorageError> {
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
        return codec::decode(&slot.outcome)
            .map(Outcome::Mutated)
            .map_err(|error| corrupt(format!("outcome in slot {} of session {}: {error}", stamp.slot, stamp.session)));
    }
    if stamp.sequence - 1 != last {
        return Ok(Outcome::BadSequence);
    }
    let changed = state.atomically(|own| perform(own, stamp.session, mutation))?;
    let outcome = codec::encode(&changed).map_err(|error| StorageError::Engine(format!("slot outcome: {error}")))?;
    state.put(slot_key, &Slot { sequence: stamp.sequence, outcome: Bytes::from(outcome) });
    Ok(Outcome::Mutated(changed))
}

fn perform(state: &mut State<'_, '_>, session: SessionId, mutation: &Mutation) -> Result<MutationResult, Fault> {
    match mutation {
        Mutation::Create { parent, name, node, mode, uid, gid, exclusive, open } => create::create(
            state,
            session,
            &Create {
                parent: *parent,
                name,
                node,
                mode: *mode,
                uid: *uid,
                gid: *gid,
                exclusive: *exclusive,
                open: *open,
            },
        ),
        Mutation::Open { inode, mode } => opens::open(state, session, *inode, *mode),
        Mutation::Release { opens } => opens::release(state, session, opens),
        Mutation::SetAttributes { inode, changes } => set_attributes::set_attributes(state, *inode, changes),
        Mutation::Link { inode, parent, name } => link::link(state, *inode, *parent, name),
        Mutation::Unlink { parent, name } => unlink::unlink(state, *parent, name),
        Mutation::RemoveDirectory { parent, name } => unlink::remove_directory(state, *parent, name),
        Mutation::Rename { parent, name, new_parent, new_name, mode } => {
            rename::rename(state, Place { parent: *parent, name }, Place { parent: *new_parent, name: new_name }, *mode)
        }
        Mutation::Commit { inode, extents, append, minimum_size, mtime } => commit::commit(
            state,
            &Commit { inode: *inode, extents, append: *append, minimum_size: *minimum_size, mtime: *mtime },
        ),
        Mutation::SetXattr { inode, name, value, mode } => xattr::set(state, *inode, name, value, *mode),
        Mutation::RemoveXattr { inode, name } => xattr::remove(state, *inode, name),
    }
}
