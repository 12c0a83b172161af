//! A loaded vCPU's registers, as emulation wants to see them.

use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};
use x86_64::registers::rflags::RFlags;

use super::X86Context;
use crate::backend::{HvmBackend, Register, Segment, SegmentRegister};
use crate::emulate::cpu::VECTOR_BYTES;
use crate::emulate::walk::Paging;
use crate::emulate::{Cpu, SegmentName};
use crate::hypercall::gpr;
use crate::policy::Control;

/// The registers.
pub(super) struct Regs<'a, B: HvmBackend> {
    pub(super) backend: &'a B,
    pub(super) context: &'a mut X86Context<B>,
}

impl<B: HvmBackend> Regs<'_, B> {
    fn get(&self, which: Register) -> u64 {
        self.backend.register(&self.context.vcpu, which)
    }
    fn set(&mut self, which: Register, value: u64) {
        self.backend
            .set_register(&mut self.context.vcpu, which, value);
    }
    fn get_segment(&self, which: SegmentRegister) -> Segment {
        self.backend.segment(&self.context.vcpu, which)
    }
}

impl<B: HvmBackend> X86Context<B> {
    /// The control registers.
    pub(super) fn control(&self, backend: &B) -> Control {
        /// CS.L.
        const LONG: u16 = 1 << 9;
        let get = |which| backend.register(&self.vcpu, which);
        let cs = backend.segment(&self.vcpu, SegmentRegister::Cs);
        Control {
            cr0: Cr0Flags::from_bits_retain(get(Register::Cr0)),
            cr3: get(Register::Cr3),
            cr4: Cr4Flags::from_bits_retain(get(Register::Cr4)),
            efer: EferFlags::from_bits_retain(get(Register::Efer)),
            code_is_long: cs.attributes & LONG != 0,
        }
    }

    /// How the vCPU translates addresses now.
    pub(super) fn paging(&self, backend: &B, physical_bits: u8, gib_pages: bool) -> Paging {
        let control = self.control(backend);
        let rflags = RFlags::from_bits_retain(backend.register(&self.vcpu, Register::Rflags));
        Paging {
            cr0: control.cr0,
            cr3: control.cr3,
            cr4: control.cr4,
            efer: control.efer,
            alignment_check: rflags.contains(RFlags::ALIGNMENT_CHECK),
            physical_bits,
            gib_pages,
            pdptes: None,
            // Guests have no protection keys.
            pkru: None,
        }
    }
}

impl<B: HvmBackend> Cpu for Regs<'_, B> {
    fn gpr(&self, index: usize) -> u64 {
        match index & 15 {
            gpr::RSP => self.get(Register::Rsp),
            index => self.context.gprs.0[index],
        }
    }
    fn set_gpr(&mut self, index: usize, value: u64) {
        match index & 15 {
            gpr::RSP => self.set(Register::Rsp, value),
            index => self.context.gprs.0[index] = value,
        }
    }
    fn rip(&self) -> u64 {
        self.get(Register::Rip)
    }
    fn set_rip(&mut self, value: u64) {
        self.set(Register::Rip, value);
    }
    fn rflags(&self) -> RFlags {
        RFlags::from_bits_retain(self.get(Register::Rflags))
    }
    fn set_rflags(&mut self, value: RFlags) {
        self.set(Register::Rflags, value.bits());
    }
    fn cr0(&self) -> Cr0Flags {
        Cr0Flags::from_bits_retain(self.get(Register::Cr0))
    }
    fn cr4(&self) -> Cr4Flags {
        Cr4Flags::from_bits_retain(self.get(Register::Cr4))
    }
    fn efer(&self) -> EferFlags {
        EferFlags::from_bits_retain(self.get(Register::Efer))
    }
    fn xcr0(&self) -> u64 {
        self.context.xcr0
    }
    fn cpl(&self) -> u8 {
        self.backend.privilege_level(&self.context.vcpu)
    }
    fn segment(&self, name: SegmentName) -> Segment {
        self.get_segment(match name {
            SegmentName::Es => SegmentRegister::Es,
            SegmentName::Cs => SegmentRegister::Cs,
            SegmentName::Ss => SegmentRegister::Ss,
            SegmentName::Ds => SegmentRegister::Ds,
            SegmentName::Fs => SegmentRegister::Fs,
            SegmentName::Gs => SegmentRegister::Gs,
        })
    }
    fn task(&self) -> Segment {
        self.get_segment(SegmentRegister::Tr)
    }
    fn vector(&self, index: usize) -> [u8; VECTOR_BYTES] {
        self.context
            .fpu
            .live(self.context.xcr0, |area| area.vector(index))
    }
    fn set_vector(&mut self, index: usize, value: [u8; VECTOR_BYTES]) {
        let xcr0 = self.context.xcr0;
        self.context.fpu.save(xcr0);
        self.context.fpu.set_vector(index, value);
        self.context.fpu.load(xcr0);
    }
    fn retired(&mut self) {
        self.backend
            .set_interrupt_shadow(&mut self.context.vcpu, false);
    }
}
