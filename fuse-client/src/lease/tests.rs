//! The rules, one by one. What they are together is checked with the leader's rules in the models.

use std::time::Duration;

use bytes::Bytes;
use cairn_common::client::LeaseTime;
use cairn_common::clock::Timestamp;
use cairn_common::extent::{Extent, ExtentContent};
use cairn_common::ids::{CommitSequence, DataVersion, InodeId, LeaseGeneration};
use cairn_common::name::Name;
use cairn_common::posix_acl::AclKind;
use cairn_common::protocol::metadata::{
    AttributeChanges, Attributes, ChangeEffects, DirectoryEntry, LeaseGrant, Mutation, MutationResult, NewNode,
    NodeKind, Query, QueryResult, RenameMode, XattrPresence,
};

use super::*;

const GENERATION: LeaseGeneration = LeaseGeneration(3);
const DIRECTORY: InodeId = InodeId(1);
const FILE: InodeId = InodeId(2);

fn time() -> LeaseTime {
    let seconds = Duration::from_secs;
    LeaseTime { generation: GENERATION, horizon: seconds(10), exclusive_horizon: seconds(19), now: seconds(9) }
}

fn cache() -> LeaseCache {
    let mut cache = LeaseCache::new(CacheLimits { inodes: 100, names: 100 });
    cache.adopt(GENERATION, Duration::ZERO);
    cache
}

fn granted() -> LeaseGrant {
    LeaseGrant { generation: GENERATION, refused: Vec::new() }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes().to_vec()).unwrap()
}

fn attributes(inode: InodeId, size: u64) -> Attributes {
    let time = Timestamp::default();
    Attributes {
        inode,
        kind: if inode == FILE { NodeKind::File } else { NodeKind::Directory },
        mode: 0o755,
        links: 1,
        uid: 0,
        gid: 0,
        device: 0,
        size,
        allocated: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        data_version: DataVersion(size),
        xattrs: XattrPresence::default(),
    }
}

fn facts(size: u64) -> Vec<Fact> {
    vec![Fact::Attributes(attributes(FILE, size))]
}

fn size(cache: &mut LeaseCache) -> Option<u64> {
    cache.attributes(FILE, &time()).map(|attributes| attributes.size)
}

fn learn(cache: &mut LeaseCache, sequence: u64, facts: Vec<Fact>) {
    let question = cache.ask();
    cache.answered(question, Some(&granted()), CommitSequence(sequence), facts);
}

fn effects(sequence: u64, changed: Vec<InodeId>, held: Vec<Attributes>) -> ChangeEffects {
    ChangeEffects { sequence: CommitSequence(sequence), changed, held, generation: GENERATION }
}

#[test]
fn told_while_the_horizon_is_ahead_and_never_under_another_generation() {
    let mut cache = cache();
    learn(&mut cache, 1, facts(7));
    assert_eq!(size(&mut cache), Some(7));
    assert_eq!(cache.attribute_ttl(FILE, &time()), Duration::from_millis(990));
    let over = LeaseTime { now: time().horizon, ..time() };
    assert_eq!(cache.attributes(FILE, &over), None);
    assert_eq!(cache.attribute_ttl(FILE, &over), Duration::ZERO);
    assert!(cache.attributes(FILE, &LeaseTime { generation: LeaseGeneration(4), ..time() }).is_none());
    let told = Told { attributes: true, ..Told::default() };
    assert_eq!(cache.adopt(LeaseGeneration(4), time().now), vec![(FILE, told)], "the kernel may still believe it");
    assert!(cache.attributes(FILE, &LeaseTime { generation: LeaseGeneration(4), ..time() }).is_none());
}

