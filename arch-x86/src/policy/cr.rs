//! Which values control and debug registers take, and what else changes with them (Intel SDM volume 3, 2.5 and 4.1; AMD APM volume 2,
//! 3.1 and 14.4 to 14.7).
//!
//! All are functions from the old state and a value to the new state or an exception.

use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};

use super::cpuid::CpuidPolicy;
use super::feature::Feature;
use crate::backend::GuestState;
use crate::emulate::exception::Exception;

/// EFER: automatic IBRS (AMD APM volume 2, 3.1.7).
const EFER_AUTOMATIC_IBRS: EferFlags = EferFlags::from_bits_retain(1 << 21);
/// CR3: with CR4.PCIDE, do not forget translations. It is not stored.
const CR3_NO_FLUSH: u64 = 1 << 63;
/// CR3: the process-context identifier.
const CR3_PCID: u64 = 0xfff;
/// Attribute of a code segment: 64-bit, as in [`crate::backend::Segment::attributes`].
const CODE_LONG: u16 = 1 << 9;

/// The control registers that depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// CR0.
    pub cr0: Cr0Flags,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: Cr4Flags,
    /// EFER.
    pub efer: EferFlags,
    /// CS.L: code runs, or would run in long mode, in 64-bit mode.
    pub code_is_long: bool,
}

/// What a write makes of the control registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The new values.
    pub control: Control,
    /// The page-directory-pointer entries that CR3 now points to are to be read; if one has reserved bits
    /// ([`crate::emulate::walk::pdpte_is_legal`]), the write is a #GP(0) instead.
    pub load_pdptes: bool,
    /// The guest's cached translations are to be forgotten.
    pub flush: bool,
}

impl Control {
    /// Of these registers.
    pub const fn of(state: &GuestState) -> Self {
        Self {
            cr0: Cr0Flags::from_bits_retain(state.cr0),
            cr3: state.cr3,
            cr4: Cr4Flags::from_bits_retain(state.cr4),
            efer: EferFlags::from_bits_retain(state.efer),
            code_is_long: state.cs.attributes & CODE_LONG != 0,
        }
    }

    /// Writes them back.
    pub const fn apply(&self, state: &mut GuestState) {
        state.cr0 = self.cr0.bits();
        state.cr3 = self.cr3;
        state.cr4 = self.cr4.bits();
        state.efer = self.efer.bits();
    }

