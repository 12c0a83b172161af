//! The host's interrupt controller: a GICv2 or a GICv3 behind one enum.
//!
//! Oxen polls with interrupts masked: [`Gic::ack`] takes the highest pending interrupt, [`Gic::drop_priority`] lets
//! others through again, and [`Gic::deactivate`] ends it, by Oxen or, for interrupts given to a guest by a hardware
//! list register, by the guest.
//!
//! Functions that concern an interrupt below 32, and all of the virtual interface, act on the CPU that calls them.
#![cfg_attr(
    not(any(feature = "gicv2", all(feature = "gicv3", target_arch = "aarch64"))),
    allow(unused_variables, dead_code, unreachable_code)
)]

pub mod fields;
#[cfg(feature = "gicv2")]
mod v2;
#[cfg(all(feature = "gicv3", target_arch = "aarch64"))]
mod v3;

pub use fields::{FIRST_SPI, IntId, ListRegister, LrSource, LrState, SGIS};
#[cfg(feature = "gicv2")]
pub use v2::GicV2;
#[cfg(all(feature = "gicv3", target_arch = "aarch64"))]
pub use v3::{GicV3, MAX_REGIONS};

use super::ranges::PhysRange;
use xen_core::{CpuId, Error, Result};

/// Priority of every interrupt until told otherwise: the middle of what the non-secure side has.
pub const DEFAULT_PRIORITY: u8 = 0xa0;

/// Architecture version of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GicVersion {
    /// GICv2.
    V2,
    /// GICv3, or GICv4 used as such.
    V3,
}

/// Physical addresses of a GICv2.
#[derive(Clone, Copy, Debug)]
pub struct PhysicalLayoutV2 {
    /// Distributor.
    pub gicd: PhysRange,
    /// CPU interface.
    pub gicc: PhysRange,
    /// Virtual interface control.
    pub gich: PhysRange,
    /// Virtual CPU interface, which guests are given in the place of the CPU interface.
    pub gicv: PhysRange,
}

#[cfg(test)]
impl PhysicalLayoutV2 {
    fn for_tests() -> Self {
        let r = PhysRange::new(0x800_0000, 0x2000);
        Self {
            gicd: r,
            gicc: r,
            gich: r,
            gicv: r,
        }
    }
}

/// The guest's active priorities, as the hardware keeps them: GICH_APR, or `ICH_AP0R<n>_EL2` and `ICH_AP1R<n>_EL2` one
/// after the other for each `n` from 0 to at most 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aprs([u32; 8]);

/// State of an interrupt that is written by setting a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bit {
    Enable,
    Disable,
    ClearPending,
    ClearActive,
}

/// The interrupt controller.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one, and it is static")]
pub enum Gic {
    /// GICv2.
    #[cfg(feature = "gicv2")]
    V2(GicV2),
    /// GICv3.
    #[cfg(all(feature = "gicv3", target_arch = "aarch64"))]
    V3(GicV3),
}

/// Runs an expression on whichever version it is.
macro_rules! each {
    ($gic:expr, v2 $a:ident => $two:expr, v3 $b:ident => $three:expr) => {
        match *$gic {
            #[cfg(feature = "gicv2")]
            Gic::V2(ref $a) => $two,
            #[cfg(all(feature = "gicv3", target_arch = "aarch64"))]
            Gic::V3(ref $b) => $three,
        }
    };
}

impl Gic {
    /// The version.
    pub fn version(&self) -> GicVersion {
        each!(self, v2 _g => GicVersion::V2, v3 _g => GicVersion::V3)
    }

    /// Sets the distributor up, once, on the boot CPU: every SPI off, level-triggered, sent to this CPU.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it does not finish.
    pub fn init_distributor(&self) -> Result<()> {
        each!(self, v2 g => { g.init_distributor(); Ok(()) }, v3 g => g.init_distributor())
    }

    /// Sets up what `cpu`, which must be the one that runs this, has of its own: SGIs on, PPIs off.
    ///
    /// # Errors
    /// [`Error::Range`], [`Error::Nxio`] if the controller has nothing for this CPU, [`Error::TimedOut`] if it does
    /// not react, [`Error::NoDev`] if the CPU has no system register interface.
    pub fn init_cpu(&self, cpu: CpuId) -> Result<()> {
        each!(self, v2 g => g.init_cpu(cpu), v3 g => g.init_cpu(cpu))
    }

