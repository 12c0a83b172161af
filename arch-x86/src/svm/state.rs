//! Registers in the control block.

use xen_core::{Error, Result};

use super::vmcb::{Clean, Save, Vmcb, VmcbSegment};
use crate::backend::{DescriptorTable, GuestState, Register, Segment, SegmentRegister};

/// EFER.SVME: set while a guest runs, and hidden from it.
const EFER_SVME: u64 = 1 << 12;
/// EFER: LME, LMA.
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bits of EFER that some CPU defines: SCE, LME, LMA, NXE, SVME, LMSLE, FFXSR, TCE, MCOMMIT, INTWB, UAIE, AIBRSE.
const EFER_DEFINED: u64 = 1
    | EFER_LME
    | EFER_LMA
    | 1 << 11
    | EFER_SVME
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 17
    | 1 << 18
    | 1 << 20
    | 1 << 21;
/// CR0: PE, NW, CD, PG.
const CR0_PE: u64 = 1;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
/// CR4: PAE.
const CR4_PAE: u64 = 1 << 5;
/// Bits of CR4 that some CPU defines: 0 to 12, FSGSBASE to OSXSAVE, SMEP to CET.
const CR4_DEFINED: u64 = 0x1fff | 7 << 16 | 0xf << 20;
/// Attributes of CS: L and D.
const CS_LONG: u16 = 1 << 9;
const CS_DEFAULT: u16 = 1 << 10;
/// Where the privilege level is in SS's attributes.
const DPL_SHIFT: u32 = 5;

/// Selectors and the rest of a segment as after INIT: data, or code for CS.
const fn real_mode(selector: u16, base: u64, attributes: u16) -> VmcbSegment {
    VmcbSegment {
        selector,
        attributes,
        limit: 0xffff,
        base,
    }
}

const DATA: u16 = 0x93;
const CODE: u16 = 0x9b;
const LDT: u16 = 0x82;
const BUSY_TSS: u16 = 0x8b;

/// Makes the registers those of a CPU after INIT (APM volume 2, table 14-1).
pub fn reset(save: &mut Save) {
    let data = real_mode(0, 0, DATA);
    (save.es, save.ss, save.ds, save.fs, save.gs) = (data, data, data, data, data);
    save.cs = real_mode(0xf000, 0xffff_0000, CODE);
    (save.gdtr, save.idtr) = (real_mode(0, 0, 0), real_mode(0, 0, 0));
    (save.ldtr, save.tr) = (real_mode(0, 0, LDT), real_mode(0, 0, BUSY_TSS));
    save.cpl = 0;
    save.efer = EFER_SVME;
    // CD, NW and ET.
    save.cr0 = 0x6000_0010;
    (save.cr2, save.cr3, save.cr4) = (0, 0, 0);
    (save.dr6, save.dr7) = (0xffff_0ff0, 0x400);
    (save.rflags, save.rip, save.rsp, save.rax) = (2, 0xfff0, 0, 0);
    save.pat = 0x0007_0406_0007_0406;
    (save.star, save.lstar, save.cstar, save.sfmask) = (0, 0, 0, 0);
    save.kernel_gs_base = 0;
    (save.sysenter_cs, save.sysenter_esp, save.sysenter_eip) = (0, 0, 0);
}

/// A register.
pub fn register(save: &Save, which: Register) -> u64 {
    match which {
        Register::Rip => save.rip,
        Register::Rsp => save.rsp,
        Register::Rflags => save.rflags,
        Register::Cr0 => save.cr0,
        Register::Cr2 => save.cr2,
        Register::Cr3 => save.cr3,
        Register::Cr4 => save.cr4,
        Register::Efer => save.efer & !EFER_SVME,
        Register::Dr6 => save.dr6,
        Register::Dr7 => save.dr7,
        Register::Pat => save.pat,
        Register::Star => save.star,
        Register::Lstar => save.lstar,
        Register::Cstar => save.cstar,
        Register::Sfmask => save.sfmask,
        Register::KernelGsBase => save.kernel_gs_base,
        Register::FsBase => save.fs.base,
        Register::GsBase => save.gs.base,
        Register::SysenterCs => save.sysenter_cs,
        Register::SysenterEsp => save.sysenter_esp,
        Register::SysenterEip => save.sysenter_eip,
    }
}

