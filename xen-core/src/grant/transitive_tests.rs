//! Grants that are passed on: one domain owns the memory, a second passes its grant on, a third copies.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::{CopyEnd, CopyPlace, MapFlags, Status, copy};
use crate::soft::{Machine, Soft};
use crate::{Domain, Gfn, GrantRef};

type Dom = Arc<Domain<Soft>>;

const ACCESS: u16 = 1;
const TRANSITIVE: u16 = 3;
const READONLY: u16 = 1 << 2;
const SUB_PAGE: u16 = 1 << 8;
/// The owner's grant, and the one by which it is passed on.
const INNER: u32 = 9;
const OUTER: u32 = 20;

/// An entry of version 2 as the guest would write it: its last 12 bytes and then its head.
fn write(domain: &Dom, gref: u32, flags: u16, to: u16, low: u32, high: u64) {
    let frame = domain.grants.shared_frame(gref / 256).unwrap();
    let at = (gref % 256) as usize * 16;
    let page = frame.page();
    page.store_u32(at, 0, Ordering::SeqCst);
    page.store_u32(at + 4, low, Ordering::SeqCst);
    page.store_u64(at + 8, high, Ordering::SeqCst);
    let head = u32::from(flags) | u32::from(to) << 16;
    page.store_u32(at, head, Ordering::SeqCst);
}

/// Grants a frame.
fn grant(domain: &Dom, to: u16, gfn: u64, flags: u16, part: (u16, u16)) {
    let low = u32::from(part.0) | u32::from(part.1) << 16;
    write(domain, INNER, ACCESS | flags, to, low, gfn);
}

/// Passes a grant on.
fn pass_on(domain: &Dom, to: u16, of: u16, gref: u32, flags: u16) {
    write(
        domain,
        OUTER,
        TRANSITIVE | flags,
        to,
        of.into(),
        gref.into(),
    );
}

/// Takes an entry back: its flags, as a guest does.
fn revoke(domain: &Dom, gref: u32) {
    write(domain, gref, 0, 0, 0, 0);
}

fn status(domain: &Dom, gref: u32) -> u16 {
    let frame = domain.grants.status_frame(0).unwrap();
    frame.page().load_u16(gref as usize * 2, Ordering::SeqCst)
}

struct World {
    machine: Machine,
    /// Owner, middle, user.
    domains: [Dom; 3],
}

impl World {
    fn new() -> Self {
        let machine = Machine::new(512, 1);
        let domains = [1, 2, 3].map(|id| machine.domain(id, 0, 4));
        for domain in &domains {
            domain.grants.set_version(2).unwrap();
        }
        Self { machine, domains }
    }

    /// Copies by the user, through the middle's grant: from it, or to it.
    fn copy(&self, write: bool, offset: u16, length: u16) -> Result<(), Status> {
        let [_, middle, user] = &self.domains;
        let theirs = CopyEnd {
            domain: middle.clone(),
            place: CopyPlace::Granted(GrantRef(OUTER)),
            offset,
        };
        let own = CopyEnd {
            domain: user.clone(),
            place: CopyPlace::Own(Gfn(1)),
            offset,
        };
        let (from, to) = if write {
            (&own, &theirs)
        } else {
            (&theirs, &own)
        };
        copy(&self.machine.hv, user, from, to, length)
    }

    /// No entry is marked, whatever was tried.
    fn at_rest(&self) -> bool {
        self.domains
            .iter()
            .all(|d| (0..32).all(|gref| status(d, gref) == 0))
    }

    fn end(self) {
        let Self { machine, domains } = self;
        for domain in domains {
            machine.destroy(domain);
        }
        assert_eq!(machine.hv.frames.allocated(), []);
    }
}