    /// Last SPI plus one: 32 (none) to 1020.
    pub fn max_spi(&self) -> u32 {
        each!(self, v2 g => g.lines(), v3 g => g.lines())
    }

    /// Takes the highest-priority pending interrupt of this CPU; it is active from now on.
    #[inline]
    pub fn ack(&self) -> Option<IntId> {
        each!(self, v2 g => g.ack(), v3 g => g.ack())
    }

    /// Lets interrupts of the same and lower priority through again. In the order of [`Gic::ack`], backwards.
    #[inline]
    pub fn drop_priority(&self, id: IntId) {
        each!(self, v2 g => g.drop_priority(id), v3 g => g.drop_priority(id));
    }

    /// Ends an interrupt whose priority was dropped; it may come again.
    #[inline]
    pub fn deactivate(&self, id: IntId) {
        each!(self, v2 g => g.deactivate(id), v3 g => g.deactivate(id));
    }

    /// Lets interrupt `intid` be signalled.
    ///
    /// # Errors
    /// [`Error::Range`] for numbers that the controller does not have.
    pub fn enable(&self, intid: u32) -> Result<()> {
        self.set_bit(Bit::Enable, intid)
    }

    /// Keeps interrupt `intid` from being signalled, from the return of this function on.
    ///
    /// # Errors
    /// [`Error::Range`] for numbers that the controller does not have, [`Error::TimedOut`] if it does not react.
    pub fn disable(&self, intid: u32) -> Result<()> {
        self.set_bit(Bit::Disable, intid)
    }

    /// Forgets that interrupt `intid` is pending (edge-triggered ones; a level that is asserted stays pending).
    ///
    /// # Errors
    /// [`Error::Range`] for numbers that the controller does not have.
    pub fn clear_pending(&self, intid: u32) -> Result<()> {
        self.set_bit(Bit::ClearPending, intid)
    }

    /// Forgets that interrupt `intid` is active: for interrupts whose guest is gone.
    ///
    /// # Errors
    /// [`Error::Range`] for numbers that the controller does not have.
    pub fn clear_active(&self, intid: u32) -> Result<()> {
        self.set_bit(Bit::ClearActive, intid)
    }

    fn set_bit(&self, what: Bit, intid: u32) -> Result<()> {
        self.check(intid, 0)?;
        each!(self, v2 g => { g.set_bit(what, intid); Ok(()) }, v3 g => g.set_bit(what, intid))
    }

    /// Sets the priority of interrupt `intid`; lower is more urgent.
    ///
    /// # Errors
    /// [`Error::Range`] for numbers that the controller does not have.
    pub fn set_priority(&self, intid: u32, priority: u8) -> Result<()> {
        self.check(intid, 0)?;
        each!(self, v2 g => { g.set_priority(intid, priority); Ok(()) }, v3 g => g.set_priority(intid, priority))
    }

    /// Makes interrupt `intid` (a PPI or SPI, disabled) edge-triggered or level-triggered.
    ///
    /// # Errors
    /// [`Error::Range`] for SGIs and numbers that the controller does not have.
    pub fn set_trigger(&self, intid: u32, edge: bool) -> Result<()> {
        self.check(intid, SGIS)?;
        each!(self, v2 g => { g.set_trigger(intid, edge); Ok(()) }, v3 g => g.set_trigger(intid, edge))
    }

    /// Sends SPI `intid` to `cpu`.
    ///
    /// # Errors
    /// [`Error::Range`] if the number is no SPI of the controller or the CPU does not run.
    pub fn set_target(&self, intid: u32, cpu: CpuId) -> Result<()> {
        self.check(intid, FIRST_SPI)?;
        each!(self, v2 g => g.set_target(intid, cpu), v3 g => g.set_target(intid, cpu))
    }

    /// Sends SGI `id` (0 to 15) to `cpu`.
    ///
    /// # Errors
    /// [`Error::Inval`] for numbers that are no SGI, [`Error::Range`] if the CPU does not run.
    pub fn send_sgi(&self, cpu: CpuId, id: u32) -> Result<()> {
        each!(self, v2 g => g.send_sgi(cpu, id), v3 g => g.send_sgi(cpu, id))
    }

    fn check(&self, intid: u32, first: u32) -> Result<()> {
        // The controller's lines end at a multiple of 32 that is at least 32, so SGIs and PPIs are included.
        if (first..self.max_spi()).contains(&intid) {
            Ok(())
        } else {
            Err(Error::Range)
        }
    }
}

