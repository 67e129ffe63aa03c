//! Lists by example, and by the rules of acl(5) told another way.

use proptest::prelude::*;

use super::*;
use crate::limits::POSIX_ACL_MAX_BYTES;

fn entry(tag: AclTag, permissions: u8) -> AclEntry {
    AclEntry { tag, permissions }
}

fn list(user: u8, named: &[(AclTag, u8)], group: u8, mask: Option<u8>, other: u8) -> Vec<AclEntry> {
    let mut entries = vec![entry(AclTag::UserObj, user), entry(AclTag::GroupObj, group), entry(AclTag::Other, other)];
    entries.extend(named.iter().map(|(tag, permissions)| entry(*tag, *permissions)));
    entries.extend(mask.map(|mask| entry(AclTag::Mask, mask)));
    entries.sort_by_key(|entry| entry.tag);
    entries
}

fn acl(user: u8, named: &[(AclTag, u8)], group: u8, mask: Option<u8>, other: u8) -> PosixAcl {
    PosixAcl::new(list(user, named, group, mask, other)).unwrap()
}

#[test]
fn the_bytes_are_those_of_linux() {
    // setfacl -m u:1000:rw,g:100:r on a file of mode 0644.
    let named = [(AclTag::User(1000), 6), (AclTag::Group(100), 4)];
    let acl = acl(6, &named, 4, Some(6), 4);
    let value = acl.to_xattr();
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = "02000000 01000600ffffffff 02000600e8030000 04000400ffffffff 08000400 64000000 10000600ffffffff \
                    20000400ffffffff";
    assert_eq!(hex, expected.replace(' ', ""));
    assert_eq!(PosixAcl::from_xattr(&value), Ok(Some(acl)));
    assert_eq!(PosixAcl::from_xattr(&[]), Ok(None));
    assert_eq!(PosixAcl::from_xattr(&value[..4]), Ok(None), "without entries");
}

#[test]
fn what_linux_refuses_is_refused() {
    let good = acl(7, &[(AclTag::User(7), 5)], 5, Some(5), 0).to_xattr().to_vec();
    let with = |at: usize, byte: u8| {
        let mut value = good.clone();
        value[at] = byte;
        PosixAcl::from_xattr(&value).unwrap_err()
    };
    assert_eq!(with(0, 1), AclError::Version(1));
    assert_eq!(with(4, 3), AclError::Tag { tag: 3, id: u32::MAX });
    assert_eq!(with(6, 8), AclError::Permissions(8));
    assert_eq!(with(7, 1), AclError::Permissions(0x107));
    assert_eq!(PosixAcl::from_xattr(&good[..3]), Err(AclError::Length(3)));
    assert_eq!(PosixAcl::from_xattr(&good[..good.len() - 1]), Err(AclError::Length(good.len() - 1)));
    let mut nobody = good.clone();
    nobody[16..20].fill(0xff);
    assert_eq!(PosixAcl::from_xattr(&nobody), Err(AclError::Tag { tag: 2, id: u32::MAX }));
    let large = vec![2; POSIX_ACL_MAX_BYTES + 1];
    assert_eq!(PosixAcl::from_xattr(&large), Err(AclError::TooLarge(POSIX_ACL_MAX_BYTES + 1)));
}

#[test]
fn entries_are_complete_and_in_order() {
    let named = [(AclTag::User(1), 7), (AclTag::User(2), 7), (AclTag::Group(1), 7)];
    let good = list(7, &named, 5, Some(7), 5);
    assert!(PosixAcl::new(good.clone()).is_ok());
    for at in 0..good.len() {
        let mut less = good.clone();
        let removed = less.remove(at);
        let missing = (!removed.tag.is_named()).then_some(AclError::Missing);
        assert_eq!(PosixAcl::new(less).err(), missing, "without {removed:?}");
        let mut twice = good.clone();
        twice.insert(at, good[at]);
        let error = if good[at].tag.is_named() { AclError::Duplicate } else { AclError::Order(at + 1) };
        assert_eq!(PosixAcl::new(twice), Err(error), "{:?} twice", good[at]);
    }
    let mut swapped = good.clone();
    swapped.swap(1, 2);
    assert!(PosixAcl::new(swapped).is_ok(), "users come in any order");
    let mut swapped = good;
    swapped.swap(2, 3);
    assert_eq!(PosixAcl::new(swapped), Err(AclError::Order(3)));
    assert_eq!(PosixAcl::new(Vec::new()), Err(AclError::Missing));
    let masked = acl(7, &[], 5, Some(1), 0);
    assert!(!masked.is_minimal(), "a mask alone says more than a mode");
}

