//! Access times: reads that mounts have answered, told later and many at once.

use cairn_common::clock::Timestamp;
use cairn_common::ids::InodeId;
use cairn_common::limits::MAX_LEASES_PER_MESSAGE;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::MutationResult;

use super::set_attributes::stamped;
use crate::namespace::fault::Fault;
use crate::namespace::read;
use crate::namespace::state::State;

pub(super) fn accessed(state: &mut State<'_, '_>, accesses: &[(InodeId, Timestamp)]) -> Result<MutationResult, Fault> {
    if accesses.len() > MAX_LEASES_PER_MESSAGE {
        return Err(FsError::Invalid.into());
    }
    for (id, at) in accesses {
        let at = stamped(state, *at)?;
        let Some(mut inode) = read::inode(state.view(), *id)? else { continue };
        if inode.attributes(*id).access_is_due(at) {
            inode.atime = at;
            state.put_access_time(*id, &inode);
        }
    }
    Ok(MutationResult::Done)
}