    const fn paging(&self) -> bool {
        self.cr0.contains(Cr0Flags::PAGING)
    }
    const fn long(&self) -> bool {
        self.efer.contains(EferFlags::LONG_MODE_ACTIVE)
    }
    /// PAE paging outside long mode: the only mode with page-directory-pointer entries that are loaded.
    const fn has_pdptes(&self) -> bool {
        self.paging() && !self.long() && self.cr4.contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION)
    }

    /// MOV to CR0.
    ///
    /// Errors: #GP(0).
    pub fn write_cr0(&self, value: u64) -> Result<Change, Exception> {
        if value >> 32 != 0 {
            return Err(Exception::GP0);
        }
        // Reserved bits among the low ones are not stored; ET is always set.
        let new = Cr0Flags::from_bits_truncate(value) | Cr0Flags::EXTENSION_TYPE;
        let has = |flag| new.contains(flag);
        if (has(Cr0Flags::PAGING) && !has(Cr0Flags::PROTECTED_MODE_ENABLE))
            || (has(Cr0Flags::NOT_WRITE_THROUGH) && !has(Cr0Flags::CACHE_DISABLE))
        {
            return Err(Exception::GP0);
        }
        if !has(Cr0Flags::WRITE_PROTECT) && self.cr4.contains(Cr4Flags::CONTROL_FLOW_ENFORCEMENT) {
            return Err(Exception::GP0);
        }
        let mut control = Self { cr0: new, ..*self };
        if has(Cr0Flags::PAGING)
            && !self.paging()
            && self.efer.contains(EferFlags::LONG_MODE_ENABLE)
        {
            if !self.cr4.contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION) || self.code_is_long {
                return Err(Exception::GP0);
            }
            control.efer |= EferFlags::LONG_MODE_ACTIVE;
        }
        if !has(Cr0Flags::PAGING) && self.paging() {
            // The PCIDE check stands for itself: it can only be set in long mode.
            if (self.long() && self.code_is_long) || self.cr4.contains(Cr4Flags::PCID) {
                return Err(Exception::GP0);
            }
            control.efer -= EferFlags::LONG_MODE_ACTIVE;
        }
        let changed = new ^ self.cr0;
        let reloads = Cr0Flags::PAGING | Cr0Flags::CACHE_DISABLE | Cr0Flags::NOT_WRITE_THROUGH;
        let flushes = Cr0Flags::PAGING | Cr0Flags::WRITE_PROTECT | Cr0Flags::PROTECTED_MODE_ENABLE;
        Ok(Change {
            load_pdptes: control.has_pdptes() && changed.intersects(reloads),
            flush: changed.intersects(flushes),
            control,
        })
    }

    /// LMSW with this operand: only the low four bits count, and PE cannot be cleared.
    ///
    /// Errors: as [`Self::write_cr0`].
    pub fn load_machine_status(&self, value: u16) -> Result<Change, Exception> {
        let old = self.cr0.bits();
        let pe = Cr0Flags::PROTECTED_MODE_ENABLE.bits();
        self.write_cr0((old & !0xe) | (u64::from(value) & 0xf) | (old & pe))
    }

    /// CLTS.
    pub fn clear_task_switched(&self) -> Change {
        let mut control = *self;
        control.cr0 -= Cr0Flags::TASK_SWITCHED;
        Change {
            control,
            load_pdptes: false,
            flush: false,
        }
    }

    /// MOV to CR3.
    ///
    /// Errors: #GP(0).
    pub fn write_cr3(&self, value: u64, policy: &CpuidPolicy) -> Result<Change, Exception> {
        let tagged = self.cr4.contains(Cr4Flags::PCID);
        let keep = tagged && value & CR3_NO_FLUSH != 0;
        let value = if tagged { value & !CR3_NO_FLUSH } else { value };
        if self.long() && value >> policy.physical_bits() != 0 {
            return Err(Exception::GP0);
        }
        // Outside long mode the upper half does not take part.
        let cr3 = if self.long() {
            value
        } else {
            value & 0xffff_ffff
        };
        let control = Self { cr3, ..*self };
        Ok(Change {
            load_pdptes: control.has_pdptes(),
            flush: !keep,
            control,
        })
    }

    /// The bits of CR4 that a guest with this policy can set.
    pub fn cr4_bits(policy: &CpuidPolicy) -> Cr4Flags {
        let table = [
            (
                Cr4Flags::VIRTUAL_8086_MODE_EXTENSIONS
                    | Cr4Flags::PROTECTED_MODE_VIRTUAL_INTERRUPTS,
                Feature::Vme,
            ),
            (Cr4Flags::TIMESTAMP_DISABLE, Feature::Tsc),
            (Cr4Flags::DEBUGGING_EXTENSIONS, Feature::De),
            (Cr4Flags::PAGE_SIZE_EXTENSION, Feature::Pse),
            (Cr4Flags::PHYSICAL_ADDRESS_EXTENSION, Feature::Pae),
            (Cr4Flags::MACHINE_CHECK_EXCEPTION, Feature::Mce),
            (Cr4Flags::PAGE_GLOBAL, Feature::Pge),
            (Cr4Flags::OSFXSR, Feature::Fxsr),
            (Cr4Flags::OSXMMEXCPT_ENABLE, Feature::Sse),
            (Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, Feature::Umip),
            (Cr4Flags::L5_PAGING, Feature::La57),
            (Cr4Flags::FSGSBASE, Feature::Fsgsbase),
            (Cr4Flags::PCID, Feature::Pcid),
            (Cr4Flags::OSXSAVE, Feature::Xsave),
            (
                Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
                Feature::Smep,
            ),
            (Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, Feature::Smap),
            (Cr4Flags::PROTECTION_KEY_USER, Feature::Pku),
            (Cr4Flags::CONTROL_FLOW_ENFORCEMENT, Feature::CetSs),
            (Cr4Flags::CONTROL_FLOW_ENFORCEMENT, Feature::CetIbt),
        ];
        // PCE can be set on every CPU; without counters it has no effect.
        let mut bits = Cr4Flags::PERFORMANCE_MONITOR_COUNTER;
        for (flag, feature) in table {
            if policy.has(feature) {
                bits |= flag;
            }
        }
        bits
    }

    /// MOV to CR4.
    ///
    /// Errors: #GP(0).
    pub fn write_cr4(&self, value: u64, policy: &CpuidPolicy) -> Result<Change, Exception> {
        let new = Cr4Flags::from_bits_retain(value);
        if !Self::cr4_bits(policy).contains(new) {
            return Err(Exception::GP0);
        }
        let changed = new ^ self.cr4;
        let pae = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION;
        if self.long() && (!new.contains(pae) || changed.contains(Cr4Flags::L5_PAGING)) {
            return Err(Exception::GP0);
        }
        if changed.contains(Cr4Flags::PCID)
            && new.contains(Cr4Flags::PCID)
            && (!self.long() || self.cr3 & CR3_PCID != 0)
        {
            return Err(Exception::GP0);
        }
        if new.contains(Cr4Flags::CONTROL_FLOW_ENFORCEMENT)
            && !self.cr0.contains(Cr0Flags::WRITE_PROTECT)
        {
            return Err(Exception::GP0);
        }
        let control = Self { cr4: new, ..*self };
        let smep = Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION;
        let reloads = pae | Cr4Flags::PAGE_SIZE_EXTENSION | Cr4Flags::PAGE_GLOBAL | smep;
        let flushes = reloads
            | Cr4Flags::PCID
            | Cr4Flags::L5_PAGING
            | Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION
            | Cr4Flags::PROTECTION_KEY_USER;
        Ok(Change {
            load_pdptes: control.has_pdptes() && changed.intersects(reloads),
            flush: changed.intersects(flushes),
            control,
        })
    }

    /// The bits of EFER that a guest with this policy can set.
    pub fn efer_bits(policy: &CpuidPolicy) -> EferFlags {
        let mut bits = EferFlags::empty();
        let long = EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE;
        for (flag, feature) in [
            (EferFlags::SYSTEM_CALL_EXTENSIONS, Feature::Syscall),
            (long, Feature::Lm),
            (EferFlags::NO_EXECUTE_ENABLE, Feature::Nx),
            (EferFlags::FAST_FXSAVE_FXRSTOR, Feature::Ffxsr),
            (EFER_AUTOMATIC_IBRS, Feature::AutoIbrs),
        ] {
            if policy.has(feature) {
                bits |= flag;
            }
        }
        bits
    }

    /// WRMSR of EFER. LMA is the CPU's: what is written to it is ignored.
    ///
    /// Errors: #GP(0).
    pub fn write_efer(&self, value: u64, policy: &CpuidPolicy) -> Result<Change, Exception> {
        let lma = EferFlags::LONG_MODE_ACTIVE;
        let new = EferFlags::from_bits_retain(value).difference(lma) | (self.efer & lma);
        if !Self::efer_bits(policy).contains(new) {
            return Err(Exception::GP0);
        }
        let changed = new ^ self.efer;
        if self.paging() && changed.contains(EferFlags::LONG_MODE_ENABLE) {
            return Err(Exception::GP0);
        }
        Ok(Change {
            control: Self { efer: new, ..*self },
            load_pdptes: false,
            flush: changed.contains(EferFlags::NO_EXECUTE_ENABLE),
        })
    }
}

