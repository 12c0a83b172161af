//! GICv3 and GICv4: distributor, redistributors, and CPU and virtual interfaces in system registers (IHI 0069).
#![expect(unsafe_code, reason = "interrupt controller system registers")]

use super::fields::{FIRST_SPI, IntId, bit_of, edge_bit_of, lines, redistributor_affinity, sgi1r};
use super::{Bit, DEFAULT_PRIORITY};
use crate::host::mmio::Mmio;
use crate::host::percpu::{self, MAX_CPUS};
use aarch64_cpu::asm::barrier;
use arrayvec::ArrayVec;
use core::arch::asm;
use spin::{Mutex, Once};
use xen_core::{CpuId, Error, Result};

/// Most redistributor regions.
pub const MAX_REGIONS: usize = 32;

mod gicd {
    pub(super) const CTLR: usize = 0x0000;
    pub(super) const TYPER: usize = 0x0004;
    pub(super) const IGROUPR: usize = 0x0080;
    pub(super) const ISENABLER: usize = 0x0100;
    pub(super) const ICENABLER: usize = 0x0180;
    pub(super) const ICPENDR: usize = 0x0280;
    pub(super) const ICACTIVER: usize = 0x0380;
    pub(super) const IPRIORITYR: usize = 0x0400;
    pub(super) const ICFGR: usize = 0x0c00;
    pub(super) const IROUTER: usize = 0x6000;
    /// Affinity routing and both names of the group 1 enable bit (with and without security).
    pub(super) const CTLR_ON: u32 = 1 << 4 | 1 << 1 | 1;
    pub(super) const CTLR_RWP: u32 = 1 << 31;
}

mod gicr {
    pub(super) const CTLR: usize = 0x0000;
    pub(super) const TYPER: usize = 0x0008;
    pub(super) const WAKER: usize = 0x0014;
    /// The frame of SGIs and PPIs; its registers are laid out like the distributor's.
    pub(super) const SGI: usize = 0x1_0000;
    pub(super) const CTLR_RWP: u32 = 1 << 3;
    pub(super) const WAKER_SLEEP: u32 = 1 << 1;
    pub(super) const WAKER_ASLEEP: u32 = 1 << 2;
    pub(super) const TYPER_VLPIS: u64 = 1 << 1;
    pub(super) const TYPER_LAST: u64 = 1 << 4;
}

/// How often a status bit is looked at before the hardware counts as stuck.
const POLLS: u32 = 1_000_000;

macro_rules! read_register {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading this register disturbs nothing but the interrupt state this driver owns.
        unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack, preserves_flags)) };
        value
    }};
}

macro_rules! write_register {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the register belongs to the interrupt controller, which this driver owns.
        unsafe { asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
    }};
}

