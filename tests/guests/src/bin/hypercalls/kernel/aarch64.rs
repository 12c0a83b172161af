//! What is different on arm64.

use guest_rt::hypercall::{call, is_oxen};
use guest_rt::tests::Tests;
use xen_abi::features::Features;
use xen_abi::memory::MemoryOp;
use xen_abi::vcpu::VcpuOp;
use xen_abi::xen::Hypercall;

use super::{EBUSY, EINVAL, ENOSYS, ENXIO, EPERM};

/// What the hypervisor can do, in its words.
pub(crate) const fn capabilities() -> &'static [u8] {
    b"xen-3.0-aarch64 "
}

/// Whether guest frames are machine frames.
pub(crate) fn mapping(t: &mut Tests, has: impl Fn(Features) -> bool) {
    t.check(
        "mapped one to one",
        has(Features::DIRECT_MAPPED) && !has(Features::NOT_DIRECT_MAPPED),
    );
}

/// Operations on vCPUs.
pub(crate) fn vcpu(t: &mut Tests) {
    let up = call(Hypercall::VCPU_OP, [VcpuOp::UP.0.into(), 0, 0, 0, 0]);
    t.expect("not on Arm", up, EINVAL);
}

/// The answer to a space of the physical map that there is not.
pub(crate) const fn unknown_space() -> i64 {
    ENOSYS
}

/// Frames cannot be traded.
pub(crate) const fn no_exchange() -> i64 {
    EINVAL
}

/// The answer to setting a parameter that the toolstack sets.
pub(crate) const SET_OWN_PARAMETER: i64 = EPERM;
/// A `vcpu_info` pages away from the one that is named.
pub(crate) const fn far_away() -> i64 {
    ENXIO
}

/// A second `vcpu_info`: Xen says EBUSY from 4.18 on.
pub(crate) fn moved_twice() -> i64 {
    if is_oxen() { EBUSY } else { EINVAL }
}

/// Operations on memory that are for other machines.
pub(crate) const REFUSED: &[(&str, MemoryOp)] = &[
    ("machine's frame list", MemoryOp::MACHPHYS_MFN_LIST),
    (
        "mapping of the machine's frames",
        MemoryOp::MACHPHYS_MAPPING,
    ),
    ("memory map", MemoryOp::MEMORY_MAP),
    ("machine's memory map", MemoryOp::MACHINE_MEMORY_MAP),
    ("memory map of another", MemoryOp::SET_MEMORY_MAP),
];

/// There is no memory map.
pub(crate) fn memory_maps(_: &mut Tests) {}

/// A `vcpu_info` for a vCPU that runs.
pub(crate) const fn moved_while_it_runs() -> i64 {
    EINVAL
}
