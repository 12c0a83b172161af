//! Taking back from the list registers what the guest left in them.

use super::VGic;
use super::image::LrImage;
use super::irq::{Irq, IrqSet};
use super::types::{HostIrqs, VcpuSet};
use crate::host::gic::{FIRST_SPI, GicVersion, ListRegister, LrState, SGIS};
use xen_core::VcpuId;

impl VGic {
    /// Takes every instance out of `image`, which holds what the list registers of `vcpu` read as after an exit.
    /// `eoi_count` is EOIcount of GICH_HCR or ICH_HCR_EL2: deactivations of interrupts that were in none of them, since it was last
    /// cleared; the caller clears it.
    ///
    /// Returns other vCPUs for which something became deliverable by this: SPIs that were sent elsewhere meanwhile.
    /// Costs no lock if no list register was in use.
    pub fn sync(
        &self,
        vcpu: VcpuId,
        image: &mut LrImage,
        eoi_count: u32,
        hw: &impl HostIrqs,
    ) -> VcpuSet {
        let mut kicks = VcpuSet::EMPTY;
        if image.used().is_empty() && eoi_count == 0 {
            return kicks;
        }
        let Some(bank) = self.bank(vcpu) else {
            return kicks;
        };
        let touches = |spis: bool| {
            eoi_count != 0 || image.used().iter().any(|lr| (lr.virq >= FIRST_SPI) == spis)
        };
        let mut spis = touches(true).then(|| self.spis.lock());
        let mut own = touches(false).then(|| bank.irqs.lock());

        // First, as long as it can be told what was in no list register.
        for _ in 0..eoi_count {
            let unheld = |set: &IrqSet| most_urgent_active(set, vcpu);
            let spi = spis.as_deref().and_then(unheld);
            let private = own.as_deref().and_then(unheld);
            let Some((_, intid)) = spi.into_iter().chain(private).min() else {
                break;
            };
            let set = if intid < FIRST_SPI {
                own.as_deref_mut()
            } else {
                spis.as_deref_mut()
            };
            if let Some(set) = set {
                self.change(set, intid, &mut kicks, |irq| {
                    irq.active = false;
                    irq.settle_physical(hw);
                });
            }
        }
        for lr in image.used() {
            let set = if lr.virq < FIRST_SPI {
                own.as_deref_mut()
            } else {
                spis.as_deref_mut()
            };
            if let Some(set) = set {
                self.change(set, lr.virq, &mut kicks, |irq| {
                    self.release(irq, lr, vcpu, hw)
                });
            }
        }
        image.clear();
        kicks.remove(vcpu);
        kicks
    }

    /// Folds an instance back into its interrupt.
    fn release(&self, irq: &mut Irq, lr: &ListRegister, vcpu: VcpuId, hw: &impl HostIrqs) {
        let Some(held) = irq.held.filter(|h| h.vcpu == vcpu) else {
            return;
        };
        irq.held = None;
        let pending = lr.state.contains(LrState::PENDING) && !held.cancel_pending;
        let active = held
            .set_active
            .unwrap_or(lr.state.contains(LrState::ACTIVE));
        if pending {
            if lr.virq < SGIS && self.config.version == GicVersion::V2 {
                irq.sources |= 1_u8.checked_shl(held.source.into()).unwrap_or(0);
            } else {
                // What was pending by its input alone follows that from now on, unless it has become an edge.
                irq.latch |= held.latched;
            }
        }
        irq.active = active;
        if active {
            irq.owner = vcpu;
            irq.active_source = held.source;
        }
        // A register found empty means that the guest's deactivation ended the physical interrupt.
        if let Some(pirq) = held.pirq
            && !lr.state.is_empty()
        {
            if irq.hw == Some(pirq) {
                irq.hw_owed = true;
            } else {
                hw.deactivate(pirq);
            }
        }
        irq.settle_physical(hw);
    }
}

/// The interrupt `vcpu` would end next among those it handles without having them in a list register: handlers nest
/// by priority.
fn most_urgent_active(set: &IrqSet, vcpu: VcpuId) -> Option<(u8, u32)> {
    set.live()
        .filter(|(_, irq)| irq.active && irq.owner == vcpu)
        .map(|(n, irq)| (irq.priority, n))
        .min()
}
