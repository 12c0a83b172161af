//! Tests of the tree, on small trees that `vm-fdt` writes.

mod faults;
mod machine;

pub(crate) use machine::{CPU0, Dt, damaged, machine, walk};

use super::*;
use crate::range::PhysRange;
use alloc::vec::Vec;
use machine::{ITS, put};
use proptest::prelude::*;
use vm_fdt::FdtWriter;
use xen_core::HostPhysAddr;

fn range(start: u64, size: u64) -> PhysRange {
    PhysRange::new(HostPhysAddr(start), size).unwrap()
}

#[test]
fn paths_children_and_aliases() {
    let blob = machine(true);
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(tree.root().path(), "/");
    let sensor = tree.find("/soc/i2c/sensor").unwrap();
    assert_eq!(sensor.path(), "/soc/i2c@4000/sensor@48");
    assert_eq!(sensor.parent().unwrap().parent().unwrap().name(), "soc");
    assert_eq!(
        tree.find("/cpus/cpu"),
        None,
        "two nodes have this base name"
    );
    assert_eq!(tree.find("serial0").unwrap().name(), "uart@1000");
    assert_eq!(tree.find("serial1"), None);
    let names: Vec<_> = tree
        .find("/cpus")
        .unwrap()
        .children()
        .map(|c| c.name())
        .collect();
    assert_eq!(names, ["cpu@0", "cpu@100", "cpu-map"]);
    assert_eq!(tree.phandle(ITS).unwrap().name(), "its@20080000");
    assert_eq!(tree.reservations(), [range(0x4800_0000, 0x1000)]);
    let console = tree.stdout().unwrap();
    assert_eq!(
        (console.node.name(), console.options),
        ("uart@1000", "115200n8")
    );
}

