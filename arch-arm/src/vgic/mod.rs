//! The interrupt controller guests see: a GICv2 (IHI 0048) or a GICv3 (IHI 0069) with one security state and without
//! LPIs.
//!
//! A model without hardware: inputs and register accesses go in, list registers come out, and where a virtual SPI is
//! backed by a physical one a [`HostIrqs`] is asked. Guests use the hardware's virtual CPU interface (GICV or the
//! ICV registers) themselves.
//!
//! # Around the guest
//! Before an entry [`VGic::flush`] fills an [`LrImage`], which the caller writes to the list registers. After an exit
//! the caller reads those back into the image, and [`VGic::sync`] takes the instances out of it. Then the model knows
//! all and the image holds nothing.
//!
//! An image may stay in the list registers over many exits and entries, as long as [`VGic::is_dirty`] says no and no
//! maintenance interrupt has come. It has to go through sync first when the vCPU reads or writes a register of the
//! model, when it is asked whether an interrupt waits for it ([`VGic::has_pending`]), and when it leaves its CPU: so
//! vCPUs move freely. EOIcount is to be cleared as it is handed to sync, since each count ends one interrupt.
//!
//! A change made while a vCPU's image holds instances names that vCPU in the returned [`VcpuSet`] if its list registers
//! have to change; the caller forces it through an exit, sync and flush.
//!
//! # Locks
//! One for the SPIs (the distributor's), one per vCPU for its SGIs and PPIs, taken in this order, and never two
//! vCPUs' at once. A word of flags per vCPU says which of the two flush would find something in; it is set under
//! the lock that covers the finding. Entry and exit of a vCPU with nothing to deliver take no lock.
//!
//! # Choices the manuals leave open
//! - 5 bits of priority; SGIs are enabled after reset; SPIs go to vCPU 0 after reset. After reset interrupts are in
//!   group 0 (GICv2) or group 1 (GICv3): what a guest that does not look at groups can receive.
//! - Of several targets of an SPI the lowest takes it; on a GICv3 with Interrupt_Routing_Mode 1 that is vCPU 0.
//! - A redistributor that GICR_WAKER puts to sleep says so and still forwards: what would wake its vCPU is the
//!   interrupt itself.
#![cfg_attr(
    not(all(feature = "gicv2", feature = "gicv3")),
    allow(dead_code, unused_variables)
)]

mod cpuif;
mod deliver;
mod image;
mod input;
mod irq;
mod mmio;
mod regs;
mod sync;
mod types;
#[cfg(feature = "gicv2")]
mod v2;
#[cfg(feature = "gicv3")]
mod v3;

#[cfg(test)]
mod tests;

pub use crate::host::gic::{GicVersion, ListRegister, LrSource, LrState};
pub use cpuif::CpuInterface;
pub use image::{LrImage, MAX_LRS};
pub use types::{
    Config, Fault, HostIrqs, MAX_SPIS, MAX_VCPUS_V2, MAX_VCPUS_V3, NoHostIrqs, Region, VcpuSet,
};
#[cfg(feature = "gicv3")]
pub use v3::{REDIST_STRIDE, redist_at};

use crate::host::gic::FIRST_SPI;
use crate::host::gic::fields::SPECIAL;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use irq::{Groups, Irq, IrqSet};
use spin::Mutex;
use xen_core::{Error, Result, VcpuId};

/// Flag of [`Bank::dirty`]: flush has to look at the vCPU's own interrupts.
const OWN: u8 = 1;
/// Flag of [`Bank::dirty`]: flush has to look at the SPIs.
const SPIS: u8 = 2;

/// A domain's interrupt controller.
#[derive(Debug)]
pub struct VGic {
    config: Config,
    /// INTIDs that GICD_TYPER promises: a multiple of 32.
    lines: u32,
    /// GICD_CTLR's group enables. Written with `spis` locked.
    groups: AtomicU8,
    spis: Mutex<IrqSet>,
    banks: Vec<Bank>,
}

/// What each vCPU has of its own.
#[derive(Debug)]
struct Bank {
    /// [`OWN`] and [`SPIS`].
    dirty: AtomicU8,
    /// The PPIs' inputs, so that one that did not change costs no lock. Written with `irqs` locked.
    lines: AtomicU32,
    /// GICR_WAKER.ProcessorSleep.
    asleep: AtomicBool,
    irqs: Mutex<IrqSet>,
}

/// What of an interrupt decides who has to hear of a change.
struct Watch {
    /// With its urgency: it may have to displace another.
    deliverable: Option<(VcpuId, u8)>,
    /// Who handles it without holding an instance.
    handler: Option<VcpuId>,
    holder: Option<VcpuId>,
    inputs: Inputs,
}

/// What a held instance was made from, or has to give up.
#[derive(PartialEq)]
struct Inputs {
    enabled: bool,
    group1: bool,
    priority: u8,
    latch: bool,
    sources: u8,
    level: bool,
    target: Option<VcpuId>,
    cancel_pending: bool,
    set_active: Option<bool>,
}

impl Watch {
    fn of(irq: &Irq, groups: Groups) -> Self {
        let held = irq.held;
        Self {
            deliverable: irq.deliverable(groups).map(|vcpu| (vcpu, irq.priority)),
            handler: (irq.active && held.is_none()).then_some(irq.owner),
            holder: held.map(|h| h.vcpu),
            inputs: Inputs {
                enabled: irq.enabled,
                group1: irq.group1,
                priority: irq.priority,
                latch: irq.latch,
                sources: irq.sources,
                level: irq.level_pending(),
                target: irq.target,
                cancel_pending: held.is_some_and(|h| h.cancel_pending),
                set_active: held.and_then(|h| h.set_active),
            },
        }
    }
}