/// Writes a register; returns what the CPU has to read again.
pub fn set_register(save: &mut Save, which: Register, value: u64) -> Clean {
    let (place, group) = match which {
        Register::Rip => (&mut save.rip, Clean::empty()),
        Register::Rsp => (&mut save.rsp, Clean::empty()),
        Register::Rflags => (&mut save.rflags, Clean::empty()),
        Register::Cr0 => (&mut save.cr0, Clean::CONTROL_REGISTERS),
        Register::Cr2 => (&mut save.cr2, Clean::CR2),
        Register::Cr3 => (&mut save.cr3, Clean::CONTROL_REGISTERS),
        Register::Cr4 => (&mut save.cr4, Clean::CONTROL_REGISTERS),
        Register::Efer => {
            save.efer = value | EFER_SVME;
            return Clean::CONTROL_REGISTERS;
        }
        Register::Dr6 => (&mut save.dr6, Clean::DEBUG_REGISTERS),
        Register::Dr7 => (&mut save.dr7, Clean::DEBUG_REGISTERS),
        Register::Pat => (&mut save.pat, Clean::NESTED_PAGING),
        // These are loaded by VMLOAD, which knows no clean bits.
        Register::Star => (&mut save.star, Clean::empty()),
        Register::Lstar => (&mut save.lstar, Clean::empty()),
        Register::Cstar => (&mut save.cstar, Clean::empty()),
        Register::Sfmask => (&mut save.sfmask, Clean::empty()),
        Register::KernelGsBase => (&mut save.kernel_gs_base, Clean::empty()),
        Register::FsBase => (&mut save.fs.base, Clean::empty()),
        Register::GsBase => (&mut save.gs.base, Clean::empty()),
        Register::SysenterCs => (&mut save.sysenter_cs, Clean::empty()),
        Register::SysenterEsp => (&mut save.sysenter_esp, Clean::empty()),
        Register::SysenterEip => (&mut save.sysenter_eip, Clean::empty()),
    };
    *place = value;
    group
}

/// A segment register.
pub fn segment(save: &Save, which: SegmentRegister) -> Segment {
    let segment = match which {
        SegmentRegister::Es => &save.es,
        SegmentRegister::Cs => &save.cs,
        SegmentRegister::Ss => &save.ss,
        SegmentRegister::Ds => &save.ds,
        SegmentRegister::Fs => &save.fs,
        SegmentRegister::Gs => &save.gs,
        SegmentRegister::Ldtr => &save.ldtr,
        SegmentRegister::Tr => &save.tr,
    };
    from_vmcb(segment)
}

const fn from_vmcb(s: &VmcbSegment) -> Segment {
    Segment {
        selector: s.selector,
        attributes: s.attributes & 0xfff,
        limit: s.limit,
        base: s.base,
    }
}

const fn to_vmcb(s: &Segment) -> VmcbSegment {
    VmcbSegment {
        selector: s.selector,
        attributes: s.attributes & 0xfff,
        limit: s.limit,
        base: s.base,
    }
}

const fn table(s: &VmcbSegment) -> DescriptorTable {
    DescriptorTable {
        limit: s.limit as u16,
        base: s.base,
    }
}

const fn set_table(t: &DescriptorTable) -> VmcbSegment {
    VmcbSegment {
        selector: 0,
        attributes: 0,
        limit: t.limit as u32,
        base: t.base,
    }
}

/// All registers.
pub fn get(vmcb: &Vmcb) -> GuestState {
    let save = &vmcb.save;
    GuestState {
        rip: save.rip,
        rsp: save.rsp,
        rflags: save.rflags,
        cr0: save.cr0,
        cr3: save.cr3,
        cr4: save.cr4,
        efer: save.efer & !EFER_SVME,
        es: from_vmcb(&save.es),
        cs: from_vmcb(&save.cs),
        ss: from_vmcb(&save.ss),
        ds: from_vmcb(&save.ds),
        fs: from_vmcb(&save.fs),
        gs: from_vmcb(&save.gs),
        ldtr: from_vmcb(&save.ldtr),
        tr: from_vmcb(&save.tr),
        gdtr: table(&save.gdtr),
        idtr: table(&save.idtr),
        cr2: save.cr2,
        dr6: save.dr6,
        dr7: save.dr7,
        pat: save.pat,
        sysenter_cs: save.sysenter_cs,
        sysenter_esp: save.sysenter_esp,
        sysenter_eip: save.sysenter_eip,
        interrupt_shadow: vmcb.control.interrupt_shadow & 1 != 0,
    }
}

