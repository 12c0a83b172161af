//! Tests of grant tables on the software machine: what a guest writes into its table is written here the way
//! the guest would, into the shared frames.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::{CopyEnd, CopyPlace, MapFlags, Status, copy};
use crate::p2m::P2mType;
use crate::soft::{Machine, Soft};
use crate::{Domain, Error, Gfn, GrantRef};

type Dom = Arc<Domain<Soft>>;
const RW: MapFlags = MapFlags { readonly: false };
const RO: MapFlags = MapFlags { readonly: true };
const READONLY: u16 = 4;

/// Writes a version 1 entry as the guest would.
fn grant(domain: &Dom, gref: u32, to: u16, gfn: u64, flags: u16) {
    let frame = domain.grants.shared_frame(gref / 512).unwrap();
    let at = (gref % 512) as usize * 8;
    frame.page().store_u32(at + 4, gfn as u32, Ordering::SeqCst);
    frame.page().store_u32(
        at,
        u32::from(1 | flags) | u32::from(to) << 16,
        Ordering::SeqCst,
    );
}

fn flags_of(domain: &Dom, gref: u32) -> u16 {
    domain
        .grants
        .shared_frame(gref / 512)
        .unwrap()
        .page()
        .load_u16((gref % 512) as usize * 8, Ordering::SeqCst)
}

/// Tries to revoke a version 1 entry as the guest would: only if it is not in use.
fn revoke(domain: &Dom, gref: u32) -> bool {
    let frame = domain.grants.shared_frame(gref / 512).unwrap();
    let at = (gref % 512) as usize * 8;
    let flags = frame.page().load_u16(at, Ordering::SeqCst);
    flags & 0x18 == 0 && frame.page().compare_exchange_u16(at, flags, 0).is_ok()
}

#[test]
fn a_mapping_over_memory_leaves_a_direct_mapped_domain_its_frame() {
    let machine = Machine::new(256, 1);
    let a = machine.domain(1, 0, 4);
    let config = crate::DomainConfig {
        direct_mapped: true,
        ..Machine::config(2)
    };
    let b = Domain::new(&machine.hv, config).unwrap();
    b.charge_pages(1).unwrap();
    let frame = machine.hv.frames.alloc_page(b.id()).unwrap();
    let own = frame.mfn();
    let there = Gfn(50);
    b.p2m.map_new(there, frame, P2mType::RamRw).unwrap();
    grant(&a, 9, 2, 3, 0);
    let mapped = b.grants.map(&b, &a, GrantRef(9), there, RW).unwrap();
    b.grants.unmap(&b, mapped.handle, there).unwrap();
    assert!(b.p2m.lookup(there).is_none());
    assert_eq!(machine.hv.frames.owner(own), Some(b.id()));
    assert_eq!(b.pages(), 1);
    // The reference that was kept is the only one.
    drop(machine.hv.frames.adopt(own));
    assert_eq!(machine.hv.frames.owner(own), None);
}

#[test]
fn a_mapping_shares_the_frame_and_marks_the_entry() {
    let machine = Machine::new(256, 1);
    let (a, b) = (machine.domain(1, 0, 4), machine.domain(2, 0, 4));
    grant(&a, 9, 2, 3, 0);
    let mapped = b.grants.map(&b, &a, GrantRef(9), Gfn(100), RW).unwrap();
    a.write_physical(Gfn(3).base(), b"hello").unwrap();
    let mut seen = [0; 5];
    b.read_physical(Gfn(100).base(), &mut seen).unwrap();
    assert_eq!(&seen, b"hello");
    assert_eq!(mapped.bus_address, a.p2m.lookup(Gfn(3)).unwrap().mfn.base());
    assert_eq!(flags_of(&a, 9), 1 | 8 | 16);
    assert!(!revoke(&a, 9));
    assert_eq!(
        b.grants.unmap(&b, mapped.handle, Gfn(101)),
        Err(Status::BadVirtAddr)
    );
    assert_eq!(b.grants.unmap(&b, mapped.handle, Gfn(100)), Ok(()));
    assert_eq!(
        b.grants.unmap(&b, mapped.handle, Gfn(100)),
        Err(Status::BadHandle)
    );
    assert_eq!(flags_of(&a, 9), 1);
    assert_eq!(b.p2m.lookup(Gfn(100)), None);
    assert!(revoke(&a, 9));
}

