//! GICv2: distributor, CPU interface and virtual interface control, all memory-mapped (IHI 0048).
//!
//! Interrupt groups are left as the firmware set them: seen from the non-secure side (or without the security
//! extension, after reset) every interrupt Oxen may use is signalled by enabling bit 0 of both control registers.

use super::fields::{FIRST_SPI, IntId, bit_of, edge_bit_of, lines, sgir};
use super::{DEFAULT_PRIORITY, PhysicalLayoutV2};
use crate::host::mmio::Mmio;
use crate::host::ranges::PhysRange;
use core::sync::atomic::{AtomicU8, Ordering};
use spin::Mutex;
use xen_core::{CpuId, Error, Result};

mod gicd {
    pub(super) const CTLR: usize = 0x000;
    pub(super) const TYPER: usize = 0x004;
    pub(super) const ISENABLER: usize = 0x100;
    pub(super) const ICENABLER: usize = 0x180;
    pub(super) const ICPENDR: usize = 0x280;
    pub(super) const ICACTIVER: usize = 0x380;
    pub(super) const IPRIORITYR: usize = 0x400;
    pub(super) const ITARGETSR: usize = 0x800;
    pub(super) const ICFGR: usize = 0xc00;
    pub(super) const SGIR: usize = 0xf00;
}

mod gicc {
    pub(super) const CTLR: usize = 0x0000;
    pub(super) const PMR: usize = 0x0004;
    pub(super) const BPR: usize = 0x0008;
    pub(super) const IAR: usize = 0x000c;
    pub(super) const EOIR: usize = 0x0010;
    pub(super) const DIR: usize = 0x1000;
    /// Enable; split priority drop and deactivation.
    pub(super) const CTLR_ON: u32 = 1 | 1 << 9;
}

mod gich {
    pub(super) const HCR: usize = 0x000;
    pub(super) const VTR: usize = 0x004;
    pub(super) const VMCR: usize = 0x008;
    pub(super) const MISR: usize = 0x010;
    pub(super) const EISR: usize = 0x020;
    pub(super) const ELRSR: usize = 0x030;
    pub(super) const APR: usize = 0x0f0;
    pub(super) const LR: usize = 0x100;
}

/// A GICv2.
#[derive(Debug)]
pub struct GicV2 {
    gicd: Mmio,
    gicc: Mmio,
    gich: Mmio,
    gicv: PhysRange,
    lines: u32,
    list_registers: u32,
    /// Bit of each CPU's interface, 0 until the CPU has set itself up.
    interfaces: [AtomicU8; 8],
    /// Held for changes of registers that have no set and clear halves.
    modify: Mutex<()>,
}

impl GicV2 {
    /// The controller behind these register blocks. `GICC` must be 8 KiB (GICC_DIR is in the second page).
    ///
    /// # Errors
    /// [`Error::Nxio`] if the blocks are too small.
    pub fn new(gicd: Mmio, gicc: Mmio, gich: Mmio, layout: &PhysicalLayoutV2) -> Result<Self> {
        if gicd.size() < 0x1000 || gicc.size() < 0x2000 || gich.size() < 0x200 {
            return Err(Error::Nxio);
        }
        let lines = lines(gicd.read32(gicd::TYPER));
        let list_registers = (gich.read32(gich::VTR) & 0x3f) + 1;
        Ok(Self {
            gicd,
            gicc,
            gich,
            gicv: layout.gicv,
            lines,
            list_registers,
            interfaces: [const { AtomicU8::new(0) }; 8],
            modify: Mutex::new(()),
        })
    }

    /// Sets the distributor up: all SPIs off, level-triggered, sent to the CPU that runs this.
    pub fn init_distributor(&self) {
        let d = &self.gicd;
        d.write32(gicd::CTLR, 0);
        let here = u32::from(self.own_interface()) * 0x0101_0101;
        for n in (FIRST_SPI..self.lines).step_by(32) {
            let (offset, _) = bit_of(n);
            d.write32(gicd::ICENABLER + offset, !0);
            d.write32(gicd::ICPENDR + offset, !0);
            d.write32(gicd::ICACTIVER + offset, !0);
        }
        for n in (FIRST_SPI..self.lines).step_by(16) {
            d.write32(gicd::ICFGR + edge_bit_of(n).0, 0);
        }
        for n in (FIRST_SPI..self.lines).step_by(4) {
            d.write32(
                gicd::IPRIORITYR + n as usize,
                u32::from(DEFAULT_PRIORITY) * 0x0101_0101,
            );
            d.write32(gicd::ITARGETSR + n as usize, here);
        }
        d.write32(gicd::CTLR, 1);
    }

