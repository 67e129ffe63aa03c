//! Answers without a question: what leases allow to be told from memory, on the thread that asks, and
//! how long the kernel may believe it. `None`: it has to be asked for.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::InodeId;
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Attributes, OpenMode};

use super::Filesystem;
use super::xattrs::{CAPABILITY, check_name};
use crate::lease::{KnownName, ListingEntries};
use crate::open_files::{FileState, Pin};

/// What may be told of a name, and how long the kernel may believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldName {
    /// Of the inode that it stands for; None: there is no such name.
    pub attributes: Option<Attributes>,
    /// For the attributes.
    pub attribute_ttl: Duration,
    /// For the name.
    pub name_ttl: Duration,
}

/// That a file may be opened without a question.
pub(crate) struct OpensFromMemory {
    /// Its attributes, if they were looked at for that.
    pub(crate) attributes: Option<Attributes>,
}

impl Filesystem {
    /// What a name stands for, with lifetimes.
    pub fn tell_name(&self, parent: InodeId, name: &Name) -> Option<ToldName> {
        let (known, name_ttl) = self.leases.told(|cache, time| {
            let known = cache.name(parent, name, time)?;
            Some((known, cache.name_ttl(parent, name, known, time)))
        })?;
        let told = match known {
            KnownName::Absent => {
                self.leases.hit();
                ToldName { attributes: None, attribute_ttl: Duration::ZERO, name_ttl }
            }
            KnownName::Present(inode) => {
                let (attributes, attribute_ttl) = self.tell_attributes(inode)?;
                ToldName { attributes: Some(attributes), attribute_ttl, name_ttl }
            }
        };
        Some(told)
    }

    /// Attributes, with a lifetime.
    pub fn tell_attributes(&self, inode: InodeId) -> Option<(Attributes, Duration)> {
        if self.files.is_in_use(inode) {
            let shown = self.try_attributes(inode)?;
            return Some((shown, self.attribute_ttl_of(&shown)));
        }
        // What a program that opens it from here on does, the kernel knows.
        let told = self.leases.told(|cache, time| {
            let attributes = cache.attributes(inode, time)?;
            Some((attributes, cache.attribute_ttl(inode, time)))
        })?;
        self.leases.hit();
        Some(told)
    }

    /// The inode of a name, or that there is none (`NotFound`).
    pub fn try_lookup(&self, parent: InodeId, name: &Name) -> Option<Result<Attributes, ClientError>> {
        match self.leases.told(|cache, time| cache.name(parent, name, time))? {
            KnownName::Absent => {
                self.leases.hit();
                Some(Err(FsError::NotFound.into()))
            }
            KnownName::Present(inode) => self.try_attributes(inode).map(Ok),
        }
    }

    /// Attributes, with what is written and not committed.
    pub fn try_attributes(&self, inode: InodeId) -> Option<Attributes> {
        if let Some(file) = self.files.get(inode) {
            return self.try_attributes_of(&file);
        }
        let attributes = self.leases.told(|cache, time| cache.attributes(inode, time))?;
        self.leases.hit();
        Some(attributes)
    }

    /// The same for a file in use.
    pub(crate) fn try_attributes_of(&self, file: &FileState) -> Option<Attributes> {
        let mut inner = file.lock();
        let told = match inner.certain() {
            Some(known) if inner.exclusive.may_tell(&self.leases.time()) => known,
            _ => {
                let leased = self.leases.told(|cache, time| cache.attributes(file.inode, time))?;
                inner.merge(leased);
                leased
            }
        };
        self.leases.hit();
        Some(inner.shown(told))
    }

    /// The target of a symlink.
    pub fn try_read_link(&self, inode: InodeId) -> Option<Bytes> {
        let target = self.leases.told(|cache, time| cache.target(inode, time))?;
        self.leases.hit();
        Some(target)
    }

    /// An extended attribute, or why there is none.
    pub fn try_xattr(&self, inode: InodeId, name: &[u8]) -> Option<Result<Bytes, ClientError>> {
        if let Err(error) = check_name(name) {
            return Some(Err(error.into()));
        }
        if let Some(file) = self.files.get(inode) {
            let inner = file.lock();
            let has_none = (name == CAPABILITY && inner.no_capability)
                || inner.certain().is_some_and(|known| !known.xattrs.may_have(name));
            if has_none && inner.exclusive.may_tell(&self.leases.time()) {
                return Some(Err(FsError::NoAttribute.into()));
            }
        }
        let value = self.leases.told(|cache, time| cache.xattr(inode, name, time))?;
        self.leases.hit();
        Some(value.ok_or(ClientError::Fs(FsError::NoAttribute)))
    }

