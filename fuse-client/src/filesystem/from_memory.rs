//! Answers without a question: what leases allow to be told from memory, on the thread that asks, and
//! how long the kernel may believe it. `None`: it has to be asked for.

use std::time::Duration;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::InodeId;
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{Attributes, OpenMode};

use super::Filesystem;
use super::xattrs::{CAPABILITY, check_name};
use crate::lease::KnownName;
use crate::open_files::Pin;

impl Filesystem {
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
        let file = self.files.get(inode);
        if let Some(file) = &file {
            let inner = file.lock();
            let may_tell = !inner.doubtful && inner.exclusive.may_tell(&self.leases.time());
            if let Some(known) = inner.known.filter(|_| may_tell) {
                self.leases.hit();
                return Some(inner.shown(known));
            }
        }
        let attributes = self.leases.told(|cache, time| cache.attributes(inode, time))?;
        self.leases.hit();
        Some(file.map_or(attributes, |file| file.observe(attributes)))
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
        if name == CAPABILITY
            && let Some(file) = self.files.get(inode)
        {
            let inner = file.lock();
            if inner.no_capability && inner.exclusive.may_tell(&self.leases.time()) {
                return Some(Err(FsError::NoAttribute.into()));
            }
        }
        let value = self.leases.told(|cache, time| cache.xattr(inode, name, time))?;
        self.leases.hit();
        Some(value.ok_or(ClientError::Fs(FsError::NoAttribute)))
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

    /// The same for a name that stands for this inode, or for none.
    pub fn name_ttl(&self, parent: InodeId, name: &Name, stands_for: Option<InodeId>) -> Duration {
        let known = stands_for.map_or(KnownName::Absent, KnownName::Present);
        self.leases.told(|cache, time| Some(cache.name_ttl(parent, name, known, time))).unwrap_or_default()
    }

    /// The kernel has dropped an inode. It may have looked it up again by now, so this is a hint only.
    pub fn kernel_forgot(&self, inode: InodeId) {
        self.leases.lock().unused(inode);
    }

    /// Whether the kernel may keep the pages that it has of a file which is being opened: nobody else
    /// has changed the file since they were read. Asked once for each open.
    pub fn keeps_pages(&self, inode: InodeId) -> bool {
        let Some(attributes) = self.try_attributes(inode) else { return false };
        let version = attributes.data_version;
        self.leases.told(|cache, time| Some(cache.opened(inode, version, time))).unwrap_or_default()
    }

    /// Whether a file that is pinned may be opened without a question: for reading under a lease of any
    /// kind, for writing when it is registered already.
    pub(crate) fn opens_from_memory(&self, pin: &Pin) -> bool {
        let time = self.leases.time();
        let file = pin.file();
        let registered = match file.registering.try_lock() {
            // Nobody takes it away meanwhile, and from now on the pin is seen.
            Ok(_guard) => file.lock().registration(pin.mode()).registered,
            Err(_) => false,
        };
        match pin.mode() {
            OpenMode::Read if registered && time.shared_valid() => true,
            OpenMode::Read => self.try_attributes(file.inode).is_some_and(|attributes| attributes.links > 0),
            OpenMode::Write => registered && time.exclusive_valid(),
        }
    }
}
