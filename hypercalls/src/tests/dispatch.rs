//! Numbers, and what every hypercall has in common: bad pointers, arguments across pages, upper halves of arguments.

use xen_abi::sched::Shutdown;
use xen_abi::xen::Hypercall;
use xen_core::{Error, PAGE_SIZE};

use super::{ARG, NOWHERE, World, err};

/// Hypercalls with an operation whose argument's address is the second argument.
const WITH_POINTER: [(Hypercall, u64); 24] = [
    (Hypercall::MEMORY_OP, 3),
    (Hypercall::MEMORY_OP, 7),
    (Hypercall::MEMORY_OP, 15),
    (Hypercall::MEMORY_OP, 23),
    (Hypercall::XEN_VERSION, 1),
    (Hypercall::XEN_VERSION, 2),
    (Hypercall::XEN_VERSION, 5),
    (Hypercall::XEN_VERSION, 6),
    (Hypercall::XEN_VERSION, 8),
    (Hypercall::XEN_VERSION, 9),
    (Hypercall::XEN_VERSION, 12),
    (Hypercall::SCHED_OP, 2),
    (Hypercall::SCHED_OP, 3),
    (Hypercall::SCHED_OP, 4),
    (Hypercall::SCHED_OP, 5),
    (Hypercall::SCHED_OP, 6),
    (Hypercall::EVENT_CHANNEL_OP, 0),
    (Hypercall::EVENT_CHANNEL_OP, 1),
    (Hypercall::EVENT_CHANNEL_OP, 4),
    (Hypercall::EVENT_CHANNEL_OP, 6),
    (Hypercall::EVENT_CHANNEL_OP, 11),
    (Hypercall::HVM_OP, 0),
    (Hypercall::HVM_OP, 1),
    (Hypercall::HVM_OP, 10),
];

#[test]
fn numbers_without_a_handler() {
    let world = World::new();
    let dom0 = world.guest(0);
    let mut served = vec![7, 12, 15, 17, 18, 20, 24, 29, 32, 33, 34];
    if cfg!(feature = "multicall") {
        served.push(13);
    }
    if cfg!(feature = "vm_assist") {
        served.push(21);
    }
    if cfg!(feature = "mgmt_hypercalls") {
        served.extend([35, 36]);
    }
    for number in (0..80).chain([1 << 32 | 17, u64::MAX]) {
        let known = crate::dispatch::handler::<xen_core::soft::Soft>(number).is_some();
        assert_eq!(known, served.contains(&number), "{number}");
        if !known {
            assert_eq!(dom0.call(Hypercall(number), &[0; 5]), err(Error::NoSys));
        }
    }
    world.end([dom0]);
}

#[test]
fn operations_that_nobody_knows() {
    let world = World::new();
    let dom0 = world.guest(0);
    for number in [12, 17, 20, 29, 32, 33, 34] {
        assert_eq!(
            dom0.call(Hypercall(number), &[63, ARG]),
            err(Error::NoSys),
            "{number}"
        );
    }
    world.end([dom0]);
}

#[test]
fn pointers_that_lead_nowhere() {
    let world = World::new();
    let dom0 = world.guest(0);
    dom0.unmap(ARG + PAGE_SIZE);
    for (number, op) in WITH_POINTER {
        for pointer in [
            NOWHERE,
            u64::MAX,
            u64::MAX - 100,
            1 << 63,
            ARG + PAGE_SIZE - 1,
        ] {
            let result = dom0.call(number, &[op, pointer]);
            assert_eq!(result, err(Error::Fault), "{number:?} {op} {pointer:#x}");
        }
    }
    for pointer in [NOWHERE, u64::MAX, ARG + PAGE_SIZE - 1] {
        for op in [5, 10, 14] {
            let result = dom0.call(Hypercall::VCPU_OP, &[op, 0, pointer]);
            assert_eq!(result, err(Error::Fault), "vcpu_op {op} {pointer:#x}");
        }
        for op in 0..13 {
            let result = dom0.call(Hypercall::GRANT_TABLE_OP, &[op, pointer, 1]);
            let known = if op == 3 { Error::NoSys } else { Error::Fault };
            assert_eq!(result, err(known), "grant_table_op {op} {pointer:#x}");
        }
        let platform = dom0.call(Hypercall::PLATFORM_OP, &[pointer]);
        assert_eq!(platform, err(Error::Fault));
        #[cfg(feature = "multicall")]
        assert_eq!(
            dom0.call(Hypercall::MULTICALL, &[pointer, 1]),
            err(Error::Fault)
        );
    }
    assert_eq!(dom0.domain().shutdown_code(), None);
    world.end([dom0]);
}

#[test]
fn arguments_across_pages() {
    let world = World::new();
    let dom0 = world.guest(0);
    // The second page is elsewhere: what is read must be put together from both.
    dom0.map_page(ARG + PAGE_SIZE, Some(9));
    for split in 1..8 {
        let at = ARG + PAGE_SIZE - split;
        let dog = [0u32, 30].map(u32::to_le_bytes).concat();
        dom0.put(at, &dog[..split as usize]);
        dom0.put(9 * PAGE_SIZE, &dog[split as usize..]);
        let id = dom0.call(Hypercall::SCHED_OP, &[6, at]);
        assert_eq!(id, 1, "{split} bytes in the first page");
        dom0.put(ARG, &[1u32, 0]);
        assert_eq!(dom0.call(Hypercall::SCHED_OP, &[6, ARG]), 0);
    }
    // And what is written goes to both.
    dom0.put(9 * PAGE_SIZE, &[0xffu8; 16]);
    let at = ARG + PAGE_SIZE - 5;
    assert_eq!(dom0.call(Hypercall::XEN_VERSION, &[1, at]), 0);
    let mut text = dom0.bytes(at, 5);
    text.extend(dom0.bytes(9 * PAGE_SIZE, 11));
    assert!(text.starts_with(b".0-oxen-"), "{text:?}");
    world.end([dom0]);
}

#[test]
fn upper_halves_of_32_bit_arguments_mean_nothing() {
    const HIGH: u64 = 0xdead_beef << 32;
    let world = World::new();
    let dom0 = world.guest(0);
    assert_eq!(dom0.call(Hypercall::XEN_VERSION, &[HIGH]), 4 << 16 | 17);
    #[cfg(feature = "vm_assist")]
    assert_eq!(dom0.call(Hypercall::VM_ASSIST, &[HIGH, HIGH | 5]), 0);
    assert_eq!(dom0.call(Hypercall::VCPU_OP, &[HIGH | 3, HIGH | 1]), 0);
    assert_eq!(dom0.call(Hypercall::CONSOLE_IO, &[HIGH, HIGH | 3, ARG]), 0);
    #[cfg(feature = "multicall")]
    assert_eq!(dom0.call(Hypercall::MULTICALL, &[ARG, HIGH]), 0);
    dom0.put(
        ARG,
        &Shutdown {
            reason: xen_abi::sched::ShutdownReason(1),
        },
    );
    assert_eq!(dom0.call(Hypercall::SCHED_OP, &[HIGH | 5, ARG]), 0);
    dom0.put(
        ARG,
        &xen_abi::grant_table::GetVersion {
            dom: 0,
            pad: 0,
            version: 0,
        },
    );
    assert_eq!(
        dom0.call(Hypercall::GRANT_TABLE_OP, &[HIGH | 10, ARG, HIGH | 1]),
        0
    );
    world.end([dom0]);
}
