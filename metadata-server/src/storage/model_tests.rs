//! Property tests: a transaction over an engine reads like a plain map, and both engines agree, also
//! after a crash.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;
use rocksdb::Cache;

use super::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1u8..4, 1..4)
}

fn changes() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
    prop::collection::vec((key(), prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..3))), 0..12)
}

fn read(view: &dyn ReadView, from: &[u8], to: &[u8], reverse: bool, limit: usize) -> Pairs {
    let mut seen = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        seen.push((key.to_vec(), value.to_vec()));
        if seen.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if reverse {
        view.scan_reverse(from, to, &mut visit).unwrap();
    } else {
        view.scan(from, to, &mut visit).unwrap();
    }
    seen
}

fn expect(model: &Model, from: &[u8], to: &[u8], reverse: bool, limit: usize) -> Pairs {
    let inside = model.iter().filter(|(key, _)| key.as_slice() >= from && key.as_slice() < to);
    let mut pairs: Pairs = inside.map(|(key, value)| (key.clone(), value.clone())).collect();
    if reverse {
        pairs.reverse();
    }
    pairs.truncate(limit);
    pairs
}

fn compare(view: &dyn ReadView, model: &Model, bounds: &[(Vec<u8>, Vec<u8>)]) {
    for (from, to) in bounds {
        for limit in [1, 2, usize::MAX] {
            for reverse in [false, true] {
                let (got, want) = (read(view, from, to, reverse, limit), expect(model, from, to, reverse, limit));
                assert_eq!(got, want, "{from:?}..{to:?} reverse {reverse} limit {limit}");
            }
        }
        assert_eq!(view.get(from).unwrap().map(|v| v.to_vec()), model.get(from).cloned());
    }
}

fn fill(tx: &mut Transaction<'_>, model: &mut Model, changes: &[(Vec<u8>, Option<Vec<u8>>)]) {
    for (key, change) in changes {
        match change {
            Some(value) => {
                tx.put(key.clone(), value.clone());
                model.insert(key.clone(), value.clone());
            }
            None => {
                tx.delete(key.clone());
                model.remove(key);
            }
        }
    }
}

fn mark(index: u64) -> Mark {
    Mark { index, detail: Bytes::from(index.to_string()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn transactions_and_engines_read_like_a_map(
        steps in prop::collection::vec((changes(), any::<bool>()), 1..6),
        // Bounds stay above the reserved key of the mark.
        bounds in prop::collection::vec((prop::collection::vec(1u8..5, 1..4), prop::collection::vec(1u8..5, 0..4)), 8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let memory = MemoryEngine::new();
        let rocks = RocksEngine::open(&folder.path().join("db"), &Cache::new_lru_cache(1 << 20)).unwrap();
        let mut model = Model::new();
        let mut at_flush = (0, Model::new());
        for (number, (changes, flush)) in steps.iter().enumerate() {
            let index = number as u64 + 1;
            let old_views = [memory.view(), rocks.view()];
            let old_model = model.clone();
            for engine in [&memory as &dyn StorageEngine, &rocks] {
                let mut next = old_model.clone();
                let view = engine.view();
                let mut tx = Transaction::new(&*view);
                fill(&mut tx, &mut next, changes);
                compare(&tx, &next, &bounds);
                engine.commit(tx.into_changes(), &mark(index)).unwrap();
                prop_assert_eq!(engine.mark(), Some(mark(index)));
                compare(&*engine.view(), &next, &bounds);
                model = next;
            }
            for view in &old_views {
                prop_assert_eq!(read(&**view, &[1], &[9], false, usize::MAX), old_model.clone().into_iter().collect::<Pairs>());
            }
            if *flush {
                prop_assert_eq!(memory.flush().unwrap(), index);
                prop_assert_eq!(rocks.flush().unwrap(), index);
                at_flush = (index, model.clone());
            }
        }
        memory.crash();
        prop_assert_eq!(memory.mark().map_or(0, |mark| mark.index), at_flush.0);
        prop_assert_eq!(read(&*memory.view(), &[1], &[9], false, usize::MAX), at_flush.1.into_iter().collect::<Pairs>());
    }
}

/// A copy of the folder of a running database is what a crash leaves.
#[test]
fn a_crash_leaves_the_last_flush() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new_lru_cache(1 << 20);
    let (live, copy) = (folder.path().join("live"), folder.path().join("copy"));
    let engine = RocksEngine::open(&live, &cache).unwrap();
    let put = |index: u64| {
        let change = BTreeMap::from([(Bytes::from(vec![1, index as u8]), Some(Bytes::from_static(b"x")))]);
        engine.commit(change, &mark(index)).unwrap();
    };
    put(1);
    put(2);
    assert_eq!(engine.durable_index(), 0);
    assert_eq!(engine.flush().unwrap(), 2);
    put(3);
    assert_eq!(engine.durable_index(), 2);
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&live).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "LOCK" {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let crashed = RocksEngine::open(&copy, &cache).unwrap();
    assert_eq!(crashed.mark(), Some(mark(2)));
    assert_eq!(crashed.durable_index(), 2);
    assert_eq!(read(&*crashed.view(), &[1], &[9], false, 9).len(), 2);
}

#[test]
fn checkpoints_are_complete_and_views_outlive_their_engine() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new_lru_cache(1 << 20);
    let live = folder.path().join("live");
    let engine = RocksEngine::open(&live, &cache).unwrap();
    let change = BTreeMap::from([(Bytes::from_static(b"k"), Some(Bytes::from_static(b"v")))]);
    engine.commit(change.clone(), &mark(7)).unwrap();
    assert_eq!(engine.checkpoint(&folder.path().join("point")).unwrap(), Some(mark(7)));
    assert_eq!(engine.durable_index(), 7, "a checkpoint flushes");
    let reopened = RocksEngine::open(&folder.path().join("point"), &cache).unwrap();
    assert_eq!(reopened.mark(), Some(mark(7)));
    let view = engine.view();
    engine.retire();
    drop(engine);
    assert!(live.exists(), "the view still needs it");
    assert_eq!(view.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    drop(view);
    assert!(!live.exists());
    let reserved = BTreeMap::from([(Bytes::from_static(b"\0x"), None)]);
    assert!(reopened.commit(reserved, &mark(8)).is_err());

    let memory = MemoryEngine::new();
    memory.commit(change, &mark(7)).unwrap();
    memory.checkpoint(&folder.path().join("memory")).unwrap();
    let memory = MemoryEngine::open(&folder.path().join("memory")).unwrap();
    assert_eq!(memory.mark(), Some(mark(7)));
    assert_eq!(memory.view().get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}
