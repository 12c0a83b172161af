//! Tests on images and maps made here; real kernels, for those who have some, at the end.

mod acpi;
mod images;
mod memory;
mod packed;
mod plan;
mod real;

use crate::multiboot::{MemoryKind, Region};
use crate::range::PhysRange;
use xen_core::HostPhysAddr;

const M: u64 = 1 << 20;

fn range(base: u64, end: u64) -> PhysRange {
    PhysRange::from_bounds(HostPhysAddr(base), HostPhysAddr(end)).unwrap()
}

fn region(base: u64, end: u64, kind: MemoryKind) -> Region {
    Region {
        base,
        size: end - base,
        kind,
    }
}

/// A PC with 6 GiB, as QEMU's firmware describes it.
fn pc() -> Vec<Region> {
    use MemoryKind::{AcpiNvs, AcpiReclaimable, Ram, Reserved};
    vec![
        region(0, 0x9_fc00, Ram),
        region(0x9_fc00, 0xa_0000, Reserved),
        region(0xf_0000, 0x10_0000, Reserved),
        region(0x10_0000, 0x7ffd_8000, Ram),
        region(0x7ffd_8000, 0x7ffe_0000, AcpiReclaimable),
        region(0x7ffe_0000, 0x7fff_0000, AcpiNvs),
        region(0x7fff_0000, 0x8000_0000, Reserved),
        region(0xb000_0000, 0xc000_0000, Reserved),
        region(0xfed1_c000, 0xfed2_0000, Reserved),
        region(0xfffc_0000, 1 << 32, Reserved),
        region(1 << 32, 0x1_8000_0000, Ram),
    ]
}