#[test]
fn only_what_was_granted_is_kept() {
    let mut cache = cache();
    for grant in [
        None,
        Some(LeaseGrant { generation: LeaseGeneration(2), refused: Vec::new() }),
        Some(LeaseGrant { generation: GENERATION, refused: vec![FILE] }),
    ] {
        let question = cache.ask();
        cache.answered(question, grant.as_ref(), CommitSequence(1), facts(7));
        assert_eq!(size(&mut cache), None);
    }
    let asked_before = cache.ask();
    cache.adopt(LeaseGeneration(9), Duration::ZERO);
    cache.adopt(GENERATION, Duration::ZERO);
    let asked_under_another = cache.ask();
    cache.adopt(LeaseGeneration(9), Duration::ZERO);
    let grant = LeaseGrant { generation: LeaseGeneration(9), refused: Vec::new() };
    cache.answered(asked_under_another, Some(&grant), CommitSequence(1), facts(7));
    cache.answered(asked_before, Some(&grant), CommitSequence(1), facts(7));
    assert!(cache.is_empty());
}

#[test]
fn a_recall_beats_every_earlier_question() {
    let mut cache = cache();
    let before = cache.ask();
    assert_eq!(cache.recall(FILE, false, time().now), Told::default());
    let after = cache.ask();
    cache.answered(before, Some(&granted()), CommitSequence(1), facts(7));
    assert_eq!(size(&mut cache), None);
    cache.answered(after, Some(&granted()), CommitSequence(2), facts(8));
    assert_eq!(size(&mut cache), Some(8));
    cache.attribute_ttl(FILE, &time());
    assert!(cache.recall(FILE, false, time().now).attributes, "the kernel was told of it");
    assert_eq!(size(&mut cache), None);
    assert_eq!(cache.recall(FILE, false, time().now), Told::default(), "and is told to forget once");
}

#[test]
fn an_own_change_is_busy_until_its_answer_and_beats_questions_of_before_its_end() {
    let mut cache = cache();
    learn(&mut cache, 1, facts(7));
    let before = cache.ask();
    let change = cache.begin(Touch { inodes: vec![FILE], names: Vec::new() });
    assert_eq!(size(&mut cache), None, "busy");
    let during = cache.ask();
    cache.made(change, &effects(5, vec![FILE], vec![attributes(FILE, 9)]), Vec::new());
    assert_eq!(size(&mut cache), Some(9));
    for late in [before, during] {
        cache.answered(late, Some(&granted()), CommitSequence(4), facts(7));
        assert_eq!(size(&mut cache), Some(9));
    }
    let change = cache.begin(Touch { inodes: vec![FILE], names: Vec::new() });
    cache.refused(change);
    assert_eq!(size(&mut cache), Some(9), "nothing happened");
}

#[test]
fn a_recall_during_an_own_change_leaves_nothing() {
    let mut cache = cache();
    learn(&mut cache, 1, facts(7));
    let change = cache.begin(Touch { inodes: vec![FILE], names: Vec::new() });
    cache.recall(FILE, false, time().now);
    cache.made(change, &effects(5, vec![FILE], vec![attributes(FILE, 9)]), Vec::new());
    assert_eq!(size(&mut cache), None);
    learn(&mut cache, 6, facts(10));
    let change = cache.begin(Touch { inodes: vec![FILE], names: Vec::new() });
    cache.made(change, &effects(7, vec![FILE], Vec::new()), Vec::new());
    assert_eq!(size(&mut cache), None, "changed, and not held any more");
}

#[test]
fn the_newest_of_two_own_changes_wins_and_a_name_that_both_touched_is_asked_for() {
    let mut cache = cache();
    learn(&mut cache, 1, vec![Fact::Attributes(attributes(DIRECTORY, 0))]);
    let touch = || Touch { inodes: vec![DIRECTORY], names: vec![(DIRECTORY, name("x"))] };
    let (first, second) = (cache.begin(touch()), cache.begin(touch()));
    let made = |sequence, stands_for| {
        let names = vec![NameEffect::Name(DIRECTORY, name("x"), stands_for)];
        (effects(sequence, vec![DIRECTORY], vec![attributes(DIRECTORY, sequence)]), names)
    };
    let (later, names) = made(9, None);
    cache.made(second, &later, names);
    assert_eq!(cache.name(DIRECTORY, &name("x"), &time()), None, "busy");
    let (earlier, names) = made(8, Some(FILE));
    cache.made(first, &earlier, names);
    assert_eq!(cache.attributes(DIRECTORY, &time()).unwrap().size, 9);
    assert_eq!(cache.name(DIRECTORY, &name("x"), &time()), None, "which came last is not known");
}

