//! Everything that this mount remembers under shared leases, and when it may be told.
//!
//! An answer is installed for an inode when it was asked under the generation that is adopted now, the
//! grant is of that generation and does not refuse the inode, no recall of the inode and no end of an
//! own change of it came since the question, and no own change is at work on it. What is installed is
//! told while the horizon is ahead and no own change is at work on it. A recall drops it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, Range};
use std::time::Duration;

use bytes::Bytes;
use cairn_common::client::LeaseTime;
use cairn_common::extent::Extent;
use cairn_common::ids::{CommitSequence, DataVersion, InodeId, LeaseGeneration};
use cairn_common::name::Name;
use cairn_common::protocol::metadata::{Attributes, LeaseGrant};

use super::busy::Busy;
use super::cached_inode::{CachedInode, KnownName};
use super::fact::Fact;
use super::listing::{ListingEntries, WholeListing};
use super::questions::{Question, Questions};
use super::untold_accesses::UntoldAccesses;

/// Kernel caches end so much before the leases that cover them.
const KERNEL_MARGIN: Duration = Duration::from_millis(10);

/// Inodes that are looked at after an answer to find some that can leave.
const EVICTION_LOOKS: usize = 256;

/// Bytes of small files that are remembered.
const INLINE_BYTES_MAX: usize = 64 << 20;

/// Bounds of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheLimits {
    /// Inodes that are remembered, besides those of open files.
    pub inodes: usize,
    /// Names in directories that are remembered.
    pub names: usize,
}

/// The cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseCache {
    limits: CacheLimits,
    pub(super) generation: LeaseGeneration,
    pub(super) inodes: BTreeMap<InodeId, CachedInode>,
    names_known: usize,
    /// Bytes of files that are remembered.
    inline_bytes: usize,
    pub(super) questions: Questions,
    /// Questions whose answer may bring an exclusive lease.
    exclusive_questions: Questions,
    pub(super) busy: Busy<InodeId>,
    pub(super) busy_names: Busy<(InodeId, Name)>,
    /// Open files: their leases are kept.
    pins: BTreeMap<InodeId, u32>,
    /// Given back, but the leader has not confirmed it: nothing is installed meanwhile.
    returning: BTreeMap<InodeId, ()>,
    /// Dropped here, to be given back.
    surplus: VecDeque<InodeId>,
    /// Until when the kernel may believe what it was told about an inode, remembered here or not:
    /// attributes, and names in it.
    told: BTreeMap<InodeId, (Duration, Duration)>,
    /// Inodes of which the kernel may have kept access control lists that it was told, or that there are
    /// none. It asks for them anew when it asks for attributes, but shows them to who has the file open
    /// without asking: unlike attributes they have no end of their own.
    kernel_acls: BTreeSet<InodeId>,
    /// When programs have read what, as far as the cluster does not know it. No recall is about that.
    pub(super) accesses: UntoldAccesses,
    /// Where the next look for something unused begins.
    hand: InodeId,
}

/// What the kernel may believe about an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Told {
    /// Its attributes.
    pub attributes: bool,
    /// Names in it, present or absent.
    pub names: bool,
    /// Its access control lists.
    pub acls: bool,
}

impl Told {
    fn at((attributes, names): (Duration, Duration), acls: bool, now: Duration) -> Self {
        Self { attributes: attributes > now, names: names > now, acls }
    }
}

impl LeaseCache {
    /// An empty cache without a generation.
    pub fn new(limits: CacheLimits) -> Self {
        Self {
            limits,
            generation: LeaseGeneration(0),
            inodes: BTreeMap::new(),
            names_known: 0,
            inline_bytes: 0,
            questions: Questions::default(),
            exclusive_questions: Questions::default(),
            busy: Busy::default(),
            busy_names: Busy::default(),
            pins: BTreeMap::new(),
            returning: BTreeMap::new(),
            surplus: VecDeque::new(),
            told: BTreeMap::new(),
            kernel_acls: BTreeSet::new(),
            accesses: UntoldAccesses::default(),
            hand: InodeId(0),
        }
    }

