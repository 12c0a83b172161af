//! Reads and writes of the distributor's and the redistributors' registers.
//!
//! The accessing vCPU has been through [`VGic::sync`]: its own interrupts are all known here.

use super::irq::{Groups, Irq, IrqSet, PRIORITY_MASK};
use super::regs::{Bits, Reg, decode};
use super::types::{Fault, HostIrqs, Region, VcpuSet};
use super::{OWN, SPIS, VGic};
use crate::decode::AccessSize;
use crate::host::gic::{FIRST_SPI, SGIS};
use core::sync::atomic::Ordering;
use xen_core::VcpuId;

/// GICD_IIDR and GICR_IIDR: JEP106 code of Arm, as hypervisors do that have none of their own; product "O".
const IIDR: u32 = (b'O' as u32) << 24 | 0x43b;
/// GICR_WAKER: ProcessorSleep, as written, and ChildrenAsleep, which follows it.
const PROCESSOR_SLEEP: u64 = 1 << 1;
const CHILDREN_ASLEEP: u64 = 1 << 2;

impl VGic {
    /// A load by `vcpu`. Bits beyond the width are 0. Bytes are in little-endian order.
    ///
    /// # Errors
    /// A [`Fault`] stands for an external abort.
    pub fn mmio_read(
        &self,
        vcpu: VcpuId,
        region: Region,
        offset: u64,
        size: AccessSize,
    ) -> Result<u64, Fault> {
        let owner = self.owner_of(vcpu, region)?;
        let reg = decode(self.config.version, region, offset, size)?;
        let bytes = size.bytes() as u32;
        Ok(match reg {
            Reg::Reserved | Reg::Generate => 0,
            Reg::Control => self.control().into(),
            Reg::Type => self.dist_type().into(),
            Reg::Implementer => IIDR.into(),
            Reg::Peripheral2 => self.peripheral2().into(),
            Reg::Bits { what, first } => self.read_fields(owner, first, 32, 1, |_, irq| {
                u64::from(match what {
                    Bits::Group => irq.group1,
                    Bits::SetEnable | Bits::ClearEnable => irq.enabled,
                    Bits::SetPending | Bits::ClearPending => irq.shown_pending(),
                    Bits::SetActive | Bits::ClearActive => irq.shown_active(),
                })
            }),
            Reg::Priority { first } => {
                self.read_fields(owner, first, bytes, 8, |_, irq| irq.priority.into())
            }
            Reg::Trigger { first } => {
                self.read_fields(owner, first, 16, 2, |_, irq| u64::from(irq.edge) << 1)
            }
            // Those of SGIs and PPIs say which CPU interface is the reader's.
            Reg::Targets { first } => self.read_fields(owner, first, bytes, 8, |intid, irq| {
                if intid < FIRST_SPI {
                    VcpuSet::one(owner).bits() as u64 & 0xff
                } else {
                    irq.route
                }
            }),
            Reg::Sources { first, .. } => {
                self.read_fields(owner, first, bytes, 8, |_, irq| irq.shown_sources().into())
            }
            Reg::Route { intid, part } => {
                part.read(self.read_fields(owner, intid, 1, 64, |_, irq| irq.route))
            }
            Reg::RedistType { part } => part.read(self.redist_type(owner)),
            Reg::Waker => match self.bank(owner) {
                Some(bank) if bank.asleep.load(Ordering::Relaxed) => {
                    PROCESSOR_SLEEP | CHILDREN_ASLEEP
                }
                _ => 0,
            },
        })
    }

