use super::super::acpi;
use super::super::elf::{ElfError, Vmlinux};
use super::super::memory_map::MapError;
use super::super::plan::{Plan, PlanError, RESERVE, Request, memory_size};
use super::super::start_info::StartInfoError;
use super::acpi::{host, madt};
use super::images::vmlinux;
use super::memory::free;
use super::{M, pc, range};
use crate::cmdline::{Dom0Mem, parse};
use crate::multiboot::Region;
use crate::range::PhysRange;
use proptest::prelude::*;
use xen_core::HostPhysAddr;

fn dom0_mem(text: &str) -> Dom0Mem {
    let line = format!("dom0_mem={text}");
    let parsed = parse(&line);
    assert!(parsed.complaints.is_empty(), "{text}");
    parsed.params.dom0_mem
}

/// A PC with 4 GiB and a kernel that can be moved.
struct Pc {
    map: Vec<Region>,
    free: Vec<PhysRange>,
    madt: Vec<u8>,
    tables: [acpi::HostTable; 2],
    kernel: Vmlinux<'static>,
}

impl Pc {
    fn new() -> Self {
        Self {
            map: pc(),
            free: free(),
            madt: madt(),
            tables: [host(b"FACP", 0x7ffd_9000), host(b"HPET", 0x7ffd_9200)],
            kernel: Vmlinux::parse(vmlinux(Some(&[])).leak()).unwrap(),
        }
    }

    /// Plans for it; `change` makes the request another one.
    fn plan<'a>(&'a self, change: impl FnOnce(&mut Request<'a>)) -> Result<Plan, PlanError> {
        let mut request = Request {
            host: &self.map,
            free: &self.free,
            hidden: &[],
            dom0_mem: dom0_mem("512M"),
            kernel: &self.kernel,
            command_line: "console=hvc0",
            ramdisk: 20 * M + 1,
            ramdisk_max: 0x7fff_ffff,
            acpi: acpi::Request {
                tables: &self.tables,
                madt: &self.madt,
                vcpus: 2,
                hide_uart: true,
            },
        };
        change(&mut request);
        Plan::new(&request)
    }
}

fn pages(at: u64, bytes: &[u8]) -> PhysRange {
    let range = PhysRange::new(HostPhysAddr(at), bytes.len() as u64);
    range.unwrap().to_pages().unwrap()
}

/// Everything is in dom0's memory, and nothing in two places.
fn check(plan: &Plan) {
    let start_info = pages(plan.start_info.0.into(), &plan.start_info.1);
    let tables = pages(plan.tables.0.0, &plan.tables.1);
    let mut places = vec![plan.kernel.range, start_info];
    places.extend(plan.ramdisk);
    for place in &places {
        assert!(plan.memory.ram.iter().any(|bank| bank.covers(place)));
    }
    assert!(plan.memory.tables.unwrap().covers(&tables));
    places.sort();
    for pair in places.windows(2) {
        assert!(!pair[0].overlaps(&pair[1]), "{places:?}");
    }
    // What Linux reads before it has tables of its own.
    assert!(start_info.start().0 >= M && start_info.end().0 <= 1 << 30);
}

#[test]
fn a_pc() {
    let plan = Pc::new().plan(|_| {}).unwrap();
    check(&plan);
    assert_eq!(plan.memory.size(), 512 * M);
    assert_eq!(plan.kernel.range, range(16 * M, 16 * M + 0x4000));
    assert_eq!(plan.start_info.0, M as u32);
    // The ramdisk is as high as it can be, below the tables.
    let ramdisk = plan.ramdisk.unwrap();
    assert_eq!(ramdisk.size(), 20 * M + 0x1000);
    assert_eq!(ramdisk.end().0, plan.tables.0.0);
    // The root pointer is where the start information says.
    let word = |at: usize| u64::from_le_bytes(plan.start_info.1[at..at + 8].try_into().unwrap());
    assert_eq!(word(32), plan.tables.0.0);
    assert_eq!(&plan.tables.1[..8], b"RSD PTR ");
    assert_eq!(plan.absent, [acpi::Absent::Hidden(*b"HPET")]);
}

#[test]
fn a_ramdisk_need_not_be() {
    let plan = Pc::new().plan(|r| r.ramdisk = 0).unwrap();
    check(&plan);
    assert_eq!(plan.ramdisk, None);
    // No modules.
    assert_eq!(plan.start_info.1[12..16], [0; 4]);
}