impl VGic {
    /// A controller in its reset state: nothing forwarded, PPIs and SPIs off.
    ///
    /// # Errors
    /// [`Error::Inval`] if the configuration is out of its ranges or names a version that is not compiled in,
    /// [`Error::NoMem`].
    pub fn new(config: Config) -> Result<Self> {
        let (compiled, most) = match config.version {
            GicVersion::V2 => (cfg!(feature = "gicv2"), MAX_VCPUS_V2),
            GicVersion::V3 => (cfg!(feature = "gicv3"), MAX_VCPUS_V3),
        };
        if !compiled || config.vcpus == 0 || config.vcpus > most || config.spis > MAX_SPIS {
            return Err(Error::Inval);
        }
        let lines = FIRST_SPI + config.spis.next_multiple_of(32);
        let group1 = config.version == GicVersion::V3;
        let route = match config.version {
            GicVersion::V2 => 1,
            GicVersion::V3 => 0,
        };
        let boot = VcpuId(0);
        let mut banks = Vec::new();
        banks
            .try_reserve_exact(config.vcpus as usize)
            .map_err(|_| Error::NoMem)?;
        for vcpu in (0..config.vcpus).map(VcpuId) {
            banks.push(Bank {
                dirty: AtomicU8::new(0),
                lines: AtomicU32::new(0),
                asleep: AtomicBool::new(true),
                irqs: Mutex::new(IrqSet::new(0, FIRST_SPI, |n| Irq::new(n, group1, vcpu, 0))?),
            });
        }
        let spis = IrqSet::new(FIRST_SPI, lines.min(SPECIAL), |n| {
            Irq::new(n, group1, boot, route)
        })?;
        Ok(Self {
            config,
            lines,
            groups: AtomicU8::new(0),
            spis: Mutex::new(spis),
            banks,
        })
    }

    /// The shape it was made with.
    pub const fn config(&self) -> Config {
        self.config
    }

    /// Last INTID plus one, at most 1020.
    pub fn end(&self) -> u32 {
        self.lines.min(SPECIAL)
    }

    /// Whether [`VGic::flush`] would find something to do for `vcpu`. Costs no lock.
    pub fn is_dirty(&self, vcpu: VcpuId) -> bool {
        self.bank(vcpu)
            .is_some_and(|bank| bank.dirty.load(Ordering::Acquire) != 0)
    }

    fn is_v3(&self) -> bool {
        self.config.version == GicVersion::V3
    }

    fn bank(&self, vcpu: VcpuId) -> Option<&Bank> {
        self.banks.get(vcpu.0 as usize)
    }

    fn groups(&self) -> Groups {
        Groups(self.groups.load(Ordering::Acquire))
    }

    /// Tells flush of `vcpu` to look where `intid` is. Called with that lock held.
    fn mark(&self, vcpu: VcpuId, intid: u32) {
        if let Some(bank) = self.bank(vcpu) {
            let flag = if intid < FIRST_SPI { OWN } else { SPIS };
            bank.dirty.fetch_or(flag, Ordering::AcqRel);
        }
    }

    /// Changes an interrupt and finds out who has to know. `None` if the set has no such interrupt.
    fn change<R>(
        &self,
        set: &mut IrqSet,
        intid: u32,
        kicks: &mut VcpuSet,
        f: impl FnOnce(&mut Irq) -> R,
    ) -> Option<R> {
        let groups = self.groups();
        let irq = set.get_mut(intid)?;
        let before = Watch::of(irq, groups);
        let result = f(irq);
        let after = Watch::of(irq, groups);
        set.refresh(intid);
        if let Some((vcpu, _)) = after.deliverable {
            self.mark(vcpu, intid);
            if before.deliverable != after.deliverable {
                kicks.insert(vcpu);
            }
        }
        if let Some(vcpu) = after.handler {
            self.mark(vcpu, intid);
        }
        if let Some(vcpu) = after.holder
            && before.inputs != after.inputs
        {
            self.mark(vcpu, intid);
            kicks.insert(vcpu);
        }
        Some(result)
    }

    /// Runs `f` on the set that has `intid`: a vCPU's own (`vcpu` has to be given) or the SPIs.
    ///
    /// # Errors
    /// [`Error::Inval`] if there is no such interrupt.
    fn on_irq<R>(
        &self,
        vcpu: Option<VcpuId>,
        intid: u32,
        f: impl FnOnce(&mut IrqSet) -> Option<R>,
    ) -> Result<R> {
        let done = if intid < FIRST_SPI {
            let bank = vcpu.and_then(|v| self.bank(v)).ok_or(Error::Inval)?;
            f(&mut bank.irqs.lock())
        } else {
            f(&mut self.spis.lock())
        };
        done.ok_or(Error::Inval)
    }

    /// Where an SPI with this GICD_ITARGETSR byte or GICD_IROUTER goes.
    fn resolve(&self, route: u64) -> Option<VcpuId> {
        match self.config.version {
            #[cfg(feature = "gicv2")]
            GicVersion::V2 => v2::target(route),
            #[cfg(feature = "gicv3")]
            GicVersion::V3 => v3::target(route, self.config.vcpus),
            #[cfg(not(all(feature = "gicv2", feature = "gicv3")))]
            _ => None,
        }
    }
}
