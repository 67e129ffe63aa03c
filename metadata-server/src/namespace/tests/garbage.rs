//! Files with very many extents: removing them takes bounded commands, and nobody sees the rest.

use bytes::Bytes;
use cairn_common::block::{BlockHash, BlockId};
use cairn_common::extent::{BlockReference, Extent, ExtentContent, NewExtent};
use cairn_common::ids::{InodeId, PoolId, SessionId, TableEpoch};
use cairn_common::limits::MAX_EXTENTS_PER_MESSAGE;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{
    AttributeChanges, Mutation, MutationResult, NewNode, OpenMode, Query, QueryResult,
};

use super::machine::{Machine, named};
use crate::namespace::cluster;
use crate::namespace::command::Action;
use crate::namespace::keys::{self, CLUSTER_WIDE, Table, VOLUME};

/// Bytes of each extent of [`write`].
const LENGTH: u64 = 10;

fn write(machine: &mut Machine, session: SessionId, inode: InodeId, first: u64, count: u64) {
    let extent = |number: u64| {
        let block = BlockId { pool: PoolId::DEFAULT, hash: BlockHash::of(&number.to_be_bytes()) };
        let content = ExtentContent::Block(BlockReference { block, block_offset: 0, block_length: LENGTH as u32 });
        let extent = Extent { offset: number * LENGTH, length: LENGTH, content };
        NewExtent { extent, missed: Vec::new(), table: TableEpoch(0) }
    };
    let extents = (first..first + count).map(extent).collect();
    let commit = Mutation::Commit { inode, extents, append: false, minimum_size: 0, mtime: None };
    machine.mutate(session, commit).unwrap();
}

fn resize(machine: &mut Machine, session: SessionId, inode: InodeId, size: u64) {
    let changes = AttributeChanges { size: Some(size), ..AttributeChanges::default() };
    machine.mutate(session, Mutation::SetAttributes { inode, changes }).unwrap();
}

fn extents(machine: &Machine, inode: InodeId) -> Vec<u64> {
    match machine.ask(Query::Extents { inode, from: 0, to: u64::MAX }).unwrap() {
        QueryResult::Extents { extents, .. } => extents.iter().map(|extent| extent.offset).collect(),
        other => panic!("{other:?}"),
    }
}

fn count(machine: &Machine, table: Table) -> usize {
    let in_table = |volume| {
        let (from, to) = keys::table_range(table, volume);
        machine.base.range(&from, &to).count()
    };
    in_table(VOLUME) + in_table(CLUSTER_WIDE)
}

/// A file of 20 extents on a machine that removes no more than 5 at once.
fn with_file() -> (Machine, SessionId, InodeId) {
    let mut machine = Machine::new();
    machine.max_removals = 5;
    let session = machine.open_session();
    let inode = machine.create(session, InodeId::ROOT, "a", NewNode::File, Some(OpenMode::Write)).inode;
    write(&mut machine, session, inode, 0, 20);
    (machine, session, inode)
}

fn collect_all(machine: &mut Machine, limit: u32) -> usize {
    let mut commands = 0;
    while cluster::has_garbage(&machine.base).unwrap() {
        let before = count(machine, Table::Extent);
        machine.act(Action::CollectGarbage { limit });
        assert!(before - count(machine, Table::Extent) <= limit as usize);
        machine.check();
        commands += 1;
        assert!(commands < 100, "garbage never ends");
    }
    commands
}

#[test]
fn a_deleted_file_leaves_its_extents_to_be_collected() {
    let (mut machine, session, inode) = with_file();
    machine.mutate(session, Mutation::Unlink { parent: InodeId::ROOT, name: named("a") }).unwrap();
    assert!(!cluster::has_garbage(&machine.base).unwrap(), "it is open");
    machine.mutate(session, Mutation::Release { opens: vec![(inode, OpenMode::Write)] }).unwrap();
    assert_eq!(machine.attributes(inode), Err(FsError::Stale));
    assert_eq!(count(&machine, Table::Extent), 20);
    machine.check();
    assert_eq!(collect_all(&mut machine, 7), 3);
    assert_eq!((count(&machine, Table::Extent), count(&machine, Table::Backref)), (0, 0));
}

#[test]
fn one_command_that_removes_several_files_has_one_bound() {
    let mut machine = Machine::new();
    machine.max_removals = 5;
    let session = machine.open_session();
    for name in ["a", "b", "c"] {
        let inode = machine.create(session, InodeId::ROOT, name, NewNode::File, Some(OpenMode::Write)).inode;
        write(&mut machine, session, inode, 0, 4);
        machine.mutate(session, Mutation::Unlink { parent: InodeId::ROOT, name: named(name) }).unwrap();
    }
    machine.act(Action::EndSession { session });
    assert_eq!(count(&machine, Table::Extent), 8, "the first file went at once");
    machine.check();
    collect_all(&mut machine, 100);
}

