//! One virtual interrupt: what the distributor knows of it.
//!
//! While a vCPU is in the guest, an *instance* of an interrupt may be in its list registers: [`Held`]. Flush moves
//! the pending latch and the duty to end the physical interrupt from the distributor's side into the instance, and
//! sync moves back what the guest has left of them. So an edge, or a physical interrupt, that arrives meanwhile is
//! one more and is neither lost nor merged with one that the guest may have handled already.

use super::types::HostIrqs;
use crate::host::gic::SGIS;
use alloc::vec::Vec;
use xen_core::{Error, Result, VcpuId};

/// Priority bits that are implemented: 5, as the virtual CPU interface of every GICv2 has.
pub(super) const PRIORITY_MASK: u8 = 0xf8;

/// Which groups GICD_CTLR forwards: bit 0 group 0, bit 1 group 1, as in that register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Groups(pub(super) u8);

impl Groups {
    pub(super) const ALL: u8 = 0b11;

    pub(super) const fn has(self, group1: bool) -> bool {
        self.0 >> group1 as u8 & 1 != 0
    }
}

/// An instance in a vCPU's list registers, as flush wrote it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) vcpu: VcpuId,
    pub(super) pending: bool,
    /// The pending state does not follow from the line alone: unless acknowledged, it has to be put back.
    pub(super) latched: bool,
    pub(super) active: bool,
    /// GICv2 SGIs: the requesting vCPU.
    pub(super) source: u8,
    /// The physical interrupt that the guest's deactivation ends.
    pub(super) pirq: Option<u32>,
    /// The guest cleared the pending state since.
    pub(super) cancel_pending: bool,
    /// What the guest made of the active state since.
    pub(super) set_active: Option<bool>,
}

/// State of one interrupt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Irq {
    pub(super) enabled: bool,
    pub(super) group1: bool,
    /// Edge-triggered rather than level-sensitive.
    pub(super) edge: bool,
    /// The input is high.
    pub(super) line: bool,
    /// Pending by an edge, a message or a register write; until acknowledged or cleared.
    pub(super) latch: bool,
    /// Being handled by `owner`. While an instance is held this is what flush saw.
    pub(super) active: bool,
    pub(super) priority: u8,
    /// GICv2 SGIs: the vCPUs that requested it, one bit each; used instead of `latch`.
    pub(super) sources: u8,
    /// GICv2 SGIs: who requested the instance being handled.
    pub(super) active_source: u8,
    /// SPIs: GICD_ITARGETSR's byte or GICD_IROUTER, by version.
    pub(super) route: u64,
    /// The vCPU it goes to, if there is one.
    pub(super) target: Option<VcpuId>,
    /// The vCPU that handles it; of meaning while `active`.
    pub(super) owner: VcpuId,
    /// The physical SPI behind it.
    pub(super) hw: Option<u32>,
    /// The physical SPI is active and it is still to be decided who ends it.
    pub(super) hw_owed: bool,
    pub(super) held: Option<Held>,
}

impl Irq {
    /// State after reset, going to `target`.
    pub(super) const fn new(intid: u32, group1: bool, target: VcpuId, route: u64) -> Self {
        let sgi = intid < SGIS;
        Self {
            // SGIs are on from the start, as in GIC-400 and under other hypervisors.
            enabled: sgi,
            group1,
            edge: sgi,
            line: false,
            latch: false,
            active: false,
            priority: 0,
            sources: 0,
            active_source: 0,
            route,
            target: Some(target),
            owner: target,
            hw: None,
            hw_owed: false,
            held: None,
        }
    }

    /// Pending on the distributor's side.
    pub(super) const fn pending(&self) -> bool {
        self.latch || self.sources != 0 || self.level_pending()
    }

    /// Pending because a level-sensitive input is high.
    pub(super) const fn level_pending(&self) -> bool {
        !self.edge && self.line
    }

    /// What GICD_ISPENDR shows.
    pub(super) fn shown_pending(&self) -> bool {
        self.pending() || self.held.is_some_and(|h| h.pending && !h.cancel_pending)
    }

    /// Pending, and nothing in the distributor keeps it from its target.
    pub(super) const fn wants_delivery(&self, groups: Groups) -> bool {
        self.pending() && self.enabled && groups.has(self.group1)
    }

    /// The vCPU it could be given to right now: it waits until an active or held instance is done.
    pub(super) const fn deliverable(&self, groups: Groups) -> Option<VcpuId> {
        if self.wants_delivery(groups) && !self.active && self.held.is_none() {
            self.target
        } else {
            None
        }
    }

    /// What GICD_ISACTIVER shows.
    pub(super) fn shown_active(&self) -> bool {
        self.held.and_then(|h| h.set_active).unwrap_or(self.active)
    }

    /// GICv2 SGIs: what GICD_SPENDSGIR shows.
    pub(super) fn shown_sources(&self) -> u8 {
        let held = self.held.filter(|h| h.pending && !h.cancel_pending);
        self.sources | held.map_or(0, |h| 1_u8.checked_shl(h.source.into()).unwrap_or(0))
    }

