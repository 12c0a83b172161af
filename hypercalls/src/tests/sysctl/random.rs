//! Every sysctl of every version with random arguments: from the domain that manages others, whatever it says; and from
//! one that does not, which gets nothing but a refusal.

use proptest::prelude::*;
use proptest::sample::select;

use xen_abi::sysctl::{Interface, Sysctl, SysctlCmd, TABLE};
use xen_abi::versioned::Payload;
use xen_core::{Error, PAGE_SIZE};

use super::super::{ARG, FREE, LIST, NOWHERE, PAGES, SELF, World, err};
use super::{SYSCTL, raw};

/// Numbers that mean something somewhere.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..9u64,
        3 => select(vec![LIST, LIST + 1, LIST + PAGE_SIZE - 4, NOWHERE, FREE * PAGE_SIZE, u64::MAX]),
        2 => (0..40u64, 0..40u64).prop_map(|(low, high)| low | high << 32),
        1 => select(vec![u64::from(SELF), 1 << 31, u64::from(u32::MAX), 1 << 63, 128, 1024]),
        1 => any::<u64>(),
    ]
}

fn command() -> impl Strategy<Value = u32> {
    let known: Vec<u32> = TABLE.iter().map(|op| op.number).collect();
    prop_oneof![12 => select(known), 1 => 0..40u32, 1 => any::<u32>()]
}

fn version() -> impl Strategy<Value = u32> {
    let served: Vec<u32> = Interface::ALL.iter().map(|i| i.number()).collect();
    prop_oneof![12 => select(served), 1 => 0..0x20u32, 1 => any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn dom0_may_say_anything(
        calls in prop::collection::vec(
            (command(), version(), prop::collection::vec(word(), 16)), 1..24),
        yields in 0..3u32,
    ) {
        let world = World::with_frames(1024);
        let guests = [0, 1, 7].map(|id| world.guest(id));
        world.yield_every(yields);
        for (cmd, version, words) in calls {
            let mut payload = Payload::ZERO;
            for (place, word) in payload.0.chunks_exact_mut(8).zip(&words) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            let (result, _) = raw(&guests[0], SysctlCmd(cmd), version, payload);
            prop_assert!((-200..=0).contains(&result), "{} answers {}", cmd, result);
            let served = Interface::of(version).is_some();
            prop_assert_eq!(result == err(Error::Access), !served);
            // Nobody's memory changes hands.
            for guest in &guests {
                prop_assert_eq!(guest.domain().pages(), PAGES);
            }
        }
        world.end(guests);
    }

    #[test]
    fn others_get_nothing(
        calls in prop::collection::vec(
            (command(), version(), prop::collection::vec(word(), 16)), 1..24),
    ) {
        let world = World::with_frames(1024);
        let (dom0, one) = (world.guest(0), world.guest(1));
        for gfn in 0..PAGES {
            one.put(gfn * PAGE_SIZE, &[gfn ^ 0x5a5a; 512]);
        }
        for (cmd, version, words) in calls {
            let mut args = Sysctl { cmd: SysctlCmd(cmd), interface_version: version, u: Payload::ZERO };
            for (place, word) in args.u.0.chunks_exact_mut(8).zip(&words) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            one.put(ARG, &args);
            let memory = one.bytes(0, (PAGES * PAGE_SIZE) as usize);
            let result = one.call(SYSCTL, &[ARG]);
            prop_assert!([Error::Perm, Error::NoSys, Error::Access].map(err).contains(&result), "{}", result);
            prop_assert!(one.bytes(0, memory.len()) == memory, "{} wrote", cmd);
        }
        world.end([dom0, one]);
    }
}
