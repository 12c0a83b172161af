//! SVM as the machine sees it.
#![expect(unsafe_code, reason = "entering a guest has conditions")]

use alloc::boxed::Box;
use core::ops::RangeInclusive;

use spin::Mutex;
use xen_core::mem::Frames;
use xen_core::{CpuId, Error, Mfn, Result};

use super::asid::{Assigned, Pool};
use super::cpu::{self, CpuPages};
use super::enter::{enter, left};
use super::exit;
use super::features::{Abilities, Features};
use super::intercepts::{Misc1, Misc2};
use super::state;
use super::vcpu::SvmVcpu;
use super::vmcb::{Clean, TlbControl, VirtualInterrupt};
use crate::backend::{GuestState, HvmBackend, Register, Segment, SegmentRegister};
use crate::event::Event;
use crate::exit::Exit;
use crate::host::percpu::MAX_CPUS;
use crate::hypercall::{Gprs, gpr};
use crate::second_level::npt::{self, Npt};

/// PAUSEs in a row after which a vCPU is thought to wait for another one, and cycles between two that are no row.
const PAUSES: u16 = 3000;
const PAUSE_GAP: u16 = 1000;

/// A CPU's part.
struct PerCpu {
    pages: Option<CpuPages>,
    asids: Pool,
}

/// AMD's virtualisation extension.
pub struct Svm {
    abilities: Abilities,
    cpus: Box<[Mutex<PerCpu>]>,
}

/// An exit; the control block has all that is to be known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SvmExit(());

impl Svm {
    fn new(abilities: Abilities) -> Self {
        let cpu = |_| {
            Mutex::new(PerCpu {
                pages: None,
                asids: Pool::new(abilities.asids),
            })
        };
        Self {
            abilities,
            cpus: (0..MAX_CPUS).map(cpu).collect(),
        }
    }

    /// What the CPUs can.
    pub const fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    fn has(&self, feature: Features) -> bool {
        self.abilities.features.contains(feature)
    }

    /// Sees to it that the vCPU has an identifier that is good on the CPU it is loaded on.
    fn assign(&self, vcpu: &mut SvmVcpu) {
        let Some(cpu) = self.cpus.get(vcpu.cpu.0 as usize) else {
            return;
        };
        let assigned = cpu.lock().asids.assign(vcpu.cpu.0, &mut vcpu.asid);
        if assigned == Assigned::Same {
            return;
        }
        let number = vcpu.asid.number;
        let control = &mut vcpu.change(Clean::ASID).control;
        control.asid = number;
        if assigned == Assigned::FlushAll {
            control.tlb_control = TlbControl::FLUSH_ALL;
        }
    }
}

impl HvmBackend for Svm {
    type Pte = Npt;
    type Vcpu = SvmVcpu;
    type RawExit = SvmExit;

    const NAME: &'static str = "SVM";
    /// VMMCALL.
    const HYPERCALL: [u8; 3] = [0x0f, 0x01, 0xd9];

    fn probe() -> Result<Self> {
        cpu::probe().map(Self::new)
    }

    fn max_leaf_order(&self) -> u8 {
        crate::second_level::max_leaf_order(self.abilities.gib_pages)
    }

    fn enable_cpu(&self, cpu: CpuId, frames: &'static Frames) -> Result<()> {
        if !cpu::probe()?.covers(&self.abilities) {
            return Err(Error::NoDev);
        }
        let place = self.cpus.get(cpu.0 as usize).ok_or(Error::Range)?;
        let pages = CpuPages::enable(frames)?;
        place.lock().pages = Some(pages);
        Ok(())
    }

    fn disable_cpu(&self, cpu: CpuId) {
        let pages = self
            .cpus
            .get(cpu.0 as usize)
            .and_then(|c| c.lock().pages.take());
        if let Some(pages) = pages {
            pages.disable();
        }
    }

    fn new_vcpu(&self, frames: &'static Frames) -> Result<SvmVcpu> {
        let pauses = self.has(Features::PAUSE_FILTER).then_some((
            PAUSES,
            if self.has(Features::PAUSE_THRESHOLD) {
                PAUSE_GAP
            } else {
                0
            },
        ));
        SvmVcpu::new(frames, pauses)
    }

