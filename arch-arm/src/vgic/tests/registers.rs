//! The registers one by one: values, widths, what is ignored.

use super::sim::versions;
use crate::decode::AccessSize::{self, Byte, Double, Half, Word};
use crate::vgic::{Config, Fault, GicVersion, NoHostIrqs, Region, VGic};
use proptest::prelude::*;
use xen_core::VcpuId;

const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);
const DIST: Region = Region::Dist;
const OWN: Region = Region::Redist(V0);

fn vgic(version: GicVersion) -> VGic {
    VGic::new(Config {
        version,
        vcpus: 2,
        spis: 64,
    })
    .unwrap()
}

/// One access: who, where, width, value written if it is a store, expected value of a load.
type Step = (VcpuId, Region, u64, AccessSize, Option<u64>, u64);

fn run(vgic: &VGic, steps: &[Step]) {
    for &(vcpu, region, offset, size, written, expected) in steps {
        if let Some(value) = written {
            vgic.mmio_write(vcpu, region, offset, size, value, &NoHostIrqs)
                .map(drop)
                .unwrap();
        }
        let read = vgic.mmio_read(vcpu, region, offset, size);
        assert_eq!(
            read,
            Ok(expected),
            "{region:?} {offset:#x} {size:?} after {written:x?}"
        );
    }
}

#[cfg(feature = "gicv2")]
#[test]
fn version_two() {
    let all = 0xffff_ffff;
    run(
        &vgic(GicVersion::V2),
        &[
            (V0, DIST, 0x000, Word, None, 0),
            (V0, DIST, 0x000, Word, Some(all), 3),
            (V0, DIST, 0x004, Word, Some(all), 1 << 5 | 2),
            (V0, DIST, 0x008, Word, Some(all), 0x4f00_043b),
            (V0, DIST, 0xfe8, Word, Some(all), 0x2b),
            // Groups: all 0 after reset; of SGIs and PPIs each vCPU has its own.
            (V0, DIST, 0x080, Word, Some(0xff), 0xff),
            (V1, DIST, 0x080, Word, None, 0),
            (V0, DIST, 0x084, Word, Some(5), 5),
            (V1, DIST, 0x084, Word, None, 5),
            // INTIDs end at 96.
            (V0, DIST, 0x08c, Word, Some(all), 0),
            // Enables.
            (V0, DIST, 0x100, Word, None, 0xffff),
            (V0, DIST, 0x104, Word, Some(0xf0), 0xf0),
            (V0, DIST, 0x184, Word, Some(0x30), 0xc0),
            (V0, DIST, 0x104, Word, Some(0), 0xc0),
            // Pending: not of SGIs, these have sources.
            (V0, DIST, 0x200, Word, Some(all), 0xffff_0000),
            (V0, DIST, 0x280, Word, Some(0x00ff_0000), 0xff00_0000),
            (V0, DIST, 0xf20, Word, Some(0x0301_ff00), 0x0301_0300),
            (V0, DIST, 0x200, Word, None, 0xff00_000e),
            (V0, DIST, 0xf12, Byte, Some(1), 0),
            (V0, DIST, 0xf10, Word, Some(0x0100_0000), 0x0200_0300),
            (V0, DIST, 0x280, Word, Some(all), 0xa),
            // Active.
            (V0, DIST, 0x304, Word, Some(3), 3),
            (V0, DIST, 0x384, Word, Some(1), 2),
            // Priorities have 5 bits.
            (V0, DIST, 0x421, Byte, Some(0xff), 0xf8),
            (V0, DIST, 0x420, Word, None, 0xf800),
            (V0, DIST, 0x420, Word, Some(0x1020_3047), 0x1020_3040),
            (V0, DIST, 0x460, Word, Some(all), 0),
            // Targets: of one's own interrupts the reader; others any that exist.
            (V0, DIST, 0x800, Word, Some(all), 0x0101_0101),
            (V1, DIST, 0x81c, Word, Some(0), 0x0202_0202),
            (V0, DIST, 0x820, Word, None, 0x0101_0101),
            (V0, DIST, 0x821, Byte, Some(0xff), 3),
            (V0, DIST, 0x820, Word, Some(0xfc02_0001), 0x0002_0001),
            // Triggers: SGIs are edges.
            (V0, DIST, 0xc00, Word, Some(0), 0xaaaa_aaaa),
            (V0, DIST, 0xc04, Word, Some(all), 0xaaaa_aaaa),
            (V0, DIST, 0xc08, Word, Some(0b1001), 0b1000),
            (V0, DIST, 0xf00, Word, Some(0x0300_0000), 0),
            // Reserved, and security registers.
            (V0, DIST, 0x00c, Word, Some(all), 0),
            (V0, DIST, 0xe00, Word, Some(all), 0),
            (V0, DIST, 0xd00, Half, Some(all), 0),
            (V0, DIST, 0x1000, Double, Some(all), 0),
        ],
    );
    let no = VGic::new(Config {
        version: GicVersion::V2,
        vcpus: 2,
        spis: 64,
    })
    .unwrap();
    assert_eq!(no.mmio_read(V0, OWN, 0, Word), Err(Fault::NoRegion));
}

