//! Tests of the little logic there is; the numbers are held by `tests/headers.rs`.

use crate::grant_table::{GrantFlags, GrantType};
use crate::hvm_params::{CallbackIrq, CallbackType};
use crate::memory::{MemFlags, MemoryOp};
use crate::platform::{INTERFACE_VERSION, PlatformCmd, PlatformOp, SetTime64};
use crate::xen::{Hypercall, Virq, arm64, x86_64};
use crate::{Handle, features, version};

#[test]
fn unknown_values_stay_legal_and_have_no_name() {
    let odd = Hypercall(0xdead_beef);
    assert_eq!(odd.name(), None);
    assert_eq!(Hypercall::MEMORY_OP.name(), Some("__HYPERVISOR_memory_op"));
    assert_ne!(odd, Hypercall::MEMORY_OP);
}

#[test]
fn a_handle_never_wraps() {
    assert_eq!(Handle(0x1000).element(3, 8), Some(Handle(0x1018)));
    assert_eq!(Handle(u64::MAX - 7).element(1, 8), None);
    assert_eq!(Handle(0).element(u64::MAX, 2), None);
    assert!(Handle::NULL.is_null() && !Handle(1).is_null());
}

#[test]
fn a_memory_command_carries_its_start_extent() {
    let cmd = MemoryOp::POPULATE_PHYSMAP.continuation(1000).expect("fits");
    assert_eq!(cmd, 1000 << 6 | 6);
    assert_eq!(MemoryOp::decode(cmd), (MemoryOp::POPULATE_PHYSMAP, 1000));
    assert_eq!(MemoryOp::POPULATE_PHYSMAP.continuation(u64::MAX), None);
    let largest = u64::MAX >> 6;
    let cmd = MemoryOp::EXCHANGE.continuation(largest).expect("fits");
    assert_eq!(MemoryOp::decode(cmd), (MemoryOp::EXCHANGE, largest));
}

#[test]
fn mem_flags_hold_a_width_and_a_node() {
    let flags = MemFlags::from_bits_retain(0x0003_0220);
    assert_eq!(flags.address_bits(), 32);
    assert_eq!(flags.node(), Some(1));
    assert!(flags.contains(MemFlags::POPULATE_ON_DEMAND | MemFlags::EXACT_NODE_REQUEST));
    assert!(!flags.contains(MemFlags::VNODE));
    assert_eq!(MemFlags::empty().node(), None);
    assert_eq!(MemFlags::from_bits_retain(0xff00).node(), Some(254));
}

#[test]
fn grant_flags_split_into_type_and_flags() {
    let flags = GrantFlags::READONLY.with_kind(GrantType::PERMIT_ACCESS);
    assert_eq!(flags.bits(), 0b101);
    assert_eq!(flags.kind(), GrantType::PERMIT_ACCESS);
    assert_eq!(
        flags.with_kind(GrantType::INVALID).kind(),
        GrantType::INVALID
    );
    assert_eq!(flags.with_kind(GrantType(0xffff)).bits(), 0b111);
}

#[test]
fn callback_values_are_the_ones_guests_write() {
    // What Linux writes on x86, and what toolstacks write for a domain whose event interrupt is PPI 31.
    assert_eq!(CallbackIrq::vector(0xf3).0, 0x0200_0000_0000_00f3);
    let ppi = CallbackIrq::ppi(31);
    assert_eq!(ppi.0, 0x0200_0000_0000_021f);
    assert_eq!(
        (ppi.kind(), ppi.number(), ppi.ppi_flags()),
        (CallbackType::PPI, 31, 2)
    );
    assert_eq!(CallbackIrq(28).kind(), CallbackType::GSI);
    assert_eq!(CallbackIrq(0x0100_0000_0000_1234).gsi(), 0x1234);
}

#[test]
fn a_platform_argument_is_bounded_by_the_envelope() {
    let time = SetTime64 {
        secs: 1,
        nsecs: 2,
        mbz: 0,
        system_time: 3,
    };
    let mut op = PlatformOp::new(PlatformCmd::SETTIME64, &time).expect("24 bytes fit");
    assert_eq!(op.interface_version, INTERFACE_VERSION);
    assert_eq!(op.payload::<SetTime64>(), Some(time));
    assert_eq!(op.payload::<[u8; 129]>(), None);
    let before = op;
    assert_eq!(op.set_payload(&[0xffu8; 129]), None);
    assert_eq!(op, before);
    assert!(op.set_payload(&[0xffu8; 128]).is_some());
    assert_eq!(op.u, [u64::MAX; 16]);
}

#[test]
fn vcpu_infos_are_found_up_to_the_end_of_the_array() {
    assert_eq!(arm64::SHARED_INFO.vcpu_info(0), Some(0));
    assert_eq!(arm64::SHARED_INFO.vcpu_info(1), None);
    assert_eq!(x86_64::SHARED_INFO.vcpu_info(31), Some(31 * 64));
    assert_eq!(x86_64::SHARED_INFO.vcpu_info(32), None);
    assert_eq!(x86_64::SHARED_INFO.vcpu_info(u32::MAX), None);
}

#[test]
fn features_are_bits_of_submap_0() {
    assert_eq!(features::Features::DOM0.bits(), 1 << 11);
    assert_eq!(features::Feature(32).mask(), 0);
    assert_eq!(features::Features::all().bits(), (1 << 21) - 1);
    assert_eq!(
        features::Features::all().iter().count(),
        features::Feature::NAMED.len()
    );
}

#[test]
fn the_version_is_two_halves() {
    assert_eq!(version::version(4, 17), 0x0004_0011);
}

#[test]
fn timer_and_debug_interrupts_belong_to_a_vcpu() {
    let global: u32 = (0..24)
        .filter(|v| Virq(*v).is_global())
        .map(|v| 1 << v)
        .sum();
    assert_eq!(global, 0b0001_1111_0101_1100);
}