#[test]
fn what_was_not_granted_is_refused() {
    let machine = Machine::new(256, 1);
    let (a, b) = (machine.domain(1, 0, 4), machine.domain(2, 0, 4));
    grant(&a, 9, 3, 0, 0);
    grant(&a, 10, 2, 0, READONLY);
    grant(&a, 11, 2, 77, 0);
    let map = |gref, flags| {
        b.grants
            .map(&b, &a, GrantRef(gref), Gfn(100), flags)
            .map(|_| ())
    };
    assert_eq!(map(9, RO), Err(Status::GeneralError), "for somebody else");
    assert_eq!(map(10, RW), Err(Status::GeneralError), "read-only");
    assert_eq!(map(11, RO), Err(Status::BadPage), "no memory there");
    assert_eq!(map(12, RO), Err(Status::GeneralError), "an empty entry");
    assert_eq!(map(512, RO), Err(Status::BadGntref), "beyond the table");
    assert_eq!(map(u32::MAX, RO), Err(Status::BadGntref));
    for gref in 9..13 {
        assert_eq!(
            flags_of(&a, gref) & 0x18,
            0,
            "a refused entry is not marked"
        );
    }
    assert_eq!(b.grants.mappings(), 0);
    assert_eq!(map(10, RO), Ok(()));
    assert!(!b.p2m.lookup(Gfn(100)).unwrap().kind.writable());
}

#[test]
fn a_frame_given_back_while_mapped_stays_until_unmapped() {
    let machine = Machine::new(256, 1);
    let (a, b) = (machine.domain(1, 0, 4), machine.domain(2, 0, 4));
    grant(&a, 9, 2, 3, 0);
    let mfn = a.p2m.lookup(Gfn(3)).unwrap().mfn;
    let mapped = b.grants.map(&b, &a, GrantRef(9), Gfn(100), RW).unwrap();
    machine.destroy(a);
    assert!(machine.hv.frames.count(mfn) > 0);
    b.write_physical(Gfn(100).base(), b"still there").unwrap();
    assert_eq!(b.grants.unmap(&b, mapped.handle, Gfn(100)), Ok(()));
    assert_eq!(machine.hv.frames.count(mfn), 0);
}

#[test]
fn memory_that_was_mapped_over_is_no_longer_charged() {
    let machine = Machine::new(256, 1);
    let (a, b) = (machine.domain(1, 0, 4), machine.domain(2, 0, 4));
    grant(&a, 9, 2, 3, 0);
    assert_eq!(b.pages(), 4);
    b.grants.map(&b, &a, GrantRef(9), Gfn(1), RW).unwrap();
    assert_eq!(b.pages(), 3);
}

#[test]
fn map_tracking_has_a_limit_and_handles_are_used_again() {
    let machine = Machine::new(512, 1);
    let a = machine.domain(1, 0, 1);
    let mut config = Machine::config(2);
    config.max_maptrack_frames = 1;
    let b = Domain::new(&machine.hv, config).unwrap();
    grant(&a, 9, 2, 0, 0);
    let map = |n: u64| b.grants.map(&b, &a, GrantRef(9), Gfn(n), RW);
    let first = map(0).unwrap();
    for n in 1..256 {
        map(n).unwrap();
    }
    assert_eq!(map(256).err(), Some(Status::NoSpace));
    b.grants.unmap(&b, first.handle, Gfn(0)).unwrap();
    assert_eq!(map(256).unwrap().handle, first.handle);
    machine.destroy(b);
    assert_eq!(flags_of(&a, 9), 1);
}

