//! A change that this mount makes itself: from its sending to its answer what it touches is busy, and
//! the answer installs what it brings.

use bytes::Bytes;
use cairn_common::ids::{CommitSequence, InodeId};
use cairn_common::name::Name;
use cairn_common::posix_acl::AclKind;
use cairn_common::protocol::metadata::{Attributes, ChangeEffects, Mutation, MutationResult, NewNode, RenameMode};

use super::cached_inode::{CachedInode, KnownName};
use super::lease_cache::LeaseCache;
use super::questions::Question;

/// What a change touches, as far as this mount can know.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Touch {
    /// Inodes whose records it may change: told to the leader as covered.
    pub inodes: Vec<InodeId>,
    /// Names that it may change.
    pub names: Vec<(InodeId, Name)>,
}

/// A change on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "what it touches stays busy until it is given back"]
pub struct OwnChange {
    question: Question,
    touch: Touch,
}

/// What a change did to what is known besides attributes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameEffect {
    /// A name stands for this now; None: it does not exist.
    Name(InodeId, Name, Option<InodeId>),
    /// It is not known what the name stands for.
    Unknown(InodeId, Name),
    /// A rename: `to` stands for this now, if `from` stood for it until then.
    Moved {
        /// What was known of the name before.
        inode: InodeId,
        /// Where it was known.
        from: (InodeId, Name),
        /// Where it is now.
        to: (InodeId, Name),
    },
    /// A new inode: if it is a directory, it has no names but `..`.
    New {
        /// The inode.
        inode: InodeId,
        /// Directory of its name.
        parent: InodeId,
        /// What it is.
        node: NewNode,
    },
    /// An extended attribute has this value now, or does not exist.
    Xattr(InodeId, Bytes, Option<Bytes>),
    /// An access control list has changed.
    UnknownAcl(InodeId, AclKind),
    /// Whatever directory changed may have another parent.
    Renamed,
}

impl Touch {
    /// What a mutation touches. Inodes that names stand for are found in `cache`, valid or not: a wrong
    /// one costs a message at most.
    pub fn of(mutation: &Mutation, cache: &LeaseCache) -> Self {
        let mut touch = Self::default();
        match mutation {
            Mutation::Create { parent, name, .. }
            | Mutation::Unlink { parent, name }
            | Mutation::RemoveDirectory { parent, name } => touch.name(*parent, name, cache),
            Mutation::Link { inode, parent, name } => {
                touch.inodes.push(*inode);
                touch.name(*parent, name, cache);
            }
            Mutation::Rename { parent, name, new_parent, new_name, .. } => {
                touch.name(*parent, name, cache);
                touch.name(*new_parent, new_name, cache);
            }
            Mutation::Open { inode, .. }
            | Mutation::AcquireExclusive { inode }
            | Mutation::SetAttributes { inode, .. }
            | Mutation::Commit { inode, .. }
            | Mutation::SetXattr { inode, .. }
            | Mutation::RemoveXattr { inode, .. }
            | Mutation::SetAcl { inode, .. }
            | Mutation::Allocate { inode, .. }
            | Mutation::CopyRange { inode, .. } => touch.inodes.push(*inode),
            // Registrations, leases and locks only.
            Mutation::GiveUpExclusive { .. }
            | Mutation::Release { .. }
            | Mutation::SetLock { .. }
            | Mutation::Unlock { .. }
            | Mutation::Accessed { .. } => {}
        }
        touch.inodes.sort_unstable();
        touch.inodes.dedup();
        touch.names.sort_unstable();
        touch.names.dedup();
        touch
    }

    fn name(&mut self, parent: InodeId, name: &Name, cache: &LeaseCache) {
        self.inodes.push(parent);
        self.inodes.extend(cache.guess(parent, name));
        self.names.push((parent, name.clone()));
    }
}

