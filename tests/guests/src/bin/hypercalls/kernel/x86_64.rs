//! What is different on x86-64.

use guest_rt::hypercall::{call, is_oxen, op, plain};
use guest_rt::tests::Tests;
use xen_abi::Handle;
use xen_abi::arch_x86::MemmapType;
use xen_abi::features::Features;
use xen_abi::memory::{E820Entry, MemoryMap, MemoryOp};
use xen_abi::vcpu::VcpuOp;
use xen_abi::xen::Hypercall;
use zerocopy::FromZeros as _;

use super::{EBUSY, EFAULT, EINVAL, ENXIO, NOWHERE};

const EOPNOTSUPP: i64 = -95;

/// What the hypervisor can do, in its words. Debian's Xen has paravirtualised guests, too.
pub(crate) fn capabilities() -> &'static [u8] {
    const ALL: &[u8] = b"xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";
    match is_oxen() {
        true => ALL.strip_prefix(b"xen-3.0-x86_64 ").unwrap_or(ALL),
        false => ALL,
    }
}

/// Whether guest frames are machine frames.
pub(crate) fn mapping(t: &mut Tests, has: impl Fn(Features) -> bool) {
    t.check(
        "mapped one to one or not",
        has(Features::DIRECT_MAPPED) != has(Features::NOT_DIRECT_MAPPED),
    );
}

/// Operations on vCPUs.
pub(crate) fn vcpu(t: &mut Tests) {
    let is_up = call(Hypercall::VCPU_OP, [VcpuOp::IS_UP.0.into(), 0, 0, 0, 0]);
    t.expect("this vCPU is up", is_up, 1);
}

/// The answer to a space of the physical map that there is not.
pub(crate) const fn unknown_space() -> i64 {
    EINVAL
}

/// Frames cannot be traded.
pub(crate) fn no_exchange() -> i64 {
    if is_oxen() { EINVAL } else { EOPNOTSUPP }
}

/// The answer to setting a parameter that a domain may set itself.
pub(crate) const SET_OWN_PARAMETER: i64 = 0;
/// A `vcpu_info` pages away from the one that is named: Xen says EINVAL from 4.18 on.
pub(crate) fn far_away() -> i64 {
    if is_oxen() { ENXIO } else { EINVAL }
}

/// A second `vcpu_info`.
pub(crate) const fn moved_twice() -> i64 {
    EBUSY
}

/// Operations on memory that are for other machines.
pub(crate) const REFUSED: &[(&str, MemoryOp)] = &[(
    "mapping of the machine's frames",
    MemoryOp::MACHPHYS_MAPPING,
)];

/// The memory maps: of this domain, and of the machine, which only the first domain may see.
pub(crate) fn memory_maps(t: &mut Tests) {
    const ROOM: usize = 128;
    const M: Hypercall = Hypercall::MEMORY_OP;
    for (what, operation) in [
        ("memory map", MemoryOp::MEMORY_MAP),
        ("machine's memory map", MemoryOp::MACHINE_MEMORY_MAP),
    ] {
        let mut entries = [E820Entry::new_zeroed(); ROOM];
        let mut map = MemoryMap {
            nr_entries: ROOM as u32,
            pad: 0,
            buffer: Handle(entries.as_mut_ptr() as u64),
        };
        t.expect(what, op(M, operation.0, &mut map), 0);
        let count = map.nr_entries as usize;
        t.check("it has entries", (1..ROOM).contains(&count));
        let list = entries.get(..count).unwrap_or_default();
        let end = |e: &E820Entry| e.addr.get() + e.size.get();
        let ordered = list
            .windows(2)
            .all(|pair| end(&pair[0]) <= pair[1].addr.get());
        t.check("in ascending order", ordered);
        let memory: u64 = list
            .iter()
            .filter(|e| e.kind.get() == MemmapType::RAM.0)
            .map(|e| e.size.get())
            .sum();
        t.check("with memory", memory >> 20 > 64);
        let mut nowhere = map;
        nowhere.nr_entries = ROOM as u32;
        nowhere.buffer = Handle(NOWHERE);
        t.expect("to a bad address", op(M, operation.0, &mut nowhere), EFAULT);
    }
    t.expect(
        "no argument",
        plain(M, MemoryOp::MEMORY_MAP.0, NOWHERE),
        EFAULT,
    );
}

/// A `vcpu_info` for a vCPU that runs: Xen pauses it for that, from 4.18 on.
pub(crate) fn moved_while_it_runs() -> i64 {
    if is_oxen() { EINVAL } else { 0 }
}