#[test]
fn names_in_an_own_new_directory_are_all_known() {
    let mut cache = cache();
    let new = InodeId(9);
    let mutation = Mutation::Create {
        parent: DIRECTORY,
        name: name("new"),
        node: NewNode::Directory,
        mode: 0o755,
        umask: 0,
        uid: 0,
        gid: 0,
        exclusive: true,
        open: None,
        exclusive_lease: false,
    };
    let change = cache.begin(Touch::of(&mutation, &cache));
    let result = MutationResult::Node { attributes: attributes(new, 0), created: true, exclusive: false };
    let held = vec![attributes(DIRECTORY, 1), attributes(new, 0)];
    cache.made(change, &effects(1, vec![DIRECTORY, new], held), NameEffect::of(&mutation, &result, (None, None)));
    assert_eq!(cache.name(DIRECTORY, &name("new"), &time()), Some(KnownName::Present(new)));
    assert_eq!(cache.name(DIRECTORY, &name("other"), &time()), None);
    assert_eq!(cache.name(new, &name("x"), &time()), Some(KnownName::Absent));
    let nothing = WholeListing { entries: ListingEntries::default(), own_cookies: false };
    assert_eq!(cache.whole_listing(new, 0, &time()), Some(nothing));
    assert_eq!(cache.xattr(new, b"user.x", &time()), Some(None));
    assert_eq!(cache.parent(new, &time()), Some(DIRECTORY));
    let change = cache.begin(Touch { inodes: vec![new], names: vec![(new, name("x"))] });
    assert_eq!(cache.name(new, &name("x"), &time()), None);
    assert_eq!(cache.name(new, &name("y"), &time()), Some(KnownName::Absent), "other names are not busy");
    let names = vec![NameEffect::Name(new, name("x"), Some(FILE))];
    cache.made(change, &effects(2, vec![new, FILE], vec![attributes(new, 1), attributes(FILE, 0)]), names);
    assert_eq!(cache.name(new, &name("x"), &time()), Some(KnownName::Present(FILE)));
    assert_eq!(cache.name(new, &name("y"), &time()), Some(KnownName::Absent));
    assert_eq!(cache.whole_listing(new, 0, &time()), None, "too long");
    let entry = ListingEntry { name: name("x"), inode: FILE, kind: NodeKind::File, cookie: 3 };
    let x = WholeListing { entries: ListingEntries::new(vec![entry.clone()]), own_cookies: true };
    assert_eq!(cache.whole_listing(new, 1, &time()), Some(x.clone()), "where it is is not known, but it is all");
    assert_eq!(cache.whole_listing(DIRECTORY, 9, &time()), None, "not all names are known");
    let ttl = Duration::from_millis(990);
    let listed = |cache: &mut LeaseCache, entries: &ListingEntries| cache.listed(new, entries, 0..1, &time())[0];
    assert_eq!(listed(&mut cache, &x.entries), (Some(attributes(FILE, 0)), ttl), "each name by itself");
    let told = Told { attributes: true, ..Told::default() };
    assert_eq!(cache.recall(FILE, false, time().now), told, "the kernel was told of it");
    assert_eq!(listed(&mut cache, &x.entries), (None, Duration::ZERO));
    let shared = cache.whole_listing(new, 9, &time()).expect("kinds do not change").entries;
    assert_eq!(listed(&mut cache, &shared), (None, Duration::ZERO));
    learn(&mut cache, 3, facts(1));
    assert_eq!(listed(&mut cache, &shared), (Some(attributes(FILE, 1)), ttl), "all at once");
    let other = ListingEntries::new(vec![ListingEntry { name: name("y"), ..entry }]);
    assert_eq!(listed(&mut cache, &other).1, Duration::ZERO, "the name is not there");
    let change = cache.begin(Touch { inodes: vec![new], names: vec![(new, name("x"))] });
    assert_eq!(listed(&mut cache, &shared).1, Duration::ZERO, "the name is being changed");
    let names = vec![NameEffect::Name(new, name("x"), None)];
    cache.made(change, &effects(4, vec![new], vec![attributes(new, 2)]), names);
    assert_eq!(listed(&mut cache, &shared).1, Duration::ZERO, "the listing is of before");
    assert_eq!(cache.whole_listing(new, 9, &time()).expect("it is empty").entries, ListingEntries::default());
    let told = cache.recall(new, false, time().now);
    assert!(told.names, "the kernel was told of names in it");
    assert_eq!(cache.whole_listing(new, 9, &time()), None);
    assert_eq!(listed(&mut cache, &shared), (Some(attributes(FILE, 1)), Duration::ZERO));
}