/// The virtual interface of the calling CPU, through which interrupts are given to its guest. Meant to be used
/// between two guest entries; there is no state to share.
impl Gic {
    /// Where the virtual CPU interface is that guests of a GICv2 are given; `None` for a GICv3.
    pub fn gicv(&self) -> Option<PhysRange> {
        each!(self, v2 g => Some(g.gicv()), v3 _g => None)
    }

    /// Number of list registers: 1 to 64 (GICv2) or 1 to 16 (GICv3).
    pub fn lr_count(&self) -> u32 {
        each!(self, v2 g => g.lr_count(), v3 g => g.lr_count())
    }

    /// List register `n`; reads as free for numbers from [`Gic::lr_count`] up.
    pub fn read_lr(&self, n: u32) -> ListRegister {
        let n = if n < self.lr_count() {
            n
        } else {
            return ListRegister::from_v3(0);
        };
        each!(self, v2 g => ListRegister::from_v2(g.read_lr(n)), v3 g => ListRegister::from_v3(g.read_lr(n)))
    }

    /// Writes list register `n`.
    ///
    /// # Errors
    /// [`Error::Range`] for numbers from [`Gic::lr_count`] up.
    pub fn write_lr(&self, n: u32, value: ListRegister) -> Result<()> {
        if n >= self.lr_count() {
            return Err(Error::Range);
        }
        each!(self, v2 g => g.write_lr(n, value.to_v2()), v3 g => g.write_lr(n, value.to_v3()));
        Ok(())
    }

    /// Makes list register `n` free; numbers from [`Gic::lr_count`] up are ignored.
    pub fn clear_lr(&self, n: u32) {
        if n < self.lr_count() {
            each!(self, v2 g => g.write_lr(n, 0), v3 g => g.write_lr(n, 0));
        }
    }

    /// GICH_HCR or ICH_HCR_EL2. The low bits are the same in both: 0 enable, 1 underflow, 2 list entry not present,
    /// 3 no pending; 31:27 are [`Gic::eoi_count`].
    pub fn hcr(&self) -> u32 {
        each!(self, v2 g => g.hcr(), v3 g => g.hcr())
    }

    /// Writes GICH_HCR or ICH_HCR_EL2. On a GICv3 the virtual interface only reacts at the next context
    /// synchronisation (guest entry is one).
    pub fn set_hcr(&self, value: u32) {
        each!(self, v2 g => g.set_hcr(value), v3 g => g.set_hcr(value));
    }

    /// Deactivations by the guest that matched no list register, since the field was last written (5 bits).
    pub fn eoi_count(&self) -> u32 {
        self.hcr() >> 27
    }

    /// GICH_VMCR or ICH_VMCR_EL2: the guest's view of its CPU interface's control registers, to be saved and restored
    /// as it is; the formats differ between the versions.
    pub fn vmcr(&self) -> u32 {
        each!(self, v2 g => g.vmcr(), v3 g => g.vmcr())
    }

    /// Writes what [`Gic::vmcr`] reads.
    pub fn set_vmcr(&self, value: u32) {
        each!(self, v2 g => g.set_vmcr(value), v3 g => g.set_vmcr(value));
    }

    /// Reads the active-priorities words that there are.
    pub fn read_aprs(&self, words: &mut Aprs) {
        each!(self, v2 g => words.0[0] = g.apr(), v3 g => g.read_aprs(&mut words.0));
    }

    /// Writes the active-priorities words that there are.
    pub fn set_aprs(&self, words: &Aprs) {
        each!(self, v2 g => g.set_apr(words.0[0]), v3 g => g.write_aprs(&words.0));
    }

    /// GICH_MISR or ICH_MISR_EL2: why the maintenance interrupt is asserted. Bit 0 a guest's deactivation, 1
    /// underflow, 2 list entry not present, 3 no pending.
    pub fn misr(&self) -> u32 {
        each!(self, v2 g => g.misr(), v3 g => g.misr())
    }

    /// A bit per list register: deactivated by the guest, with the maintenance interrupt asked for.
    pub fn eisr(&self) -> u64 {
        each!(self, v2 g => g.eisr(), v3 g => g.eisr().into())
    }

    /// A bit per list register: free (empty, and no maintenance interrupt due for it).
    pub fn elrsr(&self) -> u64 {
        each!(self, v2 g => g.elrsr(), v3 g => g.elrsr().into())
    }
}
