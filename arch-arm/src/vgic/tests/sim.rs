//! A machine to run the model on: CPUs with list registers as the architecture describes them, and a controller of
//! physical SPIs that notices what must not be.

use crate::decode::AccessSize;
use crate::host::gic::{ListRegister, LrSource, LrState};
use crate::vgic::{Config, GicVersion, HostIrqs, LrImage, Region, VGic, VcpuSet};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use xen_core::VcpuId;

/// What was asked of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Enable(u32),
    Disable(u32),
    Trigger(u32, bool),
    Target(u32, VcpuId),
    Deactivate(u32),
}

/// Physical SPIs.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) asked: RefCell<Vec<Asked>>,
    pub(super) active: RefCell<BTreeSet<u32>>,
}

impl Host {
    /// The device fires and EL2 takes it; `false` if it is still active.
    pub(super) fn take(&self, pintid: u32) -> bool {
        self.active.borrow_mut().insert(pintid)
    }

    pub(super) fn end(&self, pintid: u32) {
        assert!(
            self.active.borrow_mut().remove(&pintid),
            "physical interrupt {pintid} ended twice"
        );
    }
}

impl HostIrqs for Host {
    fn enable(&self, pintid: u32) {
        self.asked.borrow_mut().push(Asked::Enable(pintid));
    }
    fn disable(&self, pintid: u32) {
        self.asked.borrow_mut().push(Asked::Disable(pintid));
    }
    fn set_trigger(&self, pintid: u32, edge: bool) {
        self.asked.borrow_mut().push(Asked::Trigger(pintid, edge));
    }
    fn set_target_of(&self, pintid: u32, vcpu: VcpuId) {
        self.asked.borrow_mut().push(Asked::Target(pintid, vcpu));
    }
    fn deactivate(&self, pintid: u32) {
        self.asked.borrow_mut().push(Asked::Deactivate(pintid));
        self.end(pintid);
    }
}

/// An interrupt as the guest acknowledges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) intid: u32,
    pub(super) source: u8,
    pub(super) priority: u8,
    pub(super) group1: bool,
}

/// One CPU that is always in the guest but for the time of an exit.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    image: LrImage,
    pub(super) lrs: Vec<ListRegister>,
    pub(super) running: Vec<Acked>,
    eoi_count: u32,
}

fn source_of(lr: &ListRegister) -> u8 {
    match lr.source {
        LrSource::Software { cpu, .. } => cpu,
        LrSource::Hardware { .. } => 0,
    }
}

impl Cpu {
    pub(super) fn running_priority(&self) -> u8 {
        self.running.last().map_or(0xff, |a| a.priority)
    }

    /// Reading the acknowledge register: the most urgent pending interrupt, if it preempts.
    fn acknowledge(&mut self) -> Option<Acked> {
        let running = self.running_priority();
        let pending = self
            .lrs
            .iter_mut()
            .filter(|lr| lr.state == LrState::PENDING);
        let lr = pending
            .min_by_key(|lr| lr.priority)
            .filter(|lr| lr.priority < running)?;
        lr.state = LrState::ACTIVE;
        let acked = Acked {
            intid: lr.virq,
            source: source_of(lr),
            priority: lr.priority,
            group1: lr.group1,
        };
        self.running.push(acked);
        Some(acked)
    }

    /// Writing the end-of-interrupt register for the last acknowledged: priority drop and deactivation.
    fn end(&mut self, host: &Host) -> Option<Acked> {
        let acked = self.running.pop()?;
        let found = self.lrs.iter_mut().find(|lr| {
            lr.virq == acked.intid
                && lr.state.contains(LrState::ACTIVE)
                && source_of(lr) == acked.source
        });
        match found {
            Some(lr) => {
                lr.state.remove(LrState::ACTIVE);
                if let LrSource::Hardware { pirq } = lr.source {
                    host.end(pirq);
                }
            }
            None => self.eoi_count += 1,
        }
        Some(acked)
    }