#[test]
fn pages_and_extents_follow_own_commits_only() {
    let mut cache = cache();
    learn(&mut cache, 1, facts(7));
    let extents = |length: usize| {
        let content = ExtentContent::Inline(vec![0; length].into());
        vec![Extent { offset: 0, length: length as u64, content }]
    };
    assert!(!cache.opened(FILE, DataVersion(7), &time()), "whatever pages there are, nobody knows of what version");
    cache.wrote(FILE, DataVersion(7), DataVersion(8), Some(extents(10)));
    assert_eq!(cache.extents(FILE, DataVersion(8), &time()), Some(extents(10)));
    assert_eq!(cache.extents(FILE, DataVersion(7), &time()), None);
    assert!(cache.opened(FILE, DataVersion(8), &time()));
    cache.wrote(FILE, DataVersion(9), DataVersion(10), None);
    assert!(!cache.opened(FILE, DataVersion(10), &time()), "somebody else made version 9");
    cache.lost_bytes(FILE);
    assert!(!cache.opened(FILE, DataVersion(10), &time()), "the pages show what was lost");
}

#[test]
fn remembered_bytes_are_bounded() {
    let mut cache = LeaseCache::new(CacheLimits { inodes: 100, names: 100 });
    cache.adopt(GENERATION, Duration::ZERO);
    for inode in 50..60 {
        let inode = InodeId(inode);
        learn(&mut cache, 1, vec![Fact::Attributes(attributes(inode, 1))]);
        let content = ExtentContent::Inline(vec![0; 16 << 20].into());
        let extents = vec![Extent { offset: 0, length: 16 << 20, content }];
        cache.wrote(inode, DataVersion(1), DataVersion(2), Some(extents));
    }
    assert_eq!(cache.len(), 4, "64 MiB");
}

#[test]
fn a_listing_is_complete_when_its_pages_follow_each_other() {
    let mut cache = cache();
    let entry = |cookie: u64| DirectoryEntry {
        name: name(&format!("n{cookie}")),
        inode: InodeId(100 + cookie),
        kind: NodeKind::File,
        cookie,
        attributes: Some(attributes(InodeId(100 + cookie), cookie)),
    };
    let page = |after, cookies: &[u64], end| {
        let entries: Vec<_> = cookies.iter().map(|cookie| entry(*cookie)).collect();
        vec![Fact::Page { inode: DIRECTORY, after, entries, end }]
    };
    learn(&mut cache, 1, page(0, &[3, 4], false));
    learn(&mut cache, 1, page(5, &[6], true));
    assert_eq!(cache.whole_listing(DIRECTORY, 10, &time()), None, "a gap");
    learn(&mut cache, 1, page(4, &[5], true));
    let WholeListing { entries, own_cookies } = cache.whole_listing(DIRECTORY, 0, &time()).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.cookie).collect::<Vec<_>>(), [3, 4, 5]);
    assert!(!own_cookies, "they are the cluster's");
    assert_eq!(cache.listed(DIRECTORY, &entries, 0..1, &time())[0].0, None, "entries need leases of their own");
    assert_eq!(cache.name(DIRECTORY, &name("zz"), &time()), Some(KnownName::Absent));
}

