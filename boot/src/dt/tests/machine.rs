//! The machine that tests run on, as a tree, and damaged variants of it.

use super::super::*;
use alloc::vec::Vec;
use proptest::prelude::*;
use vm_fdt::{FdtReserveEntry, FdtWriter, FdtWriterNode};

pub(crate) const GIC: u32 = 1;
pub(crate) const ITS: u32 = 2;
pub(crate) const CPU0: u32 = 3;
pub(crate) const SMMU: u32 = 4;
const EXPANDER: u32 = 5;

/// A writer whose errors are test failures.
pub(crate) struct Dt(pub(crate) FdtWriter);

impl Dt {
    pub(crate) fn begin(&mut self, name: &str) -> FdtWriterNode {
        self.0.begin_node(name).unwrap()
    }
    pub(crate) fn end(&mut self, node: FdtWriterNode) {
        self.0.end_node(node).unwrap();
    }
    pub(crate) fn cells(&mut self, name: &str, cells: &[u32]) {
        self.0.property_array_u32(name, cells).unwrap();
    }
    pub(crate) fn strs(&mut self, name: &str, list: &[&str]) {
        let list = list.iter().map(|s| (*s).into()).collect();
        self.0.property_string_list(name, list).unwrap();
    }
    /// A node with cells and a compatible string.
    pub(crate) fn device(&mut self, name: &str, compatible: &str, properties: &[(&str, &[u32])]) {
        let node = self.begin(name);
        self.strs("compatible", &[compatible]);
        for (name, cells) in properties {
            self.cells(name, cells);
        }
        self.end(node);
    }
}

