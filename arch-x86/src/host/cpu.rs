//! What the CPU can, and the control bits that Oxen sets on each.
#![expect(unsafe_code, reason = "control registers")]

use core::arch::x86_64::__cpuid_count;

use spin::Once;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use xen_core::{Error, Result};

use super::{calibrate, msr, pte};
use crate::select::CpuidResult;

/// Features of the CPU that Oxen itself uses. All CPUs have those of the boot CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    /// Local APIC.
    pub apic: bool,
    /// x2APIC mode of it.
    pub x2apic: bool,
    /// Its timer takes deadlines.
    pub tsc_deadline: bool,
    /// The time-stamp counter has one speed always.
    pub invariant_tsc: bool,
    /// Pages that are not executable.
    pub nx: bool,
    /// Pages of 1 GiB.
    pub huge_pages: bool,
    /// Supervisor code cannot execute user pages.
    pub smep: bool,
    /// Supervisor code cannot access user pages by accident.
    pub smap: bool,
    /// User code cannot read descriptor-table registers.
    pub umip: bool,
    /// Extended state and its instructions.
    pub xsave: bool,
    /// Machine-check exceptions and banks.
    pub mca: bool,
    /// Global pages.
    pub pge: bool,
    /// Oxen runs under another hypervisor.
    pub hypervisor: bool,
    /// Number of bits of physical addresses.
    pub physical_bits: u8,
}

static FEATURES: Once<Features> = Once::new();

/// A CPUID leaf; zeros for one beyond the highest of its range.
pub fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    let raw = |leaf, subleaf| {
        let result = __cpuid_count(leaf, subleaf);
        CpuidResult {
            eax: result.eax,
            ebx: result.ebx,
            ecx: result.ecx,
            edx: result.edx,
        }
    };
    // Leaves of a hypervisor have no number of their own for the highest when there is no hypervisor.
    let range = leaf & 0xffff_0000;
    let exists = match range {
        0x4000_0000 => raw(1, 0).ecx >> 31 != 0 && leaf <= raw(0x4000_0000, 0).eax,
        _ => {
            let highest = raw(range, 0).eax;
            highest & 0xffff_0000 == range && leaf <= highest
        }
    };
    if exists {
        raw(leaf, subleaf)
    } else {
        CpuidResult::default()
    }
}

fn read_features() -> Features {
    let bit = |register: u32, n: u32| register >> n & 1 != 0;
    let basic = cpuid(1, 0);
    let structured = cpuid(7, 0);
    let extended = cpuid(0x8000_0001, 0);
    Features {
        apic: bit(basic.edx, 9),
        x2apic: bit(basic.ecx, 21),
        tsc_deadline: bit(basic.ecx, 24),
        invariant_tsc: bit(cpuid(0x8000_0007, 0).edx, 8),
        nx: bit(extended.edx, 20),
        huge_pages: bit(extended.edx, 26),
        smep: bit(structured.ebx, 7),
        smap: bit(structured.ebx, 20),
        umip: bit(structured.ecx, 2),
        xsave: bit(basic.ecx, 26),
        mca: bit(basic.edx, 7) && bit(basic.edx, 14),
        pge: bit(basic.edx, 13),
        hypervisor: bit(basic.ecx, 31),
        physical_bits: match cpuid(0x8000_0008, 0).eax as u8 {
            0 => 36,
            bits => bits.min(52),
        },
    }
}

/// The features of the boot CPU.
pub fn features() -> &'static Features {
    FEATURES.call_once(read_features)
}

/// The bits that physical addresses may have.
pub fn physical_address_mask() -> u64 {
    (1 << features().physical_bits) - 1
}