#[test]
fn what_cannot_be_is_said() {
    let file = vmlinux(None);
    let kernel = Vmlinux::parse(&file).unwrap();
    let with = |supported| {
        let mut other = kernel.clone();
        other.notes.supported = supported;
        other
    };
    let (domu, silent) = (with(Some(0x8001)), with(None));
    let pc = Pc::new();
    assert_eq!(
        pc.plan(|r| r.kernel = &domu).err(),
        Some(PlanError::NotDom0)
    );
    assert!(pc.plan(|r| r.kernel = &silent).is_ok());
    // It would be at 16 MiB, and cannot be moved.
    let elsewhere = [range(M, 15 * M), range(17 * M, 0x7000_0000)];
    let moved = pc.plan(|r| {
        r.free = &elsewhere;
        r.kernel = &kernel;
    });
    let no_room = ElfError::NoRoom {
        base: 16 * M,
        size: 0x4000,
    };
    assert_eq!(moved.err(), Some(PlanError::Kernel(no_room)));
    assert!(pc.plan(|r| r.free = &elsewhere).is_ok());
    assert_eq!(
        pc.plan(|r| r.ramdisk = 512 * M).err(),
        Some(PlanError::NoRoom("the initial ramdisk", 512 * M))
    );
    assert_eq!(
        pc.plan(|r| r.ramdisk_max = 10 * M).err(),
        Some(PlanError::NoRoom("the initial ramdisk", 20 * M + 1))
    );
    let line = "x".repeat(3000);
    assert_eq!(
        pc.plan(|r| r.command_line = &line).err(),
        Some(PlanError::StartInfo(StartInfoError::CommandLine(3000)))
    );
    assert_eq!(
        pc.plan(|r| r.acpi.madt = b"APIC").err(),
        Some(PlanError::Acpi(acpi::AcpiError::Madt(0)))
    );
    // Memory that the firmware's map does not call RAM.
    let nowhere = [range(0xd000_0000, 0xf000_0000)];
    let wanted = 100 * M;
    assert_eq!(
        pc.plan(|r| (r.free, r.dom0_mem) = (&nowhere, dom0_mem("100M")))
            .err(),
        Some(PlanError::Memory(MapError::NotEnough { wanted, free: 0 }))
    );
    let low = [range(0x1000, 0x9_f000), range(16 * M, 48 * M)];
    let tight = pc.plan(|r| {
        r.free = &low;
        r.dom0_mem = dom0_mem("600K");
    });
    assert!(matches!(tight.err(), Some(PlanError::Kernel(_))));
}

#[test]
fn sizes_leave_something_to_the_hypervisor() {
    let size = |text: &str, free: u64| memory_size(&dom0_mem(text), free);
    assert_eq!(size("512M", 2048 * M), Ok(512 * M));
    assert_eq!(size("max:256M", 2048 * M), Ok(256 * M));
    assert_eq!(size("1000M", 1000 * M + RESERVE), Ok(1000 * M));
    let too_much = PlanError::TooMuch {
        asked: 1001 * M,
        free: 1000 * M,
    };
    assert_eq!(size("1001M", 1000 * M + RESERVE), Err(too_much));
    assert!(too_much.to_string().contains("1001 MiB are asked for"));
    // Percentages and amounts to be left are cut instead.
    assert_eq!(size("50%", 1000 * M + RESERVE), Ok(500 * M));
    assert_eq!(size("-100M", 1000 * M + RESERVE), Ok(900 * M));
    assert_eq!(size("-2G", 1000 * M), Err(PlanError::NoMemory(984 * M)));
    assert!(size("512M", 0).is_err());
    let without_a_word = memory_size(&Dom0Mem::default(), 1600 * M + RESERVE);
    assert_eq!(without_a_word, Ok(1500 * M));
    assert_eq!(
        memory_size(&Dom0Mem::default(), RESERVE),
        Err(PlanError::NoMemory(0))
    );
}

proptest! {
    #[test]
    fn every_plan_is_sound(mib in 1u64..4073, ramdisk in 0u64..600 * M, max in 0u64..1 << 33, vcpus in 1u32..200) {
        let wanted = dom0_mem(&format!("{mib}M"));
        let pc = Pc::new();
        let made = pc.plan(|r| {
            r.dom0_mem = wanted;
            r.ramdisk = ramdisk;
            r.ramdisk_max = max;
            r.acpi.vcpus = vcpus;
        });
        match made {
            Ok(plan) => {
                check(&plan);
                prop_assert_eq!(plan.memory.size(), mib * M);
                prop_assert_eq!(plan.ramdisk.is_some(), ramdisk != 0);
                if let Some(place) = plan.ramdisk {
                    prop_assert!(place.end().0 - 1 <= max.min(u32::MAX.into()));
                }
            }
            Err(error) => {
                let small = mib < 20 || ramdisk > mib * M - 20 * M || max < ramdisk + 20 * M;
                prop_assert!(small, "{}", error);
            }
        }
    }
}
