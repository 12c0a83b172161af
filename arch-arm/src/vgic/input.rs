//! What makes interrupts pending from outside the guest, and the mapping of physical SPIs.

use super::VGic;
use super::irq::Irq;
use super::types::{HostIrqs, VcpuSet};
use crate::decode::SgiReg;
use crate::host::gic::{FIRST_SPI, SGIS};
use core::sync::atomic::Ordering;
use xen_core::{Error, Result, VcpuId};

impl VGic {
    /// Drives the input of PPI or SPI `intid`; a PPI's of `vcpu`, which an SPI ignores.
    ///
    /// A level-sensitive interrupt is pending as long as its input is high; an edge-triggered one becomes so when it
    /// rises. A PPI's input that does not change costs no lock.
    ///
    /// # Errors
    /// [`Error::Inval`] for SGIs and interrupts or vCPUs that are not there.
    pub fn set_line(&self, vcpu: Option<VcpuId>, intid: u32, level: bool) -> Result<VcpuSet> {
        if intid < SGIS {
            return Err(Error::Inval);
        }
        let mirror = match vcpu.and_then(|v| self.bank(v)) {
            Some(bank) if intid < FIRST_SPI => Some(&bank.lines),
            _ => None,
        };
        // The one who drives an input orders its own calls, so a stale mirror cannot swallow a change.
        if mirror.is_some_and(|m| m.load(Ordering::Relaxed) >> intid & 1 == level as u32) {
            return Ok(VcpuSet::EMPTY);
        }
        let mut kicks = VcpuSet::EMPTY;
        self.on_irq(vcpu, intid, |set| {
            if let Some(mirror) = mirror {
                let bit = 1 << intid;
                if level {
                    mirror.fetch_or(bit, Ordering::Relaxed);
                } else {
                    mirror.fetch_and(!bit, Ordering::Relaxed);
                }
            }
            self.change(set, intid, &mut kicks, |irq| {
                irq.latch |= irq.edge && level && !irq.line;
                irq.line = level;
            })
        })?;
        Ok(kicks)
    }

    /// Makes PPI or SPI `intid` pending once, whatever its trigger: an edge, a message, an event-channel upcall.
    ///
    /// # Errors
    /// [`Error::Inval`] for SGIs and interrupts or vCPUs that are not there.
    pub fn pulse(&self, vcpu: Option<VcpuId>, intid: u32) -> Result<VcpuSet> {
        if intid < SGIS {
            return Err(Error::Inval);
        }
        let mut kicks = VcpuSet::EMPTY;
        self.on_irq(vcpu, intid, |set| {
            self.change(set, intid, &mut kicks, |irq| irq.latch = true)
        })?;
        Ok(kicks)
    }

    /// The physical SPI behind `intid` was taken at EL2 and its priority dropped: makes `intid` pending, and the
    /// guest's deactivation, or the model for it, will end the physical one.
    ///
    /// # Errors
    /// [`Error::Inval`] if `intid` is no SPI of the domain or has no physical one; the caller has to end that.
    pub fn inject_hw(&self, intid: u32) -> Result<VcpuSet> {
        let mut kicks = VcpuSet::EMPTY;
        let taken = self.on_irq(None, intid, |set| {
            self.change(set, intid, &mut kicks, |irq| {
                let mapped = irq.hw.is_some();
                irq.latch |= mapped;
                irq.hw_owed |= mapped;
                mapped
            })
        })?;
        if taken { Ok(kicks) } else { Err(Error::Inval) }
    }

    /// Backs virtual SPI `intid` by physical SPI `pintid`, which must be quiet: disabled, neither pending nor active.
    /// From here on the physical one follows the virtual one's enable, trigger and target.
    ///
    /// # Errors
    /// [`Error::Inval`] if `intid` is no SPI of the domain, [`Error::Busy`] if it has a physical one.
    pub fn map_hw(&self, intid: u32, pintid: u32, hw: &impl HostIrqs) -> Result<()> {
        self.on_irq(None, intid, |set| {
            let irq = set.get_mut(intid)?;
            if irq.hw.is_some() {
                return Some(Err(Error::Busy));
            }
            irq.hw = Some(pintid);
            hw.set_trigger(pintid, irq.edge);
            if let Some(vcpu) = irq.target {
                hw.set_target_of(pintid, vcpu);
            }
            if irq.enabled {
                hw.enable(pintid);
            }
            Some(Ok(()))
        })?
    }