/// Sets this CPU's control registers: write protection, no-execute, SMEP, SMAP, UMIP, memory types, machine checks. The
/// first thing that a CPU does, before tables with no-execute bits are used.
///
/// # Errors
/// [`Error::NoDev`] for a CPU that cannot what Oxen needs.
pub fn init() -> Result<()> {
    // Firmware of some Intel machines turns no-execute off; this bit turns it on again.
    const XD_DISABLE: u64 = 1 << 34;
    if __cpuid_count(0, 0).ebx == u32::from_le_bytes(*b"Genu")
        && let Some(enable) = msr::read_safe(msr::MISC_ENABLE)
        && enable & XD_DISABLE != 0
    {
        // SAFETY: only allows what Oxen is about to use.
        unsafe { msr::write(msr::MISC_ENABLE, enable & !XD_DISABLE) };
    }
    let features = features();
    if !features.nx || !features.apic {
        return Err(Error::NoDev);
    }
    let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION;
    cr4.set(Cr4Flags::PAGE_GLOBAL, features.pge);
    cr4.set(
        Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        features.smep,
    );
    cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.smap);
    cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.umip);
    cr4.set(Cr4Flags::OSXSAVE, features.xsave);
    cr4.set(Cr4Flags::MACHINE_CHECK_EXCEPTION, features.mca);
    // Guests' floating-point state is saved and loaded with FXSAVE or XSAVE.
    cr4 |= Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
    let cr0 = Cr0Flags::PAGING
        | Cr0Flags::PROTECTED_MODE_ENABLE
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::MONITOR_COPROCESSOR;
    // SAFETY: no mapping of Oxen's is for user mode, none is writable and executable once the final tables are in use,
    // and the memory types of all entries in use so far stay what they were.
    unsafe {
        Efer::update(|efer| *efer |= EferFlags::NO_EXECUTE_ENABLE);
        Cr4::write_raw(cr4.bits());
        Cr0::write_raw(cr0.bits());
        msr::write(msr::PAT, pte::PAT_VALUE);
    }
    if features.mca {
        init_machine_checks();
    }
    Ok(())
}

/// Lets all banks report errors, and says what the firmware left in them.
fn init_machine_checks() {
    for error in machine_checks() {
        log::warn!(
            "Machine check from before, bank {}: status {:#018x}",
            error.bank,
            error.status
        );
    }
    let capabilities = msr::read(msr::MCG_CAP);
    let banks = capabilities as u32 & 0xff;
    for bank in 0..banks {
        let first = msr::MC0_CTL + 4 * bank;
        // SAFETY: reporting errors of the hardware is what the banks are for; old CPUs do not have all registers.
        unsafe {
            msr::write_safe(first + 1, 0);
            msr::write_safe(first, u64::MAX);
        }
    }
    if capabilities & 1 << 8 != 0 {
        // SAFETY: as above.
        unsafe { msr::write_safe(msr::MCG_CTL, u64::MAX) };
    }
}

/// An error that a machine-check bank reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineCheck {
    /// Number of the bank.
    pub bank: u32,
    /// Its status register, with the highest bit set.
    pub status: u64,
    /// The address that the error is about, if the status has one.
    pub address: Option<u64>,
}

/// The errors that this CPU's machine-check banks report now; they stay there.
pub fn machine_checks() -> impl Iterator<Item = MachineCheck> {
    const VALID: u64 = 1 << 63;
    const ADDRESS_VALID: u64 = 1 << 58;
    let banks = if features().mca {
        msr::read(msr::MCG_CAP) as u32 & 0xff
    } else {
        0
    };
    (0..banks).filter_map(|bank| {
        let first = msr::MC0_CTL + 4 * bank;
        let status = msr::read_safe(first + 1).filter(|s| s & VALID != 0)?;
        let address = (status & ADDRESS_VALID != 0).then(|| msr::read_safe(first + 2));
        Some(MachineCheck {
            bank,
            status,
            address: address.flatten(),
        })
    })
}

/// The frequency that the CPU, or a hypervisor below, says the time-stamp counter has.
pub fn announced_tsc_frequency() -> Option<u64> {
    let crystal = cpuid(0x15, 0);
    let hypervisor = cpuid(0x4000_0010, 0);
    calibrate::announced([crystal.eax, crystal.ebx, crystal.ecx], hypervisor.eax)
}

/// The CPU's name, as it calls itself; empty if it has none.
pub fn brand() -> arrayvec::ArrayString<48> {
    let mut name = arrayvec::ArrayString::new();
    for leaf in 0x8000_0002..=0x8000_0004 {
        let r = cpuid(leaf, 0);
        for word in [r.eax, r.ebx, r.ecx, r.edx] {
            for byte in word.to_le_bytes() {
                let leading = name.is_empty() && byte == b' ';
                if matches!(byte, b' '..=b'~') && !leading {
                    let _ = name.try_push(byte.into());
                }
            }
        }
    }
    name
}

/// Stops this CPU for ever; only a non-maskable interrupt wakes it, and is ignored.
pub fn stop() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
