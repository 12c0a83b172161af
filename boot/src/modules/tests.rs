use super::*;
use crate::dt::tests::{Dt, machine};
use vm_fdt::FdtWriter;

/// A tree whose `/chosen` has the texts `strings` and modules with a compatible list, an address and bootargs.
fn tree(strings: &[(&str, &str)], modules: &[(&[&str], u32, Option<&str>)]) -> Vec<u8> {
    let mut dt = Dt(FdtWriter::new().unwrap());
    let root = dt.begin("");
    let chosen = dt.begin("chosen");
    dt.cells("#address-cells", &[1]);
    dt.cells("#size-cells", &[1]);
    for (name, text) in strings {
        dt.strs(name, &[text]);
    }
    for (compatible, start, bootargs) in modules {
        let module = dt.begin(&format!("module@{start:x}"));
        dt.strs("compatible", compatible);
        dt.cells("reg", &[*start, 0x1000]);
        if let Some(bootargs) = bootargs {
            dt.strs("bootargs", &[bootargs]);
        }
        dt.end(module);
    }
    dt.end(chosen);
    dt.end(root);
    dt.0.finish().unwrap()
}

const KERNEL: &[&str] = &["multiboot,kernel", "multiboot,module"];
const OLD_KERNEL: &[&str] = &["xen,linux-zimage", "xen,multiboot-module"];
const RAMDISK: &[&str] = &["multiboot,ramdisk", "multiboot,module"];
const UNNAMED: &[&str] = &["multiboot,module"];

fn range(start: u64, size: u64) -> PhysRange {
    PhysRange::new(HostPhysAddr(start), size).unwrap()
}

fn starts(found: &BootModules<'_>) -> (Option<u64>, Option<u64>, usize) {
    let start = |module: &Option<Module<'_>>| module.as_ref().map(|m| m.range.start().0);
    (
        start(&found.kernel),
        start(&found.ramdisk),
        found.others.len(),
    )
}

#[test]
fn modules_by_name_and_by_order() {
    let find = |modules: &[(&[&str], u32, Option<&str>)]| {
        let blob = tree(&[], modules);
        let tree = Tree::new(&blob).unwrap();
        let found = BootModules::find(&tree).unwrap();
        (starts(&found), found.notes.len())
    };
    let both = (Some(0x1000), Some(0x2000), 0);
    assert_eq!(
        find(&[(KERNEL, 0x1000, None), (RAMDISK, 0x2000, None)]),
        (both, 0)
    );
    assert_eq!(
        find(&[(RAMDISK, 0x2000, None), (OLD_KERNEL, 0x1000, None)]),
        (both, 0)
    );
    assert_eq!(
        find(&[(UNNAMED, 0x1000, None), (UNNAMED, 0x2000, None)]),
        (both, 0)
    );
    let three = [
        (UNNAMED, 0x1000, None),
        (UNNAMED, 0x2000, None),
        (UNNAMED, 0x3000, None),
    ];
    assert_eq!(find(&three), ((Some(0x1000), Some(0x2000), 1), 1));
    let twice = [(UNNAMED, 0x2000, None), (KERNEL, 0x1000, None)];
    assert_eq!(
        find(&twice),
        ((Some(0x1000), None, 1), 1),
        "the named kernel is taken"
    );
    assert_eq!(
        find(&[(&["multiboot,kernel"], 0x1000, None)]),
        ((None, None, 0), 1)
    );
    assert_eq!(
        find(&[(&["simple-framebuffer"], 0x1000, None)]),
        ((None, None, 0), 0)
    );
}

#[test]
fn command_lines_by_the_binding() {
    let find = |strings: &[(&str, &str)], kernels: Option<&str>| {
        let blob = tree(strings, &[(KERNEL, 0x1000, kernels)]);
        let tree = Tree::new(&blob).unwrap();
        let found = BootModules::find(&tree).unwrap();
        let own = |text: Option<&str>| text.map(String::from);
        (own(found.xen_cmdline), own(found.dom0_cmdline))
    };
    let lines = |xen: &str, dom0: &str| {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
        (some(xen), some(dom0))
    };
    let (x, d, p) = (
        ("xen,xen-bootargs", "x"),
        ("xen,dom0-bootargs", "d"),
        ("bootargs", "p"),
    );
    assert_eq!(find(&[], None), lines("", ""));
    assert_eq!(find(&[p], None), lines("", "p"));
    assert_eq!(find(&[x, p], None), lines("x", "p"));
    assert_eq!(find(&[d, p], None), lines("p", "d"));
    assert_eq!(find(&[x, d, p], None), lines("x", "d"));
    assert_eq!(find(&[p], Some("m")), lines("p", "m"));
    assert_eq!(find(&[x, d, p], Some("m")), lines("x", "m"));
}

