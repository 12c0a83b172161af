//! Random sequences of all hypercalls by three domains, one of which manages the others. Whatever they do, the machine's
//! memory stays accounted for, each frame is where its owner put it, and in the end nothing is left.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use xen_abi::xen::Hypercall;
use xen_core::{Domain, GuestPhysAddr, Mfn, PAGE_SIZE};
use xen_core::{DomainId, Gfn, p2m::P2mType, soft::Soft};

use super::{ARG, FREE, Guest, LIST, NOBODY, SELF, World};

/// Frames of the machine: few, so that they run out.
const FRAMES: usize = 1024;
/// Where elements of lists that lead to lists are.
const SECOND: u64 = LIST + PAGE_SIZE;

/// One thing that a domain does.
#[derive(Clone, Debug)]
enum Act {
    /// Makes a hypercall; words for the argument at `ARG` and for the lists that it points to.
    Call {
        number: Hypercall,
        args: [u64; 3],
        words: Vec<u64>,
        list: Vec<u64>,
    },
    /// Writes an entry of its grant table: half of the versions make no sense of it.
    Grant { index: usize, words: [u64; 2] },
    /// Writes to memory that may be shared with the hypervisor.
    Scribble { gfn: u64, at: usize, word: u64 },
}

/// Numbers that mean something somewhere.
fn word() -> impl Strategy<Value = u64> {
    let frames = select(vec![
        0,
        1,
        5,
        8,
        20,
        31,
        FREE,
        FREE + 1,
        FREE + 2,
        FREE + 64,
    ]);
    prop_oneof![
        4 => 0..8u64,
        4 => frames,
        2 => select(vec![u64::from(SELF), u64::from(NOBODY), ARG, LIST, SECOND]),
        1 => (0..3u64, 0..12u64).prop_map(|(low, high)| low | high << 32),
        1 => (0..3u64, 0..3u64, 0..12u64).prop_map(|(a, b, c)| a | b << 16 | c << 32),
        1 => select(vec![u64::MAX, 1 << 63, 0xffff_ffff, 0x7fff_ffff, 1 << 40]),
        1 => any::<u64>(),
    ]
}

fn call_of(number: Hypercall, op: impl Strategy<Value = u64>) -> impl Strategy<Value = Act> {
    let second = prop_oneof![6 => Just(ARG), 1 => word()];
    let third = prop_oneof![3 => Just(1), 2 => 0..4u64, 1 => word()];
    let words = prop::collection::vec(word(), 5);
    let list = prop::collection::vec(word(), 4);
    (op, second, third, words, list).prop_map(move |(op, second, third, words, list)| Act::Call {
        number,
        args: [op, second, third],
        words,
        list,
    })
}

/// `memory_op` on extents, with arguments that are mostly right.
fn reservation() -> impl Strategy<Value = Act> {
    let extents = select(vec![1, 8, 20, 30, FREE, FREE + 1, FREE + 2, FREE + 64]);
    let domid = prop_oneof![4 => Just(u64::from(SELF)), 1 => 0..4u64];
    (
        select(vec![1u64, 6]),
        prop::collection::vec(extents, 4),
        0..5u64,
        prop_oneof![6 => 0..4u64, 1 => 0..20u64],
        domid,
    )
        .prop_map(|(op, list, count, order, domid)| Act::Call {
            number: Hypercall::MEMORY_OP,
            args: [op, ARG, 0],
            words: vec![LIST, count, order, domid, 0],
            list,
        })
}

/// `add_to_physmap` by list, foreign frames included, and `remove_from_physmap`.
fn physmap() -> impl Strategy<Value = Act> {
    let gfn = || select(vec![3u64, 8, 20, FREE, FREE + 1, FREE + 2, FREE + 64]);
    let target = || prop_oneof![4 => Just(u64::from(SELF)), 1 => 0..4u64];
    prop_oneof![
        (target(), 0..6u64, 0..4u64, gfn(), gfn()).prop_map(
            |(domid, space, foreign, index, at)| Act::Call {
                number: Hypercall::MEMORY_OP,
                args: [23, ARG, 0],
                words: vec![
                    domid | space << 16 | 1 << 32 | foreign << 48,
                    LIST,
                    LIST + 8,
                    LIST + 16,
                ],
                list: vec![if space == 4 { index } else { index % 3 }, at],
            }
        ),
        (target(), gfn()).prop_map(|(domid, gfn)| Act::Call {
            number: Hypercall::MEMORY_OP,
            args: [15, ARG, 0],
            words: vec![domid, gfn],
            list: vec![],
        }),
        (0..4u64, 0..3u64, 0..4u64, gfn(), 0..3u64).prop_map(|(domid, id, frame, gfn, count)| {
            Act::Call {
                number: Hypercall::MEMORY_OP,
                args: [28, ARG, 0],
                words: vec![domid | 1 << 16 | id << 32, count, frame, LIST],
                list: vec![gfn, gfn + 1],
            }
        }),
    ]
}

