//! The contents of one vCPU's list registers.

use crate::host::gic::{ListRegister, LrSource, LrState};

/// Most list registers used; a GICv3 has at most as many.
pub const MAX_LRS: usize = 16;

/// Control bits of GICH_HCR and ICH_HCR_EL2, the same in both.
mod hcr {
    /// Maintenance interrupt when the guest deactivates what no list register has.
    pub(super) const LRENPIE: u32 = 1 << 2;
    /// Maintenance interrupt while no list register is pending.
    pub(super) const NPIE: u32 = 1 << 3;
}

/// The list registers a vCPU enters the guest with.
///
/// The caller writes [`LrImage::used`] registers (and frees those it used before beyond that), and after the exit
/// stores what they read as by [`LrImage::read_back`]. Between sync and flush it is empty.
#[derive(Clone, Debug)]
pub struct LrImage {
    lrs: [ListRegister; MAX_LRS],
    used: usize,
    hcr: u32,
}

/// A list register that holds nothing.
pub(super) const FREE: ListRegister = ListRegister {
    virq: 0,
    priority: 0,
    group1: false,
    state: LrState::empty(),
    source: LrSource::Software { eoi: false, cpu: 0 },
};

impl Default for LrImage {
    fn default() -> Self {
        Self::new()
    }
}

impl LrImage {
    /// Nothing to deliver.
    pub const fn new() -> Self {
        Self {
            lrs: [FREE; MAX_LRS],
            used: 0,
            hcr: 0,
        }
    }

    /// The list registers in use, from number 0 on.
    pub fn used(&self) -> &[ListRegister] {
        self.lrs.get(..self.used).unwrap_or_default()
    }

    /// Bits to set in GICH_HCR or ICH_HCR_EL2 in addition to the enable bit: the maintenance interrupts by which the
    /// vCPU comes back when more can be delivered.
    pub const fn hcr(&self) -> u32 {
        self.hcr
    }

    /// Notes what list register `n` reads as after the exit; numbers that are not in use are ignored.
    ///
    /// Only its state is taken: the rest is as it was written.
    pub fn read_back(&mut self, n: usize, lr: ListRegister) {
        if n < self.used
            && let Some(slot) = self.lrs.get_mut(n)
        {
            slot.state = lr.state;
        }
    }

    /// Takes one more in; `false` if all are in use.
    pub(super) fn push(&mut self, lr: ListRegister) -> bool {
        let Some(slot) = self.lrs.get_mut(self.used) else {
            return false;
        };
        *slot = lr;
        self.used += 1;
        true
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.hcr = 0;
    }

    pub(super) fn set_maintenance(&mut self, no_pending: bool, not_present: bool) {
        self.hcr =
            if no_pending { hcr::NPIE } else { 0 } | if not_present { hcr::LRENPIE } else { 0 };
    }
}