    fn load(&self, cpu: CpuId, vcpu: &mut SvmVcpu) {
        if vcpu.cpu != cpu {
            // What another CPU left in this one's caches of the block is of no use, nor are old translations.
            vcpu.cpu = cpu;
            vcpu.clean = Clean::empty();
            vcpu.asid.forget();
        }
        let place = self.cpus.get(cpu.0 as usize);
        vcpu.host = place
            .and_then(|c| c.lock().pages.as_ref().map(CpuPages::host))
            .unwrap_or(0);
        if self.has(Features::TSC_RATIO) {
            cpu::set_tsc_ratio(vcpu.tsc_ratio);
        }
        self.assign(vcpu);
    }

    fn unload(&self, _: &mut SvmVcpu) {
        // The CPU keeps nothing that is not in the block.
    }

    #[inline]
    fn enter(&self, vcpu: &mut SvmVcpu, gprs: &mut Gprs) -> SvmExit {
        if vcpu.asid.number == 0 {
            self.assign(vcpu);
        }
        let clean = if self.has(Features::CLEAN_BITS) {
            vcpu.clean
        } else {
            Clean::empty()
        };
        let (guest, host) = (vcpu.block.physical(), vcpu.host);
        assert!(host != 0, "SVM is off on this CPU");
        let vmcb = vcpu.block.get_mut();
        vmcb.save.rax = gprs.0[gpr::RAX];
        vmcb.control.clean = clean;
        // Where the CPU does not write it, what the last exit left must not count.
        vmcb.control.next_rip = 0;
        vmcb.control.fetched = 0;
        // SAFETY: `load` found this CPU's pages, which are there since SVM was switched on. The block is the vCPU's,
        // which is borrowed exclusively; its maps live as long, its second level is a domain's p2m. What has to
        // exit does since `SvmVcpu::new`. Oxen runs with interrupts masked.
        unsafe { enter(gprs, guest, host) };
        let vmcb = vcpu.block.get_mut();
        gprs.0[gpr::RAX] = vmcb.save.rax;
        vmcb.control.tlb_control = TlbControl::KEEP;
        vcpu.clean = Clean::all();
        SvmExit(())
    }

    #[inline]
    fn decode(&self, vcpu: &SvmVcpu, _: SvmExit) -> Exit {
        exit::decode(vcpu.block.get(), self.abilities.features)
    }