    /// The maintenance interrupt is asserted.
    fn maintenance(&self) -> bool {
        let ended = |lr: &ListRegister| {
            lr.state.is_empty() && matches!(lr.source, LrSource::Software { eoi: true, .. })
        };
        let no_pending = self.image.hcr() & 1 << 3 != 0;
        let not_present = self.image.hcr() & 1 << 2 != 0;
        self.lrs.iter().any(ended)
            || no_pending && !self.lrs.iter().any(|lr| lr.state == LrState::PENDING)
            || not_present && self.eoi_count != 0
    }
}

/// Guest and hosts together.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) vgic: VGic,
    pub(super) host: Host,
    pub(super) cpus: Vec<Cpu>,
    pub(super) lr_count: usize,
    /// Kicks that were sent and have not arrived; they arrive at once unless `lazy`.
    pub(super) kicked: VcpuSet,
    pub(super) lazy: bool,
}

impl Machine {
    pub(super) fn new(version: GicVersion, vcpus: u32, lr_count: usize) -> Self {
        let vgic = VGic::new(Config {
            version,
            vcpus,
            spis: 64,
        })
        .unwrap();
        let cpus = (0..vcpus).map(|_| Cpu::default()).collect();
        Self {
            vgic,
            host: Host::default(),
            cpus,
            lr_count,
            kicked: VcpuSet::EMPTY,
            lazy: false,
        }
    }

    pub(super) fn vcpus(&self) -> impl Iterator<Item = VcpuId> + use<> {
        (0..self.cpus.len() as u32).map(VcpuId)
    }

    pub(super) fn cpu(&mut self, vcpu: VcpuId) -> &mut Cpu {
        &mut self.cpus[vcpu.0 as usize]
    }

    pub(super) fn leave(&mut self, vcpu: VcpuId) {
        self.kicked.remove(vcpu);
        let cpu = &mut self.cpus[vcpu.0 as usize];
        for (n, lr) in cpu.lrs.drain(..).enumerate() {
            cpu.image.read_back(n, lr);
        }
        let eoi_count = core::mem::take(&mut cpu.eoi_count);
        let kicks = self.vgic.sync(vcpu, &mut cpu.image, eoi_count, &self.host);
        assert!(!kicks.contains(vcpu));
        self.kicked = self.kicked.union(kicks);
    }

    pub(super) fn enter(&mut self, vcpu: VcpuId) {
        let cpu = &mut self.cpus[vcpu.0 as usize];
        self.vgic.flush(vcpu, self.lr_count, &mut cpu.image);
        cpu.lrs = cpu.image.used().to_vec();
        assert!(!cpu.maintenance(), "{vcpu:?} would exit for ever: {cpu:?}");
    }

    pub(super) fn exit(&mut self, vcpu: VcpuId) {
        self.leave(vcpu);
        self.enter(vcpu);
    }

    /// Delivers kicks, and the kicks of the exits they cause.
    pub(super) fn deliver_kicks(&mut self) {
        while let Some(vcpu) = self.kicked.iter().next() {
            self.exit(vcpu);
        }
    }

    pub(super) fn kick(&mut self, kicks: VcpuSet) {
        self.kicked = self.kicked.union(kicks);
        if !self.lazy {
            self.deliver_kicks();
        }
        self.check();
    }

    pub(super) fn ack(&mut self, vcpu: VcpuId) -> Option<Acked> {
        let acked = self.cpu(vcpu).acknowledge();
        self.maintain(vcpu);
        acked
    }

    pub(super) fn eoi(&mut self, vcpu: VcpuId) -> Option<Acked> {
        let cpu = &mut self.cpus[vcpu.0 as usize];
        let ended = cpu.end(&self.host);
        self.maintain(vcpu);
        ended
    }

    fn maintain(&mut self, vcpu: VcpuId) {
        if self.cpu(vcpu).maintenance() {
            self.exit(vcpu);
        }
        self.kick(VcpuSet::EMPTY);
    }

    pub(super) fn write(
        &mut self,
        vcpu: VcpuId,
        region: Region,
        offset: u64,
        size: AccessSize,
        value: u64,
    ) {
        self.leave(vcpu);
        let kicks = self
            .vgic
            .mmio_write(vcpu, region, offset, size, value, &self.host)
            .unwrap();
        self.enter(vcpu);
        self.kick(kicks);
    }