#[test]
fn a_linux_style_ramdisk_is_dom0s() {
    let blob = tree(&[], &[(KERNEL, 0x1000, None)]);
    let with = |start: u32, end: u32| {
        let mut dt = Dt(FdtWriter::new().unwrap());
        let root = dt.begin("");
        let chosen = dt.begin("chosen");
        dt.cells("linux,initrd-start", &[0, start]);
        dt.cells("linux,initrd-end", &[end]);
        dt.end(chosen);
        dt.end(root);
        dt.0.finish().unwrap()
    };
    let none = BootModules::find(&Tree::new(&blob).unwrap()).unwrap();
    assert_eq!(none.ramdisk, None);
    let blob = with(0x5000, 0x7000);
    let tree = Tree::new(&blob).unwrap();
    assert_eq!(
        BootModules::find(&tree).unwrap().ramdisk.unwrap().range,
        range(0x5000, 0x2000)
    );
    let blob = with(0x7000, 0x5000);
    let error = BootModules::find(&Tree::new(&blob).unwrap())
        .unwrap_err()
        .to_string();
    assert!(error.contains("lies below the ramdisk's start"), "{error}");
}

#[test]
fn domains_in_the_tree_are_named_and_their_memory_is_taken() {
    let mut dt = Dt(FdtWriter::new().unwrap());
    let root = dt.begin("");
    let chosen = dt.begin("chosen");
    let domain = dt.begin("domU1");
    dt.strs("compatible", &["xen,domain"]);
    dt.cells("#address-cells", &[1]);
    dt.cells("#size-cells", &[1]);
    let module = dt.begin("module@9000");
    dt.strs("compatible", KERNEL);
    dt.cells("reg", &[0x9000, 0x1000]);
    dt.end(module);
    dt.end(domain);
    dt.end(chosen);
    dt.end(root);
    let blob = dt.0.finish().unwrap();
    let tree = Tree::new(&blob).unwrap();
    let found = BootModules::find(&tree).unwrap();
    assert_eq!(starts(&found), (None, None, 1));
    assert_eq!(
        found.notes,
        [Note::DomainNotSupported("/chosen/domU1".into())]
    );
}

#[test]
fn places_are_checked() {
    let blob = tree(&[], &[(KERNEL, 0x1000, None), (RAMDISK, 0x3000, None)]);
    let tree = Tree::new(&blob).unwrap();
    let found = BootModules::find(&tree).unwrap();
    let ram = [range(0, 0x10_0000)];
    assert_eq!(
        found.check(&ram, &[("the hypervisor", range(0x2000, 0x1000))]),
        Ok(())
    );
    let says = |result: Result<(), ModuleError>, what: &str| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(what), "{text}");
    };
    says(
        found.check(&ram, &[("the device tree", range(0x1fff, 2))]),
        "0x1000..0x2000 overlaps the device tree",
    );
    says(
        found.check(&[range(0, 0x3800)], &[]),
        "/chosen/module@3000 at 0x3000..0x4000 is not in RAM",
    );
    let halves = [range(0, 0x1800), range(0x1800, 0x8000)];
    says(found.check(&halves, &[]), "/chosen/module@1000");
    let mut clash = found.clone();
    clash.ramdisk.as_mut().unwrap().range = range(0x1800, 0x1000);
    says(clash.check(&ram, &[]), "overlaps /chosen/module@1000");
}

#[test]
fn malformed_regions_are_errors() {
    for reg in [&[0x1000u32, 0][..], &[0x1000], &[1, 2, 3, 4], &[]] {
        let mut dt = Dt(FdtWriter::new().unwrap());
        let root = dt.begin("");
        let chosen = dt.begin("chosen");
        dt.cells("#address-cells", &[1]);
        dt.cells("#size-cells", &[1]);
        let module = dt.begin("module");
        dt.strs("compatible", KERNEL);
        dt.cells("reg", reg);
        dt.end(module);
        dt.end(chosen);
        dt.end(root);
        let blob = dt.0.finish().unwrap();
        assert!(
            BootModules::find(&Tree::new(&blob).unwrap()).is_err(),
            "{reg:?}"
        );
    }
}

#[test]
fn the_test_machine_has_a_kernel() {
    let blob = machine(true);
    let tree = Tree::new(&blob).unwrap();
    let found = BootModules::find(&tree).unwrap();
    assert_eq!(starts(&found), (Some(0x4400_0000), None, 0));
    assert_eq!(
        (found.xen_cmdline, found.dom0_cmdline),
        (Some("console=dtuart"), Some("console=hvc0"))
    );
    assert_eq!(found.check(&tree.memory().unwrap(), &[]), Ok(()));
}

#[test]
fn command_lines_end_at_the_first_nul() {
    // The writer takes no NULs inside of texts: they are put in afterwards.
    let found_in = |line: &str| {
        let mut blob = tree(&[], &[(KERNEL, 0x1000, Some(line))]);
        for byte in blob.iter_mut().filter(|byte| **byte == b'~') {
            *byte = 0;
        }
        let tree = Tree::new(&blob).unwrap();
        BootModules::find(&tree).map(|found| found.dom0_cmdline.map(str::to_owned))
    };
    assert_eq!(found_in("console=hvc0~~~"), Ok(Some("console=hvc0".into())));
    assert_eq!(found_in("console=hvc0~\r"), Ok(Some("console=hvc0".into())));
    assert_eq!(found_in("~~"), Ok(Some("".into())));
    assert_eq!(found_in(""), Ok(Some("".into())));
}