/// `platform_op` that gets as far as the operation.
fn platform() -> impl Strategy<Value = Act> {
    let command = select(vec![17u64, 48, 50, 55, 56, 57, 62, 64]);
    (command, word(), word()).prop_map(|(command, first, second)| Act::Call {
        number: Hypercall::PLATFORM_OP,
        args: [ARG, 0, 0],
        words: vec![command | 0x0300_0001 << 32, first, second],
        list: vec![],
    })
}

/// Showing and setting memory maps.
fn memory_map() -> impl Strategy<Value = Act> {
    let count = || select(vec![0u64, 1, 2, 4, 128, 1024, 1025]);
    let buffer = || select(vec![LIST, ARG, FREE * PAGE_SIZE]);
    prop_oneof![
        (select(vec![9u64, 10]), count(), buffer()).prop_map(|(op, count, buffer)| Act::Call {
            number: Hypercall::MEMORY_OP,
            args: [op, ARG, 0],
            words: vec![count, buffer],
            list: vec![],
        }),
        (0..4u64, count(), buffer()).prop_map(|(domid, count, buffer)| Act::Call {
            number: Hypercall::MEMORY_OP,
            args: [13, ARG, 0],
            words: vec![domid, count, buffer],
            list: vec![1, 2, 3, 4],
        }),
    ]
}

