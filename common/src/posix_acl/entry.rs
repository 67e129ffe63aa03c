//! One line of a list.

/// Whom an entry is about. In the order in which a list has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AclTag {
    /// ACL_USER_OBJ: the owner.
    UserObj,
    /// ACL_USER: a user, by number.
    User(u32),
    /// ACL_GROUP_OBJ: the owning group.
    GroupObj,
    /// ACL_GROUP: a group, by number.
    Group(u32),
    /// ACL_MASK: the most that named users, the owning group and named groups get.
    Mask,
    /// ACL_OTHER: everybody else.
    Other,
}

/// Number that stands for nobody: in the entries that name nobody.
const UNDEFINED_ID: u32 = u32::MAX;

impl AclTag {
    /// Its number in Linux's `<linux/posix_acl.h>`, and whom it names.
    pub(super) fn to_wire(self) -> (u16, u32) {
        match self {
            Self::UserObj => (0x01, UNDEFINED_ID),
            Self::User(id) => (0x02, id),
            Self::GroupObj => (0x04, UNDEFINED_ID),
            Self::Group(id) => (0x08, id),
            Self::Mask => (0x10, UNDEFINED_ID),
            Self::Other => (0x20, UNDEFINED_ID),
        }
    }

    /// The reverse; None for what Linux does not know. Numbers of entries that name nobody are ignored.
    pub(super) fn of_wire(tag: u16, id: u32) -> Option<Self> {
        match tag {
            0x01 => Some(Self::UserObj),
            0x02 => (id != UNDEFINED_ID).then_some(Self::User(id)),
            0x04 => Some(Self::GroupObj),
            0x08 => (id != UNDEFINED_ID).then_some(Self::Group(id)),
            0x10 => Some(Self::Mask),
            0x20 => Some(Self::Other),
            _ => None,
        }
    }

    /// Whether it names a user or a group.
    pub(super) fn is_named(self) -> bool {
        matches!(self, Self::User(_) | Self::Group(_))
    }
}

/// Whom an entry is about, and what they may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclEntry {
    /// Whom.
    pub tag: AclTag,
    /// Read 4, write 2, execute (search) 1.
    pub permissions: u8,
}
