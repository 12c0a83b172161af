//! A vCPU's registers, and the record of them.

use xen_core::{Error, Result};

use super::record::Cpu;
use crate::backend::{DescriptorTable, GuestState, Segment};
use crate::emulate::walk::is_canonical;
use crate::event::Event;
use crate::hypercall::{Gprs, gpr};
use crate::policy::{CpuidPolicy, cr, state};

/// Everything of a vCPU that its control structure holds, and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the registers")]
pub struct CpuState {
    /// RSP is in `state`.
    pub gprs: Gprs,
    pub state: GuestState,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    /// DR0 to DR3.
    pub breakpoints: [u64; 4],
    pub tsc_aux: u32,
    /// What is to be delivered first.
    pub event: Option<Event>,
}

/// The order of segments in the record: CS, DS, ES, FS, GS, SS, TR, LDTR.
const fn segments(state: &GuestState) -> [Segment; 8] {
    [
        state.cs, state.ds, state.es, state.fs, state.gs, state.ss, state.tr, state.ldtr,
    ]
}

/// Types of events that are an instruction's own, which the guest executes again.
const SOFTWARE: core::ops::RangeInclusive<u32> = 4..=6;
/// Fields of the word for an event.
mod word {
    pub(super) const KIND: u32 = 7;
    pub(super) const KIND_SHIFT: u32 = 8;
    pub(super) const RESERVED: u32 = 0x7fff_f000;
    pub(super) const VALID: u32 = 1 << 31;
}

/// The event that a record has.
///
/// # Errors
/// [`Error::Inval`] for one that there is not.
fn event(word: u32, error_code: u32) -> Result<Option<Event>> {
    if word & word::VALID == 0 {
        return Ok(None);
    }
    let kind = word >> word::KIND_SHIFT & word::KIND;
    if word & word::RESERVED != 0 {
        return Err(Error::Inval);
    }
    match Event::decode(word, error_code) {
        Some(Event::Exception { vector: 32.., .. }) => Err(Error::Inval),
        Some(Event::Nmi) if word as u8 != 2 => Err(Error::Inval),
        Some(event) => Ok(Some(event)),
        None if SOFTWARE.contains(&kind) => Ok(None),
        None => Err(Error::Inval),
    }
}

impl CpuState {
    /// The registers in a record, for a CPU of this policy.
    ///
    /// # Errors
    /// [`Error::Inval`] for registers that no such CPU can have.
    pub fn from_record(cpu: &Cpu, policy: &CpuidPolicy) -> Result<Self> {
        let mut gprs = Gprs::default();
        for (register, value) in [
            (gpr::RAX, cpu.rax),
            (gpr::RCX, cpu.rcx),
            (gpr::RDX, cpu.rdx),
            (gpr::RBX, cpu.rbx),
            (gpr::RBP, cpu.rbp),
            (gpr::RSI, cpu.rsi),
            (gpr::RDI, cpu.rdi),
        ] {
            gprs.0[register] = value;
        }
        gprs.0[gpr::R8..].copy_from_slice(&cpu.high);
        let [cs, ds, es, fs, gs, ss, tr, ldtr] = core::array::from_fn(|n| Segment {
            selector: cpu.selectors[n] as u16,
            attributes: (cpu.attributes[n] & 0xfff) as u16,
            limit: cpu.limits[n],
            base: cpu.bases[n],
        });
        let table = |n: usize| -> Result<DescriptorTable> {
            Ok(DescriptorTable {
                limit: u16::try_from(cpu.limits[n]).map_err(|_| Error::Inval)?,
                base: cpu.bases[n],
            })
        };
        let mut state = GuestState {
            rip: cpu.rip,
            rsp: cpu.rsp,
            rflags: cpu.rflags,
            cr0: cpu.cr0,
            cr2: cpu.cr2,
            cr3: cpu.cr3,
            cr4: cpu.cr4,
            efer: cpu.msr_efer,
            es,
            cs,
            ss,
            ds,
            fs,
            gs,
            ldtr,
            tr,
            idtr: table(8)?,
            gdtr: table(9)?,
            dr6: cr::check_dr6(cpu.dr6).map_err(|_| Error::Inval)?,
            dr7: cr::check_dr7(cpu.dr7).map_err(|_| Error::Inval)?,
            pat: state::PAT_RESET,
            sysenter_cs: cpu.sysenter_cs & 0xffff_ffff,
            sysenter_esp: cpu.sysenter_esp,
            sysenter_eip: cpu.sysenter_eip,
            interrupt_shadow: false,
        };
        state::check(&mut state, state::Flags::Any, policy)?;
        let addresses = [
            cpu.msr_lstar,
            cpu.msr_cstar,
            cpu.shadow_gs,
            cpu.sysenter_esp,
            cpu.sysenter_eip,
            fs.base,
            gs.base,
        ];
        let canonical = addresses.iter().all(|address| is_canonical(*address, 48));
        if !canonical || cpu.msr_syscall_mask >> 32 != 0 {
            return Err(Error::Inval);
        }
        Ok(Self {
            gprs,
            state,
            star: cpu.msr_star,
            lstar: cpu.msr_lstar,
            cstar: cpu.msr_cstar,
            sfmask: cpu.msr_syscall_mask,
            kernel_gs_base: cpu.shadow_gs,
            breakpoints: cpu.breakpoints,
            tsc_aux: u32::try_from(cpu.msr_tsc_aux).map_err(|_| Error::Inval)?,
            event: event(cpu.pending_event, cpu.error_code)?,
        })
    }

    /// The record of these registers; the FPU's and the time-stamp counter are the caller's.
    pub fn to_record(&self) -> Cpu {
        let (gprs, state) = (&self.gprs.0, &self.state);
        let segments = segments(state);
        let tables = [state.idtr, state.gdtr];
        let (pending_event, error_code) = self.event.map_or((0, 0), Event::encode);
        let mut cpu = Cpu {
            rax: gprs[gpr::RAX],
            rbx: gprs[gpr::RBX],
            rcx: gprs[gpr::RCX],
            rdx: gprs[gpr::RDX],
            rbp: gprs[gpr::RBP],
            rsi: gprs[gpr::RSI],
            rdi: gprs[gpr::RDI],
            rsp: state.rsp,
            high: core::array::from_fn(|n| gprs[gpr::R8 + n]),
            rip: state.rip,
            rflags: state.rflags,
            cr0: state.cr0,
            cr2: state.cr2,
            cr3: state.cr3,
            cr4: state.cr4,
            breakpoints: self.breakpoints,
            dr6: state.dr6,
            dr7: state.dr7,
            selectors: segments.map(|s| s.selector.into()),
            attributes: segments.map(|s| s.attributes.into()),
            sysenter_cs: state.sysenter_cs,
            sysenter_esp: state.sysenter_esp,
            sysenter_eip: state.sysenter_eip,
            shadow_gs: self.kernel_gs_base,
            msr_lstar: self.lstar,
            msr_star: self.star,
            msr_cstar: self.cstar,
            msr_syscall_mask: self.sfmask,
            msr_efer: state.efer,
            msr_tsc_aux: self.tsc_aux.into(),
            pending_event,
            error_code,
            ..Cpu::default()
        };
        for (n, segment) in segments.iter().enumerate() {
            (cpu.limits[n], cpu.bases[n]) = (segment.limit, segment.base);
        }
        for (n, table) in (8..).zip(tables) {
            (cpu.limits[n], cpu.bases[n]) = (table.limit.into(), table.base);
        }
        cpu
    }
}