/// Mapping, unmapping and copying what was granted.
fn grants() -> impl Strategy<Value = Act> {
    let gfn = || select(vec![3u64, 20, FREE, FREE + 1, FREE + 64]);
    prop_oneof![
        (gfn(), 0..3u64, 8..12u64, select(vec![2u64, 6])).prop_map(|(gfn, dom, gref, flags)| {
            Act::Call {
                number: Hypercall::GRANT_TABLE_OP,
                args: [0, ARG, 1],
                words: vec![gfn * PAGE_SIZE, flags | gref << 32, dom],
                list: vec![],
            }
        }),
        (gfn(), 0..4u64).prop_map(|(gfn, handle)| Act::Call {
            number: Hypercall::GRANT_TABLE_OP,
            args: [1, ARG, 1],
            words: vec![gfn * PAGE_SIZE, 0, handle],
            list: vec![],
        }),
        (8..12u64, 0..3u64, gfn(), 0..200u64, 0..4u64).prop_map(
            |(gref, dom, gfn, length, flags)| Act::Call {
                number: Hypercall::GRANT_TABLE_OP,
                args: [5, ARG, 1],
                words: match flags {
                    2 => vec![gfn, u64::from(SELF), gref, dom, length | flags << 16],
                    _ => vec![gref, dom, gfn, u64::from(SELF), length | flags << 16],
                },
                list: vec![],
            }
        ),
        (1..3u64).prop_map(|version| Act::Call {
            number: Hypercall::GRANT_TABLE_OP,
            args: [8, ARG, 1],
            words: vec![version],
            list: vec![],
        }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let entry = (0..3u64, 0..3u64, 0..8u64, 1..4u64, any::<bool>());
    prop_oneof![
        4 => reservation(),
        4 => physmap(),
        6 => grants(),
        3 => call_of(Hypercall::MEMORY_OP, 0..29u64),
        3 => call_of(Hypercall::GRANT_TABLE_OP, 0..13u64),
        4 => call_of(Hypercall::EVENT_CHANNEL_OP, 0..14u64),
        2 => call_of(Hypercall::SCHED_OP, 0..8u64),
        2 => call_of(Hypercall::HVM_OP, 0..27u64),
        1 => call_of(Hypercall::PHYSDEV_OP, 20..34u64),
        1 => call_of(Hypercall::SET_TIMER_OP, word()),
        1 => platform(),
        1 => memory_map(),
        1 => call_of(Hypercall::XEN_VERSION, 0..15u64),
        1 => call_of(Hypercall::PLATFORM_OP, Just(ARG)),
        1 => call_of(Hypercall::VM_ASSIST, 0..3u64),
        1 => call_of(Hypercall::CONSOLE_IO, 0..3u64),
        1 => (0..60u64).prop_flat_map(|n| call_of(Hypercall(n), word())),
        // The vCPU is the second argument here, and the address the third.
        3 => (select(vec![5u64, 10, 14, 4, 1, 2, 3, 6, 7, 8, 9, 13, 15]), 0..3u64, word(), word()).prop_map(
            |(op, vcpu, first, second)| Act::Call {
                number: Hypercall::VCPU_OP,
                args: [op, vcpu, ARG],
                words: vec![if op == 10 { first } else { first.wrapping_mul(8) }, second],
                list: vec![],
            }
        ),
        // A call within a multicall.
        1 => (0..40u64, word(), word()).prop_map(|(number, op, third)| Act::Call {
            number: Hypercall::MULTICALL,
            args: [ARG, 1, 0],
            words: vec![number, 0, op, LIST, third],
            list: vec![u64::from(SELF), 1, 2, 3],
        }),
        4 => (8..12usize, entry).prop_map(|(index, (to, from, gfn, kind, readonly))| {
            let head = kind | u64::from(readonly) << 2 | to << 16;
            Act::Grant { index, words: [head | from << 32, gfn] }
        }),
        1 => (0..32u64, 0..512usize, word())
            .prop_map(|(gfn, at, word)| Act::Scribble { gfn, at, word }),
    ]
}

fn perform(guest: &Guest<'_>, act: &Act) {
    let put = |at: u64, words: &[u64]| {
        for (n, word) in (0..).zip(words) {
            // The memory may have been given away.
            let at = GuestPhysAddr(at + n * 8);
            let _ = guest.domain().write_physical(at, &word.to_le_bytes());
        }
    };
    match act {
        Act::Call {
            number,
            args,
            words,
            list,
        } => {
            put(ARG, words);
            put(LIST, list);
            let result = guest.call(*number, args);
            // A count or another number, or an error that Xen has.
            assert!(result >= -200, "{act:x?} answers {result:#x}");
        }
        Act::Grant { index, words } => {
            let grants = &guest.domain().grants;
            let order = core::sync::atomic::Ordering::SeqCst;
            let frame = grants.shared_frame(0).expect("the first frame");
            if grants.version() == 1 {
                let entry = words[0] & 0xffff_ffff | words[1] << 32;
                frame.page().store_u64(index * 8, entry, order);
            } else {
                frame.page().store_u64(index * 16 + 8, words[1], order);
                frame.page().store_u64(index * 16, words[0], order);
            }
        }
        Act::Scribble { gfn, at, word } => put(gfn * PAGE_SIZE + *at as u64 * 8, &[*word]),
    }
}

/// What must hold at any time.
fn check(world: &World, domains: &[&Domain<Soft>]) {
    let frames = world.machine.hv.frames;
    let allocated: BTreeMap<Mfn, (DomainId, u32)> = frames
        .allocated()
        .into_iter()
        .map(|(mfn, owner, count)| (mfn, (owner, count)))
        .collect();
    let all = frames.free_frames() + allocated.len() as u64;
    assert_eq!(
        all,
        frames.total_frames(),
        "free and in use is all there is"
    );

    let mut own: BTreeMap<Mfn, DomainId> = BTreeMap::new();
    let mut references: BTreeMap<Mfn, u32> = BTreeMap::new();
    for domain in domains {
        let mut ram = 0;
        domain.p2m.walk(Gfn(0), |gfn, entry| {
            for n in 0..1u64 << entry.order {
                let mfn = Mfn(entry.mfn.0 + n);
                if !entry.kind.holds_frames() {
                    continue;
                }
                *references.entry(mfn).or_default() += 1;
                let (owner, _) = allocated[&mfn];
                if entry.kind.is_ram() {
                    ram += 1;
                    assert_eq!(owner, domain.id(), "{gfn} is another's");
                    let other = own.insert(mfn, domain.id());
                    assert_eq!(other, None, "{mfn} is mapped as memory twice");
                }
                if entry.kind == P2mType::Shared {
                    assert_eq!(owner, DomainId::XEN, "{gfn}");
                }
            }
            true
        });
        assert_eq!(domain.pages(), ram, "pages of d{}", domain.id());
        assert!(domain.pages() <= domain.max_pages());
    }
    for (mfn, count) in references {
        let (_, held) = allocated[&mfn];
        assert!(
            held >= count,
            "{mfn} is mapped {count} times and held {held} times"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn memory_is_accounted_for_whatever_domains_do(
        acts in prop::collection::vec((0..3usize, 0..2u32, act()), 1..120),
        yields in 0..4u32,
    ) {
        let world = World::with_frames(FRAMES);
        let guests = [0, 1, 2].map(|id| world.guest(id));
        world.yield_every(if yields == 1 { 0 } else { yields });
        for (who, vcpu, act) in &acts {
            let guest = Guest::of(&world, guests[*who].domain().clone(), *vcpu);
            perform(&guest, act);
            check(&world, &guests.each_ref().map(|g| &**g.domain()));
        }
        world.end(guests);
    }
}