/// Writes all registers.
///
/// Errors, with nothing written: [`Error::Inval`] for a state that VMRUN refuses.
pub fn set(vmcb: &mut Vmcb, state: &GuestState) -> Result<()> {
    check(state)?;
    let save = &mut vmcb.save;
    (save.rip, save.rsp, save.rflags) = (state.rip, state.rsp, state.rflags | 2);
    (save.cr0, save.cr2, save.cr3, save.cr4) = (state.cr0, state.cr2, state.cr3, state.cr4);
    save.efer = state.efer | EFER_SVME;
    (save.es, save.cs, save.ss) = (to_vmcb(&state.es), to_vmcb(&state.cs), to_vmcb(&state.ss));
    (save.ds, save.fs, save.gs) = (to_vmcb(&state.ds), to_vmcb(&state.fs), to_vmcb(&state.gs));
    (save.ldtr, save.tr) = (to_vmcb(&state.ldtr), to_vmcb(&state.tr));
    (save.gdtr, save.idtr) = (set_table(&state.gdtr), set_table(&state.idtr));
    (save.dr6, save.dr7, save.pat) = (state.dr6, state.dr7, state.pat);
    save.sysenter_cs = state.sysenter_cs;
    (save.sysenter_esp, save.sysenter_eip) = (state.sysenter_esp, state.sysenter_eip);
    save.cpl = (state.ss.attributes >> DPL_SHIFT) as u8 & 3;
    vmcb.control.interrupt_shadow = state.interrupt_shadow.into();
    Ok(())
}

/// What VMRUN checks of the registers (APM volume 2, 15.5.1), as far as it does not depend on the CPU's features.
///
/// Errors: [`Error::Inval`].
pub fn check(state: &GuestState) -> Result<()> {
    let long = state.efer & EFER_LME != 0 && state.cr0 & CR0_PG != 0;
    let refused = state.cr0 >> 32 != 0
        || state.cr0 & (CR0_CD | CR0_NW) == CR0_NW
        || (long && state.cr3 >> 52 != 0)
        || state.cr4 & !CR4_DEFINED != 0
        || state.efer & !(EFER_DEFINED & !EFER_SVME) != 0
        || state.dr6 >> 32 != 0
        || state.dr7 >> 32 != 0
        || (state.cr0 & CR0_PG != 0 && state.cr0 & CR0_PE == 0)
        || (long && state.cr4 & CR4_PAE == 0)
        || (long && state.cs.attributes & (CS_LONG | CS_DEFAULT) == CS_LONG | CS_DEFAULT)
        || !pat_is_valid(state.pat);
    if refused { Err(Error::Inval) } else { Ok(()) }
}

