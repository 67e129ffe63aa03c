//! Access control lists: what they do to modes, what is inherited, and what is refused. Random lists are
//! compared with the model in `random_commands`.

use bytes::Bytes;
use cairn_common::ids::{InodeId, SessionId};
use cairn_common::posix_acl::{AclEntry, AclKind, AclTag, PosixAcl};
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{
    AttributeChanges, Attributes, Mutation, MutationResult, NewNode, Query, QueryResult, XattrMode,
};

use super::machine::{Machine, named};
use crate::namespace::{keys, read, records};

const ROOT: InodeId = InodeId::ROOT;

fn setup() -> (Machine, SessionId) {
    let mut machine = Machine::new();
    let session = machine.open_session();
    (machine, session)
}

/// Owner, a user 5, the owning group, the mask and others.
fn list(user: u8, named: u8, group: u8, mask: u8, other: u8) -> PosixAcl {
    let tags = [AclTag::UserObj, AclTag::User(5), AclTag::GroupObj, AclTag::Mask, AclTag::Other];
    let entries = tags.into_iter().zip([user, named, group, mask, other]);
    PosixAcl::new(entries.map(|(tag, permissions)| AclEntry { tag, permissions }).collect()).unwrap()
}

fn minimal(user: u8, group: u8, other: u8) -> PosixAcl {
    let entries = [(AclTag::UserObj, user), (AclTag::GroupObj, group), (AclTag::Other, other)];
    PosixAcl::new(entries.map(|(tag, permissions)| AclEntry { tag, permissions }).to_vec()).unwrap()
}

fn set(
    machine: &mut Machine,
    session: SessionId,
    inode: InodeId,
    kind: AclKind,
    acl: Option<&PosixAcl>,
) -> Result<Attributes, FsError> {
    let acl = acl.map(PosixAcl::to_xattr);
    match machine.mutate(session, Mutation::SetAcl { inode, kind, acl, clear_sgid: false })? {
        MutationResult::Attributes(attributes) => Ok(attributes),
        other => panic!("{other:?}"),
    }
}

fn stored(machine: &Machine, inode: InodeId, kind: AclKind) -> Option<PosixAcl> {
    let name = Bytes::from_static(kind.xattr_name().as_bytes());
    match machine.ask(Query::Xattr { inode, name }) {
        Ok(QueryResult::Bytes(value)) => PosixAcl::from_xattr(&value).unwrap(),
        Err(FsError::NoAttribute) => None,
        other => panic!("{other:?}"),
    }
}

fn make(
    machine: &mut Machine,
    session: SessionId,
    parent: InodeId,
    name: &str,
    node: NewNode,
    (mode, umask): (u32, u32),
) -> Attributes {
    let (name, exclusive, open, exclusive_lease) = (named(name), true, None, false);
    let create = Mutation::Create { parent, name, node, mode, umask, uid: 1, gid: 2, exclusive, open, exclusive_lease };
    match machine.mutate(session, create).unwrap() {
        MutationResult::Node { attributes, .. } => attributes,
        other => panic!("{other:?}"),
    }
}

fn chmod(machine: &mut Machine, session: SessionId, inode: InodeId, mode: u32) -> u32 {
    let changes = AttributeChanges { mode: Some(mode), ..AttributeChanges::default() };
    machine.mutate(session, Mutation::SetAttributes { inode, changes }).unwrap();
    machine.attributes(inode).unwrap().mode
}