    /// Sets up what `cpu`, which runs this, has of its own. PPIs are off, SGIs on.
    ///
    /// # Errors
    /// [`Error::Range`] for CPUs from 8 up, which a GICv2 does not have.
    pub fn init_cpu(&self, cpu: CpuId) -> Result<()> {
        let interface = self.interfaces.get(cpu.0 as usize).ok_or(Error::Range)?;
        let d = &self.gicd;
        d.write32(gicd::ICENABLER, 0xffff_0000);
        d.write32(gicd::ISENABLER, 0x0000_ffff);
        d.write32(gicd::ICPENDR, 0xffff_0000);
        d.write32(gicd::ICACTIVER, !0);
        for n in (0..FIRST_SPI).step_by(4) {
            d.write32(
                gicd::IPRIORITYR + n as usize,
                u32::from(DEFAULT_PRIORITY) * 0x0101_0101,
            );
        }
        interface.store(self.own_interface(), Ordering::Release);
        self.gicc.write32(gicc::PMR, 0xff);
        self.gicc.write32(gicc::BPR, 0);
        self.gicc.write32(gicc::CTLR, gicc::CTLR_ON);
        self.gich.write32(gich::HCR, 0);
        for n in 0..self.list_registers {
            self.write_lr(n, 0);
        }
        Ok(())
    }

    /// This CPU's interface bit: what the targets registers of its own interrupts read as. A GIC with one CPU reads
    /// zero there.
    fn own_interface(&self) -> u8 {
        let bits = (0..FIRST_SPI as usize)
            .step_by(4)
            .fold(0, |bits, n| bits | self.gicd.read32(gicd::ITARGETSR + n));
        match bits.to_le_bytes().into_iter().fold(0, |a, b| a | b) {
            0 => 1,
            bits => bits,
        }
    }

    pub(super) fn lines(&self) -> u32 {
        self.lines
    }

    pub(super) fn gicv(&self) -> PhysRange {
        self.gicv
    }

    pub(super) fn ack(&self) -> Option<IntId> {
        IntId::from_iar_v2(self.gicc.read32(gicc::IAR))
    }

    pub(super) fn drop_priority(&self, id: IntId) {
        self.gicc.write32(gicc::EOIR, id.to_eoir_v2());
    }

    pub(super) fn deactivate(&self, id: IntId) {
        self.gicc.write32(gicc::DIR, id.to_eoir_v2());
    }

    pub(super) fn set_bit(&self, what: super::Bit, intid: u32) {
        let (offset, bit) = bit_of(intid);
        let register = match what {
            super::Bit::Enable => gicd::ISENABLER,
            super::Bit::Disable => gicd::ICENABLER,
            super::Bit::ClearPending => gicd::ICPENDR,
            super::Bit::ClearActive => gicd::ICACTIVER,
        };
        self.gicd.write32(register + offset, bit);
    }

    pub(super) fn set_priority(&self, intid: u32, priority: u8) {
        self.gicd
            .write8(gicd::IPRIORITYR + intid as usize, priority);
    }

    pub(super) fn set_trigger(&self, intid: u32, edge: bool) {
        let (offset, bit) = edge_bit_of(intid);
        let _held = self.modify.lock();
        let old = self.gicd.read32(gicd::ICFGR + offset);
        self.gicd.write32(
            gicd::ICFGR + offset,
            if edge { old | bit } else { old & !bit },
        );
    }

    pub(super) fn set_target(&self, spi: u32, cpu: CpuId) -> Result<()> {
        let mask = self.interface_of(cpu)?;
        self.gicd.write8(gicd::ITARGETSR + spi as usize, mask);
        Ok(())
    }

    pub(super) fn send_sgi(&self, cpu: CpuId, id: u32) -> Result<()> {
        self.gicd
            .write32(gicd::SGIR, sgir(self.interface_of(cpu)?, id)?);
        Ok(())
    }

    fn interface_of(&self, cpu: CpuId) -> Result<u8> {
        match self
            .interfaces
            .get(cpu.0 as usize)
            .map_or(0, |i| i.load(Ordering::Acquire))
        {
            0 => Err(Error::Range),
            mask => Ok(mask),
        }
    }