/// Whether each of the eight entries is a memory type: all but 2, 3 and those from 8 up.
const fn pat_is_valid(pat: u64) -> bool {
    let mut n = 0;
    while n < 8 {
        if !matches!(pat >> (8 * n) & 0xff, 0 | 1 | 4..=7) {
            return false;
        }
        n += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::FromZeros;

    fn fresh() -> Vmcb {
        let mut vmcb = Vmcb::new_zeroed();
        reset(&mut vmcb.save);
        vmcb
    }

    #[test]
    fn after_init() {
        let vmcb = fresh();
        let state = get(&vmcb);
        assert_eq!(check(&state), Ok(()));
        assert_eq!((state.rip, state.cs.base), (0xfff0, 0xffff_0000));
        assert_eq!((state.rflags, state.cr0, state.efer), (2, 0x6000_0010, 0));
        // Required while a guest runs.
        assert_eq!(vmcb.save.efer, 0x1000);
        assert_eq!(vmcb.save.gdtr.limit, 0xffff);
    }

    #[test]
    fn what_the_hardware_refuses_is_refused() {
        let good = get(&fresh());
        let with = |change: fn(&mut GuestState)| {
            let mut state = good;
            change(&mut state);
            let mut vmcb = fresh();
            (set(&mut vmcb, &state), get(&vmcb) == good)
        };
        for change in [
            (|s| s.cr0 = 1 << 32) as fn(&mut GuestState),
            |s| s.cr0 = 0x2000_0010,
            |s| s.cr0 = 0x8000_0010,
            |s| s.cr4 = 1 << 13,
            |s| s.cr4 = 1 << 63,
            |s| s.efer = 1 << 1,
            |s| s.efer = 1 << 12,
            |s| s.dr6 = 1 << 32,
            |s| s.dr7 = 1 << 40,
            |s| s.pat = 2,
            |s| s.pat = 8 << 56,
            // Long mode without PAE, and with CS.L and CS.D.
            |s| (s.efer, s.cr0) = (0x500, 0x8000_0011),
            |s| (s.efer, s.cr0, s.cr4, s.cs.attributes) = (0x500, 0x8000_0011, 0x20, 0x69b),
            |s| (s.efer, s.cr0, s.cr4, s.cr3) = (0x500, 0x8000_0011, 0x20, 1 << 52),
        ] {
            assert_eq!(with(change), (Err(Error::Inval), true));
        }
        assert_eq!(
            with(|s| (s.efer, s.cr0, s.cr4) = (0x500, 0x8000_0011, 0x20)).0,
            Ok(())
        );
    }

    #[test]
    fn the_guest_does_not_see_what_runs_it() {
        let mut vmcb = fresh();
        let dirty = set_register(&mut vmcb.save, Register::Efer, 0x500);
        assert_eq!(dirty, Clean::CONTROL_REGISTERS);
        assert_eq!(vmcb.save.efer, 0x1500);
        assert_eq!(register(&vmcb.save, Register::Efer), 0x500);
    }

    const REGISTERS: [Register; 21] = [
        Register::Rip,
        Register::Rsp,
        Register::Rflags,
        Register::Cr0,
        Register::Cr2,
        Register::Cr3,
        Register::Cr4,
        Register::Efer,
        Register::Dr6,
        Register::Dr7,
        Register::Pat,
        Register::Star,
        Register::Lstar,
        Register::Cstar,
        Register::Sfmask,
        Register::KernelGsBase,
        Register::FsBase,
        Register::GsBase,
        Register::SysenterCs,
        Register::SysenterEsp,
        Register::SysenterEip,
    ];

    proptest! {
        #[test]
        fn registers_keep_what_is_written(which in prop::sample::select(&REGISTERS[..]), value: u64) {
            let mut vmcb = fresh();
            let value = if which == Register::Efer { value & !EFER_SVME } else { value };
            let before: Vec<u64> = REGISTERS.iter().map(|r| register(&vmcb.save, *r)).collect();
            set_register(&mut vmcb.save, which, value);
            for (other, before) in REGISTERS.iter().zip(before) {
                let expected = if *other == which { value } else { before };
                prop_assert_eq!(register(&vmcb.save, *other), expected);
            }
        }

        #[test]
        fn a_state_that_is_taken_is_what_is_there(
            rip: u64, rsp: u64, cr2: u64, selector: u16, attributes in 0u16..0x1000, limit: u32, base: u64, shadow: bool
        ) {
            let mut state = get(&fresh());
            (state.rip, state.rsp, state.cr2, state.interrupt_shadow) = (rip, rsp, cr2, shadow);
            let segment = Segment { selector, attributes, limit, base };
            (state.ss, state.tr, state.fs) = (segment, segment, segment);
            state.idtr = DescriptorTable { limit: limit as u16, base };
            let mut vmcb = fresh();
            prop_assert_eq!(set(&mut vmcb, &state), Ok(()));
            prop_assert_eq!(get(&vmcb), state);
            prop_assert_eq!(vmcb.save.cpl, (attributes >> 5) as u8 & 3);
        }
    }
}