#[test]
fn versions_switch_only_while_nothing_is_in_use() {
    let machine = Machine::new(256, 1);
    let (a, b) = (machine.domain(1, 0, 4), machine.domain(2, 0, 4));
    assert_eq!(a.grants.set_version(3), Err(Error::Inval));
    grant(&a, 1, 2, 3, READONLY);
    let mapped = b.grants.map(&b, &a, GrantRef(1), Gfn(100), RO).unwrap();
    assert_eq!(a.grants.set_version(2), Err(Error::Busy));
    b.grants.unmap(&b, mapped.handle, Gfn(100)).unwrap();
    grant(&a, 20, 2, 3, 0);
    assert_eq!(
        a.grants.set_version(2),
        Err(Error::Busy),
        "an entry that is not reserved is in the table"
    );
    assert!(revoke(&a, 20));
    assert_eq!(a.grants.status_frame(0).err(), Some(Error::Inval));
    a.grants.set_version(2).unwrap();
    let status = a.grants.status_frame(0).unwrap();
    // The reserved entry was carried over to the new layout.
    let mapped = b.grants.map(&b, &a, GrantRef(1), Gfn(100), RO).unwrap();
    assert_eq!(status.page().load_u16(2, Ordering::SeqCst), 8);
    assert_eq!(
        b.grants.map(&b, &a, GrantRef(1), Gfn(101), RW).err(),
        Some(Status::GeneralError)
    );
    b.grants.unmap(&b, mapped.handle, Gfn(100)).unwrap();
    assert_eq!(status.page().load_u16(2, Ordering::SeqCst), 0);
    // A status frame that the guest still holds outlives the switch back.
    let mfn = status.mfn();
    a.grants.set_version(1).unwrap();
    assert_eq!(machine.hv.frames.count(mfn), 1);
    assert_eq!(flags_of(&a, 1), 1 | READONLY);
}

#[test]
fn the_second_version_is_refused_where_the_limit_says_so() {
    let machine = Machine::new(64, 1);
    let config = crate::DomainConfig {
        max_grant_version: 1,
        ..Machine::config(1)
    };
    let domain = Domain::new(&machine.hv, config).unwrap();
    assert_eq!(domain.grants.set_version(2), Err(Error::NoSys));
    let config = crate::DomainConfig {
        max_grant_frames: 0,
        ..Machine::config(2)
    };
    assert_eq!(Domain::new(&machine.hv, config).err(), Some(Error::Inval));
}

#[test]
fn copies_stay_in_their_pages_and_need_the_right() {
    let machine = Machine::new(256, 1);
    let (a, b) = (machine.domain(1, 0, 4), machine.domain(2, 0, 4));
    grant(&a, 9, 2, 3, READONLY);
    a.write_physical(Gfn(3).base(), &[7; 4096]).unwrap();
    let from = |offset| CopyEnd {
        domain: a.clone(),
        place: CopyPlace::Granted(GrantRef(9)),
        offset,
    };
    let own = |domain: &Dom, offset| CopyEnd {
        domain: domain.clone(),
        place: CopyPlace::Own(Gfn(1)),
        offset,
    };
    assert_eq!(copy(&machine.hv, &b, &from(5), &own(&b, 1), 4000), Ok(()));
    let mut seen = [0; 4096];
    b.read_physical(Gfn(1).base(), &mut seen).unwrap();
    assert!(seen[0] == 0 && seen[1..4001].iter().all(|b| *b == 7) && seen[4001] == 0);
    assert_eq!(
        copy(&machine.hv, &b, &from(97), &own(&b, 0), 4000),
        Err(Status::BadCopyArg)
    );
    assert_eq!(
        copy(&machine.hv, &b, &own(&b, 0), &from(0), 8),
        Err(Status::GeneralError),
        "into a read-only grant"
    );
    assert_eq!(
        copy(&machine.hv, &b, &own(&a, 0), &own(&b, 0), 8),
        Err(Status::PermissionDenied)
    );
    assert_eq!(flags_of(&a, 9), 1 | READONLY);
}

#[test]
fn swapping_moves_entries_that_nobody_uses() {
    let machine = Machine::new(256, 1);
    let (a, b) = (machine.domain(1, 0, 4), machine.domain(2, 0, 4));
    grant(&a, 9, 2, 3, 0);
    assert_eq!(a.grants.swap(GrantRef(9), GrantRef(10)), Status::Okay);
    assert_eq!((flags_of(&a, 9), flags_of(&a, 10)), (0, 1));
    b.grants.map(&b, &a, GrantRef(10), Gfn(100), RO).unwrap();
    assert_eq!(a.grants.swap(GrantRef(9), GrantRef(10)), Status::Again);
    assert_eq!(a.grants.swap(GrantRef(9), GrantRef(512)), Status::BadGntref);
}