    pub(super) fn write32(&mut self, vcpu: VcpuId, region: Region, offset: u64, value: u32) {
        self.write(vcpu, region, offset, AccessSize::Word, value.into());
    }

    pub(super) fn read32(&self, vcpu: VcpuId, region: Region, offset: u64) -> u32 {
        self.vgic
            .mmio_read(vcpu, region, offset, AccessSize::Word)
            .unwrap() as u32
    }

    /// Where the registers of `intid` are, with the offset at which its frame starts.
    pub(super) fn home(&self, vcpu: VcpuId, intid: u32) -> (Region, u64) {
        if intid < 32 && self.vgic.config().version == GicVersion::V3 {
            (Region::Redist(vcpu), 0x1_0000)
        } else {
            (Region::Dist, 0)
        }
    }

    /// Writes the bit of `intid` in the bit array at `base`, as `vcpu`.
    pub(super) fn write_bit(&mut self, vcpu: VcpuId, base: u64, intid: u32) {
        let (region, frame) = self.home(vcpu, intid);
        self.write32(
            vcpu,
            region,
            frame + base + u64::from(intid / 32 * 4),
            1 << (intid % 32),
        );
    }

    pub(super) fn read_bit(&self, vcpu: VcpuId, base: u64, intid: u32) -> bool {
        let (region, frame) = self.home(vcpu, intid);
        self.read32(vcpu, region, frame + base + u64::from(intid / 32 * 4)) >> (intid % 32) & 1 != 0
    }

    pub(super) fn set_priority(&mut self, vcpu: VcpuId, intid: u32, priority: u8) {
        let (region, frame) = self.home(vcpu, intid);
        self.write(
            vcpu,
            region,
            frame + 0x400 + u64::from(intid),
            AccessSize::Byte,
            priority.into(),
        );
    }

    pub(super) fn set_edge(&mut self, vcpu: VcpuId, intid: u32, edge: bool) {
        let (region, frame) = self.home(vcpu, intid);
        let offset = frame + 0xc00 + u64::from(intid / 16 * 4);
        let bit = 2 << (intid % 16 * 2);
        let old = self.read32(vcpu, region, offset);
        self.write32(
            vcpu,
            region,
            offset,
            if edge { old | bit } else { old & !bit },
        );
    }

    pub(super) fn set_target(&mut self, by: VcpuId, spi: u32, vcpu: VcpuId) {
        match self.vgic.config().version {
            GicVersion::V2 => {
                self.write(
                    by,
                    Region::Dist,
                    0x800 + u64::from(spi),
                    AccessSize::Byte,
                    1 << vcpu.0,
                );
            }
            GicVersion::V3 => {
                self.write(
                    by,
                    Region::Dist,
                    0x6000 + u64::from(spi) * 8,
                    AccessSize::Double,
                    vcpu.0.into(),
                );
            }
        }
    }

    /// Enables both groups and one interrupt.
    pub(super) fn enable(&mut self, vcpu: VcpuId, intid: u32) {
        self.write32(vcpu, Region::Dist, 0, 3);
        self.write_bit(vcpu, 0x100, intid);
    }

    fn check(&self) {
        let mut where_is = BTreeMap::new();
        for (n, cpu) in self.cpus.iter().enumerate() {
            assert!(cpu.lrs.len() <= self.lr_count);
            let mut own = BTreeSet::new();
            for lr in cpu.lrs.iter().filter(|lr| !lr.state.is_empty()) {
                assert!(own.insert(lr.virq), "vCPU {n} holds {} twice", lr.virq);
                if lr.virq >= 32 {
                    let other = where_is.insert(lr.virq, n);
                    assert_eq!(other, None, "SPI {} is in two vCPUs", lr.virq);
                }
                let both = lr.state == LrState::PENDING | LrState::ACTIVE;
                assert!(
                    !(both && matches!(lr.source, LrSource::Hardware { .. })),
                    "hardware cannot do that"
                );
            }
        }
    }
}

/// The versions that are compiled in.
pub(super) fn versions() -> Vec<GicVersion> {
    let mut all = Vec::new();
    if cfg!(feature = "gicv2") {
        all.push(GicVersion::V2);
    }
    if cfg!(feature = "gicv3") {
        all.push(GicVersion::V3);
    }
    all
}