#[test]
fn the_owners_memory_is_reached() {
    let w = World::new();
    let [owner, middle, user] = &w.domains;
    owner.write_physical(Gfn(3).base(), &[7; 4096]).unwrap();
    grant(owner, 2, 3, 0, (0, 0));
    pass_on(middle, 3, 1, INNER, 0);
    assert_eq!(w.copy(false, 8, 100), Ok(()));
    let mut seen = [0; 110];
    user.read_physical(Gfn(1).base(), &mut seen).unwrap();
    assert!(seen[..8] == [0; 8] && seen[8..108] == [7; 100] && seen[108..] == [0; 2]);
    user.write_physical(Gfn(1).base(), &[9; 16]).unwrap();
    assert_eq!(w.copy(true, 0, 16), Ok(()));
    owner.read_physical(Gfn(3).base(), &mut seen).unwrap();
    assert!(seen[..16] == [9; 16] && seen[16] == 7);
    assert!(w.at_rest());
    w.end();
}

#[test]
fn it_leads_back_to_the_one_who_granted_it() {
    // The user owns the memory itself.
    let w = World::new();
    let [_, middle, user] = &w.domains;
    grant(user, 2, 3, 0, (0, 0));
    pass_on(middle, 3, 3, INNER, 0);
    assert_eq!(w.copy(false, 0, 16), Ok(()));
    assert!(w.at_rest());
    w.end();
}

#[test]
fn it_is_not_mapped() {
    let w = World::new();
    let [owner, middle, user] = &w.domains;
    grant(owner, 2, 3, 0, (0, 0));
    pass_on(middle, 3, 1, INNER, 0);
    for readonly in [false, true] {
        let flags = MapFlags { readonly };
        let mapped = user
            .grants
            .map(user, middle, GrantRef(OUTER), Gfn(100), flags);
        assert_eq!(mapped.err(), Some(Status::GeneralError));
    }
    assert!(w.at_rest() && user.grants.mappings() == 0);
    w.end();
}

#[test]
fn it_is_followed_once_and_not_in_a_circle() {
    let w = World::new();
    let [owner, middle, user] = &w.domains;
    let refused = Err(Status::GeneralError);
    // To a grant that the owner only passes on itself.
    grant(user, 1, 3, 0, (0, 0));
    pass_on(owner, 2, 3, INNER, 0);
    pass_on(middle, 3, 1, OUTER, 0);
    assert_eq!(w.copy(false, 0, 16), refused);
    // To itself, by its own entry and by another one.
    pass_on(middle, 3, 2, OUTER, 0);
    assert_eq!(w.copy(false, 0, 16), refused);
    grant(middle, 2, 3, 0, (0, 0));
    pass_on(middle, 3, 2, INNER, 0);
    assert_eq!(w.copy(false, 0, 16), refused);
    // To nobody, to no entry.
    pass_on(middle, 3, 77, INNER, 0);
    assert_eq!(w.copy(false, 0, 16), refused);
    pass_on(middle, 3, 1, u32::MAX, 0);
    assert_eq!(w.copy(false, 0, 16), Err(Status::BadGntref));
    assert!(w.at_rest());
    w.end();
}

#[test]
fn the_administrator_switches_it_off() {
    let mut w = World::new();
    w.machine.hv.settings.transitive_grants = false;
    let [owner, middle, _] = &w.domains;
    grant(owner, 2, 3, 0, (0, 0));
    pass_on(middle, 3, 1, INNER, 0);
    assert_eq!(w.copy(false, 0, 16), Err(Status::GeneralError));
    assert!(w.at_rest());
    w.end();
}

#[test]
fn version_one_has_none() {
    let w = World::new();
    let [owner, middle, _] = &w.domains;
    grant(owner, 2, 3, 0, (0, 0));
    middle.grants.set_version(1).unwrap();
    // In version 1 the same bits of the flags are no kind of grant.
    let frame = middle.grants.shared_frame(0).unwrap();
    let at = OUTER as usize * 8;
    frame.page().store_u32(at + 4, INNER, Ordering::SeqCst);
    let head = u32::from(TRANSITIVE) | 3 << 16;
    frame.page().store_u32(at, head, Ordering::SeqCst);
    assert_eq!(w.copy(false, 0, 16), Err(Status::GeneralError));
    drop(frame);
    w.end();
}

