//! Rules of Linux that are easily forgotten, each said in so many words.

use bytes::Bytes;
use cairn_common::clock::Timestamp;
use cairn_common::extent::{Extent, ExtentContent, NewExtent};
use cairn_common::ids::{InodeId, SessionId, TableEpoch};
use cairn_common::limits::{LINK_MAX, MAX_STAMP_AHEAD};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{
    AttributeChanges, Mutation, MutationResult, NewNode, OpenMode, Query, QueryResult, RenameMode, XattrMode,
};

use super::machine::{Machine, named};

const ROOT: InodeId = InodeId::ROOT;

fn setup() -> (Machine, SessionId) {
    let mut machine = Machine::new();
    let session = machine.open_session();
    (machine, session)
}

fn rename(from: (InodeId, &str), to: (InodeId, &str), mode: RenameMode) -> Mutation {
    let (parent, new_parent) = (from.0, to.0);
    Mutation::Rename { parent, name: named(from.1), new_parent, new_name: named(to.1), mode }
}

fn inline(inode: InodeId, offset: u64, bytes: &'static [u8], append: bool) -> Mutation {
    let content = ExtentContent::Inline(Bytes::from_static(bytes));
    let extent = Extent { offset, length: bytes.len() as u64, content };
    let extents = vec![NewExtent { extent, missed: Vec::new(), table: TableEpoch(0) }];
    Mutation::Commit { inode, extents, append, minimum_size: 0, mtime: None }
}

#[test]
fn a_directory_cannot_move_into_itself() {
    let (mut machine, session) = setup();
    let a = machine.create(session, ROOT, "a", NewNode::Directory, None).inode;
    let b = machine.create(session, a, "b", NewNode::Directory, None).inode;
    let c = machine.create(session, b, "c", NewNode::Directory, None).inode;
    let mut renamed = |from, to, mode| machine.mutate(session, rename(from, to, mode));
    assert_eq!(renamed((ROOT, "a"), (c, "x"), RenameMode::Replace), Err(FsError::Invalid));
    assert_eq!(renamed((ROOT, "a"), (a, "x"), RenameMode::Replace), Err(FsError::Invalid));
    assert_eq!(renamed((ROOT, "a"), (b, "c"), RenameMode::Exchange), Err(FsError::Invalid));
    assert_eq!(renamed((b, "c"), (ROOT, "a"), RenameMode::Exchange), Err(FsError::Invalid));
    assert_eq!(renamed((b, "c"), (ROOT, "a"), RenameMode::Replace), Err(FsError::NotEmpty));
    assert_eq!(renamed((b, "c"), (ROOT, "c"), RenameMode::Replace), Ok(MutationResult::Done));
    assert_eq!((machine.attributes(ROOT).unwrap().links, machine.attributes(b).unwrap().links), (4, 2));
    let Ok(QueryResult::Attributes(parent)) = machine.ask(Query::Parent { inode: c }) else { panic!() };
    assert_eq!(parent.inode, ROOT);
    machine.check();
}

#[test]
fn renaming_one_of_two_names_of_a_file_onto_the_other_does_nothing() {
    let (mut machine, session) = setup();
    let inode = machine.create(session, ROOT, "a", NewNode::File, None).inode;
    machine.mutate(session, Mutation::Link { inode, parent: ROOT, name: named("b") }).unwrap();
    let before = machine.attributes(ROOT).unwrap();
    let both = ((ROOT, "a"), (ROOT, "b"));
    for mode in [RenameMode::Replace, RenameMode::Exchange] {
        assert_eq!(machine.mutate(session, rename(both.0, both.1, mode)), Ok(MutationResult::Done));
    }
    assert_eq!(machine.mutate(session, rename(both.0, both.1, RenameMode::NoReplace)), Err(FsError::Exists));
    assert_eq!(machine.attributes(ROOT), Ok(before));
    assert_eq!(machine.attributes(inode).unwrap().links, 2);
}