    /// Inodes that are remembered.
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    /// Drops everything and goes over to the grants of another leader, or of the same one after it has
    /// taken all back. Answers what the kernel may still believe.
    pub fn adopt(&mut self, generation: LeaseGeneration, now: Duration) -> Vec<(InodeId, Told)> {
        self.generation = generation;
        (self.names_known, self.inline_bytes) = (0, 0);
        self.returning.clear();
        self.surplus.clear();
        self.inodes.clear();
        let (mut told, acls) = (std::mem::take(&mut self.told), std::mem::take(&mut self.kernel_acls));
        for inode in &acls {
            told.entry(*inode).or_default();
        }
        let believed = told.into_iter().map(|(inode, until)| (inode, Told::at(until, acls.contains(&inode), now)));
        believed.filter(|(_, told)| *told != Told::default()).collect()
    }

    /// A recall: nothing is told about the inode any more, and no answer to an earlier question counts.
    /// Answers what the kernel may believe about it.
    pub fn recall(&mut self, inode: InodeId, exclusive: bool, now: Duration) -> Told {
        self.questions.recalled(inode);
        if exclusive {
            self.exclusive_questions.recalled(inode);
        }
        self.forget(inode);
        let acls = self.kernel_acls.remove(&inode);
        Told::at(self.told.remove(&inode).unwrap_or_default(), acls, now)
    }

    pub(super) fn forget(&mut self, inode: InodeId) {
        if let Some(cached) = self.inodes.remove(&inode) {
            self.names_known -= cached.names_known();
            self.inline_bytes -= cached.inline_bytes();
        }
    }

    /// Before a question is sent.
    pub fn ask(&mut self) -> Question {
        self.questions.ask(self.generation)
    }

    /// A question will have no answer.
    pub fn abandoned(&mut self, question: Question) {
        self.questions.end(question);
    }

    /// An answer came, with leases or without.
    pub fn answered(
        &mut self,
        question: Question,
        grant: Option<&LeaseGrant>,
        sequence: CommitSequence,
        facts: Vec<Fact>,
    ) {
        if let Some(grant) = grant.filter(|grant| grant.generation == self.generation) {
            for fact in facts {
                if !grant.refused.contains(&fact.inode()) {
                    self.install(&question, sequence, fact);
                }
            }
            self.evict();
        }
        self.questions.end(question);
    }

    /// Leases of open files came back, with their attributes.
    pub fn reclaimed(
        &mut self,
        question: Question,
        generation: LeaseGeneration,
        sequence: CommitSequence,
        held: Vec<Attributes>,
    ) {
        let grant = LeaseGrant { generation, refused: Vec::new() };
        self.answered(question, Some(&grant), sequence, held.into_iter().map(Fact::Attributes).collect());
    }

    fn install(&mut self, question: &Question, sequence: CommitSequence, fact: Fact) {
        let inode = fact.inode();
        let is_busy = match &fact {
            // Other names of a directory are not touched by a change of one of them.
            Fact::Name { parent, name, .. } => self.busy_names.contains(&(*parent, name.clone())),
            _ => self.busy.contains(&inode),
        };
        let current = question.generation == self.generation && self.questions.is_current(question, inode);
        if is_busy || !current || self.generation.0 == 0 || self.is_returning(inode) {
            return;
        }
        let cached = self.inodes.entry(inode).or_default();
        cached.used = true;
        let more_names = match fact {
            Fact::Attributes(attributes) => {
                cached.set_attributes(self.accesses.shown(attributes), sequence);
                0
            }
            Fact::Name { name, inode, .. } => cached.set_name(name, inode),
            Fact::Parent { parent, .. } => {
                cached.parent = Some(parent);
                0
            }
            Fact::Target { target, .. } => {
                cached.target = Some(target);
                0
            }
            Fact::Xattr { name, value, .. } => {
                cached.set_xattr(name, value);
                0
            }
            Fact::XattrNames { names, .. } => {
                cached.set_xattr_names(names);
                0
            }
            Fact::Page { after, entries, end, .. } => cached.add_page(after, &entries, end),
            Fact::Extents { version, extents, .. } => {
                let more = cached.set_extents(version, extents);
                self.inline_bytes = self.inline_bytes.saturating_add_signed(more);
                0
            }
        };
        self.count_names(more_names);
    }