#[test]
fn a_dead_owner_grants_nothing() {
    let World { machine, domains } = World::new();
    let [owner, middle, user] = domains;
    grant(&owner, 2, 3, 0, (0, 0));
    pass_on(&middle, 3, 1, INNER, 0);
    machine.destroy(owner);
    let end = |domain: &Dom, place| CopyEnd {
        domain: domain.clone(),
        place,
        offset: 0,
    };
    let from = end(&middle, CopyPlace::Granted(GrantRef(OUTER)));
    let to = end(&user, CopyPlace::Own(Gfn(1)));
    let refused = copy(&machine.hv, &user, &from, &to, 16);
    assert_eq!(refused, Err(Status::GeneralError));
    assert_eq!(status(&middle, OUTER), 0);
    drop((from, to));
    machine.destroy(middle);
    machine.destroy(user);
    assert_eq!(machine.hv.frames.allocated(), []);
}

#[derive(Clone, Debug)]
enum Op {
    Grant {
        to: u16,
        gfn: u64,
        flags: u16,
    },
    PassOn {
        to: u16,
        of: u16,
        flags: u16,
    },
    RevokeInner,
    RevokeOuter,
    Balloon(u64),
    Copy {
        write: bool,
        offset: u16,
        length: u16,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let readonly = prop_oneof![Just(0), Just(READONLY)];
    let inner_flags = prop_oneof![
        3 => Just(0),
        1 => Just(READONLY),
        1 => Just(SUB_PAGE),
        1 => Just(SUB_PAGE | READONLY),
    ];
    // Mostly what makes sense, or the chain is hardly ever whole.
    let domain = |usual: u16| prop_oneof![8 => Just(usual), 1 => 1..5u16];
    prop_oneof![
        3 => (domain(2), 0..5u64, inner_flags).prop_map(|(to, gfn, flags)| Op::Grant { to, gfn, flags }),
        3 => (domain(3), domain(1), readonly).prop_map(|(to, of, flags)| Op::PassOn { to, of, flags }),
        1 => Just(Op::RevokeInner),
        1 => Just(Op::RevokeOuter),
        1 => (0..4u64).prop_map(Op::Balloon),
        8 => (any::<bool>(), 0..300u16, 0..300u16)
            .prop_map(|(write, offset, length)| Op::Copy { write, offset, length }),
    ]
}

/// Bytes that a grant of part of a page covers here.
const PART: (u16, u16) = (100, 200);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Three domains against a model of the two entries: a copy works if and only if the whole chain allows it now,
    /// and whatever it answers, no entry stays marked and no reference is left.
    #[test]
    fn a_chain_holds_while_all_of_it_does(ops in prop::collection::vec(op(), 1..60)) {
        let w = World::new();
        let [owner, middle, _] = &w.domains;
        let mut inner: Option<(u16, u64, u16)> = None;
        let mut outer: Option<(u16, u16, u16)> = None;
        let mut memory = [true; 5];
        memory[4] = false;
        for op in ops {
            match op {
                Op::Grant { to, gfn, flags } => {
                    grant(owner, to, gfn, flags, PART);
                    inner = Some((to, gfn, flags));
                }
                Op::PassOn { to, of, flags } => {
                    pass_on(middle, to, of, INNER, flags);
                    outer = Some((to, of, flags));
                }
                Op::RevokeInner => {
                    revoke(owner, INNER);
                    inner = None;
                }
                Op::RevokeOuter => {
                    revoke(middle, OUTER);
                    outer = None;
                }
                Op::Balloon(gfn) => {
                    let dropped = owner.p2m.unmap(Gfn(gfn), 1).unwrap();
                    owner.uncharge_pages(dropped.ram);
                    memory[gfn as usize] = false;
                }
                Op::Copy { write, offset, length } => {
                    let allowed = outer.is_some_and(|(to, of, flags)| {
                        to == 3 && of == 1 && (!write || flags & READONLY == 0)
                    }) && inner.is_some_and(|(to, gfn, flags)| {
                        let inside = offset >= PART.0 && offset + length <= PART.0 + PART.1;
                        to == 2
                            && memory[gfn as usize]
                            && (!write || flags & READONLY == 0)
                            && (flags & SUB_PAGE == 0 || inside)
                    });
                    let result = w.copy(write, offset, length);
                    prop_assert_eq!(result.is_ok(), allowed, "{:?}", result);
                }
            }
            prop_assert!(w.at_rest());
        }
        w.end();
    }
}
