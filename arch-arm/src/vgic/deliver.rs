//! Choosing what a vCPU enters the guest with.
//!
//! The order is: the most urgent pending interrupt, then what is active (so that the guest's deactivation finds it),
//! then the rest of what is pending. If something pending is left out, a maintenance interrupt comes as soon as the
//! guest has taken what it was given; if something active is left out, it comes when the guest deactivates that.
//! More urgent ones are never behind less urgent ones, so the guest's order of handling is the architecture's.
//!
//! An interrupt that is pending again while active goes into its register as both if the hardware allows that (edge
//! triggered, not backed by a physical one). Otherwise it goes in as active and asks for a maintenance interrupt at
//! its end. The same does a level-sensitive one whose input is high: only then can be seen whether it still is.

use super::image::{LrImage, MAX_LRS};
use super::irq::{Groups, Held, Irq, IrqSet, PRIORITY_MASK};
use super::{CpuInterface, OWN, SPIS, VGic};
use crate::host::gic::{FIRST_SPI, GicVersion, ListRegister, LrSource, LrState, SGIS};
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use xen_core::VcpuId;

/// An interrupt that could go into a list register; ordered by urgency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pick {
    priority: u8,
    intid: u32,
}

/// The most urgent of any number of picks.
#[derive(Default)]
struct Best {
    picks: ArrayVec<Pick, MAX_LRS>,
    seen: usize,
}

impl Best {
    fn offer(&mut self, pick: Pick) {
        self.seen += 1;
        let at = self.picks.partition_point(|p| *p < pick);
        if at >= MAX_LRS {
            return;
        }
        if self.picks.is_full() {
            self.picks.pop();
        }
        self.picks.insert(at, pick);
    }
}

/// What is to be delivered to one vCPU.
#[derive(Default)]
struct Candidates {
    pending: Best,
    active: Best,
    /// Priority of the most urgent SGI that has another request behind the one being delivered or handled. Nothing
    /// less urgent may overtake that.
    barrier: Option<u8>,
}

impl Candidates {
    fn collect(&mut self, set: &IrqSet, vcpu: VcpuId, groups: Groups) {
        for (intid, irq) in set.live() {
            let pick = Pick {
                priority: irq.priority,
                intid,
            };
            let mut more = false;
            if irq.active && irq.owner == vcpu {
                self.active.offer(pick);
                more = irq.sources != 0 && irq.wants_delivery(groups);
            } else if irq.deliverable(groups) == Some(vcpu) {
                self.pending.offer(pick);
                more = irq.sources.count_ones() > 1;
            }
            if more {
                self.barrier = Some(self.barrier.map_or(irq.priority, |b| b.min(irq.priority)));
            }
        }
    }
}

impl VGic {
    /// Fills `image` with what `vcpu` is to be given at its next entry, using up to `lr_count` list registers.
    ///
    /// Called with interrupts masked after the vCPU's last [`VGic::sync`], by whoever runs it. What becomes
    /// deliverable after that comes with a kick, which then ends the guest's run at once. An image that is filled has
    /// to go through sync even if the guest is not entered.
    pub fn flush(&self, vcpu: VcpuId, lr_count: usize, image: &mut LrImage) {
        image.clear();
        let Some(bank) = self.bank(vcpu) else { return };
        if bank.dirty.load(Ordering::Acquire) == 0 {
            return;
        }
        // Before the locks: what is marked after that is either seen below or comes with a kick.
        let flags = bank.dirty.swap(0, Ordering::AcqRel);
        let mut spis = (flags & SPIS != 0).then(|| self.spis.lock());
        let mut own = (flags & OWN != 0).then(|| bank.irqs.lock());
        let groups = self.groups();

        let mut found = Candidates::default();
        for set in spis.as_deref().into_iter().chain(own.as_deref()) {
            found.collect(set, vcpu, groups);
        }
        let barrier = found.barrier.unwrap_or(u8::MAX);
        let pending = found
            .pending
            .picks
            .iter()
            .filter(move |p| p.priority <= barrier);
        let room = lr_count.min(MAX_LRS);
        let first = pending.clone().count().min(1);
        let actives = found.active.picks.len().min(room.saturating_sub(first));
        let pendings = pending.clone().count().min(room.saturating_sub(actives));

        let chosen = found
            .active
            .picks
            .iter()
            .take(actives)
            .chain(pending.take(pendings));
        for pick in chosen {
            let set = if pick.intid < FIRST_SPI {
                own.as_deref_mut()
            } else {
                spis.as_deref_mut()
            };
            let Some(set) = set else { continue };
            if let Some(irq) = set.get_mut(pick.intid) {
                let lr = self.hold(irq, pick.intid, vcpu, groups);
                image.push(lr);
            }
            set.refresh(pick.intid);
        }

        let pending_left = found.pending.seen > pendings || found.barrier.is_some();
        let active_left = found.active.seen > actives;
        image.set_maintenance(pending_left && pendings > 0, active_left);
        if pending_left || active_left {
            bank.dirty.fetch_or(flags, Ordering::AcqRel);
        }
    }