#[test]
fn a_truncated_file_shows_at_once_only_what_is_left() {
    let (mut machine, session, inode) = with_file();
    resize(&mut machine, session, inode, 35);
    assert_eq!(extents(&machine, inode), [0, 10, 20, 30]);
    assert_eq!(machine.attributes(inode).unwrap().size, 35);
    assert!(cluster::has_garbage(&machine.base).unwrap());
    machine.check();
    // Grown again, the cut bytes are a hole; new bytes show among hidden ones, at old offsets too.
    resize(&mut machine, session, inode, 200);
    assert_eq!(extents(&machine, inode), [0, 10, 20, 30]);
    write(&mut machine, session, inode, 10, 2);
    assert_eq!(extents(&machine, inode), [0, 10, 20, 30, 100, 110]);
    machine.check();
    collect_all(&mut machine, 3);
    assert_eq!(extents(&machine, inode), [0, 10, 20, 30, 100, 110]);
    assert_eq!(machine.attributes(inode).unwrap().allocated, 35 + 20);
    assert_eq!(count(&machine, Table::Backref), 6);
}

#[test]
fn truncated_again_before_the_garbage_is_collected() {
    let (mut machine, session, inode) = with_file();
    resize(&mut machine, session, inode, 100);
    write(&mut machine, session, inode, 12, 7);
    machine.act(Action::CollectGarbage { limit: 2 });
    // Higher than the first cut: what was written since goes at once, however much it is.
    resize(&mut machine, session, inode, 145);
    assert_eq!(extents(&machine, inode), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 120, 130, 140]);
    machine.check();
    // Lower: the second cut takes the first one in, and collection begins again.
    resize(&mut machine, session, inode, 20);
    write(&mut machine, session, inode, 4, 1);
    assert_eq!(extents(&machine, inode), [0, 10, 40]);
    machine.check();
    collect_all(&mut machine, 4);
    assert_eq!(extents(&machine, inode), [0, 10, 40]);
    assert_eq!(count(&machine, Table::Extent), 3);
    // And a file that is deleted meanwhile.
    write(&mut machine, session, inode, 0, 20);
    resize(&mut machine, session, inode, 10);
    machine.act(Action::CollectGarbage { limit: 3 });
    machine.mutate(session, Mutation::Unlink { parent: InodeId::ROOT, name: named("a") }).unwrap();
    machine.act(Action::EndSession { session });
    machine.check();
    collect_all(&mut machine, 4);
    assert_eq!((count(&machine, Table::Extent), count(&machine, Table::Backref)), (0, 0));
}

#[test]
fn many_extents_come_in_pages() {
    let mut machine = Machine::new();
    let session = machine.open_session();
    let inode = machine.create(session, InodeId::ROOT, "a", NewNode::File, None).inode;
    let most = MAX_EXTENTS_PER_MESSAGE as u64;
    write(&mut machine, session, inode, 0, most);
    write(&mut machine, session, inode, most, 3);
    let Ok(QueryResult::Extents { extents, complete_to, size, .. }) =
        machine.ask(Query::Extents { inode, from: 5, to: u64::MAX })
    else {
        panic!()
    };
    assert_eq!((extents.len() as u64, complete_to, size), (most, most * LENGTH, (most + 3) * LENGTH));
    let Ok(QueryResult::Extents { extents, complete_to, .. }) =
        machine.ask(Query::Extents { inode, from: complete_to, to: u64::MAX })
    else {
        panic!()
    };
    assert_eq!((extents.len(), complete_to), (3, u64::MAX));
    let Ok(MutationResult::Opened { extents: None, .. }) =
        machine.mutate(session, Mutation::Open { inode, mode: OpenMode::Read, exclusive_lease: false })
    else {
        panic!("too many extents came along with an open")
    };
    // One long extent over all of them.
    let extent = Extent { offset: 5, length: 40_000, content: ExtentContent::Unwritten };
    let extents = vec![NewExtent { extent, missed: Vec::new(), table: TableEpoch(0) }];
    let commit = Mutation::Commit { inode, extents, append: false, minimum_size: 0, mtime: None };
    machine.mutate(session, commit).unwrap();
    machine.check();
    let inline = Extent { offset: 0, length: 4097, content: ExtentContent::Inline(Bytes::from(vec![1; 4097])) };
    let extents = vec![NewExtent { extent: inline, missed: Vec::new(), table: TableEpoch(0) }];
    let commit = Mutation::Commit { inode, extents, append: false, minimum_size: 0, mtime: None };
    assert_eq!(machine.mutate(session, commit), Err(FsError::Invalid));
}
