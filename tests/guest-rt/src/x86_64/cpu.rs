//! Single instructions: identification, model-specific and control registers, ports.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};

use super::exceptions::may_fault;

/// Bits of RFLAGS.
pub mod flags {
    /// Carry.
    pub const CARRY: u64 = 1;
    /// Always set.
    pub const ALWAYS: u64 = 1 << 1;
    /// Zero.
    pub const ZERO: u64 = 1 << 6;
    /// Trap behind each instruction.
    pub const TRAP: u64 = 1 << 8;
    /// Interrupts are let in.
    pub const INTERRUPTS: u64 = 1 << 9;
    /// String instructions go downwards.
    pub const DOWN: u64 = 1 << 10;
    /// No instruction breakpoint at the next instruction.
    pub const RESUME: u64 = 1 << 16;
    /// Accesses are checked for alignment at privilege level 3.
    pub const ALIGNMENT: u64 = 1 << 18;
}

/// A leaf of CPUID.
pub fn cpuid(leaf: u32, sub: u32) -> CpuidResult {
    __cpuid_count(leaf, sub)
}

/// Leaf `n` of the hypervisor's, which begin at 0x40000000 or a little further up.
///
/// # Panics
/// If there is no hypervisor of Xen's kind.
pub fn hypervisor_leaf(n: u32, sub: u32) -> CpuidResult {
    cpuid(hypervisor_base() + n, sub)
}

/// The first leaf of the hypervisor's.
///
/// # Panics
/// If there is no hypervisor of Xen's kind.
pub fn hypervisor_base() -> u32 {
    use xen_abi::arch_x86::{
        CPUID_FIRST_LEAF, CPUID_SIGNATURE_EBX, CPUID_SIGNATURE_ECX, CPUID_SIGNATURE_EDX,
    };
    let signature = |leaf: &u32| {
        let found = cpuid(*leaf, 0);
        [found.ebx, found.ecx, found.edx]
            == [
                CPUID_SIGNATURE_EBX,
                CPUID_SIGNATURE_ECX,
                CPUID_SIGNATURE_EDX,
            ]
    };
    (CPUID_FIRST_LEAF..CPUID_FIRST_LEAF + 0x1_0000)
        .step_by(0x100)
        .find(signature)
        .expect("a hypervisor of Xen's kind")
}

/// The identifier of the calling vCPU's APIC, as far as it fits into eight bits.
pub fn apic_id() -> u8 {
    (cpuid(1, 0).ebx >> 24) as u8
}

/// Reads a model-specific register; 0 after an exception.
pub fn read_msr(number: u32) -> u64 {
    let (mut low, mut high) = (0u32, 0u32);
    // SAFETY: at worst an exception, which the kernel expects.
    unsafe {
        asm!(may_fault!("rdmsr"), in("ecx") number, inout("eax") low, inout("edx") high,
            options(nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
pub fn write_msr(number: u32, value: u64) {
    // SAFETY: at worst an exception, which the kernel expects; the kernels know what they do to their own vCPU.
    unsafe {
        asm!(may_fault!("wrmsr"), in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags))
    };
}

macro_rules! port {
    ($read:ident, $write:ident, $type:ty, $register:tt, $what:literal, $in:literal, $out:literal) => {
        #[doc = concat!("Reads ", $what, " from a port; 0 after an exception.")]
        pub fn $read(port: u16) -> $type {
            let mut value: $type = 0;
            // SAFETY: the kernels know what is behind the ports they use.
            unsafe {
                asm!(may_fault!($in), in("dx") port, inout($register) value,
                    options(nostack, preserves_flags))
            };
            value
        }

        #[doc = concat!("Writes ", $what, " to a port.")]
        pub fn $write(port: u16, value: $type) {
            // SAFETY: as for reading.
            unsafe {
                asm!(may_fault!($out), in("dx") port, in($register) value,
                    options(nostack, preserves_flags))
            };
        }
    };
}

port!(in8, out8, u8, "al", "a byte", "in al, dx", "out dx, al");
port!(
    in16,
    out16,
    u16,
    "ax",
    "two bytes",
    "in ax, dx",
    "out dx, ax"
);
port!(
    in32,
    out32,
    u32,
    "eax",
    "four bytes",
    "in eax, dx",
    "out dx, eax"
);

macro_rules! control {
    ($read:ident, $write:ident, $name:literal) => {
        #[doc = concat!("Reads ", $name, "; 0 after an exception.")]
        pub fn $read() -> u64 {
            let mut value = 0u64;
            // SAFETY: reading it has no effect.
            unsafe {
                asm!(may_fault!(concat!("mov {value}, ", $name)), value = inout(reg) value,
                    options(nostack, preserves_flags))
            };
            value
        }

        #[doc = concat!("Writes ", $name, ".")]
        pub fn $write(value: u64) {
            // SAFETY: the kernels know what they do to their own vCPU.
            unsafe {
                asm!(may_fault!(concat!("mov ", $name, ", {value}")), value = in(reg) value,
                    options(nostack, preserves_flags))
            };
        }
    };
}

control!(cr0, set_cr0, "cr0");
control!(cr2, set_cr2, "cr2");
control!(cr3, set_cr3, "cr3");
control!(cr4, set_cr4, "cr4");
control!(cr8, set_cr8, "cr8");
control!(dr6, set_dr6, "dr6");
control!(dr7, set_dr7, "dr7");
control!(dr0, set_dr0, "dr0");

/// RFLAGS.
pub fn rflags() -> u64 {
    let value: u64;
    // SAFETY: pushes and pops one word.
    unsafe { asm!("pushfq", "pop {}", out(reg) value) };
    value
}

/// Waits for an interrupt that is let in.
pub fn halt() {
    // SAFETY: no effect on memory.
    unsafe { asm!("hlt", options(nostack)) };
}
