//! The merge of a transaction's changes with its base, against the obvious way: apply the changes,
//! then filter.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;

use super::machine::Base;
use crate::storage::{ReadView, Transaction};

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..4u8, 0..3)
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a scan shows before the visitor breaks at the `limit`th pair; and whether it stops there.
fn scanned(view: &dyn ReadView, from: &[u8], to: &[u8], reverse: bool, limit: usize) -> Pairs {
    let mut found = Pairs::new();
    let mut broke = false;
    let mut visit = |key: &[u8], value: &[u8]| {
        assert!(!broke, "visited after a break");
        found.push((key.to_vec(), value.to_vec()));
        broke = found.len() == limit;
        if broke { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if reverse { view.scan_reverse(from, to, &mut visit) } else { view.scan(from, to, &mut visit) }.unwrap();
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_transaction_shows_its_base_with_its_changes(
        base in prop::collection::btree_map(key(), any::<u8>(), 0..16),
        below in prop::collection::vec((key(), any::<Option<u8>>()), 0..10),
        above in prop::collection::vec((key(), any::<Option<u8>>()), 0..10),
        (from, to) in (key(), key()),
        limit in 1..20usize,
    ) {
        let mut plain: BTreeMap<Vec<u8>, Vec<u8>> = base.into_iter().map(|(k, v)| (k, vec![v])).collect();
        let base = Base(plain.iter().map(|(k, v)| (Bytes::from(k.clone()), Bytes::from(v.clone()))).collect());
        let mut lower = Transaction::new(&base);
        for (key, change) in &below {
            change_both(&mut lower, &mut plain, key, *change);
        }
        // One over another, as a mutation does it.
        let mut tx = Transaction::new(&lower);
        for (key, change) in &above {
            change_both(&mut tx, &mut plain, key, *change);
        }
        let mut inside: Pairs =
            plain.iter().filter(|(k, _)| **k >= from && **k < to).map(|(k, v)| (k.clone(), v.clone())).collect();
        let forward: Pairs = inside.iter().take(limit).cloned().collect();
        prop_assert_eq!(scanned(&tx, &from, &to, false, limit), forward);
        inside.reverse();
        inside.truncate(limit);
        prop_assert_eq!(scanned(&tx, &from, &to, true, limit), inside);
        for key in plain.keys().chain([&from]) {
            let value = tx.get(key).unwrap().map(|value| value.to_vec());
            prop_assert_eq!(value.as_ref(), plain.get(key));
        }
    }
}

fn change_both(tx: &mut Transaction<'_>, plain: &mut BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8], change: Option<u8>) {
    match change {
        Some(value) => {
            tx.put(key.to_vec(), vec![value]);
            plain.insert(key.to_vec(), vec![value]);
        }
        None => {
            tx.delete(key.to_vec());
            plain.remove(key);
        }
    }
}
