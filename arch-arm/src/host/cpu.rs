//! Set-up of a CPU for running Oxen at EL2, and the few instructions that have no better place.
#![expect(unsafe_code, reason = "EL2 system registers")]

use aarch64_cpu::registers::{
    CNTHCTL_EL2, CNTVOFF_EL2, DAIF, HCR_EL2, ID_AA64MMFR0_EL1, MDCR_EL2, MIDR_EL1, MPIDR_EL1,
    VTTBR_EL2,
};
use core::arch::asm;
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};

/// CPTR_EL2 without VHE: its RES1 bits, nothing trapped.
const CPTR_EL2_NO_TRAPS: u64 = 0x33ff;

/// Puts the EL2 registers whose reset values are unknown into a harmless state: guests' FP, debug and timer accesses
/// not trapped, no stage 2, interrupts and system errors routed to EL2. Guest entry sets what it needs.
pub fn init() {
    // Without the three routing bits, interrupts and system errors would be held back while EL2 runs.
    HCR_EL2.write(
        HCR_EL2::RW::EL1IsAarch64 + HCR_EL2::IMO::SET + HCR_EL2::FMO::SET + HCR_EL2::AMO::SET,
    );
    VTTBR_EL2.set(0);
    CNTHCTL_EL2.write(CNTHCTL_EL2::EL1PCTEN::SET + CNTHCTL_EL2::EL1PCEN::SET);
    CNTVOFF_EL2.set(0);
    // HPMN (the number of event counters guests get) must not be 0 where that is not supported: all of them.
    let counters: u64;
    // SAFETY: PMCR_EL0 is readable wherever a PMUv3 is, which ID_AA64DFR0_EL1.PMUVer says; other fields stay.
    unsafe {
        let dfr0: u64;
        asm!("mrs {}, id_aa64dfr0_el1", out(reg) dfr0, options(nomem, nostack, preserves_flags));
        counters = if matches!(dfr0 >> 8 & 0xf, 0 | 0xf) {
            0
        } else {
            let pmcr: u64;
            asm!("mrs {}, pmcr_el0", out(reg) pmcr, options(nomem, nostack, preserves_flags));
            pmcr >> 11 & 0x1f
        };
    }
    MDCR_EL2.set(counters);
    // SAFETY: these registers only say which guest accesses trap, and no guest runs yet.
    unsafe {
        asm!("msr cptr_el2, {}", "msr hstr_el2, xzr", "isb",
            in(reg) CPTR_EL2_NO_TRAPS, options(nomem, nostack, preserves_flags));
    }
}

/// Lets SErrors be taken at EL2: one that Oxen caused is reported where it happened. Interrupts stay masked.
pub fn unmask_serror() {
    DAIF.modify(DAIF::A::Unmasked);
}

/// MIDR_EL1 of this CPU.
pub fn midr() -> u64 {
    MIDR_EL1.get()
}

/// Affinity of this CPU (MPIDR_EL1 under [`super::percpu::MPIDR_AFFINITY`]).
pub fn mpidr() -> u64 {
    MPIDR_EL1.get() & super::percpu::MPIDR_AFFINITY
}

/// Bits of a physical address that this CPU can make.
pub fn physical_address_bits() -> u32 {
    match ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange) {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        5 => 48,
        _ => 52,
    }
}

/// Whether a physical interrupt is pending for this CPU (ISR_EL1, Arm ARM D24.2.80).
pub fn interrupt_pending() -> bool {
    const IRQ: u64 = 1 << 7;
    const FIQ: u64 = 1 << 6;
    let isr: u64;
    // SAFETY: reading the register has no effect.
    unsafe {
        core::arch::asm!("mrs {}, isr_el1", out(reg) isr, options(nomem, nostack, preserves_flags))
    };
    isr & (IRQ | FIQ) != 0
}

/// Sleeps until an interrupt is pending, masked or not.
pub fn wait_for_interrupt() {
    aarch64_cpu::asm::wfi();
}

/// Stops this CPU for ever.
pub fn stop() -> ! {
    super::timer::set_deadline(None);
    loop {
        aarch64_cpu::asm::wfi();
    }
}

/// What a CPU's MIDR_EL1 says: implementer and part in words where they are well known.
pub fn describe(midr: u64) -> (&'static str, u64) {
    let part = midr >> 4 & 0xfff;
    let name = match (midr >> 24 & 0xff, part) {
        (0x41, 0xd03) => "Arm Cortex-A53",
        (0x41, 0xd05) => "Arm Cortex-A55",
        (0x41, 0xd07) => "Arm Cortex-A57",
        (0x41, 0xd08) => "Arm Cortex-A72",
        (0x41, 0xd0b) => "Arm Cortex-A76",
        (0x41, 0xd0c) => "Arm Neoverse-N1",
        (0x41, 0xd40) => "Arm Neoverse-V1",
        (0x41, 0xd49) => "Arm Neoverse-N2",
        (0x41, 0xd4f) => "Arm Neoverse-V2",
        (0x41, _) => "Arm",
        (0x00, 0x051) => "QEMU max",
        (0xc0, _) => "Ampere",
        (0x51, _) => "Qualcomm",
        (0x4e, _) => "NVIDIA",
        (0x46, _) => "Fujitsu",
        (0x48, _) => "HiSilicon",
        _ => "CPU",
    };
    (name, part)
}
