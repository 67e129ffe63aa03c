//! A list, and how it and a mode follow each other. The rules are Linux's (fs/posix_acl.c); the functions
//! name theirs.

use bytes::{BufMut, Bytes, BytesMut};

use super::entry::{AclEntry, AclTag};
use super::error::AclError;
use crate::limits::POSIX_ACL_MAX_BYTES;

/// POSIX_ACL_XATTR_VERSION.
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

/// A valid list: the owner, the owning group and others once each, nobody twice, a mask where somebody is
/// named, in the order of [`AclTag`]; users among themselves, and groups, in any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PosixAcl {
    entries: Vec<AclEntry>,
}

impl PosixAcl {
    /// Checks entries as posix_acl_valid does, and that nobody is named twice, which Linux leaves to
    /// acl_valid(3).
    pub fn new(entries: Vec<AclEntry>) -> Result<Self, AclError> {
        for entry in &entries {
            if entry.permissions > 7 {
                return Err(AclError::Permissions(entry.permissions.into()));
            }
        }
        let class = |tag: AclTag| tag.to_wire().0;
        for (at, pair) in entries.windows(2).enumerate() {
            let (tag, next) = (pair[0].tag, pair[1].tag);
            let repeats = class(tag) == class(next) && tag.is_named();
            if class(tag) >= class(next) && !repeats {
                return Err(AclError::Order(at + 1));
            }
        }
        let has = |tag: AclTag| entries.iter().any(|entry| entry.tag == tag);
        let mut named: Vec<AclTag> = entries.iter().map(|entry| entry.tag).filter(|tag| tag.is_named()).collect();
        if ![AclTag::UserObj, AclTag::GroupObj, AclTag::Other].into_iter().all(has) {
            return Err(AclError::Missing);
        }
        if !named.is_empty() && !has(AclTag::Mask) {
            return Err(AclError::Missing);
        }
        named.sort_unstable();
        if named.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(AclError::Duplicate);
        }
        Ok(Self { entries })
    }

    /// The list that an extended attribute's value is; None if it has no entries, which Linux takes for
    /// the wish to have no list. posix_acl_from_xattr.
    pub fn from_xattr(value: &[u8]) -> Result<Option<Self>, AclError> {
        if value.len() > POSIX_ACL_MAX_BYTES {
            return Err(AclError::TooLarge(value.len()));
        }
        let Some((header, mut rest)) = value.split_first_chunk::<HEADER_BYTES>() else {
            return if value.is_empty() { Ok(None) } else { Err(AclError::Length(value.len())) };
        };
        let version = u32::from_le_bytes(*header);
        if version != VERSION {
            return Err(AclError::Version(version));
        }
        let mut entries = Vec::with_capacity(rest.len() / ENTRY_BYTES);
        while let Some(([t0, t1, p0, p1, id @ ..], behind)) = rest.split_first_chunk::<ENTRY_BYTES>() {
            let (tag, permissions) = (u16::from_le_bytes([*t0, *t1]), u16::from_le_bytes([*p0, *p1]));
            let id = u32::from_le_bytes(*id);
            entries.push(AclEntry {
                tag: AclTag::of_wire(tag, id).ok_or(AclError::Tag { tag, id })?,
                permissions: u8::try_from(permissions).map_err(|_| AclError::Permissions(permissions))?,
            });
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(AclError::Length(value.len()));
        }
        if entries.is_empty() { Ok(None) } else { Self::new(entries).map(Some) }
    }

    /// The value of its extended attribute: `{version u32}`, and for each entry
    /// `{tag u16}{permissions u16}{id u32}`, little-endian. posix_acl_to_xattr.
    pub fn to_xattr(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(HEADER_BYTES + ENTRY_BYTES * self.entries.len());
        value.put_u32_le(VERSION);
        for entry in &self.entries {
            let (tag, id) = entry.tag.to_wire();
            value.put_u16_le(tag);
            value.put_u16_le(entry.permissions.into());
            value.put_u32_le(id);
        }
        value.freeze()
    }

    /// Its entries, in order.
    pub fn entries(&self) -> &[AclEntry] {
        &self.entries
    }

    /// Whether it says nothing that the permission bits of a mode do not say.
    pub fn is_minimal(&self) -> bool {
        // Somebody named comes with a mask.
        !self.entries.iter().any(|entry| entry.tag == AclTag::Mask)
    }

    /// The permission bits (0777) that go with it: the group's are those of the mask if there is one.
    /// posix_acl_equiv_mode.
    pub fn permission_bits(&self) -> u32 {
        let group = self.group_class();
        let bits = self.entries.iter().map(|entry| match entry.tag {
            AclTag::UserObj => u32::from(entry.permissions) << 6,
            AclTag::Other => u32::from(entry.permissions),
            tag if tag == group => u32::from(entry.permissions) << 3,
            AclTag::User(_) | AclTag::GroupObj | AclTag::Group(_) | AclTag::Mask => 0,
        });
        bits.fold(0, |all, bits| all | bits)
    }

    /// What chmod makes of it: the entries that the permission bits show become them. posix_acl_chmod.
    pub fn with_permission_bits(&self, mode: u32) -> Self {
        self.each_shown(|_, bits| bits, mode)
    }

    /// The access list of what is made with a mode in a directory of which this is the default list: the
    /// mode takes permissions away, and the umask does not count. posix_acl_create.
    pub fn inherited(&self, mode: u32) -> Self {
        self.each_shown(|permissions, bits| permissions & bits, mode)
    }

    /// The entry that the group's bits of a mode show.
    fn group_class(&self) -> AclTag {
        if self.is_minimal() { AclTag::GroupObj } else { AclTag::Mask }
    }

    /// Changes the three entries that a mode shows: `change` is given the entry's permissions and the mode's.
    fn each_shown(&self, change: impl Fn(u8, u8) -> u8, mode: u32) -> Self {
        let group = self.group_class();
        let entries = self.entries.iter().map(|entry| {
            let shift = match entry.tag {
                AclTag::UserObj => 6,
                AclTag::Other => 0,
                tag if tag == group => 3,
                AclTag::User(_) | AclTag::GroupObj | AclTag::Group(_) | AclTag::Mask => return *entry,
            };
            let bits = (mode >> shift & 7) as u8;
            AclEntry { permissions: change(entry.permissions, bits), ..*entry }
        });
        Self { entries: entries.collect() }
    }
}
