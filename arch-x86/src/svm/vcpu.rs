//! A vCPU's control block in memory, and what belongs to it.
#![expect(unsafe_code, reason = "control blocks are in frames")]

use core::ptr::NonNull;

use static_assertions::assert_impl_all;
use xen_core::mem::{FrameRef, Frames};
use xen_core::{CpuId, DomainId, Result};

use super::asid::Asid;
use super::cpu;
use super::intercepts::{CR_WRITES, Exceptions, Misc1, Misc2, Misc3};
use super::maps::{MsrMap, PortMap};
use super::state;
use super::vmcb::{Clean, VirtualInterrupt, Vmcb};

/// A frame that holds a control block.
pub(super) struct VmcbFrame {
    frame: FrameRef,
    at: NonNull<Vmcb>,
}

// SAFETY: the pointer is to the frame, which is the owner's alone.
unsafe impl Send for VmcbFrame {}

impl VmcbFrame {
    fn new(frames: &'static Frames) -> Result<Self> {
        // Scrubbed: all zero.
        let frame = frames.alloc_page(DomainId::XEN)?;
        let address = frame.page().address();
        let at = NonNull::new(core::ptr::with_exposed_provenance_mut::<Vmcb>(address))
            .ok_or(xen_core::Error::NoMem)?;
        debug_assert!(at.is_aligned());
        Ok(Self { frame, at })
    }

    pub(super) fn physical(&self) -> u64 {
        self.frame.mfn().base().0
    }

    pub(super) fn get(&self) -> &Vmcb {
        // SAFETY: the frame is allocated, mapped, page-aligned and as large as the block, any bytes are a valid block,
        // and nobody reaches the frame but through this owner: it is in no domain's map, and is no page that the core
        // touches. The hardware writes to it only during `enter`, which borrows the owner exclusively.
        unsafe { self.at.as_ref() }
    }

    pub(super) fn get_mut(&mut self) -> &mut Vmcb {
        // SAFETY: as in `get`; the borrow is exclusive.
        unsafe { self.at.as_mut() }
    }
}

assert_impl_all!(Vmcb: zerocopy::FromBytes, zerocopy::IntoBytes);

/// A vCPU of SVM.
pub struct SvmVcpu {
    pub(super) block: VmcbFrame,
    pub(super) ports: PortMap,
    pub(super) msrs: MsrMap,
    /// What was not changed since the last exit, on the CPU of that exit.
    pub(super) clean: Clean,
    pub(super) asid: Asid,
    /// The CPU it was loaded on last.
    pub(super) cpu: CpuId,
    /// Physical address of the hidden state of the host, on that CPU.
    pub(super) host: u64,
    /// The guest handles a non-maskable interrupt.
    pub(super) nmi_blocked: bool,
    /// The ratio of the time-stamp counter.
    pub(super) tsc_ratio: u64,
}

impl SvmVcpu {
    /// A vCPU after INIT, with everything exiting that can. `pauses`: number of PAUSEs in a row that the CPU can count before
    /// it exits, and the number of cycles that may lie between them.
    ///
    /// Errors: [`xen_core::Error::NoMem`].
    pub(super) fn new(frames: &'static Frames, pauses: Option<(u16, u16)>) -> Result<Self> {
        let mut vcpu = Self {
            block: VmcbFrame::new(frames)?,
            ports: PortMap::new(frames)?,
            msrs: MsrMap::new(frames)?,
            clean: Clean::empty(),
            asid: Asid::default(),
            cpu: CpuId(u32::MAX),
            host: 0,
            nmi_blocked: false,
            tsc_ratio: cpu::TSC_RATIO_ONE,
        };
        let (iopm, msrpm) = (vcpu.ports.base(), vcpu.msrs.base());
        let vmcb = vcpu.block.get_mut();
        let control = &mut vmcb.control;
        control.cr_writes = CR_WRITES;
        control.exceptions = Exceptions::ALWAYS;
        control.misc1 = Misc1::ALWAYS;
        control.misc2 = Misc2::ALWAYS;
        control.misc3 = Misc3::ALWAYS;
        if let Some((count, threshold)) = pauses {
            control.misc1 |= Misc1::PAUSE;
            (control.pause_count, control.pause_threshold) = (count, threshold);
        }
        (control.iopm, control.msrpm) = (iopm, msrpm);
        control.virtual_interrupt = VirtualInterrupt::MASKING;
        control.nested_control = 1;
        state::reset(&mut vmcb.save);
        Ok(vcpu)
    }

    /// Changes the block; `group` is what the CPU has to read again.
    pub(super) fn change(&mut self, group: Clean) -> &mut Vmcb {
        self.clean.remove(group);
        self.block.get_mut()
    }
}