#[test]
fn a_replaced_file_stays_for_those_who_have_it_open() {
    let (mut machine, session) = setup();
    let old = machine.create(session, ROOT, "a", NewNode::File, Some(OpenMode::Read)).inode;
    machine.mutate(session, inline(old, 0, b"old", false)).unwrap();
    let new = machine.create(session, ROOT, "b", NewNode::File, None).inode;
    machine.mutate(session, rename((ROOT, "b"), (ROOT, "a"), RenameMode::Replace)).unwrap();
    let Ok(QueryResult::Attributes(found)) = machine.ask(Query::Lookup { parent: ROOT, name: named("a") }) else {
        panic!()
    };
    assert_eq!(found.inode, new);
    assert_eq!(machine.attributes(old).unwrap().links, 0);
    assert!(machine.mutate(session, inline(old, 3, b"er", false)).is_ok(), "it can still be written");
    let link = Mutation::Link { inode: old, parent: ROOT, name: named("c") };
    assert_eq!(machine.mutate(session, link), Err(FsError::NotFound), "but not named again");
    machine.check();
}

#[test]
fn exchange_takes_parents_and_link_counts_along() {
    let (mut machine, session) = setup();
    let one = machine.create(session, ROOT, "one", NewNode::Directory, None).inode;
    let two = machine.create(session, ROOT, "two", NewNode::Directory, None).inode;
    let directory = machine.create(session, one, "x", NewNode::Directory, None).inode;
    let file = machine.create(session, two, "y", NewNode::File, None).inode;
    machine.mutate(session, rename((one, "x"), (two, "y"), RenameMode::Exchange)).unwrap();
    assert_eq!((machine.attributes(one).unwrap().links, machine.attributes(two).unwrap().links), (2, 3));
    let Ok(QueryResult::Attributes(parent)) = machine.ask(Query::Parent { inode: directory }) else { panic!() };
    assert_eq!(parent.inode, two);
    let now = Timestamp { seconds: machine.clock, nanos: 0 };
    for inode in [one, two, directory, file] {
        assert_eq!(machine.attributes(inode).unwrap().ctime, now);
    }
    assert_ne!(machine.attributes(file).unwrap().mtime, now);
    machine.check();
}

#[test]
fn a_write_clears_suid_and_sgid_only_of_what_runs() {
    let (mut machine, session) = setup();
    for (before, after) in [(0o6755, 0o755), (0o6745, 0o2745), (0o2644, 0o2644), (0o4711, 0o711)] {
        let inode = machine.create(session, ROOT, &format!("{before:o}"), NewNode::File, None).inode;
        let changes = AttributeChanges { mode: Some(before), ..AttributeChanges::default() };
        machine.mutate(session, Mutation::SetAttributes { inode, changes }).unwrap();
        let nothing = Mutation::Commit { inode, extents: Vec::new(), append: false, minimum_size: 0, mtime: None };
        machine.mutate(session, nothing).unwrap();
        assert_eq!(machine.attributes(inode).unwrap().mode, before, "no byte was written");
        machine.mutate(session, inline(inode, 0, b"x", false)).unwrap();
        assert_eq!(machine.attributes(inode).unwrap().mode, after, "{before:o}");
    }
}

#[test]
fn a_setgid_directory_hands_its_group_down() {
    let (mut machine, session) = setup();
    let shared = machine.create(session, ROOT, "shared", NewNode::Directory, None).inode;
    let changes = AttributeChanges { mode: Some(0o2775), gid: Some(77), ..AttributeChanges::default() };
    machine.mutate(session, Mutation::SetAttributes { inode: shared, changes }).unwrap();
    let file = machine.create(session, shared, "f", NewNode::File, None);
    let directory = machine.create(session, shared, "d", NewNode::Directory, None);
    assert_eq!((file.gid, file.mode), (77, 0o644));
    assert_eq!((directory.gid, directory.mode), (77, 0o2644));
}

#[test]
fn appends_land_at_the_end_and_stamps_are_cut() {
    let (mut machine, session) = setup();
    let inode = machine.create(session, ROOT, "a", NewNode::File, None).inode;
    for expected in [0, 3, 6] {
        let Ok(MutationResult::Committed { appended_at, attributes }) =
            machine.mutate(session, inline(inode, 0, b"abc", true))
        else {
            panic!()
        };
        assert_eq!((appended_at, attributes.size), (expected, expected + 3));
    }
    let far = Timestamp { seconds: i64::MAX, nanos: 0 };
    let touch = Mutation::Commit { inode, extents: Vec::new(), append: false, minimum_size: 0, mtime: Some(far) };
    machine.mutate(session, touch).unwrap();
    let now = Timestamp { seconds: machine.clock, nanos: 0 };
    assert_eq!(machine.attributes(inode).unwrap().mtime, now.plus(MAX_STAMP_AHEAD));
}