#[test]
fn mode_and_access_list_follow_each_other() {
    let (mut machine, session) = setup();
    let inode = machine.create(session, ROOT, "a", NewNode::File, None).inode;
    assert_eq!(chmod(&mut machine, session, inode, 0o6644), 0o6644);
    let attributes = set(&mut machine, session, inode, AclKind::Access, Some(&list(7, 6, 0, 5, 1))).unwrap();
    assert_eq!(attributes.mode, 0o6751, "the mask is the group's");
    assert!(attributes.xattrs.access_acl && !attributes.xattrs.others && !attributes.xattrs.default_acl);
    assert_eq!(chmod(&mut machine, session, inode, 0o4620), 0o4620);
    assert_eq!(stored(&machine, inode, AclKind::Access), Some(list(6, 6, 0, 2, 0)));
    machine.check();
    let attributes = set(&mut machine, session, inode, AclKind::Access, Some(&minimal(4, 2, 1))).unwrap();
    assert_eq!((attributes.mode, attributes.xattrs.any()), (0o4421, false), "a minimal list is the mode");
    assert_eq!(stored(&machine, inode, AclKind::Access), None);
    assert_eq!(machine.ask(Query::Xattrs { inode }), Ok(QueryResult::Names(Vec::new())));
    set(&mut machine, session, inode, AclKind::Access, Some(&list(7, 6, 0, 5, 1))).unwrap();
    let attributes = set(&mut machine, session, inode, AclKind::Access, None).unwrap();
    assert_eq!((attributes.mode, attributes.xattrs.any()), (0o4751, false), "the mode of the mask stays");
    assert_eq!(set(&mut machine, session, inode, AclKind::Access, None), Ok(attributes), "nothing to remove");
    machine.check();
}

#[test]
fn setgid_goes_where_linux_clears_it() {
    let (mut machine, session) = setup();
    let inode = machine.create(session, ROOT, "d", NewNode::Directory, None).inode;
    chmod(&mut machine, session, inode, 0o3755);
    let acl = Some(list(7, 6, 0, 5, 1).to_xattr());
    let mutation = |kind| Mutation::SetAcl { inode, kind, acl: acl.clone(), clear_sgid: true };
    machine.mutate(session, mutation(AclKind::Default)).unwrap();
    assert_eq!(machine.attributes(inode).unwrap().mode, 0o3755, "a default list changes no mode");
    machine.mutate(session, mutation(AclKind::Access)).unwrap();
    assert_eq!(machine.attributes(inode).unwrap().mode, 0o1751);
    machine.check();
}

#[test]
fn what_is_made_inherits_the_default_list_and_no_umask() {
    let (mut machine, session) = setup();
    let default = list(7, 7, 5, 7, 0);
    let parent = machine.create(session, ROOT, "d", NewNode::Directory, None).inode;
    let plain = make(&mut machine, session, parent, "before", NewNode::File, (0o4666, 0o027));
    assert_eq!((plain.mode, plain.xattrs.any()), (0o4640, false), "without a default list the umask counts");
    set(&mut machine, session, parent, AclKind::Default, Some(&default)).unwrap();
    let file = make(&mut machine, session, parent, "file", NewNode::File, (0o666, 0o077));
    assert_eq!(file.mode, 0o660);
    assert_eq!(stored(&machine, file.inode, AclKind::Access), Some(list(6, 7, 5, 6, 0)));
    assert_eq!(stored(&machine, file.inode, AclKind::Default), None);
    let fifo = make(&mut machine, session, parent, "fifo", NewNode::Fifo, (0o600, 0));
    assert_eq!((fifo.mode, fifo.xattrs.access_acl), (0o600, true));
    let inner = make(&mut machine, session, parent, "inner", NewNode::Directory, (0o1777, 0o022));
    assert_eq!(inner.mode, 0o1770);
    assert_eq!(stored(&machine, inner.inode, AclKind::Access), Some(default.clone()));
    assert_eq!(stored(&machine, inner.inode, AclKind::Default), Some(default));
    let link = make(&mut machine, session, parent, "link", NewNode::Symlink(Bytes::from_static(b"x")), (0o777, 0o77));
    assert_eq!((link.mode, link.xattrs.any()), (0o777, false));
    set(&mut machine, session, parent, AclKind::Default, Some(&minimal(6, 4, 0))).unwrap();
    let file = make(&mut machine, session, parent, "minimal", NewNode::File, (0o666, 0o777));
    assert_eq!((file.mode, file.xattrs.any()), (0o640, false), "its access list is minimal and not kept");
    set(&mut machine, session, parent, AclKind::Default, None).unwrap();
    let file = make(&mut machine, session, parent, "after", NewNode::File, (0o666, 0o022));
    assert_eq!((file.mode, file.xattrs.any()), (0o644, false));
    machine.check();
    for name in ["file", "fifo"] {
        machine.mutate(session, Mutation::Unlink { parent, name: named(name) }).unwrap();
    }
    machine.mutate(session, Mutation::RemoveDirectory { parent, name: named("inner") }).unwrap();
    machine.check();
}