    fn instruction_bytes<'a>(&self, vcpu: &'a SvmVcpu) -> &'a [u8] {
        vcpu.block.get().fetched_bytes()
    }

    fn inject(&self, vcpu: &mut SvmVcpu, event: Event) {
        if event == Event::Nmi {
            vcpu.nmi_blocked = true;
            // Its handler is over when it executes IRET.
            vcpu.change(Clean::INTERCEPTS).control.misc1 |= Misc1::IRET;
        }
        let (word, code) = event.encode();
        let control = &mut vcpu.change(Clean::empty()).control;
        control.event_injection = u64::from(word) | u64::from(code) << 32;
    }

    fn set_interrupt_window(&self, vcpu: &mut SvmVcpu, wanted: bool) {
        let open = vcpu
            .block
            .get()
            .control
            .misc1
            .contains(Misc1::VIRTUAL_INTERRUPT);
        if open == wanted {
            return;
        }
        let group = Clean::INTERCEPTS | Clean::VIRTUAL_INTERRUPT;
        let control = &mut vcpu.change(group).control;
        control.misc1.set(Misc1::VIRTUAL_INTERRUPT, wanted);
        // A virtual interrupt of the highest priority, which exits instead of being taken.
        control.virtual_interrupt.set(
            VirtualInterrupt::PENDING
                | VirtualInterrupt::IGNORE_TASK_PRIORITY
                | VirtualInterrupt::PRIORITY,
            wanted,
        );
    }

    fn nmi_blocked(&self, vcpu: &SvmVcpu) -> bool {
        vcpu.nmi_blocked
    }

    fn unblock_nmi(&self, vcpu: &mut SvmVcpu) {
        vcpu.nmi_blocked = false;
        let control = &mut vcpu.change(Clean::INTERCEPTS).control;
        control.misc1 -= Misc1::IRET;
        // The IRET itself is yet to be executed; only then may the next one come.
        control.interrupt_shadow |= 1;
    }

    #[inline]
    fn interrupt_shadow(&self, vcpu: &SvmVcpu) -> bool {
        vcpu.block.get().control.interrupt_shadow & 1 != 0
    }

    #[inline]
    fn set_interrupt_shadow(&self, vcpu: &mut SvmVcpu, shadow: bool) {
        vcpu.change(Clean::empty()).control.interrupt_shadow = shadow.into();
    }

    fn set_second_level(&self, vcpu: &mut SvmVcpu, root: Mfn) {
        vcpu.asid.forget();
        vcpu.change(Clean::NESTED_PAGING).control.nested_cr3 = npt::root(root);
    }

    fn flush(&self, vcpu: &mut SvmVcpu) {
        if self.has(Features::FLUSH_BY_ASID) && vcpu.asid.number != 0 {
            let control = &mut vcpu.change(Clean::empty()).control;
            if control.tlb_control == TlbControl::KEEP {
                control.tlb_control = TlbControl::FLUSH_ASID;
            }
        } else {
            vcpu.asid.forget();
        }
    }

    #[inline]
    fn register(&self, vcpu: &SvmVcpu, which: Register) -> u64 {
        state::register(&vcpu.block.get().save, which)
    }

    #[inline]
    fn set_register(&self, vcpu: &mut SvmVcpu, which: Register, value: u64) {
        let group = state::set_register(&mut vcpu.block.get_mut().save, which, value);
        vcpu.clean.remove(group);
    }

    fn segment(&self, vcpu: &SvmVcpu, which: SegmentRegister) -> Segment {
        state::segment(&vcpu.block.get().save, which)
    }

    #[inline]
    fn privilege_level(&self, vcpu: &SvmVcpu) -> u8 {
        vcpu.block.get().save.cpl & 3
    }

    fn task_priority(&self, vcpu: &SvmVcpu) -> u8 {
        let word = vcpu.block.get().control.virtual_interrupt;
        word.intersection(VirtualInterrupt::TASK_PRIORITY).bits() as u8
    }

    fn set_task_priority(&self, vcpu: &mut SvmVcpu, priority: u8) {
        if self.task_priority(vcpu) == priority & 0xf {
            return;
        }
        let word = &mut vcpu
            .change(Clean::VIRTUAL_INTERRUPT)
            .control
            .virtual_interrupt;
        let rest = word.difference(VirtualInterrupt::TASK_PRIORITY);
        *word = rest | VirtualInterrupt::from_bits_retain(u64::from(priority & 0xf));
    }

    fn set_tsc_offset(&self, vcpu: &mut SvmVcpu, offset: u64) {
        vcpu.change(Clean::INTERCEPTS).control.tsc_offset = offset;
    }

    fn tsc_ratio(&self) -> Option<(u8, u8)> {
        let form = (cpu::TSC_RATIO_FRACTION, cpu::TSC_RATIO_BITS);
        self.has(Features::TSC_RATIO).then_some(form)
    }

    fn set_tsc_ratio(&self, vcpu: &mut SvmVcpu, ratio: u64) {
        vcpu.tsc_ratio = ratio;
    }

    fn lost_guest_state(&self, vcpu: &SvmVcpu) -> bool {
        let save = &vcpu.block.get().save;
        // VMRUN keeps the host's registers in a page of its own: were it this one, the fault would be here.
        cpu::save_area() != vcpu.block.physical()
            && save.rip == left()
            && save.cr3 == crate::host::mmu::root().0
    }

    fn set_tsc_exits(&self, vcpu: &mut SvmVcpu, exits: bool) {
        let control = &mut vcpu.change(Clean::INTERCEPTS).control;
        control.misc1.set(Misc1::READ_TSC, exits);
        control.misc2.set(Misc2::READ_TSCP, exits);
    }

    fn state(&self, vcpu: &SvmVcpu) -> GuestState {
        state::get(vcpu.block.get())
    }

    fn set_state(&self, vcpu: &mut SvmVcpu, state: &GuestState) -> Result<()> {
        state::set(vcpu.block.get_mut(), state)?;
        vcpu.clean.remove(
            Clean::CONTROL_REGISTERS
                | Clean::DEBUG_REGISTERS
                | Clean::DESCRIPTOR_TABLES
                | Clean::SEGMENTS
                | Clean::CR2
                | Clean::NESTED_PAGING,
        );
        Ok(())
    }

    fn set_msr_exits(&self, vcpu: &mut SvmVcpu, msr: u32, read: bool, write: bool) -> Result<()> {
        vcpu.msrs.set(msr, read, write)?;
        vcpu.clean.remove(Clean::MAPS);
        Ok(())
    }

    fn set_port_exits(&self, vcpu: &mut SvmVcpu, ports: RangeInclusive<u16>, exits: bool) {
        vcpu.ports.set(ports, exits);
        vcpu.clean.remove(Clean::MAPS);
    }
}
