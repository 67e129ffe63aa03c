//! A reader that takes a directory page by page while others change it meets every name that is
//! there all the time exactly once, and everything else at most once for each time it was made.

use std::collections::{BTreeMap, BTreeSet};

use cairn_common::ids::{InodeId, SessionId};
use cairn_common::protocol::metadata::{Mutation, NewNode, Query, QueryResult, RenameMode};
use proptest::prelude::*;

use super::machine::{Machine, named};

#[derive(Clone, Debug)]
enum Meanwhile {
    Create(u8),
    Unlink(u8),
    Rename(u8, u8),
    Exchange(u8, u8),
    /// A name is replaced by rename, as editors do.
    Replace(u8),
    Read(u32),
}

fn meanwhile() -> impl Strategy<Value = Meanwhile> {
    prop_oneof![
        (0..24u8).prop_map(Meanwhile::Create),
        (0..24u8).prop_map(Meanwhile::Unlink),
        (0..24u8, 0..24u8).prop_map(|(from, to)| Meanwhile::Rename(from, to)),
        (0..24u8, 0..24u8).prop_map(|(one, other)| Meanwhile::Exchange(one, other)),
        (0..24u8).prop_map(Meanwhile::Replace),
        (1..4u32).prop_map(Meanwhile::Read),
    ]
}

fn name(number: u8) -> String {
    format!("n{number:02}")
}

struct Reader {
    machine: Machine,
    session: SessionId,
    /// Names there now.
    present: BTreeSet<String>,
    /// Names there since the reader began.
    stayed: BTreeSet<String>,
    seen: BTreeMap<String, u32>,
    made: BTreeMap<String, u32>,
    after: u64,
    up_to: u64,
    done: bool,
}

impl Reader {
    fn change(&mut self, mutation: Mutation) -> bool {
        self.machine.mutate(self.session, mutation).is_ok()
    }

    fn gone(&mut self, name: &str) {
        self.present.remove(name);
        self.stayed.remove(name);
    }

    fn came(&mut self, name: &str) {
        if self.present.insert(name.to_owned()) {
            *self.made.entry(name.to_owned()).or_default() += 1;
        }
    }

    fn create(&mut self, name: &str) {
        let create = Mutation::Create {
            parent: InodeId::ROOT,
            name: named(name),
            node: NewNode::File,
            mode: 0o600,
            umask: 0,
            uid: 0,
            gid: 0,
            exclusive: true,
            open: None,
            exclusive_lease: false,
        };
        if self.change(create) {
            self.came(name);
        }
    }

    fn rename(&mut self, from: &str, to: &str, mode: RenameMode) {
        let (parent, new_parent) = (InodeId::ROOT, InodeId::ROOT);
        let rename = Mutation::Rename { parent, name: named(from), new_parent, new_name: named(to), mode };
        if self.change(rename) && mode == RenameMode::Replace && from != to {
            self.gone(from);
            self.came(to);
        }
    }

    fn read(&mut self, limit: u32) {
        let (inode, after, up_to) = (InodeId::ROOT, self.after, self.up_to);
        let query = Query::ReadDirectory { inode, after, up_to, limit, attributes: false };
        let Ok(QueryResult::Entries { entries, end, last_cookie }) = self.machine.ask(query) else { panic!() };
        assert!(entries.len() <= limit as usize && (end || entries.len() == limit as usize));
        for entry in entries {
            assert!(entry.cookie > self.after && entry.cookie >= 3 && entry.cookie <= last_cookie);
            self.after = entry.cookie;
            *self.seen.entry(String::from_utf8(entry.name.as_bytes().to_vec()).unwrap()).or_default() += 1;
        }
        self.done |= end;
    }

    fn step(&mut self, meanwhile: &Meanwhile) {
        match meanwhile {
            Meanwhile::Create(number) => self.create(&name(*number)),
            Meanwhile::Unlink(number) => {
                let unlink = Mutation::Unlink { parent: InodeId::ROOT, name: named(&name(*number)) };
                if self.change(unlink) {
                    self.gone(&name(*number));
                }
            }
            Meanwhile::Rename(from, to) => self.rename(&name(*from), &name(*to), RenameMode::Replace),
            Meanwhile::Exchange(one, other) => self.rename(&name(*one), &name(*other), RenameMode::Exchange),
            Meanwhile::Replace(number) => {
                self.create("tmp");
                self.rename("tmp", &name(*number), RenameMode::Replace);
            }
            Meanwhile::Read(limit) => {
                if !self.done {
                    self.read(*limit);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_stays_is_read_exactly_once(
        before in prop::collection::vec(meanwhile(), 0..40),
        during in prop::collection::vec(meanwhile(), 0..60),
        bounded in any::<bool>(),
    ) {
        let mut machine = Machine::new();
        let session = machine.open_session();
        let (present, stayed) = (BTreeSet::new(), BTreeSet::new());
        let (seen, made) = (BTreeMap::new(), BTreeMap::new());
        let mut reader =
            Reader { machine, session, present, stayed, seen, made, after: 0, up_to: u64::MAX, done: true };
        before.iter().for_each(|step| reader.step(step));
        if bounded {
            // As an opendir that shows nothing newer than itself.
            let query =
                Query::ReadDirectory { inode: InodeId::ROOT, after: 0, up_to: 0, limit: 1, attributes: false };
            let Ok(QueryResult::Entries { last_cookie, .. }) = reader.machine.ask(query) else { panic!() };
            reader.up_to = last_cookie;
        }
        reader.stayed = reader.present.clone();
        reader.made = reader.present.iter().map(|name| (name.clone(), 1)).collect();
        reader.done = false;
        during.iter().for_each(|step| reader.step(step));
        while !reader.done {
            reader.read(3);
        }
        for name in &reader.stayed {
            prop_assert_eq!(reader.seen.get(name), Some(&1), "{} was there all the time", name);
        }
        for (name, times) in &reader.seen {
            prop_assert!(Some(times) <= reader.made.get(name), "{} was read {} times", name, times);
        }
        reader.machine.check();
    }
}

#[test]
fn a_page_says_what_is_behind_it() {
    let mut machine = Machine::new();
    let session = machine.open_session();
    for number in 0..5 {
        machine.create(session, InodeId::ROOT, &name(number), NewNode::File, None);
    }
    let page = |after, up_to, limit| {
        let query = Query::ReadDirectory { inode: InodeId::ROOT, after, up_to, limit, attributes: true };
        let Ok(QueryResult::Entries { entries, end, last_cookie }) = machine.ask(query) else { panic!() };
        assert!(entries.iter().all(|e| e.attributes.is_some_and(|a| a.inode == e.inode && a.kind == e.kind)));
        (entries.iter().map(|entry| entry.cookie).collect::<Vec<_>>(), end, last_cookie)
    };
    assert_eq!(page(0, u64::MAX, 3), (vec![3, 4, 5], false, 7));
    assert_eq!(page(5, u64::MAX, 2), (vec![6, 7], true, 7));
    assert_eq!(page(0, 5, 3), (vec![3, 4, 5], true, 7), "entries beyond `up_to` are as if they were not there");
    assert_eq!(page(u64::MAX, u64::MAX, 3), (vec![], true, 7));
}
