//! What is different on x86-64.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::{Registers, attempt, catch, cpu, faults, paging, peek, poke};
use guest_rt::tests::Tests;
use xen_abi::memory::MemoryOp;
use xen_abi::physdev::PhysdevOp;
use xen_abi::vcpu::VcpuOp;
use xen_abi::xen::Hypercall;

/// Not this kernel's memory, nor anything it needs.
pub(crate) const ELSEWHERE: u64 = 0x30_0000;

/// Addresses of this kernel's own that lead nowhere, and physical ones.
pub(crate) fn wrong_addresses(t: &mut Tests) {
    /// Neither in the identity map nor in the window.
    const NOWHERE: u64 = 0x70_0000_0000;
    const NOT_CANONICAL: u64 = 0x1234_5678_0000_0000;
    const PAGE_FAULT: u8 = 14;
    const PROTECTION: u8 = 13;
    let vector = |f: &dyn Fn()| catch(f).map(|trap| trap.vector);
    for (address, expected) in [(NOWHERE, PAGE_FAULT), (NOT_CANONICAL, PROTECTION)] {
        let load = vector(&|| _ = peek(address));
        t.expect("a load from nowhere", load, Some(expected));
        let store = vector(&|| poke(address, 1));
        t.expect("a store to nowhere", store, Some(expected));
        let jump = attempt(address, &mut Registers::default());
        let jump = jump.map(|trap| trap.vector);
        t.expect("a jump to nowhere", jump, Some(expected));
    }
    physical(t);
    t.check("all goes on", !faults(|| ()));
}

/// Mapped, but to physical addresses with nothing behind them: beyond all memory, and beyond what the CPU can address.
fn physical(t: &mut Tests) {
    const ALL: u64 = paging::bits::PRESENT | paging::bits::WRITABLE;
    const SIZES: u32 = 0x8000_0008;
    const VALUE: u32 = 0x1234_5678;
    let beyond = paging::map(0, 0x70_0000_0000, ALL);
    let mut found = 0;
    let fault = faults(|| {
        poke(beyond, VALUE);
        found = peek(beyond);
    });
    t.check("a bus without an answer", !fault && found != VALUE);
    let bits = cpu::cpuid(SIZES, 0).eax & 0xff;
    if bits < 52 {
        const RESERVED: u64 = 1 << 3;
        let too_far = paging::map(1, 1 << bits, ALL);
        let trap = catch(|| _ = peek(too_far));
        let found = trap.map(|trap| (trap.vector, trap.error & RESERVED));
        t.expect("a reserved bit of an entry", found, Some((14, RESERVED)));
    }
    paging::map(0, 0, 0);
    paging::map(1, 0, 0);
}

/// Keeps a hypercall from ending the test rightly: vCPUs are not turned off, and nobody sends interrupts that cannot be
/// masked, and memory is not taken in addition. And Xen 4.20 itself does not survive the reset of a PCI device that it does not know.
pub(crate) fn tame(number: u64, args: &mut [u64; 5]) {
    let op = args[0] as u32;
    if number == Hypercall::MEMORY_OP.0 && op & 63 == MemoryOp::INCREASE_RESERVATION.0 {
        args[0] = MemoryOp::MAXIMUM_GPFN.0.into();
    }
    let of_devices = PhysdevOp::PCI_DEVICE_ADD.0..=PhysdevOp::PCI_DEVICE_RESET.0;
    if number == Hypercall::PHYSDEV_OP.0 && of_devices.contains(&op) && !is_oxen() {
        args[0] = PhysdevOp::EOI.0.into();
    }
    if number == Hypercall::VCPU_OP.0 && (op == VcpuOp::DOWN.0 || op == VcpuOp::SEND_NMI.0) {
        args[0] = VcpuOp::IS_UP.0.into();
    }
}
