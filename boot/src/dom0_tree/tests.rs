use super::*;
use crate::dt::tests::{CPU0, Dt, damaged, machine};
use crate::dt::{GicVersion, PsciConduit, Trigger};
use crate::modules::BootModules;
use crate::range::PhysRange;
use proptest::prelude::*;
use vm_fdt::FdtWriter;
use xen_core::{GuestPhysAddr, HostPhysAddr};

fn bank(start: u64, size: u64) -> Bank {
    let start = GuestPhysAddr(start);
    Bank { start, size }
}

fn range(start: u64, size: u64) -> PhysRange {
    PhysRange::new(HostPhysAddr(start), size).unwrap()
}

const MEMORY: &[Bank] = &[Bank {
    start: GuestPhysAddr(0x5000_0000),
    size: 0x1000_0000,
}];

const V2: Dom0Gic<'_> = Dom0Gic::V2 {
    distributor: Bank {
        start: GuestPhysAddr(0x2000_0000),
        size: 0x1000,
    },
    cpu_interface: Bank {
        start: GuestPhysAddr(0x2000_2000),
        size: 0x2000,
    },
};

fn config(gic: Dom0Gic<'_>) -> Dom0TreeConfig<'_> {
    Dom0TreeConfig {
        memory: MEMORY,
        cmdline: "console=hvc0 root=/dev/vda",
        initrd: Some(bank(0x5800_0000, 0x12_3456)),
        vcpus: &[0, 1, 2],
        gic,
        hypervisor: HypervisorNode {
            version: (4, 17),
            regions: MEMORY,
            event_interrupt: 31,
        },
    }
}

/// dom0's tree for the test machine, whose UART the hypervisor keeps.
fn dom0(v3: bool) -> Vec<u8> {
    let blob = machine(v3);
    let host = Tree::new(&blob).unwrap();
    let gic = host.gic().unwrap().node;
    let uart = host.stdout().unwrap().node.id();
    let selection = Selection::new(&host, gic, &[uart]);
    let regions = [bank(0x2010_0000, 0x2_0000), bank(0x2012_0000, 0x2_0000)];
    let v3_gic = Dom0Gic::V3 {
        distributor: bank(0x2000_0000, 0x1_0000),
        redistributors: &regions,
        stride: Some(0x2_0000),
    };
    build(
        &host,
        &selection,
        gic,
        &config(if v3 { v3_gic } else { V2 }),
    )
    .unwrap()
}

#[test]
fn dom0_is_told_of_itself() {
    let blob = dom0(true);
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(tree.memory().unwrap(), [range(0x5000_0000, 0x1000_0000)]);
    let cpus = tree.cpus().unwrap();
    assert_eq!(cpus.iter().map(|c| c.mpidr).collect::<Vec<_>>(), [0, 1, 2]);
    let cpu = |n: usize| tree.node(cpus[n].node).unwrap();
    assert!((0..3).all(|n| cpu(n).is_compatible(&["arm,cortex-a57"])));
    assert_eq!((cpu(0).phandle(), cpu(2).phandle()), (Some(CPU0), None));
    assert_eq!(tree.psci().unwrap().unwrap().conduit, PsciConduit::Hvc);
    let node = tree.find("/hypervisor").unwrap();
    let compatible: Vec<_> = node.strings("compatible").collect();
    assert_eq!(compatible, ["xen,xen-4.17", "xen,xen"]);
    assert_eq!(node.mmio().unwrap(), [range(0x5000_0000, 0x1000_0000)]);
    let event = node
        .gic_interrupt(&node.interrupts().unwrap()[0])
        .unwrap()
        .unwrap();
    assert_eq!((event.intid, event.trigger), (31, Trigger::LevelLow));
    assert_eq!(node.words("interrupts").unwrap().unwrap(), [1, 15, 0xf08]);
}

#[test]
fn chosen_is_dom0s_own() {
    let blob = dom0(true);
    let tree = Tree::new(&blob).unwrap();
    let chosen = tree.find("/chosen").unwrap();
    assert_eq!(
        chosen.str("bootargs").unwrap(),
        Some("console=hvc0 root=/dev/vda")
    );
    assert_eq!(chosen.u64("linux,initrd-start").unwrap(), Some(0x5800_0000));
    assert_eq!(chosen.u64("linux,initrd-end").unwrap(), Some(0x5812_3456));
    assert_eq!(chosen.u64("kaslr-seed").unwrap(), Some(0x1234_0000_5678));
    assert!(
        !chosen.has("stdout-path"),
        "the console is the hypervisor's"
    );
    assert!(!chosen.has("xen,xen-bootargs") && !chosen.has("xen,dom0-bootargs"));
    assert_eq!(chosen.children().count(), 0);
    assert_eq!(BootModules::find(&tree).unwrap().kernel, None);
}

#[test]
fn a_console_that_dom0_gets_stays_its_stdout() {
    let blob = machine(true);
    let host = Tree::new(&blob).unwrap();
    let gic = host.gic().unwrap().node;
    let selection = Selection::new(&host, gic, &[]);
    let out = build(&host, &selection, gic, &config(V2)).unwrap();
    let tree = Tree::new(&out).unwrap();
    assert_eq!(tree.stdout().unwrap().node.name(), "uart@1000");
}

#[test]
fn devices_are_kept_and_references_into_nothing_are_not() {
    for v3 in [false, true] {
        let (blob, host) = (dom0(v3), machine(v3));
        let (tree, host) = (Tree::new(&blob).unwrap(), Tree::new(&host).unwrap());
        for gone in ["/soc/uart", "/soc/smmu", "/pmu", "/cpus/cpu-map"] {
            assert!(
                host.find(gone).is_some() && tree.find(gone).is_none(),
                "{gone}"
            );
        }
        assert!(tree.find("/gic/its").is_none());
        assert_eq!(tree.find("/gic/v2m").is_some(), !v3);
        let rtc = tree.find("/soc/rtc").unwrap();
        assert!(rtc.has("interrupts-extended") && !rtc.has("iommus"));
        assert_eq!(tree.find("/pcie").unwrap().has("msi-map"), !v3);
        for same in [
            "/soc/i2c/sensor",
            "/soc/dma",
            "/timer",
            "/reserved-memory/firmware",
            "/aliases",
        ] {
            let properties = |tree: &Tree<'_>| {
                let node = tree.find(same).unwrap();
                let list = node.properties().iter();
                list.map(|p| (p.name.to_string(), p.value.to_vec()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(properties(&tree), properties(&host), "{same}");
        }
        let of = |tree: &Tree<'_>| tree.find("/gic").unwrap().phandle();
        assert_eq!(of(&tree), of(&host));
    }
}

#[test]
fn the_gic_is_dom0s() {
    let blob = dom0(false);
    let gic = Tree::new(&blob).unwrap().gic().unwrap();
    assert_eq!(gic.maintenance, None);
    assert_eq!(
        gic.version,
        GicVersion::V2 {
            distributor: range(0x2000_0000, 0x1000),
            cpu_interface: range(0x2000_2000, 0x2000),
            hypervisor: None,
            virtual_cpu: None,
        }
    );
    let blob = dom0(true);
    let gic = Tree::new(&blob).unwrap().gic().unwrap();
    assert_eq!(gic.its, []);
    assert_eq!(
        gic.version,
        GicVersion::V3 {
            distributor: range(0x2000_0000, 0x1_0000),
            redistributors: vec![range(0x2010_0000, 0x2_0000), range(0x2012_0000, 0x2_0000)],
            stride: Some(0x2_0000),
            legacy: [None; 3],
        }
    );
}

#[test]
fn what_is_passed_through() {
    let blob = machine(true);
    let host = Tree::new(&blob).unwrap();
    let gic = host.gic().unwrap().node;
    let uart = host.stdout().unwrap().node.id();
    let list = passthrough(&host, &Selection::new(&host, gic, &[uart]), gic);
    assert_eq!(list.problems, []);
    assert_eq!(
        list.mmio,
        [
            // The clock's 16 bytes are a page, and touch the expander and the bus after it.
            range(0x1000_2000, 0x3000),
            range(0x3000_0000, 0x800_0000),
            range(0x3eff_0000, 0x1_0000 + 0x100_0000),
        ]
    );
    assert_eq!(list.reserved, [range(0x7f00_0000, 0x10_0000)]);
    let ids = |list: &[crate::dt::GicInterrupt]| list.iter().map(|i| i.intid).collect::<Vec<_>>();
    assert_eq!(
        ids(&list.spis),
        [34, 35, 37, 48, 49],
        "not the UART's, the IOMMU's and the disabled one's"
    );
    assert_eq!(list.spis[0].trigger, Trigger::EdgeRising);
    assert_eq!(ids(&list.ppis), [26, 27, 29, 30]);
    assert_eq!(list.highest_spi(), Some(49));
    assert_eq!(list.free_ppi(&[]), Some(31));
    assert_eq!(list.free_ppi(&[31, 28, 25]), Some(24));
}

#[test]
fn dom0s_tree_lists_what_is_passed_through() {
    let (blob, out) = (machine(true), dom0(true));
    let (host, tree) = (Tree::new(&blob).unwrap(), Tree::new(&out).unwrap());
    let gic = host.gic().unwrap().node;
    let uart = host.stdout().unwrap().node.id();
    let given = passthrough(&host, &Selection::new(&host, gic, &[uart]), gic);
    let own_gic = tree.gic().unwrap().node;
    let mut listed = passthrough(&tree, &Selection::new(&tree, own_gic, &[]), own_gic);
    // The hypervisor's own node is not copied again.
    assert_eq!(listed.ppis, given.ppis);
    listed.ppis = given.ppis.clone();
    assert_eq!(listed, given);
}

/// A machine with one device at `reg` besides RAM and GIC.
fn with_device(reg: &[u32]) -> Vec<u8> {
    let mut dt = Dt(FdtWriter::new().unwrap());
    let root = dt.begin("");
    dt.cells("#address-cells", &[1]);
    dt.cells("#size-cells", &[1]);
    dt.cells("interrupt-parent", &[1]);
    let node = dt.begin("memory");
    dt.strs("device_type", &["memory"]);
    dt.cells("reg", &[0x4000_0000, 0x1000_0000]);
    dt.end(node);
    let node = dt.begin("gic");
    dt.strs("compatible", &["arm,gic-400"]);
    dt.cells("reg", &[0x1000, 0x1000, 0x2000, 0x2000]);
    dt.cells("#interrupt-cells", &[3]);
    dt.cells("phandle", &[1]);
    dt.end(node);
    for (name, flags) in [("a", 4), ("b", 1)] {
        let node = dt.begin(name);
        dt.cells("reg", reg);
        dt.cells("interrupts", &[0, 7, flags]);
        dt.end(node);
    }
    dt.end(root);
    dt.0.finish().unwrap()
}

#[test]
fn ram_and_the_gic_are_never_passed_through() {
    let blob = with_device(&[0x0, 0x1800, 0x3fff_f000, 0x2000]);
    let host = Tree::new(&blob).unwrap();
    let gic = host.gic().unwrap().node;
    let list = passthrough(&host, &Selection::new(&host, gic, &[]), gic);
    assert_eq!(list.mmio, [range(0, 0x1000), range(0x3fff_f000, 0x1000)]);
    let text: Vec<_> = list.problems.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 5, "{text:?}");
    assert!(
        text[0].starts_with("/a has registers at 0x0..0x1800"),
        "{text:?}"
    );
    assert!(text[4].starts_with("/b wants interrupt 39"), "{text:?}");
    assert_eq!(list.spis.len(), 1);
    assert_eq!(list.spis[0].trigger, Trigger::LevelHigh);
}

#[test]
fn what_does_not_fit_is_refused() {
    let blob = with_device(&[]);
    let host = Tree::new(&blob).unwrap();
    let gic = host.gic().unwrap().node;
    let selection = Selection::new(&host, gic, &[]);
    let build = |config: Dom0TreeConfig<'_>| build(&host, &selection, gic, &config).map(|_| ());
    let gic = V2;
    assert_eq!(build(config(gic)), Ok(()));
    let high = [bank(1 << 32, 0x1000)];
    let memory = Dom0TreeConfig {
        memory: &high,
        ..config(gic)
    };
    assert_eq!(
        build(memory),
        Err(Dom0TreeError::DoesNotFit("dom0's memory"))
    );
    let far = Dom0Gic::V2 {
        distributor: bank(1 << 40, 0x1000),
        cpu_interface: bank(0x2000, 0x1000),
    };
    assert_eq!(
        build(config(far)),
        Err(Dom0TreeError::DoesNotFit("dom0's GIC"))
    );
    let wrong = |config| matches!(build(config), Err(Dom0TreeError::Config(_)));
    assert!(wrong(Dom0TreeConfig {
        memory: &[],
        ..config(gic)
    }));
    assert!(wrong(Dom0TreeConfig {
        vcpus: &[],
        ..config(gic)
    }));
    assert!(wrong(Dom0TreeConfig {
        cmdline: "a\0b",
        ..config(gic)
    }));
    let none = HypervisorNode {
        regions: &[],
        ..config(gic).hypervisor
    };
    assert!(wrong(Dom0TreeConfig {
        hypervisor: none,
        ..config(gic)
    }));
    let shared = HypervisorNode {
        event_interrupt: 32,
        ..config(gic).hypervisor
    };
    assert!(wrong(Dom0TreeConfig {
        hypervisor: shared,
        ..config(gic)
    }));
}

#[test]
fn a_gic_behind_a_bus_gets_bus_addresses_and_a_phandle() {
    let mut dt = Dt(FdtWriter::new().unwrap());
    let root = dt.begin("");
    dt.cells("#address-cells", &[2]);
    dt.cells("#size-cells", &[2]);
    let node = dt.begin("memory");
    dt.cells("reg", &[0, 0x4000_0000, 0, 0x1000_0000]);
    dt.end(node);
    let soc = dt.begin("soc");
    dt.cells("#address-cells", &[1]);
    dt.cells("#size-cells", &[1]);
    dt.cells("ranges", &[0x9000_0000, 0, 0x2000_0000, 0x1000_0000]);
    let node = dt.begin("gic");
    dt.strs("compatible", &["arm,cortex-a15-gic"]);
    dt.cells("reg", &[0x9000_0000, 0x1000, 0x9000_2000, 0x2000]);
    dt.cells("#interrupt-cells", &[3]);
    dt.end(node);
    dt.end(soc);
    dt.end(root);
    let blob = dt.0.finish().unwrap();
    let host = Tree::new(&blob).unwrap();
    let gic = host.gic().unwrap().node;
    let out = build(&host, &Selection::new(&host, gic, &[]), gic, &config(V2)).unwrap();
    let tree = Tree::new(&out).unwrap();
    let node = tree.find("/soc/gic").unwrap();
    assert_eq!(
        node.words("reg").unwrap().unwrap(),
        [0x9000_0000, 0x1000, 0x9000_2000, 0x2000]
    );
    assert!(node.is_compatible(&["arm,cortex-a15-gic"]));
    let hypervisor = tree.find("/hypervisor").unwrap();
    assert_eq!(hypervisor.interrupt_parent().unwrap(), Some(node));
    assert_eq!(
        tree.find("/chosen").unwrap().str("bootargs").unwrap(),
        Some("console=hvc0 root=/dev/vda")
    );
}

#[test]
fn names_longer_than_the_specification_allows_are_kept() {
    let mut writer = Writer::default();
    let name = "snps,quirk-frame-length-adjustment";
    writer.begin("");
    writer.prop_u32(name, 7);
    writer.begin("5v-supply-of-the-second-usb-port-of-the-board");
    writer.prop_u32(name, 8);
    writer.end();
    writer.end();
    let blob = writer.finish(3).unwrap();
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(tree.boot_cpu(), 3);
    let values: Vec<_> = tree.nodes().map(|n| n.u32(name).unwrap()).collect();
    assert_eq!(values, [Some(7), Some(8)]);
}

proptest! {
    #[test]
    fn damaged_hosts_never_panic_and_give_valid_trees(blob in damaged()) {
        let Ok(host) = Tree::new(&blob) else { return Ok(()) };
        let _ = BootModules::find(&host).map(|found| found.check(&[], &[]));
        let gic = host.gic().map_or(crate::dt::NodeId::ROOT, |gic| gic.node);
        let claimed: Vec<_> = host.stdout().map(|c| c.node.id()).into_iter().collect();
        let selection = Selection::new(&host, gic, &claimed);
        let list = passthrough(&host, &selection, gic);
        for pair in list.mmio.windows(2) {
            prop_assert!(pair[0].end() < pair[1].start());
        }
        for bank in host.memory().unwrap_or_default() {
            prop_assert!(list.mmio.iter().all(|range| !range.overlaps(&bank)));
        }
        if let Ok(out) = build(&host, &selection, gic, &config(V2)) {
            let tree = Tree::new(&out).unwrap();
            crate::dt::tests::walk(&tree);
            prop_assert_eq!(tree.cpus().unwrap().len(), 3);
        }
    }
}

#[test]
fn message_frames_are_passed_through() {
    let (blob, out) = (machine(false), dom0(false));
    let (host, tree) = (Tree::new(&blob).unwrap(), Tree::new(&out).unwrap());
    let gic = host.gic().unwrap().node;
    let list = passthrough(&host, &Selection::new(&host, gic, &[]), gic);
    let registers = range(0x2008_0000, 0x1000);
    let frame = MessageFrame {
        registers,
        base: None,
        count: None,
    };
    assert_eq!(list.message_frames, [frame]);
    assert!(list.mmio.contains(&registers) && list.problems.is_empty());
    assert_eq!(tree.find("/gic/v2m").unwrap().mmio().unwrap(), [registers]);

    assert_eq!(frame.interrupts(80 << 16 | 64), 80..144);
    let limited = MessageFrame {
        base: Some(96),
        count: Some(2),
        ..frame
    };
    assert_eq!(limited.interrupts(80 << 16 | 64), 96..98);
    for nonsense in [0, 16 << 16 | 4, 1000 << 16 | 21, u32::MAX] {
        assert!(frame.interrupts(nonsense).is_empty(), "{nonsense:#x}");
    }
    let v3 = machine(true);
    let host = Tree::new(&v3).unwrap();
    let gic = host.gic().unwrap().node;
    let list = passthrough(&host, &Selection::new(&host, gic, &[]), gic);
    assert_eq!(list.message_frames, []);
}
