//! openraft's storage suite on the real log and state machine.

use std::sync::Arc;
use std::time::Duration;

use cairn_common::clock::{HybridClock, SystemClock};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use rocksdb::Cache;
use tempfile::TempDir;

use super::log::RaftLog;
use super::memory_log::{LogDisk, MemoryLog};
use super::state_machine::StateMachine;
use super::state_store::StateStore;
use super::types::TypeConfig;
use crate::namespace::command::{Command, Outcome};
use crate::storage::{RocksEngine, StorageEngine, Transaction};

struct Builder;

impl StoreBuilder<TypeConfig, RaftLog, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, RaftLog, StateMachine), StorageError<TypeConfig>> {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new_lru_cache(1 << 20);
        let open = Arc::new(move |folder: &std::path::Path| {
            Ok(Arc::new(RocksEngine::open(folder, &cache)?) as Arc<dyn StorageEngine>)
        });
        let store = Arc::new(StateStore::open(folder.path(), open).unwrap());
        let logic = |_: &mut Transaction<'_>, _: &Command| Ok(Outcome::Done);
        let clock = Arc::new(HybridClock::new(Arc::new(SystemClock)));
        let state = StateMachine::new(store, Arc::new(logic), clock).unwrap();
        Ok((folder.path().join("log"), folder)).map(|(log, folder)| (folder, RaftLog::open(&log).unwrap(), state))
    }
}

struct InMemory;

impl StoreBuilder<TypeConfig, MemoryLog, StateMachine, TempDir> for InMemory {
    async fn build(&self) -> Result<(TempDir, MemoryLog, StateMachine), StorageError<TypeConfig>> {
        let (folder, _, state) = Builder.build().await?;
        let disk = LogDisk::new(Arc::new(|| Duration::from_micros(10)));
        Ok((folder, MemoryLog::open(disk, Arc::new(|| u64::MAX)), state))
    }
}

#[test]
fn storage_suite_of_the_log_of_simulations() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(InMemory)).unwrap();
}

#[test]
fn storage_suite() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}