#[cfg(feature = "gicv3")]
#[test]
fn version_three() {
    let all = 0xffff_ffff;
    let (own, other) = (OWN, Region::Redist(V1));
    run(
        &vgic(GicVersion::V3),
        &[
            (V0, DIST, 0x000, Word, None, 0x50),
            (V0, DIST, 0x000, Word, Some(all), 0x53),
            (V0, DIST, 0x004, Word, Some(all), 0x0148_0002),
            (V0, DIST, 0x008, Word, Some(all), 0x4f00_043b),
            (V0, DIST, 0x00c, Word, Some(all), 0),
            (V0, DIST, 0x010, Word, Some(all), 0),
            (V0, DIST, 0x040, Word, Some(32), 0),
            (V0, DIST, 0xffe8, Word, Some(all), 0x3b),
            (V0, DIST, 0xfe8, Word, Some(all), 0),
            // Affinity routing: SGIs, PPIs and targets are not here.
            (V0, DIST, 0x080, Word, Some(all), 0),
            (V0, DIST, 0x100, Word, Some(all), 0),
            (V0, DIST, 0x41c, Word, Some(all), 0),
            (V0, DIST, 0x800, Word, Some(all), 0),
            (V0, DIST, 0xc04, Word, Some(all), 0),
            (V0, DIST, 0xf00, Word, Some(all), 0),
            (V0, DIST, 0x084, Word, None, all),
            (V0, DIST, 0x104, Word, Some(2), 2),
            // Routes, whole and in halves.
            (V0, DIST, 0x6100, Double, Some(u64::MAX), 0xff_80ff_ffff),
            (V0, DIST, 0x6104, Word, None, 0xff),
            (V0, DIST, 0x6104, Word, Some(0), 0),
            (V0, DIST, 0x6100, Word, Some(1), 1),
            (V0, DIST, 0x6100, Double, None, 1),
            (V0, DIST, 0x60f8, Double, Some(1), 0),
            (V0, DIST, 0x6000 + 8 * 96, Double, Some(1), 0),
            // Redistributors.
            (V0, own, 0x0000, Word, Some(all), 0),
            (V0, own, 0x0004, Word, Some(all), 0x4f00_043b),
            (V0, own, 0x0008, Double, Some(u64::MAX), 0),
            (V0, other, 0x0008, Double, None, 1 << 32 | 1 << 8 | 1 << 4),
            (V0, other, 0x000c, Word, None, 1),
            (V0, own, 0x0014, Word, None, 0b110),
            (V0, own, 0x0014, Word, Some(0), 0),
            (V0, other, 0x0014, Word, None, 0b110),
            (V0, own, 0x0070, Double, Some(u64::MAX), 0),
            (V0, own, 0xffe8, Word, Some(all), 0x3b),
            // SGI frame.
            (V0, own, 0x1_0080, Word, Some(0xf), 0xf),
            (V0, other, 0x1_0080, Word, None, all),
            (V0, own, 0x1_0180, Word, Some(0xff), 0xff00),
            (V1, own, 0x1_0100, Word, Some(1 << 27), 0x0800_ff00),
            (V0, own, 0x1_0200, Word, Some(0x11), 0x11),
            (V0, own, 0x1_0280, Word, Some(0x10), 0x01),
            (V0, own, 0x1_0300, Word, Some(0x11), 0x11),
            (V0, own, 0x1_0380, Word, Some(0x10), 0x01),
            (V0, own, 0x1_041f, Byte, Some(0xa7), 0xa0),
            (V0, own, 0x1_041c, Word, None, 0xa000_0000),
            (V0, own, 0x1_0420, Word, Some(all), 0),
            (V0, own, 0x1_0c00, Word, Some(0), 0xaaaa_aaaa),
            (V0, own, 0x1_0c04, Word, Some(0x8000_0000), 0x8000_0000),
            (V0, own, 0x1_0104, Word, Some(all), 0),
            (V0, own, 0x1_0d00, Word, Some(all), 0),
            (V0, own, 0x1_fff0, Double, Some(all), 0),
        ],
    );
}