#[test]
fn the_mask_is_what_a_mode_shows_of_the_group() {
    let extended = acl(7, &[(AclTag::User(9), 7)], 5, Some(6), 1);
    assert_eq!(extended.permission_bits(), 0o761);
    assert_eq!(extended.with_permission_bits(0o4640), acl(6, &[(AclTag::User(9), 7)], 5, Some(4), 0));
    assert_eq!(extended.inherited(0o645), acl(6, &[(AclTag::User(9), 7)], 5, Some(4), 1));
    let minimal = acl(7, &[], 5, None, 1);
    assert_eq!(minimal.permission_bits(), 0o751);
    assert_eq!(minimal.with_permission_bits(0o640), acl(6, &[], 4, None, 0));
    assert_eq!(minimal.inherited(0o666), acl(6, &[], 4, None, 0));
}

fn any_acl() -> impl Strategy<Value = PosixAcl> {
    let ids = || prop::collection::btree_map(0..9u32, 0..8u8, 0..4);
    (ids(), ids(), [0..8u8, 0..8u8, 0..8u8], prop::option::of(0..8u8)).prop_map(|(users, groups, plain, mask)| {
        let users = users.into_iter().map(|(id, permissions)| (AclTag::User(id), permissions));
        let groups = groups.into_iter().map(|(id, permissions)| (AclTag::Group(id), permissions));
        let named: Vec<_> = users.chain(groups).collect();
        let mask = if named.is_empty() { mask } else { mask.or(Some(7)) };
        acl(plain[0], &named, plain[1], mask, plain[2])
    })
}

/// What a list gives to somebody, as acl(5) tells it: not through this code's idea of a group class.
fn granted(acl: &PosixAcl, is_owner: bool, user: u32, groups: &[u32], in_owning_group: bool, wanted: u8) -> bool {
    let of = |tag: AclTag| acl.entries().iter().find(|entry| entry.tag == tag).map(|entry| entry.permissions);
    let mask = of(AclTag::Mask).unwrap_or(7);
    if is_owner {
        return of(AclTag::UserObj).unwrap() & wanted == wanted;
    }
    if let Some(permissions) = of(AclTag::User(user)) {
        return permissions & mask & wanted == wanted;
    }
    let own = if in_owning_group { of(AclTag::GroupObj) } else { None };
    let matching: Vec<u8> = own.into_iter().chain(groups.iter().filter_map(|id| of(AclTag::Group(*id)))).collect();
    if !matching.is_empty() {
        return matching.iter().any(|permissions| permissions & mask & wanted == wanted);
    }
    of(AclTag::Other).unwrap() & wanted == wanted
}

proptest! {
    #[test]
    fn bytes_read_back(acl in any_acl()) {
        prop_assert_eq!(PosixAcl::from_xattr(&acl.to_xattr()), Ok(Some(acl)));
    }

    #[test]
    fn any_bytes_are_a_list_or_an_error(value in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(Some(acl)) = PosixAcl::from_xattr(&value) {
            prop_assert_eq!(PosixAcl::new(acl.entries().to_vec()), Ok(acl));
        }
    }

    #[test]
    fn a_mode_shows_what_chmod_sets(acl in any_acl(), mode in 0..0o10000u32) {
        let changed = acl.with_permission_bits(mode);
        prop_assert_eq!(changed.permission_bits(), mode & 0o777);
        prop_assert_eq!(changed.with_permission_bits(acl.permission_bits()), acl);
    }

    #[test]
    fn what_is_made_gives_nobody_more_than_the_mode_and_the_default(
        acl in any_acl(), mode in 0..0o1000u32, user in 0..9u32,
        groups in prop::collection::vec(0..9u32, 0..3), member: bool, owner: bool, wanted in 1..8u8,
    ) {
        let made = acl.inherited(mode);
        prop_assert_eq!(made.permission_bits(), acl.permission_bits() & mode);
        prop_assert!(PosixAcl::new(made.entries().to_vec()).is_ok());
        let may = |acl: &PosixAcl| granted(acl, owner, user, &groups, member, wanted);
        prop_assert!(!may(&made) || may(&acl), "more than the default list gives");
        let class = made.permission_bits() >> if owner { 6 } else { 3 };
        let others = u32::from(wanted) & !made.permission_bits() == 0;
        prop_assert!(!may(&made) || u32::from(wanted) & !class & 7 == 0 || (!owner && others));
    }

    #[test]
    fn a_minimal_list_is_its_mode(
        user in 0..8u8, group in 0..8u8, other in 0..8u8, owner: bool, member: bool, wanted in 1..8u8,
    ) {
        let acl = acl(user, &[], group, None, other);
        let bits = acl.permission_bits() >> if owner { 6 } else if member { 3 } else { 0 };
        prop_assert_eq!(granted(&acl, owner, 1, &[1], member, wanted), u32::from(wanted) & !bits == 0);
    }
}