#[test]
fn a_listing_that_leaves_newer_entries_out_is_not_complete() {
    let entry = DirectoryEntry { name: name("a"), inode: FILE, kind: NodeKind::File, cookie: 3, attributes: None };
    let answered = |up_to, last_cookie| {
        let query = Query::ReadDirectory { inode: DIRECTORY, after: 0, up_to, limit: 100, attributes: false };
        let answer = QueryResult::Entries { entries: vec![entry.clone()], end: true, last_cookie };
        let mut cache = cache();
        learn(&mut cache, 1, Fact::of(&query, &Ok(answer)));
        cache.name(DIRECTORY, &name("b"), &time())
    };
    assert_eq!(answered(u64::MAX, 3), Some(KnownName::Absent));
    assert_eq!(answered(3, 3), Some(KnownName::Absent), "nothing has come since the listing began");
    assert_eq!(answered(3, 4), None, "it may be the newer one");
}

#[test]
fn the_cache_is_bounded_and_keeps_what_is_used_or_open() {
    let mut cache = LeaseCache::new(CacheLimits { inodes: 4, names: 100 });
    cache.adopt(GENERATION, Duration::ZERO);
    cache.pin(InodeId(50));
    for inode in 50..60 {
        learn(&mut cache, 1, vec![Fact::Attributes(attributes(InodeId(inode), 1))]);
    }
    assert_eq!(cache.len(), 4);
    assert!(cache.attributes(InodeId(50), &time()).is_some(), "open");
    let surplus = cache.take_surplus(100, time().now);
    assert_eq!(surplus.len(), 6);
    let gone = surplus[0];
    learn(&mut cache, 2, vec![Fact::Attributes(attributes(gone, 1))]);
    assert!(cache.attributes(gone, &time()).is_none(), "the leader may forget the lease any moment");
    cache.returned(&surplus);
    learn(&mut cache, 2, vec![Fact::Attributes(attributes(gone, 1))]);
    assert!(cache.attributes(gone, &time()).is_some());
}

#[test]
fn what_the_kernel_forgot_leaves_first() {
    let mut cache = LeaseCache::new(CacheLimits { inodes: 4, names: 100 });
    cache.adopt(GENERATION, Duration::ZERO);
    for inode in 50..54 {
        learn(&mut cache, 1, vec![Fact::Attributes(attributes(InodeId(inode), 1))]);
    }
    assert!(!cache.unused(InodeId(52)));
    learn(&mut cache, 1, vec![Fact::Attributes(attributes(InodeId(54), 1))]);
    assert_eq!(cache.take_surplus(100, time().now), [InodeId(52)]);
}

#[test]
fn a_lease_goes_back_only_when_the_kernel_keeps_no_list_of_it() {
    let mut cache = LeaseCache::new(CacheLimits { inodes: 1, names: 100 });
    cache.adopt(GENERATION, Duration::ZERO);
    learn(&mut cache, 1, vec![Fact::Attributes(attributes(FILE, 1))]);
    let name = AclKind::Access.xattr_name().as_bytes();
    assert!(cache.tell_acl(FILE, name, None, &time()));
    cache.unpin(FILE);
    for inode in 50..60 {
        learn(&mut cache, 3, vec![Fact::Attributes(attributes(InodeId(inode), 1))]);
    }
    assert!(cache.attributes(FILE, &time()).is_none(), "it had to go");
    assert!(!cache.tell_acl(FILE, name, None, &time()));
    assert!(cache.take_surplus(1, time().now).is_empty(), "the kernel still has it");
    assert_eq!(cache.surplus_acls(100), [FILE]);
    assert_eq!(cache.take_surplus(1, time().now), [FILE]);
    assert!(cache.surplus_acls(100).is_empty());
}