#[test]
fn what_is_no_list_or_has_no_place_is_refused() {
    let (mut machine, session) = setup();
    let file = machine.create(session, ROOT, "a", NewNode::File, None).inode;
    let link = machine.create(session, ROOT, "l", NewNode::Symlink(Bytes::from_static(b"x")), None).inode;
    let acl = list(7, 6, 0, 5, 1);
    assert_eq!(set(&mut machine, session, file, AclKind::Default, Some(&acl)), Err(FsError::AccessDenied));
    assert_eq!(set(&mut machine, session, link, AclKind::Access, Some(&acl)), Err(FsError::NotSupported));
    assert_eq!(set(&mut machine, session, InodeId(99), AclKind::Access, Some(&acl)), Err(FsError::Stale));
    let raw = |bytes: Vec<u8>| {
        let (inode, kind, acl) = (file, AclKind::Access, Some(Bytes::from(bytes)));
        Mutation::SetAcl { inode, kind, acl, clear_sgid: false }
    };
    assert_eq!(machine.mutate(session, raw(vec![1, 0, 0, 0])), Err(FsError::Invalid));
    assert_eq!(machine.mutate(session, raw(vec![0; 4097])), Err(FsError::TooBig));
    let name = Bytes::from_static(b"system.posix_acl_access");
    let (value, mode) = (acl.to_xattr(), XattrMode::Any);
    let by_name = Mutation::SetXattr { inode: file, name: name.clone(), value, mode };
    assert_eq!(machine.mutate(session, by_name), Err(FsError::NotSupported));
    assert_eq!(machine.mutate(session, Mutation::RemoveXattr { inode: file, name }), Err(FsError::NotSupported));
    assert!(!machine.attributes(file).unwrap().xattrs.any());
    machine.check();
}

#[test]
fn attributes_tell_lists_from_other_attributes() {
    let (mut machine, session) = setup();
    let inode = machine.create(session, ROOT, "d", NewNode::Directory, None).inode;
    let other = |machine: &mut Machine| {
        let (name, value, mode) = (Bytes::from_static(b"user.a"), Bytes::new(), XattrMode::Any);
        machine.mutate(session, Mutation::SetXattr { inode, name, value, mode }).unwrap();
    };
    for kind in AclKind::ALL {
        set(&mut machine, session, inode, kind, Some(&list(7, 6, 0, 5, 1))).unwrap();
        assert!(!machine.attributes(inode).unwrap().xattrs.others);
    }
    other(&mut machine);
    let xattrs = machine.attributes(inode).unwrap().xattrs;
    assert!(xattrs.others && xattrs.access_acl && xattrs.default_acl);
    let names = [AclKind::Access.xattr_name(), AclKind::Default.xattr_name(), "user.a"];
    let names = names.map(|name| Bytes::from_static(name.as_bytes())).to_vec();
    assert_eq!(machine.ask(Query::Xattrs { inode }), Ok(QueryResult::Names(names)));
}

#[test]
fn a_mode_that_is_not_its_lists_is_found() {
    let (mut machine, session) = setup();
    let inode = machine.create(session, ROOT, "a", NewNode::File, None).inode;
    set(&mut machine, session, inode, AclKind::Access, Some(&list(7, 6, 0, 5, 1))).unwrap();
    let key = keys::inode(inode);
    let (sequence, sound): (_, records::Inode) = read::latest(&machine.base, &key).unwrap().unwrap();
    let wrong = |change: &dyn Fn(&mut records::Inode)| {
        let mut base = machine.base.clone();
        let mut record = sound.clone();
        change(&mut record);
        let value = records::encode_versioned(sequence, &record);
        base.0.insert(key.clone().into(), value.into());
        crate::namespace::invariants::check(&base).unwrap()
    };
    assert_eq!(wrong(&|_| {}), Vec::<String>::new());
    assert_eq!(wrong(&|inode| inode.mode = 0o641).len(), 1);
    assert_eq!(wrong(&|inode| inode.access_acl = false).len(), 1);
    assert_eq!(wrong(&|inode| inode.default_acl = true).len(), 1);
}