    /// A store by `vcpu`; bits of `value` beyond the width are ignored.
    ///
    /// # Errors
    /// A [`Fault`] stands for an external abort; nothing was changed.
    pub fn mmio_write(
        &self,
        vcpu: VcpuId,
        region: Region,
        offset: u64,
        size: AccessSize,
        value: u64,
        hw: &impl HostIrqs,
    ) -> Result<VcpuSet, Fault> {
        let owner = self.owner_of(vcpu, region)?;
        let reg = decode(self.config.version, region, offset, size)?;
        let value = value & size.mask();
        let bytes = size.bytes() as u32;
        let mut kicks = VcpuSet::EMPTY;
        match reg {
            Reg::Reserved
            | Reg::Type
            | Reg::Implementer
            | Reg::Peripheral2
            | Reg::RedistType { .. } => {}
            Reg::Control => self.set_groups(value as u8 & Groups::ALL, &mut kicks),
            Reg::Bits { what, first } => {
                self.write_fields(owner, first, 32, 1, value, &mut kicks, |intid, irq, bit| {
                    self.write_bit(what, intid, irq, bit != 0, owner, hw);
                })
            }
            Reg::Priority { first } => {
                self.write_fields(owner, first, bytes, 8, value, &mut kicks, |_, irq, byte| {
                    irq.priority = byte as u8 & PRIORITY_MASK;
                });
            }
            Reg::Trigger { first } => self.write_fields(
                owner,
                first,
                16,
                2,
                value,
                &mut kicks,
                |intid, irq, bits| {
                    let edge = bits & 2 != 0;
                    if intid < SGIS || edge == irq.edge {
                        return;
                    }
                    irq.edge = edge;
                    if let Some(pintid) = irq.hw {
                        hw.set_trigger(pintid, edge);
                    }
                },
            ),
            Reg::Targets { first } => {
                self.write_fields(
                    owner,
                    first,
                    bytes,
                    8,
                    value,
                    &mut kicks,
                    |intid, irq, byte| {
                        if intid >= FIRST_SPI {
                            self.set_route(irq, self.existing(byte as u8).into(), hw);
                        }
                    },
                );
            }
            #[cfg(feature = "gicv2")]
            Reg::Generate => kicks = self.sgir(vcpu, value as u32),
            #[cfg(not(feature = "gicv2"))]
            Reg::Generate => {}
            Reg::Sources { first, set } => {
                self.write_fields(owner, first, bytes, 8, value, &mut kicks, |_, irq, byte| {
                    irq.write_sources(self.existing(byte as u8), set);
                });
            }
            Reg::Route { intid, part } => {
                self.write_fields(owner, intid, 1, 64, value, &mut kicks, |_, irq, value| {
                    self.set_route(irq, self.route_bits(part.write(irq.route, value)), hw);
                })
            }
            Reg::Waker => {
                if let Some(bank) = self.bank(owner) {
                    bank.asleep
                        .store(value & PROCESSOR_SLEEP != 0, Ordering::Relaxed);
                }
            }
        }
        Ok(kicks)
    }

    /// The vCPU whose SGIs and PPIs an access means.
    fn owner_of(&self, vcpu: VcpuId, region: Region) -> Result<VcpuId, Fault> {
        let owner = match region {
            Region::Dist => vcpu,
            Region::Redist(owner) => owner,
        };
        let exists = |v| self.bank(v).is_some();
        if exists(vcpu) && exists(owner) {
            Ok(owner)
        } else {
            Err(Fault::NoRegion)
        }
    }

    fn with_set<R>(
        &self,
        owner: VcpuId,
        first: u32,
        f: impl FnOnce(&mut IrqSet) -> R,
    ) -> Option<R> {
        if first >= FIRST_SPI {
            return Some(f(&mut self.spis.lock()));
        }
        self.bank(owner).map(|bank| f(&mut bank.irqs.lock()))
    }

    /// Puts `count` fields of `width` bits together, interrupt `first` lowest. Interrupts that are not there are 0.
    fn read_fields(
        &self,
        owner: VcpuId,
        first: u32,
        count: u32,
        width: u32,
        f: impl Fn(u32, &Irq) -> u64,
    ) -> u64 {
        self.with_set(owner, first, |set| {
            let present = (0..count).filter_map(|n| set.get(first + n).map(|irq| (n, irq)));
            present.fold(0, |value, (n, irq)| {
                value | f(first + n, irq) << (n * width)
            })
        })
        .unwrap_or(0)
    }