impl NameEffect {
    /// What a change did that has this result. `before`: what the names of a rename stood for.
    pub fn of(
        mutation: &Mutation,
        result: &MutationResult,
        before: (Option<KnownName>, Option<KnownName>),
    ) -> Vec<Self> {
        match (mutation, result) {
            (Mutation::Create { parent, name, node, .. }, MutationResult::Node { attributes, created, .. }) => {
                let mut effects = vec![Self::Name(*parent, name.clone(), Some(attributes.inode))];
                if *created {
                    effects.push(Self::New { inode: attributes.inode, parent: *parent, node: node.clone() });
                }
                effects
            }
            (Mutation::Link { inode, parent, name }, _) => vec![Self::Name(*parent, name.clone(), Some(*inode))],
            (Mutation::Unlink { parent, name } | Mutation::RemoveDirectory { parent, name }, _) => {
                vec![Self::Name(*parent, name.clone(), None)]
            }
            (Mutation::Rename { parent, name, new_parent, new_name, mode }, _) => {
                let (from, to) = ((*parent, name.clone()), (*new_parent, new_name.clone()));
                let moved = |from: &(InodeId, Name), to: &(InodeId, Name), known| match known {
                    Some(KnownName::Present(inode)) => Self::Moved { inode, from: from.clone(), to: to.clone() },
                    Some(KnownName::Absent) | None => Self::Unknown(to.0, to.1.clone()),
                };
                let old = match mode {
                    RenameMode::Exchange => moved(&to, &from, before.1),
                    RenameMode::Replace | RenameMode::NoReplace if (parent, name) == (new_parent, new_name) => {
                        Self::Unknown(*parent, name.clone())
                    }
                    // Renaming a name to another name of the same inode does nothing, so the old one stays; and
                    // whether it was one is known only if both were.
                    RenameMode::Replace if before.0.is_none() || before.1.is_none() || before.0 == before.1 => {
                        Self::Unknown(*parent, name.clone())
                    }
                    RenameMode::Replace | RenameMode::NoReplace => Self::Name(*parent, name.clone(), None),
                };
                vec![old, moved(&from, &to, before.0), Self::Renamed]
            }
            (Mutation::SetXattr { inode, name, value, .. }, _) => {
                vec![Self::Xattr(*inode, name.clone(), Some(value.clone()))]
            }
            (Mutation::RemoveXattr { inode, name }, _) => vec![Self::Xattr(*inode, name.clone(), None)],
            // What is kept of a list may be less; attributes tell whether any is.
            (Mutation::SetAcl { inode, kind, .. }, _) => vec![Self::UnknownAcl(*inode, *kind)],
            (Mutation::SetAttributes { inode, changes }, _) if changes.mode.is_some() => {
                vec![Self::UnknownAcl(*inode, AclKind::Access)]
            }
            _ => Vec::new(),
        }
    }

    /// The inode whose lease covers it; None: all that changed.
    fn inode(&self) -> Option<InodeId> {
        match self {
            Self::Name(parent, ..) | Self::Unknown(parent, _) | Self::Moved { to: (parent, _), .. } => Some(*parent),
            Self::New { inode, .. } | Self::Xattr(inode, ..) | Self::UnknownAcl(inode, _) => Some(*inode),
            Self::Renamed => None,
        }
    }
}

impl LeaseCache {
    /// What a name stood for when it was last told of; never to be answered to a program.
    pub(super) fn guess(&self, parent: InodeId, name: &Name) -> Option<InodeId> {
        match self.inodes.get(&parent)?.name(name)? {
            KnownName::Present(inode) => Some(inode),
            KnownName::Absent => None,
        }
    }

    /// A change is about to be sent: what it touches is busy from here on.
    pub fn begin(&mut self, touch: Touch) -> OwnChange {
        for inode in &touch.inodes {
            self.busy.begin(inode);
        }
        for name in &touch.names {
            self.busy_names.begin(name);
        }
        OwnChange { question: self.questions.ask(self.generation), touch }
    }

    /// The change was refused: nothing changed.
    pub fn refused(&mut self, change: OwnChange) {
        self.end_busy(&change);
        self.questions.end(change.question);
    }

    /// It is not known whether the change was made, and it will not be made later: what it touches is
    /// not known any more.
    pub fn unknown(&mut self, change: OwnChange) {
        let changed = change.touch.inodes.clone();
        self.made(change, &ChangeEffects { changed, ..ChangeEffects::default() }, Vec::new());
    }