    pub(super) fn is_returning(&self, inode: InodeId) -> bool {
        self.returning.contains_key(&inode)
    }

    pub(super) fn count_names(&mut self, more: isize) {
        self.names_known = self.names_known.saturating_add_signed(more);
    }

    // --- What may be told.

    fn is_valid(&self, time: &LeaseTime) -> bool {
        self.generation.0 != 0 && time.generation == self.generation && time.shared_valid()
    }

    fn told(&mut self, inode: InodeId, time: &LeaseTime) -> Option<&mut CachedInode> {
        if !self.is_valid(time) || self.busy.contains(&inode) {
            return None;
        }
        let cached = self.inodes.get_mut(&inode)?;
        cached.used = true;
        Some(cached)
    }

    /// Attributes.
    pub fn attributes(&mut self, inode: InodeId, time: &LeaseTime) -> Option<Attributes> {
        self.told(inode, time)?.attributes
    }

    /// What a name stands for.
    pub fn name(&mut self, parent: InodeId, name: &Name, time: &LeaseTime) -> Option<KnownName> {
        if !self.is_valid(time) || self.is_busy_name(parent, name) {
            return None;
        }
        let cached = self.inodes.get_mut(&parent)?;
        cached.used = true;
        cached.name(name)
    }

    fn is_busy_name(&self, parent: InodeId, name: &Name) -> bool {
        !self.busy_names.is_empty() && self.busy_names.contains(&(parent, name.clone()))
    }

    /// Where `..` of a directory leads.
    pub fn parent(&mut self, inode: InodeId, time: &LeaseTime) -> Option<InodeId> {
        self.told(inode, time)?.parent
    }

    /// The target of a symlink.
    pub fn target(&mut self, inode: InodeId, time: &LeaseTime) -> Option<Bytes> {
        self.told(inode, time)?.target.clone()
    }

    /// An extended attribute; `Some(None)`: it does not exist.
    pub fn xattr(&mut self, inode: InodeId, name: &[u8], time: &LeaseTime) -> Option<Option<Bytes>> {
        self.told(inode, time)?.xattr(name)
    }

    /// Names of all extended attributes.
    pub fn xattr_names(&mut self, inode: InodeId, time: &LeaseTime) -> Option<Vec<Bytes>> {
        self.told(inode, time)?.xattr_names()
    }

    /// The kernel is about to be told an access control list, or that there is none, and keeps it. Answers
    /// whether it may: whether that is true now, and a recall will make it forget.
    pub fn tell_acl(&mut self, inode: InodeId, name: &[u8], value: Option<&Bytes>, time: &LeaseTime) -> bool {
        let is_true = self.xattr(inode, name, time).is_some_and(|known| known.as_ref() == value);
        if is_true {
            self.kernel_acls.insert(inode);
        }
        is_true
    }

    /// All extents of a file, if they are those of `version`.
    pub fn extents(&mut self, inode: InodeId, version: DataVersion, time: &LeaseTime) -> Option<Vec<Extent>> {
        let (known, extents) = self.told(inode, time)?.extents()?;
        (known == version).then(|| extents.to_vec())
    }

    /// All entries of a directory, if all are known. Where the cluster's cookies are not known, they are
    /// numbered, if they are at most `most`.
    pub fn whole_listing(&mut self, directory: InodeId, most: usize, time: &LeaseTime) -> Option<WholeListing> {
        let cached = self.told(directory, time)?;
        if let Some(whole) = cached.whole_listing() {
            return Some(whole);
        }
        let names = cached.all_names(most)?;
        // What they are is known from the attributes.
        let kinds: Option<_> = names.iter().map(|(_, inode)| Some(self.attributes(*inode, time)?.kind)).collect();
        let entries = self.told(directory, time)?.number(names, kinds?);
        Some(WholeListing { entries, own_cookies: true })
    }

