//! The leaves themselves.

use core::arch::x86_64::CpuidResult;

use guest_rt::hypercall::plain;
use guest_rt::machine::{self as m, cpu, lapic};
use guest_rt::tests::Tests;
use xen_abi::version::VersionOp;
use xen_abi::xen::Hypercall;

/// The first leaf of those that AMD added.
const EXTENDED: u32 = 0x8000_0000;
/// Sub-leaves that are looked at, of every leaf.
const SUB_LEAVES: u32 = 8;

/// A register as two halves: what a test says of it.
type Registers = [u32; 4];

fn registers(leaf: u32, sub: u32) -> Registers {
    let CpuidResult { eax, ebx, ecx, edx } = cpu::cpuid(leaf, sub);
    [eax, ebx, ecx, edx]
}

pub(crate) fn all(t: &mut Tests) {
    let basic = cpu::cpuid(0, 0);
    let extended = cpu::cpuid(EXTENDED, 0);
    t.check("basic leaves", (0xd..=0x40).contains(&basic.eax));
    let last = extended.eax;
    t.check(
        "AMD's leaves",
        (EXTENDED + 8..=EXTENDED + 0x40).contains(&last),
    );
    let name = [basic.ebx, basic.edx, basic.ecx];
    let printable = |words: &[u32]| {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        bytes
            .into_iter()
            .all(|b| b == 0 || (b' '..=b'~').contains(&b))
    };
    t.check("a vendor", name[0] != 0 && printable(&name));
    if name[0] == u32::from_le_bytes(*b"Auth") {
        let again = [extended.ebx, extended.edx, extended.ecx];
        t.expect("the same vendor", again, name);
    }
    let brand = (2..=4).flat_map(|n| registers(EXTENDED + n, 0));
    let mut words = [0; 12];
    words
        .iter_mut()
        .zip(brand)
        .for_each(|(to, word)| *to = word);
    t.check("a name of the CPU", printable(&words));
    sizes(t);
    beyond(t, basic.eax, last);
    stable(t, basic.eax, last);
    hypervisor(t);
}

fn sizes(t: &mut Tests) {
    let sizes = cpu::cpuid(EXTENDED + 8, 0).eax;
    let (physical, linear) = (sizes & 0xff, sizes >> 8 & 0xff);
    t.check("physical address bits", (32..=52).contains(&physical));
    t.check("linear address bits", linear == 48 || linear == 57);
    // Each level of the topology that is there has a shift no smaller than the one below, and the list ends.
    if cpu::cpuid(0, 0).eax >= 0xb && cpu::cpuid(0xb, 0).ebx != 0 {
        let mut shift = 0;
        let mut ended = false;
        for level in 0..SUB_LEAVES {
            let found = cpu::cpuid(0xb, level);
            t.expect("the level's number", found.ecx & 0xff, level);
            let kind = found.ecx >> 8 & 0xff;
            if kind == 0 {
                ended = true;
                break;
            }
            let next = found.eax & 0x1f;
            t.check("shifts grow", next >= shift);
            shift = next;
        }
        t.check("topology has an end", ended);
    }
}

/// Where there are no leaves.
fn beyond(t: &mut Tests, basic: u32, extended: u32) {
    for leaf in [
        basic + 1,
        extended + 1,
        0x2000_0000,
        0x7fff_ffff,
        0xc000_0000,
        u32::MAX,
    ] {
        t.expect("no such leaf", registers(leaf, 0), [0; 4]);
    }
}

/// The same answer each time, but for nothing: no leaf counts.
fn stable(t: &mut Tests, basic: u32, extended: u32) {
    let hypervisor = cpu::hypervisor_base();
    let last = cpu::cpuid(hypervisor, 0).eax;
    let leaves = (0..=basic)
        .chain(EXTENDED..=extended)
        .chain(hypervisor..=last);
    let mut changed = 0;
    for leaf in leaves {
        for sub in 0..SUB_LEAVES {
            changed += u32::from(registers(leaf, sub) != registers(leaf, sub));
        }
    }
    t.expect("leaves that change", changed, 0);
}

fn hypervisor(t: &mut Tests) {
    let last = cpu::cpuid(cpu::hypervisor_base(), 0).eax - cpu::hypervisor_base();
    t.check("the hypervisor's leaves", (2..=5).contains(&last));
    let version = plain(Hypercall::XEN_VERSION, VersionOp::VERSION.0, 0);
    let leaf = cpu::hypervisor_leaf(1, 0);
    t.expect("its version", i64::from(leaf.eax), version);
    let pages = cpu::hypervisor_leaf(2, 0);
    t.expect("pages of hypercalls", pages.eax, 1);
    t.expect("their register", pages.ebx, 0x4000_0000);
    let clock = cpu::hypervisor_leaf(3, 0);
    t.check("the counter's frequency", clock.ecx > 1000);
}

/// How many of the calling vCPU's numbers are not what they should be.
pub(crate) fn wrong_numbers(index: usize) -> u32 {
    let mut wrong = 0;
    let Some(apic) = m::platform().cpus().get(index).copied() else {
        return 1;
    };
    wrong += u32::from(cpu::cpuid(1, 0).ebx >> 24 != apic);
    if cpu::cpuid(0, 0).eax >= 0xb && cpu::cpuid(0xb, 0).ebx != 0 {
        wrong += u32::from(cpu::cpuid(0xb, 0).edx != apic);
        wrong += u32::from(cpu::cpuid(0xb, 1).edx != apic);
    }
    wrong += u32::from(lapic::id() != apic);
    let domain = cpu::hypervisor_leaf(4, 0);
    const VCPU: u32 = 1 << 3;
    const DOMAIN: u32 = 1 << 4;
    if domain.eax & VCPU != 0 {
        wrong += u32::from(domain.ebx as usize != index);
    }
    if domain.eax & DOMAIN != 0 {
        wrong += u32::from(domain.ecx != 0);
    }
    wrong
}