/// MOV to CR8: the task priority, 0 to 15.
///
/// Errors: #GP(0).
pub const fn check_cr8(value: u64) -> Result<u8, Exception> {
    if value > 15 {
        Err(Exception::GP0)
    } else {
        Ok(value as u8)
    }
}

/// XSETBV with this index (ECX) and value (EDX:EAX) at this privilege level; what XCR0 becomes.
///
/// Errors: #UD without CR4.OSXSAVE, else #GP(0).
pub fn write_xcr(
    index: u32,
    value: u64,
    cpl: u8,
    control: &Control,
    policy: &CpuidPolicy,
) -> Result<u64, Exception> {
    if !control.cr4.contains(Cr4Flags::OSXSAVE) {
        Err(Exception::InvalidOpcode)
    } else if cpl != 0 || index != 0 || !super::xstate::is_valid(value, policy.xcr0_bits()) {
        Err(Exception::GP0)
    } else {
        Ok(value)
    }
}

/// Which debug register `number` means: DR4 and DR5 are old names of DR6 and DR7.
///
/// Errors: #UD for DR4 and DR5 with CR4.DE, and beyond DR7.
pub const fn debug_register(number: u8, cr4: Cr4Flags) -> Result<u8, Exception> {
    match number {
        0..=3 | 6 | 7 => Ok(number),
        4 | 5 if !cr4.contains(Cr4Flags::DEBUGGING_EXTENSIONS) => Ok(number + 2),
        _ => Err(Exception::InvalidOpcode),
    }
}

/// Bits of DR6 that are always set: what is reserved, and those that are clear for an event of a feature that guests do not have (bus lock,
/// transactional regions).
const DR6_SET: u64 = 0xffff_0ff0;
/// Bits of DR6 that software can write.
const DR6_WRITABLE: u64 = 0xe00f;
/// Bit 10 of DR7, always set.
const DR7_SET: u64 = 1 << 10;
/// Bits of DR7 that software can write: breakpoints, LE, GE, GD.
const DR7_WRITABLE: u64 = 0xffff_23ff;

/// MOV to DR6: what it becomes.
///
/// Errors: #GP(0) for the upper half.
pub const fn check_dr6(value: u64) -> Result<u64, Exception> {
    if value >> 32 != 0 {
        Err(Exception::GP0)
    } else {
        Ok(value & DR6_WRITABLE | DR6_SET)
    }
}

/// MOV to DR7: what it becomes.
///
/// Errors: #GP(0) for the upper half.
pub const fn check_dr7(value: u64) -> Result<u64, Exception> {
    if value >> 32 != 0 {
        Err(Exception::GP0)
    } else {
        Ok(value & DR7_WRITABLE | DR7_SET)
    }
}

#[cfg(test)]
mod tests;