    /// Of some entries of a directory: attributes, if they may be told, and how long the kernel may believe
    /// the name and them; zero: not at all.
    pub fn listed(
        &mut self,
        directory: InodeId,
        entries: &ListingEntries,
        places: Range<usize>,
        time: &LeaseTime,
    ) -> Vec<(Option<Attributes>, Duration)> {
        let ttl = time.shared_left().saturating_sub(KERNEL_MARGIN);
        // A name by name is not needed then.
        let is_whole = self.busy_names.is_empty()
            && self.is_valid(time)
            && self.inodes.get(&directory).is_some_and(|cached| cached.is_whole(entries));
        let mut believes_names = false;
        let listed = entries[places].iter().map(|entry| {
            let Some(attributes) = self.attributes(entry.inode, time) else { return (None, Duration::ZERO) };
            let stands = is_whole || self.name(directory, &entry.name, time) == Some(KnownName::Present(entry.inode));
            if ttl.is_zero() || !stands {
                return (Some(attributes), Duration::ZERO);
            }
            believes_names = true;
            self.tell(entry.inode, time).0 = time.horizon;
            (Some(attributes), ttl)
        });
        let listed = listed.collect();
        if believes_names {
            self.tell(directory, time).1 = time.horizon;
        }
        listed
    }

    /// How long the kernel may believe attributes that it is given now; zero: not at all.
    pub fn attribute_ttl(&mut self, inode: InodeId, time: &LeaseTime) -> Duration {
        let ttl = time.shared_left().saturating_sub(KERNEL_MARGIN);
        if ttl.is_zero() || self.attributes(inode, time).is_none() {
            return Duration::ZERO;
        }
        self.tell(inode, time).0 = time.horizon;
        ttl
    }

    /// The same for a name that stands for this inode, or for none.
    pub fn name_ttl(&mut self, parent: InodeId, name: &Name, stands_for: KnownName, time: &LeaseTime) -> Duration {
        let ttl = time.shared_left().saturating_sub(KERNEL_MARGIN);
        if ttl.is_zero() || self.name(parent, name, time) != Some(stands_for) {
            return Duration::ZERO;
        }
        self.tell(parent, time).1 = time.horizon;
        ttl
    }

    /// Of which of these inodes the kernel may believe attributes or access control lists that it was told.
    pub fn believed(&self, inodes: &[InodeId], now: Duration) -> Vec<InodeId> {
        let told = |inode: &InodeId| self.believes(*inode, now);
        inodes.iter().copied().filter(|inode| told(inode).attributes || told(inode).acls).collect()
    }

    fn believes(&self, inode: InodeId, now: Duration) -> Told {
        let until = self.told.get(&inode).copied().unwrap_or_default();
        Told::at(until, self.kernel_acls.contains(&inode), now)
    }

    fn tell(&mut self, inode: InodeId, time: &LeaseTime) -> &mut (Duration, Duration) {
        if self.told.len() > 2 * self.limits.inodes.max(1024) {
            self.told.retain(|_, (attributes, names)| *attributes > time.now || *names > time.now);
        }
        self.told.entry(inode).or_default()
    }

    /// A program opens a file whose bytes are of `version`. Answers whether the pages that the kernel has
    /// of it are of this version; from here on they are.
    pub fn opened(&mut self, inode: InodeId, version: DataVersion, time: &LeaseTime) -> bool {
        let Some(cached) = self.told(inode, time) else { return false };
        cached.pages_of.replace(version) == Some(version)
    }

    /// Version of a file's bytes as last told, valid or not: only to be compared with.
    pub fn remembered_version(&self, inode: InodeId) -> Option<DataVersion> {
        Some(self.inodes.get(&inode)?.attributes?.data_version)
    }

    /// This mount changed the bytes of a file, through the kernel's pages, and nobody else did. `extents`:
    /// all that the file has now, as far as that is known.
    pub fn wrote(&mut self, inode: InodeId, before: DataVersion, after: DataVersion, extents: Option<Vec<Extent>>) {
        let Some(cached) = self.inodes.get_mut(&inode) else { return };
        if cached.pages_of == Some(before) {
            cached.pages_of = Some(after);
        }
        if let Some(extents) = extents {
            let more = cached.set_extents(after, extents);
            self.inline_bytes = self.inline_bytes.saturating_add_signed(more);
        }
        self.evict();
    }

