//! What is Arm's of a domain: its interrupt controller and what its vCPUs call themselves.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use xen_core::{DomainConfig, Error, GuestPhysAddr, Result};

use super::Arm;
use crate::decode::{GuestIdRegs, IdConfig};
use crate::host::gic::GicVersion;
use crate::vgic::{self, VGic};

/// Where a domain sees its interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GicLayout {
    /// GICv2.
    V2 {
        /// Distributor, 4 KiB.
        dist: GuestPhysAddr,
        /// CPU interface, behind which lies the hardware's virtual one.
        cpu: GuestPhysAddr,
    },
    /// GICv3.
    V3 {
        /// Distributor, 64 KiB.
        dist: GuestPhysAddr,
        /// Redistributor regions: address and size, 128 KiB for each vCPU.
        redist: Vec<(GuestPhysAddr, u64)>,
    },
}

/// Sizes of the register frames.
const V2_DIST_SIZE: u64 = 0x1000;
const V3_DIST_SIZE: u64 = 0x1_0000;
const REDIST_SIZE: u64 = 0x2_0000;

/// Addresses of a domain that is not shown the machine's own (public header `arch-arm.h`).
const GUEST_V2: GicLayout = GicLayout::V2 {
    dist: GuestPhysAddr(0x0300_1000),
    cpu: GuestPhysAddr(0x0300_2000),
};
const GUEST_V3_DIST: GuestPhysAddr = GuestPhysAddr(0x0300_1000);
const GUEST_V3_REDIST: (GuestPhysAddr, u64) = (GuestPhysAddr(0x0302_0000), 0x0100_0000);

/// The private interrupt that announces events (`GUEST_EVTCHN_PPI`).
pub(super) const EVENT_PPI: u32 = 31;

/// Arm's part of a domain.
pub struct ArmDomain {
    /// The virtual interrupt controller.
    pub vgic: VGic,
    /// Where its registers are.
    pub gic: GicLayout,
    /// Identification registers its vCPUs read.
    pub ids: GuestIdRegs,
    event_ppi: AtomicU32,
}

impl ArmDomain {
    pub(super) fn new(arm: &Arm, config: &DomainConfig) -> Result<Self> {
        let native = arm.gic.version();
        let version = match (config.gic_version, native) {
            (0, native) => native,
            (2, GicVersion::V2) => GicVersion::V2,
            (3, GicVersion::V3) => GicVersion::V3,
            _ => return Err(Error::Inval),
        };
        let gic = match (config.hardware, version) {
            (true, _) => arm.gic_layout.clone(),
            (false, GicVersion::V2) => GUEST_V2,
            (false, GicVersion::V3) => GicLayout::V3 {
                dist: GUEST_V3_DIST,
                redist: alloc::vec![GUEST_V3_REDIST],
            },
        };
        if let GicLayout::V3 { redist, .. } = &gic
            && redist
                .iter()
                .map(|(_, size)| size / REDIST_SIZE)
                .sum::<u64>()
                < config.max_vcpus.into()
        {
            return Err(Error::Inval);
        }
        let vgic = VGic::new(vgic::Config {
            version,
            vcpus: config.max_vcpus,
            spis: config.interrupts,
        })?;
        let id_config = IdConfig {
            gicv3: version == GicVersion::V3,
            pa_range: pa_range(arm.ipa_bits()),
        };
        Ok(Self {
            vgic,
            gic,
            ids: GuestIdRegs::new(&arm.ids, id_config),
            event_ppi: AtomicU32::new(EVENT_PPI),
        })
    }

    /// The private interrupt that announces events.
    pub fn event_ppi(&self) -> u32 {
        self.event_ppi.load(Ordering::Relaxed)
    }

    /// Announces events by another private interrupt, which no device of the domain uses.
    pub fn set_event_ppi(&self, ppi: u32) {
        self.event_ppi.store(ppi, Ordering::Relaxed);
    }

    /// The register frame of the interrupt controller at an address, and the offset in it.
    pub(super) fn gic_region(&self, address: GuestPhysAddr) -> Option<(vgic::Region, u64)> {
        let within =
            |base: GuestPhysAddr, size: u64| address.0.checked_sub(base.0).filter(|o| *o < size);
        match &self.gic {
            GicLayout::V2 { dist, .. } => {
                within(*dist, V2_DIST_SIZE).map(|o| (vgic::Region::Dist, o))
            }
            GicLayout::V3 { dist, redist } => {
                if let Some(offset) = within(*dist, V3_DIST_SIZE) {
                    return Some((vgic::Region::Dist, offset));
                }
                let mut first = 0;
                for (base, size) in redist {
                    if let Some(offset) = within(*base, *size) {
                        let index = first + offset / REDIST_SIZE;
                        return Some((
                            vgic::Region::Redist(xen_core::VcpuId(index as u32)),
                            offset % REDIST_SIZE,
                        ));
                    }
                    first += size / REDIST_SIZE;
                }
                None
            }
        }
    }
}

/// ID_AA64MMFR0_EL1.PARange for so many bits.
const fn pa_range(bits: u8) -> u8 {
    match bits {
        0..=35 => 0,
        36..=39 => 1,
        40..=41 => 2,
        42..=43 => 3,
        44..=47 => 4,
        _ => 5,
    }
}