    /// The change was made. What it changed is known as far as the answer tells, and no recall came
    /// meanwhile; the rest is dropped.
    pub fn made(&mut self, change: OwnChange, effects: &ChangeEffects, names: Vec<NameEffect>) {
        let contested = self.end_busy(&change);
        let keeps = effects.generation == self.generation
            && change.question.generation == self.generation
            && self.generation.0 != 0;
        let mut kept = Vec::new();
        for inode in &effects.changed {
            let held = effects.held.iter().find(|attributes| attributes.inode == *inode);
            match held {
                Some(attributes) if keeps && !self.questions.was_recalled(&change.question, *inode) => {
                    self.keep(*inode, effects.sequence, attributes, contested.contains(inode));
                    kept.push(*inode);
                }
                _ => self.doubt(*inode),
            }
            self.questions.changed(*inode);
        }
        for effect in names {
            let effect = match effect {
                // Somebody may have put something else under the old name before it was renamed.
                NameEffect::Moved { from, to, .. }
                    if contested.names.contains(&from) || self.questions.was_recalled(&change.question, from.0) =>
                {
                    NameEffect::Unknown(to.0, to.1)
                }
                effect => effect,
            };
            // Without what was known before, or a lease now, there is nothing to bring up to date.
            match effect.inode() {
                Some(inode) if kept.contains(&inode) => self.apply(inode, effect, &contested),
                // The leader says nothing of a lease: others may have changed it again by now.
                Some(_) => {}
                None => self.forget_parents(&effects.changed),
            }
        }
        self.questions.end(change.question);
    }

    /// Nothing is known of the inode any more, but the leader may count the lease as held, and the kernel
    /// believe what it was told: it stays here until it is recalled, or given back for want of room.
    fn doubt(&mut self, inode: InodeId) {
        if self.inodes.contains_key(&inode) {
            self.forget(inode);
            self.inodes.insert(inode, CachedInode::default());
        }
    }

    fn keep(&mut self, inode: InodeId, sequence: CommitSequence, attributes: &Attributes, contested: bool) {
        if self.is_returning(inode) {
            return;
        }
        let cached = self.inodes.entry(inode).or_default();
        cached.set_attributes(self.accesses.shown(*attributes), sequence);
        cached.used = true;
        cached.forget_listing();
        if contested {
            cached.forget_xattrs();
        }
    }

    fn forget_parents(&mut self, changed: &[InodeId]) {
        for inode in changed {
            if let Some(cached) = self.inodes.get_mut(inode) {
                cached.parent = None;
            }
        }
    }

    fn apply(&mut self, inode: InodeId, effect: NameEffect, contested: &Contested) {
        let Some(cached) = self.inodes.get_mut(&inode) else { return };
        let more_names = match effect {
            NameEffect::Moved { inode, to: (parent, name), .. } => {
                return self.apply(parent, NameEffect::Name(parent, name, Some(inode)), contested);
            }
            NameEffect::Name(parent, name, stands_for) => {
                if contested.names.contains(&(parent, name.clone())) {
                    cached.forget_name(&name)
                } else {
                    cached.set_name(name, stands_for)
                }
            }
            NameEffect::Unknown(_, name) => cached.forget_name(&name),
            NameEffect::New { parent, node, .. } => {
                match node {
                    NewNode::Directory => {
                        cached.parent = Some(parent);
                        cached.set_empty();
                    }
                    NewNode::Symlink(target) => cached.target = Some(target),
                    NewNode::File
                    | NewNode::Fifo
                    | NewNode::Socket
                    | NewNode::CharDevice(_)
                    | NewNode::BlockDevice(_) => {}
                }
                0
            }
            NameEffect::Xattr(_, name, value) => {
                cached.forget_xattr(&name);
                cached.set_xattr(name, value);
                0
            }
            NameEffect::UnknownAcl(_, kind) => {
                cached.forget_xattr(kind.xattr_name().as_bytes());
                0
            }
            NameEffect::Renamed => 0,
        };
        self.count_names(more_names);
    }

    fn end_busy(&mut self, change: &OwnChange) -> Contested {
        let mut contested = Contested::default();
        for inode in &change.touch.inodes {
            if self.busy.end(inode) {
                contested.inodes.push(*inode);
            }
        }
        for name in &change.touch.names {
            if self.busy_names.end(name) {
                contested.names.push(name.clone());
            }
        }
        contested
    }
}

/// What another own change touched at the same time.
#[derive(Debug, Default)]
struct Contested {
    inodes: Vec<InodeId>,
    names: Vec<(InodeId, Name)>,
}

impl Contested {
    fn contains(&self, inode: &InodeId) -> bool {
        self.inodes.contains(inode)
    }
}