    /// Takes the physical SPI from behind `intid`, disables it and ends it if that was still to be done; an instance
    /// in a list register ends it at the next sync. The virtual one stays as pending or active as it is.
    ///
    /// # Errors
    /// [`Error::Inval`] if `intid` is no SPI of the domain, [`Error::NoEnt`] if it has no physical one.
    pub fn unmap_hw(&self, intid: u32, hw: &impl HostIrqs) -> Result<VcpuSet> {
        let mut kicks = VcpuSet::EMPTY;
        self.on_irq(None, intid, |set| {
            let irq = set.get_mut(intid)?;
            if !unmap(irq, hw) {
                return Some(Err(Error::NoEnt));
            }
            if let Some(held) = irq.held {
                kicks.insert(held.vcpu);
                self.mark(held.vcpu, intid);
            }
            Some(Ok(()))
        })??;
        Ok(kicks)
    }

    /// [`VGic::unmap_hw`] for every SPI: the domain is going away.
    pub fn unmap_all_hw(&self, hw: &impl HostIrqs) -> VcpuSet {
        let mut kicks = VcpuSet::EMPTY;
        let mut set = self.spis.lock();
        for intid in FIRST_SPI..self.end() {
            let Some(irq) = set.get_mut(intid) else {
                continue;
            };
            if unmap(irq, hw)
                && let Some(held) = irq.held
            {
                kicks.insert(held.vcpu);
                self.mark(held.vcpu, intid);
            }
        }
        kicks
    }

    /// A write to one of the SGI registers of a GICv3 by `from`.
    ///
    /// ICC_SGI1R_EL1 reaches SGIs of either group, the others those of group 0 only (IHI 0069, forwarding an SGI to
    /// a target PE, one security state).
    ///
    /// # Errors
    /// [`Error::NoSys`] if the controller is a GICv2, [`Error::Inval`] if `from` is not a vCPU of the domain.
    pub fn sgi1r(&self, from: VcpuId, value: u64, register: SgiReg) -> Result<VcpuSet> {
        if from.0 >= self.config.vcpus {
            return Err(Error::Inval);
        }
        #[cfg(feature = "gicv3")]
        if self.is_v3() {
            let (id, targets) = super::v3::sgir(value, from, self.config.vcpus);
            let either = register == SgiReg::Sgi1;
            return Ok(self.for_each_own(targets, id, |irq| {
                irq.latch |= either || !irq.group1;
            }));
        }
        Err(Error::NoSys)
    }

    /// A write of GICD_SGIR by `from`.
    #[cfg(feature = "gicv2")]
    pub(super) fn sgir(&self, from: VcpuId, value: u32) -> VcpuSet {
        let (id, targets) = super::v2::sgir(value, from, self.config.vcpus);
        self.for_each_own(targets, id, |irq| {
            irq.sources |= VcpuSet::one(from).bits() as u8
        })
    }

    /// Changes interrupt `intid` of each of several vCPUs, one lock at a time.
    fn for_each_own(&self, vcpus: VcpuSet, intid: u32, f: impl Fn(&mut Irq)) -> VcpuSet {
        let mut kicks = VcpuSet::EMPTY;
        for bank in vcpus.iter().filter_map(|v| self.bank(v)) {
            self.change(&mut bank.irqs.lock(), intid, &mut kicks, &f);
        }
        kicks
    }
}

/// Whether there was a physical SPI.
fn unmap(irq: &mut Irq, hw: &impl HostIrqs) -> bool {
    let Some(pintid) = irq.hw else { return false };
    hw.disable(pintid);
    irq.end_physical(hw);
    irq.hw = None;
    true
}