#[test]
fn lists_are_told_as_attributes_say() {
    let mut cache = cache();
    let xattrs = XattrPresence { access_acl: true, ..XattrPresence::default() };
    let with_list = Attributes { xattrs, ..attributes(FILE, 1) };
    let (access, default) = (AclKind::Access.xattr_name().as_bytes(), AclKind::Default.xattr_name().as_bytes());
    learn(&mut cache, 1, vec![Fact::Attributes(with_list)]);
    assert_eq!(cache.xattr(FILE, access, &time()), None, "there is one; which is to be asked");
    assert_eq!(cache.xattr(FILE, default, &time()), Some(None));
    assert_eq!(cache.xattr(FILE, b"user.a", &time()), Some(None));
    assert_eq!(cache.xattr_names(FILE, &time()), None);
    let value = Some(Bytes::from_static(b"list"));
    learn(&mut cache, 1, vec![Fact::Xattr { inode: FILE, name: access.into(), value: value.clone() }]);
    assert_eq!(cache.xattr(FILE, access, &time()), Some(value.clone()));
    assert!(cache.tell_acl(FILE, access, value.as_ref(), &time()));
    assert_eq!(cache.believed(&[FILE], time().now), [FILE], "also without attributes");
    let changes = AttributeChanges { mode: Some(0o600), ..AttributeChanges::default() };
    let mutation = Mutation::SetAttributes { inode: FILE, changes };
    let change = cache.begin(Touch::of(&mutation, &cache));
    assert!(!cache.tell_acl(FILE, access, value.as_ref(), &time()), "it changes");
    let result = MutationResult::Attributes(with_list);
    let names = NameEffect::of(&mutation, &result, (None, None));
    cache.made(change, &effects(2, vec![FILE], vec![with_list]), names);
    assert_eq!(cache.xattr(FILE, access, &time()), None, "chmod has changed it");
    assert_eq!(cache.recall(FILE, false, time().now), Told { acls: true, ..Told::default() });
    assert_eq!(cache.recall(FILE, false, time().now), Told::default());
}

#[test]
fn a_lease_that_a_change_did_not_renew_is_given_back_some_day() {
    let mut cache = LeaseCache::new(CacheLimits { inodes: 4, names: 100 });
    cache.adopt(GENERATION, Duration::ZERO);
    learn(&mut cache, 1, vec![Fact::Attributes(attributes(FILE, 1))]);
    let change = cache.begin(Touch { inodes: vec![FILE], names: Vec::new() });
    cache.made(change, &effects(2, vec![FILE], Vec::new()), Vec::new());
    assert!(cache.attributes(FILE, &time()).is_none(), "it changed, and nobody told to what");
    for inode in 50..60 {
        learn(&mut cache, 3, vec![Fact::Attributes(attributes(InodeId(inode), 1))]);
    }
    assert!(cache.take_surplus(100, time().now).contains(&FILE), "the leader may count it as held");
}