    /// GICv2 SGIs: GICD_SPENDSGIR or GICD_CPENDSGIR.
    pub(super) fn write_sources(&mut self, sources: u8, set: bool) {
        if set {
            self.sources |= sources;
            return;
        }
        self.sources &= !sources;
        if let Some(held) = &mut self.held
            && sources >> (held.source & 7) & 1 != 0
        {
            held.cancel_pending = true;
        }
    }

    /// GICD_ISENABLER or GICD_ICENABLER.
    pub(super) fn set_enabled(&mut self, enabled: bool, hw: &impl HostIrqs) {
        if enabled == self.enabled {
            return;
        }
        self.enabled = enabled;
        match self.hw {
            Some(pintid) if enabled => hw.enable(pintid),
            Some(pintid) => hw.disable(pintid),
            None => {}
        }
    }

    /// Forgets the pending state: GICD_ICPENDR. A level-sensitive input that is high stays pending.
    pub(super) fn clear_pending(&mut self, hw: &impl HostIrqs) {
        self.latch = false;
        if let Some(held) = &mut self.held {
            held.cancel_pending = true;
        }
        self.settle_physical(hw);
    }

    /// GICD_ISACTIVER by `by`, who handles it from now on if it goes to nobody.
    pub(super) fn set_active(&mut self, by: VcpuId) {
        if let Some(held) = &mut self.held {
            held.set_active = Some(true);
        } else if !self.active {
            self.active = true;
            self.owner = self.target.unwrap_or(by);
        }
    }

    /// Forgets the active state: GICD_ICACTIVER. The CPU interface's running priority is the guest's affair.
    pub(super) fn clear_active(&mut self, hw: &impl HostIrqs) {
        if let Some(held) = &mut self.held {
            held.set_active = Some(false);
        } else {
            self.active = false;
        }
        self.settle_physical(hw);
    }

    /// Ends the physical interrupt if that is still to be done and no instance, now or later, will do it.
    pub(super) fn settle_physical(&mut self, hw: &impl HostIrqs) {
        if !self.latch && !self.active && self.held.is_none() {
            self.end_physical(hw);
        }
    }

    /// Ends the physical interrupt if that is still to be done.
    pub(super) fn end_physical(&mut self, hw: &impl HostIrqs) {
        if core::mem::take(&mut self.hw_owed)
            && let Some(pirq) = self.hw
        {
            hw.deactivate(pirq);
        }
    }
}

/// Consecutive interrupts, and which of them flush has to look at.
#[derive(Debug)]
pub(super) struct IrqSet {
    first: u32,
    irqs: Vec<Irq>,
    /// One bit per interrupt: pending or active, with no instance held.
    live: Vec<u32>,
}

impl IrqSet {
    /// Interrupts `first` (a multiple of 32) to `end` exclusive.
    pub(super) fn new(first: u32, end: u32, each: impl Fn(u32) -> Irq) -> Result<Self> {
        let count = end.saturating_sub(first) as usize;
        let mut irqs = Vec::new();
        let mut live = Vec::new();
        irqs.try_reserve_exact(count).map_err(|_| Error::NoMem)?;
        live.try_reserve_exact(count.div_ceil(32))
            .map_err(|_| Error::NoMem)?;
        irqs.extend((first..end).map(each));
        live.resize(count.div_ceil(32), 0);
        Ok(Self { first, irqs, live })
    }

    fn index(&self, intid: u32) -> Option<usize> {
        intid.checked_sub(self.first).map(|i| i as usize)
    }

    pub(super) fn get(&self, intid: u32) -> Option<&Irq> {
        self.irqs.get(self.index(intid)?)
    }

    pub(super) fn get_mut(&mut self, intid: u32) -> Option<&mut Irq> {
        let index = self.index(intid)?;
        self.irqs.get_mut(index)
    }

    /// Brings the live bit of `intid` up to date; to be called after every change of that interrupt.
    pub(super) fn refresh(&mut self, intid: u32) {
        let Some(index) = self.index(intid) else {
            return;
        };
        let (Some(irq), Some(word)) = (self.irqs.get(index), self.live.get_mut(index / 32)) else {
            return;
        };
        let bit = 1 << (index % 32);
        if irq.held.is_none() && (irq.active || irq.pending()) {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }

    /// The live interrupts in ascending order.
    pub(super) fn live(&self) -> impl Iterator<Item = (u32, &Irq)> {
        let words = self.live.iter().zip((0..).step_by(32));
        let indices = words.flat_map(|(&word, base)| {
            let mut rest = word;
            core::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(base + bit)
            })
        });
        indices.filter_map(|n| Some((self.first + n, self.irqs.get(n as usize)?)))
    }

    /// Every interrupt.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Irq)> {
        (self.first..).zip(&self.irqs)
    }
}