#[test]
fn agrees_with_the_fdt_crate() {
    let blob = machine(true);
    let (tree, other) = (Tree::new(&blob).unwrap(), fdt::Fdt::new(&blob).unwrap());
    let ours: Vec<_> = tree
        .nodes()
        .skip(1)
        .map(|n| {
            (
                n.name(),
                n.properties()
                    .iter()
                    .map(|p| (p.name, p.value))
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    let theirs: Vec<_> = other
        .all_nodes()
        .skip(1)
        .map(|n| {
            (
                n.name,
                n.properties()
                    .map(|p| (p.name, p.value))
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn registers_are_translated_to_cpu_addresses() {
    let blob = machine(true);
    let tree = Tree::new(&blob).unwrap();
    let mmio = |path| tree.find(path).unwrap().mmio().unwrap();
    assert_eq!(mmio("/soc/uart"), [range(0x1000_1000, 0x1000)]);
    assert_eq!(mmio("/soc/i2c/sensor"), []);
    assert_eq!(mmio("/pcie/card"), [], "configuration space is no memory");
    let pcie = tree.find("/pcie").unwrap();
    assert_eq!(
        pcie.pci_windows().unwrap(),
        [range(0x3eff_0000, 0x1_0000), range(0x3000_0000, 0x800_0000)]
    );
    let uart = tree.find("/soc/uart").unwrap();
    let on_bus = |start| {
        uart.untranslate(range(start, 0x1000))
            .unwrap()
            .map(|a| a.low)
    };
    assert_eq!(on_bus(0x1000_1000), Some(0x1000));
    assert_eq!(on_bus(0x1fff_f000), Some(0x0fff_f000));
    assert_eq!(on_bus(0x1fff_f001), None);
    assert_eq!(on_bus(0x0fff_f000), None);
}

#[test]
fn interrupts_reach_their_controller() {
    let blob = machine(false);
    let tree = Tree::new(&blob).unwrap();
    let ids = |path| {
        let node = tree.find(path).unwrap();
        let list = node.interrupts().unwrap();
        let decode = |i: &Interrupt| Some(node.gic_interrupt(i).unwrap()?.intid);
        list.iter().map(decode).collect::<Vec<_>>()
    };
    assert_eq!(ids("/soc/uart"), [Some(33)]);
    assert_eq!(ids("/soc/rtc"), [Some(34), None, Some(35)]);
    assert_eq!(
        ids("/pcie/card"),
        [Some(32 + 17)],
        "by the map's second line"
    );
    let mapped = tree.find("/pcie").unwrap().mapped_gic_interrupts().unwrap();
    assert_eq!(mapped.iter().map(|i| i.intid).collect::<Vec<_>>(), [48, 49]);
    let rtc = tree.find("/soc/rtc").unwrap();
    assert_eq!(
        rtc.interrupts_by_index().unwrap()[2],
        None,
        "phandle 0 leaves one out"
    );
}

#[test]
fn the_platform() {
    let blob = machine(false);
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(
        tree.memory().unwrap(),
        [range(0x4000_0000, 0x4000_0000), range(8 << 32, 1 << 32)]
    );
    let cpus = tree.cpus().unwrap();
    assert_eq!(cpus.iter().map(|c| c.mpidr).collect::<Vec<_>>(), [0, 0x100]);
    assert!(
        cpus.iter()
            .all(|c| c.available && c.enable == EnableMethod::Psci)
    );
    let psci = tree.psci().unwrap().unwrap();
    assert_eq!(
        (psci.conduit, psci.functions),
        (PsciConduit::Smc, PsciFunctions::Standard)
    );
    let timer = tree.timer().unwrap().unwrap();
    let id = |i: Option<GicInterrupt>| i.map(|i| i.intid);
    assert_eq!(
        [
            timer.secure,
            timer.physical,
            timer.virtual_,
            timer.hypervisor
        ]
        .map(id),
        [29, 30, 27, 26].map(Some)
    );
    assert_eq!(timer.hypervisor_virtual, None);
    let reserved = tree.reserved_memory().unwrap();
    assert_eq!(reserved.len(), 1);
    assert_eq!(
        (reserved[0].range, reserved[0].no_map),
        (range(0x7f00_0000, 0x10_0000), true)
    );
}

#[test]
fn both_gics() {
    let blob = machine(false);
    let gic = Tree::new(&blob).unwrap().gic().unwrap();
    assert_eq!(gic.maintenance.unwrap().intid, 25);
    let GicVersion::V2 {
        distributor,
        virtual_cpu,
        ..
    } = gic.version
    else {
        panic!("{gic:?}");
    };
    assert_eq!(distributor, range(0x2000_0000, 0x1000));
    assert_eq!(virtual_cpu, Some(range(0x2000_6000, 0x2000)));
    let blob = machine(true);
    let gic = Tree::new(&blob).unwrap().gic().unwrap();
    assert_eq!(gic.its, [range(0x2008_0000, 0x2_0000)]);
    let GicVersion::V3 {
        redistributors,
        stride,
        ..
    } = gic.version
    else {
        panic!("{gic:?}");
    };
    assert_eq!(
        (redistributors.as_slice(), stride),
        ([range(0x2010_0000, 0x4_0000)].as_slice(), None)
    );
}

#[test]
fn specifiers_of_the_gic() {
    let id = |cells: &[u32]| GicInterrupt::decode(cells).map(|i| i.intid);
    assert_eq!(id(&[0, 0, 4]), Some(32));
    assert_eq!(id(&[0, 987, 4]), Some(1019));
    assert_eq!(id(&[0, 988, 4]), None);
    assert_eq!(id(&[1, 15, 0xf08]), Some(31));
    assert_eq!(id(&[1, 16, 8]), None);
    assert_eq!(id(&[2, 1023, 1, 0]), Some(5119));
    assert_eq!(id(&[3, 63, 1]), Some(1119));
    assert_eq!(id(&[0, 1, 5]), None, "a level and an edge");
    assert_eq!(id(&[4, 0, 4]), None);
    assert_eq!(id(&[0, 0]), None);
}