/// A machine with a bit of everything. `v3` chooses the GIC.
pub(crate) fn machine(v3: bool) -> Vec<u8> {
    let reserved = FdtReserveEntry::new(0x4800_0000, 0x1000).unwrap();
    let mut dt = Dt(FdtWriter::new_with_mem_reserv(&[reserved]).unwrap());
    let root = dt.begin("");
    dt.cells("#address-cells", &[2]);
    dt.cells("#size-cells", &[2]);
    dt.cells("interrupt-parent", &[GIC]);
    dt.strs("compatible", &["test,machine"]);

    let node = dt.begin("memory@40000000");
    dt.strs("device_type", &["memory"]);
    dt.cells("reg", &[0, 0x4000_0000, 0, 0x4000_0000, 8, 0, 1, 0]);
    dt.end(node);

    let node = dt.begin("cpus");
    dt.cells("#address-cells", &[1]);
    dt.cells("#size-cells", &[0]);
    for (index, mpidr) in [0u32, 0x100].into_iter().enumerate() {
        let cpu = dt.begin(&format!("cpu@{mpidr:x}"));
        dt.strs("device_type", &["cpu"]);
        dt.strs("compatible", &["arm,cortex-a57"]);
        dt.cells("reg", &[mpidr]);
        dt.strs("enable-method", &["psci"]);
        if index == 0 {
            dt.cells("phandle", &[CPU0]);
        }
        dt.end(cpu);
    }
    let map = dt.begin("cpu-map");
    dt.end(map);
    dt.end(node);

    let node = dt.begin("psci");
    dt.strs("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
    dt.strs("method", &["smc"]);
    dt.end(node);

    let ppis = [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4];
    dt.device("timer", "arm,armv8-timer", &[("interrupts", &ppis)]);
    dt.device("pmu", "arm,armv8-pmuv3", &[("interrupts", &[1, 7, 4])]);

    let node = dt.begin("soc");
    dt.strs("compatible", &["simple-bus"]);
    dt.cells("#address-cells", &[1]);
    dt.cells("#size-cells", &[1]);
    dt.cells("ranges", &[0, 0, 0x1000_0000, 0x1000_0000]);
    let uart: [(&str, &[u32]); 2] = [("reg", &[0x1000, 0x1000]), ("interrupts", &[0, 1, 4])];
    dt.device("uart@1000", "arm,pl011", &uart);
    let timer: [(&str, &[u32]); 3] = [
        ("reg", &[0x2000, 0x10]),
        (
            "interrupts-extended",
            &[GIC, 0, 2, 1, EXPANDER, 9, 0, GIC, 0, 3, 8],
        ),
        ("iommus", &[SMMU, 7]),
    ];
    dt.device("rtc@2000", "test,rtc", &timer);
    let expander: [(&str, &[u32]); 4] = [
        ("reg", &[0x3000, 0x1000]),
        ("interrupts", &[0, 5, 4]),
        ("#interrupt-cells", &[1]),
        ("phandle", &[EXPANDER]),
    ];
    dt.device("gpio@3000", "test,gpio", &expander);
    let smmu: [(&str, &[u32]); 4] = [
        ("reg", &[0x9000, 0x1000]),
        ("interrupts", &[0, 60, 4]),
        ("#iommu-cells", &[1]),
        ("phandle", &[SMMU]),
    ];
    dt.device("smmu@9000", "arm,smmu-v3", &smmu);
    let bus = dt.begin("i2c@4000");
    dt.cells("reg", &[0x4000, 0x1000]);
    dt.cells("#address-cells", &[1]);
    dt.cells("#size-cells", &[0]);
    dt.device("sensor@48", "test,sensor", &[("reg", &[0x48])]);
    dt.end(bus);
    let off = dt.begin("dma@5000");
    dt.cells("reg", &[0x5000, 0x1000]);
    dt.cells("interrupts", &[0, 9, 4]);
    dt.strs("status", &["disabled"]);
    dt.end(off);
    dt.end(node);

    let gic = if v3 {
        ("gic@20000000", "arm,gic-v3")
    } else {
        ("gic@20000000", "arm,gic-400")
    };
    let node = dt.begin(gic.0);
    dt.strs("compatible", &[gic.1]);
    if v3 {
        dt.cells(
            "reg",
            &[0, 0x2000_0000, 0, 0x1_0000, 0, 0x2010_0000, 0, 0x4_0000],
        );
    } else {
        dt.cells(
            "reg",
            &[
                0,
                0x2000_0000,
                0,
                0x1000,
                0,
                0x2000_2000,
                0,
                0x2000,
                0,
                0x2000_4000,
                0,
                0x2000,
                0,
                0x2000_6000,
                0,
                0x2000,
            ],
        );
    }
    dt.cells("interrupts", &[1, 9, 4]);
    dt.cells("interrupt-controller", &[]);
    dt.cells("#interrupt-cells", &[3]);
    dt.cells("#address-cells", &[2]);
    dt.cells("#size-cells", &[2]);
    dt.cells("ranges", &[]);
    dt.cells("phandle", &[GIC]);
    let messages: [(&str, &[u32]); 3] = [
        (
            "reg",
            &[0, 0x2008_0000, 0, if v3 { 0x2_0000 } else { 0x1000 }],
        ),
        ("#msi-cells", &[1]),
        ("phandle", &[ITS]),
    ];
    if v3 {
        dt.device("its@20080000", "arm,gic-v3-its", &messages);
    } else {
        dt.device("v2m@20080000", "arm,gic-v2m-frame", &messages);
    }
    dt.end(node);

    let node = dt.begin("pcie@3f000000");
    dt.strs("device_type", &["pci"]);
    dt.cells("#address-cells", &[3]);
    dt.cells("#size-cells", &[2]);
    dt.cells("#interrupt-cells", &[1]);
    dt.cells("bus-range", &[0, 255]);
    dt.cells("reg", &[0, 0x3f00_0000, 0, 0x100_0000]);
    dt.cells(
        "ranges",
        &[
            0x0100_0000,
            0,
            0,
            0,
            0x3eff_0000,
            0,
            0x1_0000,
            0x0200_0000,
            0,
            0x3000_0000,
            0,
            0x3000_0000,
            0,
            0x0800_0000,
        ],
    );
    dt.cells("interrupt-map-mask", &[0x1800, 0, 0, 7]);
    dt.cells(
        "interrupt-map",
        &[
            0, 0, 0, 1, GIC, 0, 0, 0, 16, 4, 0x800, 0, 0, 1, GIC, 0, 0, 0, 17, 4,
        ],
    );
    dt.cells("msi-map", &[0, ITS, 0, 0x1_0000]);
    let card: [(&str, &[u32]); 2] = [("reg", &[0x0800, 0, 0, 0, 0x1000]), ("interrupts", &[1])];
    dt.device("card@1,0", "test,card", &card);
    dt.end(node);

    let node = dt.begin("reserved-memory");
    dt.cells("#address-cells", &[2]);
    dt.cells("#size-cells", &[2]);
    dt.cells("ranges", &[]);
    let firmware: [(&str, &[u32]); 2] = [("reg", &[0, 0x7f00_0000, 0, 0x10_0000]), ("no-map", &[])];
    dt.device("firmware@7f000000", "test,firmware", &firmware);
    dt.device("pool", "shared-dma-pool", &[("size", &[0, 0x100_0000])]);
    dt.end(node);

    let node = dt.begin("aliases");
    dt.strs("serial0", &["/soc/uart@1000"]);
    dt.end(node);

    let node = dt.begin("chosen");
    dt.cells("#address-cells", &[2]);
    dt.cells("#size-cells", &[2]);
    dt.strs("stdout-path", &["serial0:115200n8"]);
    dt.strs("bootargs", &["plain"]);
    dt.strs("xen,xen-bootargs", &["console=dtuart"]);
    dt.strs("xen,dom0-bootargs", &["console=hvc0"]);
    dt.cells("kaslr-seed", &[0x1234, 0x5678]);
    let module = dt.begin("module@44000000");
    dt.strs("compatible", &["multiboot,kernel", "multiboot,module"]);
    dt.cells("reg", &[0, 0x4400_0000, 0, 0x100_0000]);
    dt.end(module);
    dt.end(node);

    dt.end(root);
    dt.0.finish().unwrap()
}

/// Calls everything there is to call on a tree.
pub(crate) fn walk(tree: &Tree<'_>) {
    let _ = (
        tree.memory(),
        tree.reserved_memory(),
        tree.cpus(),
        tree.psci(),
    );
    let _ = (
        tree.timer(),
        tree.gic(),
        tree.stdout().map(|c| c.node.path()),
    );
    for node in tree.nodes() {
        assert_eq!(tree.node(node.id()), Some(node));
        assert!(node.children().all(|child| child.parent() == Some(node)));
        let _ = (
            node.path(),
            node.is_enabled(),
            node.reg(),
            node.mmio(),
            node.mmio_by_index(),
        );
        let _ = (node.mappings(), node.pci_windows(), node.interrupt_parent());
        let _ = (node.mapped_gic_interrupts(), node.interrupts_by_index());
        for interrupt in node.interrupts().unwrap_or_default() {
            let _ = node.gic_interrupt(&interrupt);
        }
        for property in node.properties() {
            let _ = (property.as_u32(), property.as_u64(), property.as_str());
            let _ = (property.strings().count(), node.words(property.name));
        }
    }
}

/// Damaged variants of the test machine: flipped bytes, overwritten words, cut ends.
pub(crate) fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let index = any::<prop::sample::Index>;
    (
        any::<bool>(),
        prop::collection::vec((index(), any::<u8>()), 0..3),
        prop::collection::vec((index(), prop_oneof![0u32..10, any::<u32>()]), 0..4),
        prop::option::weighted(0.1, index()),
    )
        .prop_map(|(v3, bytes, words, cut)| {
            let mut blob = machine(v3);
            for (at, value) in bytes {
                let at = at.index(blob.len());
                blob[at] ^= value;
            }
            for (at, value) in words {
                let at = at.index(blob.len() / 4) * 4;
                put(&mut blob, at, value);
            }
            if let Some(cut) = cut {
                blob.truncate(cut.index(blob.len()));
            }
            blob
        })
}

pub(crate) fn put(blob: &mut [u8], offset: usize, word: u32) {
    blob[offset..offset + 4].copy_from_slice(&word.to_be_bytes());
}