    /// Whether the kernel may keep an access control list that it is about to be told (None: that there is
    /// none) for as long as nobody makes it forget. From here on a recall does.
    pub fn tell_acl(&self, inode: InodeId, name: &[u8], value: Option<&Bytes>) -> bool {
        self.leases.told(|cache, time| Some(cache.tell_acl(inode, name, value, time))).unwrap_or(false)
    }

    /// Whether pages of a file that the kernel fills now are under a lease, at whose end they fall.
    pub fn covers_pages(&self, inode: InodeId) -> bool {
        let shared = self.leases.told(|cache, time| cache.attributes(inode, time)).is_some();
        shared || self.files.get(inode).is_some_and(|file| file.lock().exclusive.covers_pages(&self.leases.time()))
    }

    /// How long the kernel may believe attributes that it is told now. Zero: not leased, busy or being
    /// recalled. It counts from this call: an answer that is sent much later is to be forgotten again.
    pub fn attribute_ttl(&self, inode: InodeId) -> Duration {
        if let Some(file) = self.files.get(inode) {
            let time = self.leases.time();
            let inner = file.lock();
            // Bytes that a synchronous write has not committed yet are nobody's business.
            if !inner.is_clean() && !inner.exclusive.may_buffer(&time) {
                return Duration::ZERO;
            }
        }
        self.leases.told(|cache, time| Some(cache.attribute_ttl(inode, time))).unwrap_or_default()
    }

    /// The same for attributes that were read a while ago: they must be what would be told now.
    pub fn attribute_ttl_of(&self, shown: &Attributes) -> Duration {
        // In this order: if they changed since they were read, a later recall would have been for others;
        // and READs that come from here on come under the lease.
        let ttl = self.attribute_ttl(shown.inode);
        let current = !ttl.is_zero() && self.try_attributes(shown.inode).as_ref() == Some(shown);
        if current { ttl } else { Duration::ZERO }
    }

    /// What may be told now of some entries of a directory: attributes, and how long the kernel may believe
    /// the name and them.
    pub fn tell_entries(
        &self,
        directory: InodeId,
        entries: &ListingEntries,
        places: Range<usize>,
    ) -> Vec<(Option<Attributes>, Duration)> {
        let told_of = &entries[places.clone()];
        // Of these more is known than leases tell. A file that a program opens from here on is not told of
        // what it does then: the kernel knows.
        let in_use = self.files.which_are_in_use(told_of.iter().map(|entry| entry.inode));
        let told = self.leases.told(|cache, time| Some(cache.listed(directory, entries, places, time)));
        let mut told = told.unwrap_or_default();
        for place in in_use {
            let (entry, told) = (&told_of[place], &mut told[place]);
            told.0 = self.try_attributes(entry.inode);
            let ttl = told.0.map_or(Duration::ZERO, |shown| self.attribute_ttl_of(&shown));
            told.1 =
                if ttl.is_zero() { ttl } else { ttl.min(self.name_ttl(directory, &entry.name, Some(entry.inode))) };
        }
        self.leases.hits(told.iter().filter(|(attributes, _)| attributes.is_some()).count() as u64);
        told
    }

    /// The same for a name that stands for this inode, or for none.
    pub fn name_ttl(&self, parent: InodeId, name: &Name, stands_for: Option<InodeId>) -> Duration {
        let known = stands_for.map_or(KnownName::Absent, KnownName::Present);
        self.leases.told(|cache, time| Some(cache.name_ttl(parent, name, known, time))).unwrap_or_default()
    }

    /// The kernel has dropped an inode. It may have looked it up again by now, so this is a hint only.
    /// Answers whether it may have kept access control lists of it: if it has some again, it is to be made to
    /// forget them, because from here on no recall does.
    #[must_use = "the kernel may keep lists that nobody makes it forget"]
    pub fn kernel_forgot(&self, inode: InodeId) -> bool {
        self.departed.forget(inode);
        self.leases.lock().unused(inode)
    }

    /// Whether a file that is pinned may be opened without a question (else None): for reading under a lease
    /// of any kind, for writing when it is registered already.
    pub(crate) fn opens_from_memory(&self, pin: &Pin) -> Option<OpensFromMemory> {
        let time = self.leases.time();
        let file = pin.file();
        let registered = match file.registering.try_lock() {
            // Nobody takes it away meanwhile, and from now on the pin is seen.
            Ok(_guard) => file.lock().registration(pin.mode()).registered,
            Err(_) => false,
        };
        let by_registration = match pin.mode() {
            OpenMode::Read => registered && time.shared_valid(),
            OpenMode::Write => registered && time.exclusive_valid(),
        };
        if by_registration {
            return Some(OpensFromMemory { attributes: None });
        }
        let attributes = if pin.mode() == OpenMode::Read { self.try_attributes_of(file) } else { None };
        attributes.filter(|known| known.links > 0).map(|known| OpensFromMemory { attributes: Some(known) })
    }
}
