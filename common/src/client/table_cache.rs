//! The newest partition table that this client has seen, and the wish for a newer one.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::ids::{PoolId, TableEpoch};
use crate::partition_table::PartitionTable;

/// Holds one table; replaced whole, never by an older one.
#[derive(Debug)]
pub struct TableCache {
    table: RwLock<Arc<PartitionTable>>,
}

impl Default for TableCache {
    fn default() -> Self {
        let empty = PartitionTable {
            epoch: TableEpoch(0),
            pool: PoolId::DEFAULT,
            replicas: 0,
            rows: Vec::new(),
            disks: BTreeMap::new(),
        };
        Self { table: RwLock::new(Arc::new(empty)) }
    }
}

impl TableCache {
    /// The newest table seen; without rows before the first one has arrived.
    pub fn current(&self) -> Arc<PartitionTable> {
        self.table.read().clone()
    }

    /// Takes in a table unless it is older.
    pub fn install(&self, table: PartitionTable) -> Arc<PartitionTable> {
        let mut current = self.table.write();
        if table.epoch >= current.epoch {
            *current = Arc::new(table);
        }
        current.clone()
    }
}
