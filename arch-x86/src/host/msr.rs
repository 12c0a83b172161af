//! Model-specific registers, with and without the risk that there is no such register.
#![expect(unsafe_code, reason = "reads and writes model-specific registers")]

use x86_64::registers::model_specific::Msr;

/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_MISC_ENABLE (Intel).
pub const MISC_ENABLE: u32 = 0x1a0;
/// IA32_MCG_CAP: number of machine-check banks.
pub const MCG_CAP: u32 = 0x179;
/// IA32_MCG_STATUS.
pub const MCG_STATUS: u32 = 0x17a;
/// IA32_MCG_CTL.
pub const MCG_CTL: u32 = 0x17b;
/// IA32_PAT.
pub const PAT: u32 = 0x277;
/// IA32_MC0_CTL; the four registers of a bank follow each other.
pub const MC0_CTL: u32 = 0x400;
/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// First register of the local APIC in x2APIC mode.
pub const X2APIC_BASE: u32 = 0x800;
/// IA32_GS_BASE.
pub const GS_BASE: u32 = 0xc000_0101;

/// Reads a register that the CPU is known to have. Another one is a fatal exception.
#[inline]
pub fn read(msr: u32) -> u64 {
    // SAFETY: reading changes nothing; a register that is not there ends in the fatal report.
    unsafe { Msr::new(msr).read() }
}

/// Writes a register that the CPU is known to have.
///
/// # Safety
/// The value must be one with which Oxen goes on: it can change how the CPU works altogether.
#[inline]
pub unsafe fn write(msr: u32, value: u64) {
    // SAFETY: by the caller's word.
    unsafe { Msr::new(msr).write(value) }
}

/// Reads a register that may not exist: `None` then.
#[cfg(target_os = "none")]
pub fn read_safe(msr: u32) -> Option<u64> {
    let (low, high): (u32, u32);
    let failed: u32;
    // SAFETY: a general protection fault at label 2 continues at label 3 (`super::exceptions::FIXUPS`).
    unsafe {
        core::arch::asm!(
            "xor {failed:e}, {failed:e}",
            "2: rdmsr",
            "jmp 4f",
            "3: mov {failed:e}, 1",
            "xor eax, eax",
            "xor edx, edx",
            "4:",
            ".pushsection .oxen_fixups, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            failed = out(reg) failed,
            in("ecx") msr,
            out("eax") low,
            out("edx") high,
            options(nostack),
        );
    }
    (failed == 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// Writes a register that may not exist or may not take the value; says whether it did.
///
/// # Safety
/// As for [`write()`].
#[cfg(target_os = "none")]
pub unsafe fn write_safe(msr: u32, value: u64) -> bool {
    let failed: u32;
    // SAFETY: as in `read_safe`; what the value does is the caller's word.
    unsafe {
        core::arch::asm!(
            "xor {failed:e}, {failed:e}",
            "2: wrmsr",
            "jmp 4f",
            "3: mov {failed:e}, 1",
            "4:",
            ".pushsection .oxen_fixups, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            failed = out(reg) failed,
            in("ecx") msr,
            in("eax") value as u32,
            in("edx") (value >> 32) as u32,
            options(nostack),
        );
    }
    failed == 0
}

/// On a host that runs tests there are no registers to reach.
#[cfg(not(target_os = "none"))]
pub fn read_safe(_msr: u32) -> Option<u64> {
    None
}

/// On a host that runs tests there are no registers to reach.
///
/// # Safety
/// None is needed.
#[cfg(not(target_os = "none"))]
pub unsafe fn write_safe(_msr: u32, _value: u64) -> bool {
    false
}
