//! P3 across inodes: data before the names that lead to it. A rename or a link that returned has made
//! durable what its client had written to the file, so that no crash leaves a new name with less. In the
//! histories it stands as a sync of that file within the call; the checker does the rest.

use std::collections::BTreeMap;

use cairn_cluster_tests::checker::{Call, Inode, Operation, Reply};

/// Syncs that are part of other calls. `renamed`: inodes of successful renames, by their place in the
/// history.
pub(crate) fn settled(operations: &[Operation], renamed: &BTreeMap<usize, Inode>) -> Vec<Operation> {
    let sync = |operation: &Operation, inode| Operation { call: Call::Sync { inode }, ..operation.clone() };
    let mut found = Vec::new();
    for (place, operation) in operations.iter().enumerate() {
        match (&operation.call, &operation.reply) {
            (Call::Link { inode, .. }, Reply::Done) => found.push(sync(operation, *inode)),
            (Call::Rename { .. }, Reply::Done) => {
                found.extend(renamed.get(&place).map(|inode| sync(operation, *inode)));
            }
            _ => {}
        }
    }
    found
}
