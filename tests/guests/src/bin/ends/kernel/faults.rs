//! A vCPU that cannot go on.
#![expect(unsafe_code, reason = "what a kernel must not do")]

use core::arch::asm;

use guest_rt::machine::{self as m, cpu, lapic};
use guest_rt::tests::Tests;

/// Where nothing is mapped.
const NOWHERE: u64 = 0x70_0000_0000;
/// Registers of the local APIC, in memory.
const APIC: u64 = 0xfee0_0000;

/// No table of gates at all: the exception of the exception's exception.
pub(crate) fn triple(_: &mut Tests) {
    m::load_idt(Some((0, 0)));
    // SAFETY: ends here.
    unsafe { asm!("ud2", options(noreturn)) }
}

/// Gates whose handlers cannot push anything, on any stack.
pub(crate) fn no_stack(_: &mut Tests) {
    for vector in 0..32 {
        m::set_gate(vector, m::default_gate(vector), 0, 0);
    }
    // SAFETY: ends here.
    unsafe {
        asm!("mov rsp, {}", "push rax", "2:", "jmp 2b", in(reg) NOWHERE, options(noreturn));
    }
}

/// A table of gates that is not mapped.
pub(crate) fn no_gates(_: &mut Tests) {
    m::load_idt(Some((NOWHERE, 0xfff)));
    // SAFETY: ends here.
    unsafe { asm!("int3", "ud2", options(noreturn)) }
}

/// Waits for an interrupt that cannot come.
pub(crate) fn halt(_: &mut Tests) {
    m::mask();
    cpu::halt();
}

/// Waits for interrupts without the APIC that they come through.
pub(crate) fn no_apic(_: &mut Tests) {
    let base = lapic::read_base();
    lapic::set_base(base & !(lapic::base::ENABLED | lapic::base::X2APIC));
    loop {
        m::wait();
    }
}

/// Executes a device's registers. A hypervisor need not be able to.
pub(crate) fn jump_to_device(_: &mut Tests) {
    let base = lapic::read_base();
    lapic::set_base(base & !(lapic::base::ENABLED | lapic::base::X2APIC));
    lapic::set_base(base & !lapic::base::X2APIC | lapic::base::ENABLED);
    // Nobody handles what comes of it.
    m::load_idt(Some((0, 0)));
    // SAFETY: ends here.
    unsafe { asm!("jmp {}", in(reg) APIC, options(noreturn)) }
}

fn walk(tables: u64) {
    cpu::set_cr3(tables);
    // SAFETY: there is no next instruction.
    unsafe { asm!("2:", "jmp 2b", options(noreturn)) }
}

/// Page tables that are a device's registers.
pub(crate) fn tables_in_device(_: &mut Tests) {
    let base = lapic::read_base();
    lapic::set_base(base & !(lapic::base::ENABLED | lapic::base::X2APIC));
    lapic::set_base(base & !lapic::base::X2APIC | lapic::base::ENABLED);
    walk(APIC);
}

/// Page tables where there is no memory.
pub(crate) fn tables_nowhere(_: &mut Tests) {
    walk(m::FREE_GFN << 12);
}