    /// What the kernel's pages show of a file was never committed and is lost.
    pub fn lost_bytes(&mut self, inode: InodeId) {
        if let Some(cached) = self.inodes.get_mut(&inode) {
            cached.pages_of = None;
        }
    }

    // --- Exclusive leases. Their state is with the files; here is what recalls do to questions.

    /// Before a question is sent whose answer may bring an exclusive lease.
    pub fn ask_exclusive(&mut self) -> Question {
        self.exclusive_questions.ask(self.generation)
    }

    /// The cluster has answered that an exclusive lease is given up: no grant that was asked for before
    /// counts, because it may have been made before.
    pub fn gave_up(&mut self, inode: InodeId) {
        self.exclusive_questions.recalled(inode);
    }

    /// It was answered, about this inode, or not at all. Answers whether the lease was recalled
    /// or given up meanwhile.
    pub fn exclusive_answered(&mut self, question: Question, inode: Option<InodeId>) -> bool {
        let recalled = inode.is_some_and(|inode| self.exclusive_questions.was_recalled(&question, inode));
        self.exclusive_questions.end(question);
        recalled
    }

    // --- Bounds.

    /// A program opened the file: memory pressure does not take its lease.
    pub fn pin(&mut self, inode: InodeId) {
        *self.pins.entry(inode).or_default() += 1;
    }

    /// The reverse of [`Self::pin`].
    pub fn unpin(&mut self, inode: InodeId) {
        if let Some(pins) = self.pins.get_mut(&inode) {
            *pins -= 1;
            if *pins == 0 {
                self.pins.remove(&inode);
            }
        }
    }

    /// The kernel has dropped the inode: under memory pressure its lease goes before others. Answers whether
    /// the kernel may have kept access control lists of it; that is not remembered any more.
    pub fn unused(&mut self, inode: InodeId) -> bool {
        if let Some(cached) = self.inodes.get_mut(&inode) {
            cached.used = false;
        }
        self.kernel_acls.remove(&inode)
    }

    /// Leases that memory pressure took and of which the kernel may have kept access control lists: it is
    /// to be made to forget them before the next [`Self::take_surplus`], and never keeps others meanwhile.
    pub fn surplus_acls(&mut self, limit: usize) -> Vec<InodeId> {
        let (surplus, acls) = (&self.surplus, &mut self.kernel_acls);
        surplus.iter().take(limit).copied().filter(|inode| acls.remove(inode)).collect()
    }

    /// Leases that memory pressure took and that the kernel believes nothing about any more, at most
    /// `limit`, to be given back. Nothing is installed for them before [`Self::returned`].
    pub fn take_surplus(&mut self, limit: usize, now: Duration) -> Vec<InodeId> {
        let mut taken = Vec::new();
        while let Some(inode) = self.surplus.front().copied() {
            if taken.len() == limit || self.believes(inode, now) != Told::default() {
                break;
            }
            self.surplus.pop_front();
            taken.push(inode);
        }
        taken
    }

    /// The leader has taken them back.
    pub fn returned(&mut self, inodes: &[InodeId]) {
        for inode in inodes {
            self.returning.remove(inode);
        }
    }

    /// Second chance: what was not used since the hand came by last leaves.
    fn evict(&mut self) {
        let mut looked_at = 0;
        while self.inodes.len() > self.limits.inodes
            || self.names_known > self.limits.names
            || self.inline_bytes > INLINE_BYTES_MAX
        {
            // What is kept now is looked at again after the next answer.
            if looked_at == EVICTION_LOOKS {
                return;
            }
            looked_at += 1;
            let next = self.inodes.range_mut((Bound::Excluded(self.hand), Bound::Unbounded)).next();
            let Some((inode, cached)) = next else {
                self.hand = InodeId(0);
                continue;
            };
            let inode = *inode;
            self.hand = inode;
            let kept = std::mem::take(&mut cached.used);
            if kept || self.pins.contains_key(&inode) || self.busy.contains(&inode) {
                continue;
            }
            self.forget(inode);
            self.returning.insert(inode, ());
            self.surplus.push_back(inode);
        }
    }
}