#[test]
fn an_exclusive_lease_that_was_recalled_before_its_answer_is_given_up() {
    let mut cache = cache();
    let mut lease = Exclusive::default();
    let question = cache.ask_exclusive();
    cache.recall(FILE, true, Duration::ZERO);
    let recalled = cache.exclusive_answered(question, Some(FILE));
    assert_eq!(lease.answered(true, recalled, Duration::ZERO), Grant::GiveUp);
    assert!(!lease.may_buffer(&time()) && lease.may_ask(Duration::ZERO));
    let question = cache.ask_exclusive();
    cache.recall(FILE, false, Duration::ZERO);
    let recalled = cache.exclusive_answered(question, Some(FILE));
    assert_eq!(lease.answered(true, recalled, Duration::ZERO), Grant::Held);
    assert!(lease.may_buffer(&time()));
    assert!(!lease.may_buffer(&LeaseTime { now: time().exclusive_horizon, ..time() }));
    assert!(lease.covers_pages(&time()));
    lease.announce_recall();
    assert!(lease.may_buffer(&time()) && !lease.covers_pages(&time()), "pages of from here on may be left");
    assert!(lease.recalled() && !lease.may_buffer(&time()) && lease.may_tell(&time()));
    lease.leave();
    assert!(lease.is_ending() && !lease.may_tell(&time()) && !lease.may_ask(Duration::from_secs(9)));
    let question = cache.ask_exclusive();
    assert_eq!(lease.answered(true, false, Duration::ZERO), Grant::None, "it may be over already");
    cache.gave_up(FILE);
    lease.ended();
    let recalled = cache.exclusive_answered(question, Some(FILE));
    assert_eq!(lease.answered(true, recalled, Duration::ZERO), Grant::GiveUp, "asked for before it was given up");
    assert_eq!(lease.answered(false, false, Duration::ZERO), Grant::None);
    assert!(!lease.may_ask(Duration::from_millis(999)) && lease.may_ask(Duration::from_secs(1)));
}

/// What a rename did is known only as far as it is known what both names stood for: two names of one inode
/// both stay.
#[test]
fn a_rename_to_an_unknown_name_leaves_the_old_one_unknown() {
    let (from, to) = (name("from"), name("to"));
    let rename = Mutation::Rename {
        parent: DIRECTORY,
        name: from.clone(),
        new_parent: DIRECTORY,
        new_name: to,
        mode: RenameMode::Replace,
    };
    let old_name = |before| NameEffect::of(&rename, &MutationResult::Done, before).swap_remove(0);
    let file = Some(KnownName::Present(FILE));
    assert_eq!(old_name((file, Some(KnownName::Absent))), NameEffect::Name(DIRECTORY, from.clone(), None));
    for unsure in [(file, None), (None, file), (file, file)] {
        assert_eq!(old_name(unsure), NameEffect::Unknown(DIRECTORY, from.clone()), "{unsure:?}");
    }
}

#[test]
fn a_rename_takes_along_what_its_old_name_stood_for_unless_others_may_have_changed_that() {
    const FOLDER: InodeId = InodeId(5);
    let rename = Mutation::Rename {
        parent: DIRECTORY,
        name: name("from"),
        new_parent: FOLDER,
        new_name: name("to"),
        mode: RenameMode::Replace,
    };
    let moved = |meanwhile: fn(&mut LeaseCache)| {
        let mut cache = cache();
        let directories = || vec![attributes(DIRECTORY, 0), attributes(FOLDER, 0)];
        learn(&mut cache, 1, directories().into_iter().map(Fact::Attributes).collect());
        let change = cache.begin(Touch::of(&rename, &cache));
        meanwhile(&mut cache);
        let before = (Some(KnownName::Present(FILE)), Some(KnownName::Absent));
        let names = NameEffect::of(&rename, &MutationResult::Done, before);
        cache.made(change, &effects(2, vec![DIRECTORY, FOLDER], directories()), names);
        cache.name(FOLDER, &name("to"), &time())
    };
    assert_eq!(moved(|_| ()), Some(KnownName::Present(FILE)));
    let recalled = |cache: &mut LeaseCache| {
        cache.recall(DIRECTORY, false, Duration::ZERO);
    };
    assert_eq!(moved(recalled), None, "another mount has put something else there, perhaps");
    let contested = |cache: &mut LeaseCache| {
        let unlink = Mutation::Unlink { parent: DIRECTORY, name: name("from") };
        let other = cache.begin(Touch::of(&unlink, cache));
        cache.refused(other);
    };
    assert_eq!(moved(contested), None, "or another program on this mount");
}