/// One CPU's redistributor.
static REDISTRIBUTORS: [Once<Mmio>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

/// A GICv3.
#[derive(Debug)]
pub struct GicV3 {
    gicd: Mmio,
    regions: ArrayVec<Mmio, MAX_REGIONS>,
    /// Bytes from one redistributor to the next where the device tree says it.
    stride: Option<usize>,
    lines: u32,
    /// Held for changes of registers that have no set and clear halves.
    modify: Mutex<()>,
}

impl GicV3 {
    /// The controller behind a distributor (64 KiB) and regions of redistributors.
    ///
    /// # Errors
    /// [`Error::Nxio`] if the distributor's block is too small.
    pub fn new(
        gicd: Mmio,
        regions: ArrayVec<Mmio, MAX_REGIONS>,
        stride: Option<u64>,
    ) -> Result<Self> {
        if gicd.size() < 0x1_0000 {
            return Err(Error::Nxio);
        }
        let lines = lines(gicd.read32(gicd::TYPER));
        let stride = stride.filter(|s| *s > 0).map(|s| s as usize);
        Ok(Self {
            gicd,
            regions,
            stride,
            lines,
            modify: Mutex::new(()),
        })
    }

    /// Sets the distributor up: all SPIs off, level-triggered, group 1, sent to the CPU that runs this.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if the distributor does not finish.
    pub fn init_distributor(&self) -> Result<()> {
        let d = &self.gicd;
        d.write32(gicd::CTLR, 0);
        self.wait_distributor()?;
        for n in (FIRST_SPI..self.lines).step_by(32) {
            let (offset, _) = bit_of(n);
            d.write32(gicd::ICENABLER + offset, !0);
            d.write32(gicd::ICPENDR + offset, !0);
            d.write32(gicd::ICACTIVER + offset, !0);
            d.write32(gicd::IGROUPR + offset, !0);
        }
        for n in (FIRST_SPI..self.lines).step_by(16) {
            d.write32(gicd::ICFGR + edge_bit_of(n).0, 0);
        }
        for n in (FIRST_SPI..self.lines).step_by(4) {
            d.write32(
                gicd::IPRIORITYR + n as usize,
                u32::from(DEFAULT_PRIORITY) * 0x0101_0101,
            );
        }
        self.wait_distributor()?;
        d.write32(gicd::CTLR, gicd::CTLR_ON);
        self.wait_distributor()?;
        let here = crate::host::cpu::mpidr();
        for n in FIRST_SPI..self.lines {
            d.write64(gicd::IROUTER + 8 * n as usize, here);
        }
        Ok(())
    }

    fn wait_distributor(&self) -> Result<()> {
        wait(|| self.gicd.read32(gicd::CTLR) & gicd::CTLR_RWP == 0)
    }

    /// Sets up what `cpu`, which runs this, has of its own. PPIs are off, SGIs on.
    ///
    /// # Errors
    /// [`Error::Nxio`] if no redistributor is this CPU's, [`Error::TimedOut`] if it does not wake,
    /// [`Error::NoDev`] if the CPU refuses the system register interface.
    pub fn init_cpu(&self, cpu: CpuId) -> Result<()> {
        let slot = REDISTRIBUTORS.get(cpu.0 as usize).ok_or(Error::Range)?;
        let own = redistributor_affinity(crate::host::cpu::mpidr());
        let found = self.find_redistributor(own).ok_or(Error::Nxio)?;
        let r = slot.call_once(|| found);
        let waker = r.read32(gicr::WAKER);
        r.write32(gicr::WAKER, waker & !gicr::WAKER_SLEEP);
        wait(|| r.read32(gicr::WAKER) & gicr::WAKER_ASLEEP == 0)?;

        let sgi = |offset| gicr::SGI + offset;
        r.write32(sgi(gicd::ICENABLER), 0xffff_0000);
        r.write32(sgi(gicd::ICPENDR), 0xffff_0000);
        r.write32(sgi(gicd::ICACTIVER), !0);
        r.write32(sgi(gicd::IGROUPR), !0);
        for n in (0..FIRST_SPI as usize).step_by(4) {
            r.write32(
                sgi(gicd::IPRIORITYR) + n,
                u32::from(DEFAULT_PRIORITY) * 0x0101_0101,
            );
        }
        r.write32(sgi(gicd::ISENABLER), 0x0000_ffff);
        wait(|| r.read32(gicr::CTLR) & gicr::CTLR_RWP == 0)?;

        // System registers for EL2 and, without a trap on ICC_SRE_EL1, for EL1; no bypass.
        write_register!("icc_sre_el2", 0xf);
        barrier::isb(barrier::SY);
        if read_register!("icc_sre_el2") & 1 == 0 {
            return Err(Error::NoDev);
        }
        write_register!("icc_pmr_el1", 0xff);
        write_register!("icc_bpr1_el1", 0);
        // Split priority drop and deactivation.
        write_register!("icc_ctlr_el1", read_register!("icc_ctlr_el1") | 2);
        write_register!("icc_igrpen1_el1", 1);
        write_register!("ich_hcr_el2", 0);
        for n in 0..self.lr_count() {
            self.write_lr(n, 0);
        }
        barrier::isb(barrier::SY);
        Ok(())
    }

    /// Walks the regions for the redistributor with this affinity.
    fn find_redistributor(&self, affinity: u32) -> Option<Mmio> {
        for region in &self.regions {
            let mut at = 0;
            while let Some(frame) = region.part(at, 2 * gicr::SGI) {
                let typer = frame.read64(gicr::TYPER);
                if (typer >> 32) as u32 == affinity {
                    return Some(frame);
                }
                if typer & gicr::TYPER_LAST != 0 {
                    break;
                }
                // GICv4 redistributors have two more frames.
                let natural = if typer & gicr::TYPER_VLPIS != 0 { 4 } else { 2 } * gicr::SGI;
                at += self.stride.unwrap_or(natural);
            }
        }
        None
    }

    pub(super) fn lines(&self) -> u32 {
        self.lines
    }

    pub(super) fn ack(&self) -> Option<IntId> {
        let iar = read_register!("icc_iar1_el1");
        // The acknowledge is complete, and its effects visible, before the device is looked at.
        barrier::dsb(barrier::SY);
        IntId::from_iar_v3(iar)
    }

    pub(super) fn drop_priority(&self, id: IntId) {
        write_register!("icc_eoir1_el1", id.number().into());
        barrier::isb(barrier::SY);
    }

    pub(super) fn deactivate(&self, id: IntId) {
        write_register!("icc_dir_el1", id.number().into());
        barrier::isb(barrier::SY);
    }

    /// The block with the registers of `intid`, and the offset of its array-style registers there.
    fn home(&self, intid: u32) -> Result<(&Mmio, usize)> {
        if intid >= FIRST_SPI {
            return Ok((&self.gicd, 0));
        }
        let own = REDISTRIBUTORS
            .get(percpu::this_cpu().0 as usize)
            .and_then(Once::get);
        own.map(|r| (r, gicr::SGI)).ok_or(Error::Nxio)
    }

    pub(super) fn set_bit(&self, what: Bit, intid: u32) -> Result<()> {
        let (block, base) = self.home(intid)?;
        let (offset, bit) = bit_of(intid);
        let register = match what {
            Bit::Enable => gicd::ISENABLER,
            Bit::Disable => gicd::ICENABLER,
            Bit::ClearPending => gicd::ICPENDR,
            Bit::ClearActive => gicd::ICACTIVER,
        };
        block.write32(base + register + offset, bit);
        if what == Bit::Disable {
            // Only then is it certain that the interrupt cannot be signalled any more.
            if intid >= FIRST_SPI {
                self.wait_distributor()?;
            } else {
                wait(|| block.read32(gicr::CTLR) & gicr::CTLR_RWP == 0)?;
            }
        }
        Ok(())
    }

    pub(super) fn set_priority(&self, intid: u32, priority: u8) -> Result<()> {
        let (block, base) = self.home(intid)?;
        block.write8(base + gicd::IPRIORITYR + intid as usize, priority);
        Ok(())
    }

    pub(super) fn set_trigger(&self, intid: u32, edge: bool) -> Result<()> {
        let (block, base) = self.home(intid)?;
        let (offset, bit) = edge_bit_of(intid);
        let _held = self.modify.lock();
        let old = block.read32(base + gicd::ICFGR + offset);
        block.write32(
            base + gicd::ICFGR + offset,
            if edge { old | bit } else { old & !bit },
        );
        Ok(())
    }

    pub(super) fn set_target(&self, spi: u32, cpu: CpuId) -> Result<()> {
        let target = percpu::per_cpu(cpu)?;
        if !target.is_online() {
            return Err(Error::Range);
        }
        self.gicd
            .write64(gicd::IROUTER + 8 * spi as usize, target.mpidr());
        Ok(())
    }

    pub(super) fn send_sgi(&self, cpu: CpuId, id: u32) -> Result<()> {
        let target = percpu::per_cpu(cpu)?;
        if !target.is_online() {
            return Err(Error::Range);
        }
        let value = sgi1r(target.mpidr(), id)?;
        // What was written before the interrupt is seen by who receives it.
        barrier::dsb(barrier::ISHST);
        write_register!("icc_sgi1r_el1", value);
        barrier::isb(barrier::SY);
        Ok(())
    }

    pub(super) fn lr_count(&self) -> u32 {
        (read_register!("ich_vtr_el2") & 0x1f) as u32 + 1
    }

    /// Number of active-priorities registers per group: 1, 2 or 4.
    fn apr_count(&self) -> u32 {
        match read_register!("ich_vtr_el2") >> 26 & 7 {
            0..=4 => 1,
            5 => 2,
            _ => 4,
        }
    }

    pub(super) fn read_aprs(&self, words: &mut [u32; 8]) {
        for (n, pair) in (0..self.apr_count()).zip(words.chunks_exact_mut(2)) {
            if let [group0, group1] = pair {
                *group0 = self.read_ap0r(n) as u32;
                *group1 = self.read_ap1r(n) as u32;
            }
        }
    }

    pub(super) fn write_aprs(&self, words: &[u32; 8]) {
        for (n, pair) in (0..self.apr_count()).zip(words.chunks_exact(2)) {
            if let [group0, group1] = pair {
                self.write_ap0r(n, (*group0).into());
                self.write_ap1r(n, (*group1).into());
            }
        }
    }

    pub(super) fn hcr(&self) -> u32 {
        read_register!("ich_hcr_el2") as u32
    }

    pub(super) fn set_hcr(&self, value: u32) {
        write_register!("ich_hcr_el2", value.into());
    }

    pub(super) fn vmcr(&self) -> u32 {
        read_register!("ich_vmcr_el2") as u32
    }

    pub(super) fn set_vmcr(&self, value: u32) {
        write_register!("ich_vmcr_el2", value.into());
    }

    pub(super) fn misr(&self) -> u32 {
        read_register!("ich_misr_el2") as u32
    }

    pub(super) fn eisr(&self) -> u32 {
        read_register!("ich_eisr_el2") as u32
    }

    pub(super) fn elrsr(&self) -> u32 {
        read_register!("ich_elrsr_el2") as u32
    }
}

/// Accessors for numbered registers; a number the macro does not list reads as zero and is not written.
macro_rules! numbered {
    ($read:ident, $write:ident, $($n:literal $name:literal),+) => {
        impl GicV3 {
            pub(super) fn $read(&self, n: u32) -> u64 {
                match n {
                    $($n => read_register!($name),)+
                    _ => 0,
                }
            }

            pub(super) fn $write(&self, n: u32, value: u64) {
                match n {
                    $($n => write_register!($name, value),)+
                    _ => {}
                }
            }
        }
    };
}

numbered!(read_lr, write_lr, 0 "ich_lr0_el2", 1 "ich_lr1_el2", 2 "ich_lr2_el2", 3 "ich_lr3_el2", 4 "ich_lr4_el2",
    5 "ich_lr5_el2", 6 "ich_lr6_el2", 7 "ich_lr7_el2", 8 "ich_lr8_el2", 9 "ich_lr9_el2", 10 "ich_lr10_el2",
    11 "ich_lr11_el2", 12 "ich_lr12_el2", 13 "ich_lr13_el2", 14 "ich_lr14_el2", 15 "ich_lr15_el2");
numbered!(read_ap0r, write_ap0r, 0 "ich_ap0r0_el2", 1 "ich_ap0r1_el2", 2 "ich_ap0r2_el2", 3 "ich_ap0r3_el2");
numbered!(read_ap1r, write_ap1r, 0 "ich_ap1r0_el2", 1 "ich_ap1r1_el2", 2 "ich_ap1r2_el2", 3 "ich_ap1r3_el2");

fn wait(mut done: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..POLLS {
        if done() {
            return Ok(());
        }
        core::hint::spin_loop();
    }
    Err(Error::TimedOut)
}