#[derive(Clone, Debug)]
enum Op {
    Grant {
        who: usize,
        gref: u32,
        to: usize,
        gfn: u64,
        readonly: bool,
    },
    Revoke {
        who: usize,
        gref: u32,
    },
    Map {
        who: usize,
        of: usize,
        gref: u32,
        gfn: u64,
        readonly: bool,
    },
    Unmap {
        who: usize,
        pick: prop::sample::Index,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (who, gref) = (0usize..3, 8u32..12);
    prop_oneof![
        3 => (who.clone(), gref.clone(), 0usize..3, 0u64..5, any::<bool>())
            .prop_map(|(who, gref, to, gfn, readonly)| Op::Grant { who, gref, to, gfn, readonly }),
        1 => (who.clone(), gref.clone()).prop_map(|(who, gref)| Op::Revoke { who, gref }),
        4 => (who.clone(), 0usize..3, gref, 100u64..104, any::<bool>())
            .prop_map(|(who, of, gref, gfn, readonly)| Op::Map { who, of, gref, gfn, readonly }),
        3 => (who, any::<prop::sample::Index>()).prop_map(|(who, pick)| Op::Unmap { who, pick }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Against a model of who maps what: the in-use bits that guests see are exactly right after each step,
    /// nothing is mapped that was not granted, and in the end nothing is left.
    #[test]
    fn in_use_bits_tell_the_truth(ops in prop::collection::vec(op(), 1..60)) {
        let machine = Machine::new(256, 1);
        let free = machine.hv.frames.free_frames();
        let domains: Vec<Dom> = (1..4).map(|id| machine.domain(id, 0, 4)).collect();
        // (granter, gref) -> (grantee, gfn, readonly); handles: (mapper, handle) -> (granter, gref, gfn, write).
        let mut entries: BTreeMap<(usize, u32), (usize, u64, bool)> = BTreeMap::new();
        let mut maps: BTreeMap<(usize, u32), (usize, u32, u64, bool)> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Grant { who, gref, to, gfn, readonly } => {
                    if flags_of(&domains[who], gref) == 0 {
                        let flags = if readonly { READONLY } else { 0 };
                        grant(&domains[who], gref, domains[to].id().0, gfn, flags);
                        entries.insert((who, gref), (to, gfn, readonly));
                    }
                }
                Op::Revoke { who, gref } => {
                    let used = maps.values().any(|m| (m.0, m.1) == (who, gref));
                    prop_assert_eq!(revoke(&domains[who], gref), !used);
                    if !used {
                        entries.remove(&(who, gref));
                    }
                }
                Op::Map { who, of, gref, gfn, readonly } => {
                    let flags = MapFlags { readonly };
                    let got = domains[who].grants.map(&domains[who], &domains[of], GrantRef(gref), Gfn(gfn), flags);
                    let may = entries.get(&(of, gref)).is_some_and(|(to, frame, ro)| {
                        *to == who && *frame < 4 && (readonly || !ro)
                    });
                    prop_assert_eq!(got.is_ok(), may, "{:?}", got);
                    if let Ok(mapped) = got {
                        let old = maps.insert((who, mapped.handle), (of, gref, gfn, !readonly));
                        prop_assert!(old.is_none(), "a handle in use was given out again");
                        let kind = domains[who].p2m.lookup(Gfn(gfn)).unwrap().kind;
                        prop_assert_eq!(kind, if readonly { P2mType::GrantRo } else { P2mType::GrantRw });
                    }
                }
                Op::Unmap { who, pick } => {
                    let mine: Vec<_> = maps.keys().filter(|k| k.0 == who).copied().collect();
                    if !mine.is_empty() {
                        let key = mine[pick.index(mine.len())];
                        let gfn = maps[&key].2;
                        prop_assert_eq!(domains[who].grants.unmap(&domains[who], key.1, Gfn(gfn)), Ok(()));
                        maps.remove(&key);
                    }
                }
            }
            for (who, domain) in domains.iter().enumerate() {
                prop_assert_eq!(domain.grants.mappings(), maps.keys().filter(|k| k.0 == who).count());
                for gref in 8..12 {
                    let users: Vec<_> = maps.values().filter(|m| (m.0, m.1) == (who, gref)).collect();
                    let want = match users.as_slice() {
                        [] => 0,
                        users if users.iter().any(|m| m.3) => flags_of(domain, gref) & 8 | 16,
                        _ => 8,
                    };
                    let bits = flags_of(domain, gref) & 0x18;
                    prop_assert_eq!(bits, want);
                    prop_assert_eq!(bits == 0, users.is_empty());
                }
            }
        }
        for domain in domains {
            machine.destroy(domain);
        }
        prop_assert_eq!(machine.hv.frames.free_frames(), free);
    }
}