    pub(super) fn lr_count(&self) -> u32 {
        self.list_registers
    }

    pub(super) fn read_lr(&self, n: u32) -> u32 {
        self.gich.read32(gich::LR + 4 * n as usize)
    }

    pub(super) fn write_lr(&self, n: u32, value: u32) {
        self.gich.write32(gich::LR + 4 * n as usize, value);
    }

    pub(super) fn hcr(&self) -> u32 {
        self.gich.read32(gich::HCR)
    }

    pub(super) fn set_hcr(&self, value: u32) {
        self.gich.write32(gich::HCR, value);
    }

    pub(super) fn vmcr(&self) -> u32 {
        self.gich.read32(gich::VMCR)
    }

    pub(super) fn set_vmcr(&self, value: u32) {
        self.gich.write32(gich::VMCR, value);
    }

    pub(super) fn apr(&self) -> u32 {
        self.gich.read32(gich::APR)
    }

    pub(super) fn set_apr(&self, value: u32) {
        self.gich.write32(gich::APR, value);
    }

    pub(super) fn misr(&self) -> u32 {
        self.gich.read32(gich::MISR)
    }

    /// A bit per list register, from two words of which the second exists beyond 32 registers.
    fn lr_bits(&self, register: usize) -> u64 {
        let low = self.gich.read32(register);
        let high = if self.list_registers > 32 {
            self.gich.read32(register + 4)
        } else {
            0
        };
        u64::from(high) << 32 | u64::from(low)
    }

    pub(super) fn eisr(&self) -> u64 {
        self.lr_bits(gich::EISR)
    }

    pub(super) fn elrsr(&self) -> u64 {
        self.lr_bits(gich::ELRSR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mmio::FakeRegisters;

    #[test]
    fn registers_are_programmed_as_the_manual_says() {
        let (mut d, mut c, mut h) = (
            FakeRegisters::new(0x1000),
            FakeRegisters::new(0x2000),
            FakeRegisters::new(0x200),
        );
        let (gicd, gicc, gich) = (d.mmio(), c.mmio(), h.mmio());
        gicd.write32(gicd::TYPER, 2);
        gicd.write32(gicd::ITARGETSR, 0x0404_0404);
        gich.write32(gich::VTR, 3);
        let layout = PhysicalLayoutV2::for_tests();
        let gic = GicV2::new(d.mmio(), c.mmio(), h.mmio(), &layout).unwrap();
        assert_eq!((gic.lines(), gic.lr_count()), (96, 4));
        gic.init_distributor();
        assert_eq!(gicd.read8(gicd::ITARGETSR + 95), 4);
        assert_eq!(gicd.read8(gicd::IPRIORITYR + 95), DEFAULT_PRIORITY);
        assert_eq!(
            gicd.read8(gicd::ITARGETSR + 96),
            0,
            "nothing past the last line"
        );

        assert_eq!(
            gic.send_sgi(CpuId(1), 0),
            Err(Error::Range),
            "not set up yet"
        );
        gic.init_cpu(CpuId(1)).unwrap();
        assert_eq!(gicc.read32(gicc::CTLR), 0x201);
        gic.send_sgi(CpuId(1), 7).unwrap();
        assert_eq!(gicd.read32(gicd::SGIR), 0x0004_0007);
        assert_eq!(gic.init_cpu(CpuId(8)), Err(Error::Range));

        gic.set_target(40, CpuId(1)).unwrap();
        assert_eq!(gicd.read8(gicd::ITARGETSR + 40), 4);
        gic.set_trigger(40, true);
        assert_eq!(gicd.read32(gicd::ICFGR + 8), 2 << 16);
        gic.set_trigger(40, false);
        assert_eq!(gicd.read32(gicd::ICFGR + 8), 0);

        gicc.write32(gicc::IAR, 1 << 10 | 3);
        let id = gic.ack().unwrap();
        gic.drop_priority(id);
        gic.deactivate(id);
        assert_eq!(
            (gicc.read32(gicc::EOIR), gicc.read32(gicc::DIR)),
            (1 << 10 | 3, 1 << 10 | 3)
        );
    }

    #[test]
    fn small_blocks_are_refused() {
        let mut d = FakeRegisters::new(0x1000);
        let layout = PhysicalLayoutV2::for_tests();
        assert!(GicV2::new(d.mmio(), d.mmio(), d.mmio(), &layout).is_err());
    }
}