#[test]
fn widths_a_register_does_not_have_abort_and_change_nothing() {
    for version in versions() {
        let vgic = vgic(version);
        let mut cases = vec![
            (DIST, 0x104, Byte, Fault::Size),
            (DIST, 0x104, Half, Fault::Size),
            (DIST, 0x100, Double, Fault::Size),
            (DIST, 0x420, Half, Fault::Size),
            (DIST, 0x420, Double, Fault::Size),
            (DIST, 0x000, Byte, Fault::Size),
            (DIST, 0x102, Word, Fault::Unaligned),
            (DIST, 0x0d1, Half, Fault::Unaligned),
            (DIST, 0x6104, Double, Fault::Unaligned),
            (Region::Redist(VcpuId(2)), 0x0, Word, Fault::NoRegion),
        ];
        if version == GicVersion::V3 {
            cases.extend([
                (DIST, 0x6100, Byte, Fault::Size),
                (OWN, 0x8, Half, Fault::Size),
                (OWN, 0x1_0100, Byte, Fault::Size),
            ]);
        }
        for (region, offset, size, fault) in cases {
            assert_eq!(
                vgic.mmio_read(V0, region, offset, size),
                Err(fault),
                "{offset:#x}"
            );
            assert_eq!(
                vgic.mmio_write(V0, region, offset, size, u64::MAX, &NoHostIrqs),
                Err(fault),
                "{offset:#x}"
            );
        }
        assert_eq!(vgic.mmio_read(V0, DIST, 0x104, Word), Ok(0));
        assert_eq!(
            vgic.mmio_read(VcpuId(2), DIST, 0x104, Word),
            Err(Fault::NoRegion)
        );
    }
}

proptest! {
    /// Whatever a guest writes anywhere: no panic, and loads stay within their width.
    #[test]
    fn any_access_is_answered(
        accesses in prop::collection::vec((0u32..3, 0u32..4, 0u64..0x2_0010, 0usize..4, any::<bool>(), any::<u64>()), 1..200)
    ) {
        for version in versions() {
            let vgic = vgic(version);
            for &(vcpu, region, offset, size, aligned, value) in &accesses {
                let size = [Byte, Half, Word, Double][size];
                let region = if region < 3 { Region::Redist(VcpuId(region)) } else { DIST };
                let offset = if aligned { offset & !(size.bytes() - 1) } else { offset };
                let _ = vgic.mmio_write(VcpuId(vcpu), region, offset, size, value, &NoHostIrqs);
                if let Ok(read) = vgic.mmio_read(VcpuId(vcpu), region, offset, size) {
                    prop_assert_eq!(read & !size.mask(), 0);
                }
            }
        }
    }
}
