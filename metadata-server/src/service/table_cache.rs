//! The partition table, decoded once for each epoch.

use std::sync::Arc;

use cairn_common::partition_table::PartitionTable;
use parking_lot::Mutex;

use crate::namespace::cluster;
use crate::storage::{ReadView, StorageError};

/// The newest table that anybody asked for.
#[derive(Default)]
pub(super) struct TableCache {
    cached: Mutex<Option<Arc<PartitionTable>>>,
}

impl TableCache {
    /// The table as the view has it.
    pub(super) fn table(&self, view: &dyn ReadView) -> Result<Arc<PartitionTable>, StorageError> {
        let epoch = cluster::table_epoch(view)?;
        // Held while decoding: whoever comes meanwhile waits for the result instead of decoding, too.
        let mut cached = self.cached.lock();
        if let Some(table) = cached.as_ref().filter(|table| table.epoch == epoch) {
            return Ok(table.clone());
        }
        let table = Arc::new(cluster::partition_table(view)?);
        if cached.as_ref().is_none_or(|cached| cached.epoch < table.epoch) {
            *cached = Some(table.clone());
        }
        Ok(table)
    }
}