    /// Turns the interrupt into an instance in a list register of `vcpu`.
    fn hold(&self, irq: &mut Irq, intid: u32, vcpu: VcpuId, groups: Groups) -> ListRegister {
        let again = irq.wants_delivery(groups);
        let sourced = intid < SGIS && self.config.version == GicVersion::V2;
        let mut held = Held {
            vcpu,
            pending: false,
            latched: false,
            active: irq.active,
            source: irq.active_source,
            pirq: None,
            cancel_pending: false,
            set_active: None,
        };
        let mut eoi = false;
        if !irq.active {
            held.pending = true;
            if sourced {
                held.source = irq.sources.trailing_zeros() as u8;
                irq.sources &= irq.sources.wrapping_sub(1);
                eoi = irq.sources != 0;
            } else {
                held.latched = core::mem::take(&mut irq.latch);
                eoi = irq.level_pending();
            }
        } else if again
            && irq.edge
            && irq.latch
            && !irq.hw_owed
            && !sourced
            && irq.target == Some(vcpu)
        {
            held.pending = true;
            held.latched = true;
            irq.latch = false;
        } else {
            eoi = again;
        }
        // A register with a physical interrupt cannot ask for maintenance. Where that is needed sync ends the
        // physical one.
        if !eoi && core::mem::take(&mut irq.hw_owed) {
            held.pirq = irq.hw;
        }
        irq.held = Some(held);
        let mut state = LrState::empty();
        state.set(LrState::PENDING, held.pending);
        state.set(LrState::ACTIVE, held.active);
        let source = match held.pirq {
            Some(pirq) => LrSource::Hardware { pirq },
            None => LrSource::Software {
                eoi,
                cpu: held.source,
            },
        };
        ListRegister {
            virq: intid,
            priority: irq.priority & PRIORITY_MASK,
            group1: irq.group1,
            state,
            source,
        }
    }

    /// Whether an interrupt waits for `vcpu` that its CPU interface would signal: then it must not block, and if it
    /// blocks it has to be woken. Instances in the vCPU's list registers do not count, so they go through sync first.
    /// Takes no lock if nothing at all waits.
    pub fn has_pending(&self, vcpu: VcpuId, interface: &CpuInterface) -> bool {
        let Some(bank) = self.bank(vcpu) else {
            return false;
        };
        let flags = bank.dirty.load(Ordering::Acquire);
        let groups = self.groups();
        let any = |set: &IrqSet| {
            set.live().any(|(_, irq)| {
                irq.deliverable(groups) == Some(vcpu) && interface.accepts(irq.priority, irq.group1)
            })
        };
        let own = flags & OWN != 0 && any(&bank.irqs.lock());
        own || flags & SPIS != 0 && any(&self.spis.lock())
    }
}