#[test]
fn wrong_kinds_are_refused() {
    let (mut machine, session) = setup();
    let file = machine.create(session, ROOT, "f", NewNode::File, None).inode;
    let directory = machine.create(session, ROOT, "d", NewNode::Directory, None).inode;
    let fifo = machine.create(session, ROOT, "p", NewNode::Fifo, None).inode;
    let mut change = |mutation| machine.mutate(session, mutation).unwrap_err();
    let open = |inode| Mutation::Open { inode, mode: OpenMode::Read, exclusive_lease: false };
    assert_eq!(change(open(directory)), FsError::IsDirectory);
    assert_eq!(change(open(fifo)), FsError::Invalid);
    assert_eq!(change(open(InodeId(99))), FsError::Stale);
    assert_eq!(change(inline(directory, 0, b"x", false)), FsError::IsDirectory);
    let unlink = |name| Mutation::Unlink { parent: ROOT, name: named(name) };
    let remove = |name| Mutation::RemoveDirectory { parent: ROOT, name: named(name) };
    assert_eq!(change(unlink("d")), FsError::IsDirectory);
    assert_eq!(change(remove("f")), FsError::NotDirectory);
    assert_eq!(change(Mutation::Unlink { parent: file, name: named("x") }), FsError::NotDirectory);
    assert_eq!(change(Mutation::Link { inode: directory, parent: ROOT, name: named("x") }), FsError::NotPermitted);
    let replace = |from, to| rename((ROOT, from), (ROOT, to), RenameMode::Replace);
    assert_eq!(change(replace("f", "d")), FsError::IsDirectory);
    assert_eq!(change(replace("d", "f")), FsError::NotDirectory);
    assert_eq!(change(replace("x", "f")), FsError::NotFound);
    assert_eq!(machine.ask(Query::ReadLink { inode: file }), Err(FsError::Invalid));
    assert_eq!(machine.ask(Query::Parent { inode: file }), Err(FsError::NotDirectory));
}

#[test]
fn links_have_a_limit() {
    let (mut machine, session) = setup();
    let inode = machine.create(session, ROOT, "a", NewNode::File, None).inode;
    let key = super::super::keys::inode(inode);
    let (sequence, mut record): (_, super::super::records::Inode) =
        super::super::read::latest(&machine.base, &key).unwrap().unwrap();
    record.links = LINK_MAX;
    let value = super::super::records::encode_versioned(sequence, &record);
    machine.base.0.insert(key.into(), value.into());
    let link = Mutation::Link { inode, parent: ROOT, name: named("b") };
    assert_eq!(machine.mutate(session, link), Err(FsError::TooManyLinks));
}

#[test]
fn extended_attributes_have_limits() {
    let (mut machine, session) = setup();
    let inode = machine.create(session, ROOT, "a", NewNode::File, None).inode;
    let set = |name: String, bytes: usize, mode| Mutation::SetXattr {
        inode,
        name: Bytes::from(name),
        value: Bytes::from(vec![b'v'; bytes]),
        mode,
    };
    let any = XattrMode::Any;
    assert_eq!(machine.mutate(session, set("n".repeat(256), 1, any)), Err(FsError::Range));
    assert_eq!(machine.mutate(session, set("n\0".into(), 1, any)), Err(FsError::Invalid));
    assert_eq!(machine.mutate(session, set("n".into(), (64 << 10) + 1, any)), Err(FsError::TooBig));
    assert_eq!(machine.mutate(session, set("n".into(), 64 << 10, any)), Ok(MutationResult::Done));
    assert_eq!(machine.mutate(session, set("n".into(), 1, XattrMode::Create)), Err(FsError::Exists));
    assert_eq!(machine.mutate(session, set("m".into(), 1, XattrMode::Replace)), Err(FsError::NoAttribute));
    // 255 names of 256 listed bytes and the two of "n" are 65,282: one more does not fit.
    for number in 0..255 {
        machine.mutate(session, set(format!("{number:0>255}"), 0, any)).unwrap();
    }
    assert_eq!(machine.mutate(session, set("x".repeat(255), 0, any)), Err(FsError::NoSpace));
    assert_eq!(machine.mutate(session, set(format!("{:0>255}", 3), 9, any)), Ok(MutationResult::Done));
    machine.check();
    machine.mutate(session, Mutation::Unlink { parent: ROOT, name: named("a") }).unwrap();
    machine.check();
}