    /// The reverse of [`VGic::read_fields`].
    #[expect(
        clippy::too_many_arguments,
        reason = "where, how the fields lie, what is written, what comes of it"
    )]
    fn write_fields(
        &self,
        owner: VcpuId,
        first: u32,
        count: u32,
        width: u32,
        value: u64,
        kicks: &mut VcpuSet,
        f: impl Fn(u32, &mut Irq, u64),
    ) {
        let mask = u64::MAX >> (64 - width);
        self.with_set(owner, first, |set| {
            for n in 0..count {
                let field = value >> (n * width) & mask;
                self.change(set, first + n, kicks, |irq| f(first + n, irq, field));
            }
        });
    }

    fn write_bit(
        &self,
        what: Bits,
        intid: u32,
        irq: &mut Irq,
        bit: bool,
        by: VcpuId,
        hw: &impl HostIrqs,
    ) {
        // SGIs of a GICv2 are made pending by their sources only.
        let sourced = intid < SGIS && !self.is_v3();
        match what {
            Bits::Group => irq.group1 = bit,
            _ if !bit => {}
            Bits::SetEnable => irq.set_enabled(true, hw),
            Bits::ClearEnable => irq.set_enabled(false, hw),
            Bits::SetPending if !sourced => irq.latch = true,
            Bits::ClearPending if !sourced => irq.clear_pending(hw),
            Bits::SetPending | Bits::ClearPending => {}
            Bits::SetActive => irq.set_active(by),
            Bits::ClearActive => irq.clear_active(hw),
        }
    }

    fn set_route(&self, irq: &mut Irq, route: u64, hw: &impl HostIrqs) {
        irq.route = route;
        let target = self.resolve(route);
        if target == irq.target {
            return;
        }
        irq.target = target;
        if let (Some(pintid), Some(vcpu)) = (irq.hw, target) {
            hw.set_target_of(pintid, vcpu);
        }
    }

    /// Writes GICD_CTLR's group enables.
    fn set_groups(&self, new: u8, kicks: &mut VcpuSet) {
        let spis = self.spis.lock();
        let old = Groups(self.groups.swap(new, Ordering::AcqRel));
        let new = Groups(new);
        if old == new {
            return;
        }
        let mut look = |set: &IrqSet, flag: u8| {
            for (_, irq) in set.iter() {
                let holder = irq.held.map(|h| h.vcpu);
                let before = irq.deliverable(old);
                let vcpu = holder.or(irq.deliverable(new).filter(|_| before.is_none()));
                if let Some((vcpu, bank)) = vcpu.and_then(|v| Some((v, self.bank(v)?))) {
                    bank.dirty.fetch_or(flag, Ordering::AcqRel);
                    kicks.insert(vcpu);
                }
            }
        };
        look(&spis, SPIS);
        for bank in &self.banks {
            look(&bank.irqs.lock(), OWN);
        }
    }

    fn control(&self) -> u32 {
        let groups = self.groups().0.into();
        #[cfg(feature = "gicv3")]
        if self.is_v3() {
            return groups | super::v3::CTLR_FIXED;
        }
        groups
    }

    fn dist_type(&self) -> u32 {
        #[cfg(feature = "gicv3")]
        if self.is_v3() {
            return super::v3::typer(self.lines);
        }
        #[cfg(feature = "gicv2")]
        return super::v2::typer(self.config.vcpus, self.lines);
        #[cfg(not(feature = "gicv2"))]
        0
    }

    fn peripheral2(&self) -> u32 {
        #[cfg(feature = "gicv3")]
        if self.is_v3() {
            return super::v3::PIDR2;
        }
        #[cfg(feature = "gicv2")]
        return super::v2::PIDR2;
        #[cfg(not(feature = "gicv2"))]
        0
    }

    fn redist_type(&self, owner: VcpuId) -> u64 {
        #[cfg(feature = "gicv3")]
        return super::v3::redist_typer(owner, self.config.vcpus);
        #[cfg(not(feature = "gicv3"))]
        0
    }

    /// The bits of a byte of CPU interfaces that stand for vCPUs.
    fn existing(&self, mask: u8) -> u8 {
        mask & VcpuSet::first(self.config.vcpus).bits() as u8
    }

    fn route_bits(&self, route: u64) -> u64 {
        #[cfg(feature = "gicv3")]
        return super::v3::route(route);
        #[cfg(not(feature = "gicv3"))]
        route
    }
}
