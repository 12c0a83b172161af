use super::super::memory_map::{Dom0Memory, MAX_ENTRIES, MapError, Request, normalise, to_e820};
use super::super::place::Room;
use super::super::start_info::{COMMAND_LINE_MAX, Module, StartInfo, StartInfoError};
use super::{M, pc, range, region};
use crate::multiboot::{BootInfo, MemoryKind, PVH_MAGIC, PhysicalMemory, Region, RsdpSource};
use crate::range::PhysRange;
use proptest::prelude::*;
use xen_core::{GuestPhysAddr, HostPhysAddr};

/// What is free on the PC: not page 0, not the hypervisor at 2 MiB, not what it took at the top.
pub(super) fn free() -> Vec<PhysRange> {
    vec![
        range(0x1000, 0x9_f000),
        range(M, 2 * M),
        range(4 * M, 0x7fc0_0000),
        range(1 << 32, 0x1_8000_0000),
    ]
}

const IO_APIC: u64 = 0xfec0_0000;

fn build(size: u64) -> Result<Dom0Memory, MapError> {
    let (host, free) = (pc(), free());
    let hidden = [
        range(IO_APIC, IO_APIC + 0x1000),
        range(0xb000_0000, 0xc000_0000),
    ];
    Dom0Memory::new(&Request {
        host: &host,
        free: &free,
        size,
        tables: 0x3000,
        hidden: &hidden,
    })
}

#[test]
fn the_map_of_a_pc() {
    use MemoryKind::{AcpiNvs, AcpiReclaimable, Ram, Reserved, Unusable};
    let memory = build(512 * M).unwrap();
    assert_eq!(memory.size(), 512 * M);
    // 512 MiB less what is below 2 MiB: 0x9e pages and 1 MiB.
    let end = 4 * M + 512 * M - M - 0x9_e000;
    let tables = end - 0x3000;
    assert_eq!(
        memory.map,
        [
            region(0, 0x1000, Reserved),
            region(0x1000, 0x9_f000, Ram),
            region(0x9_f000, 0xa_0000, Reserved),
            region(0xf_0000, M, Reserved),
            region(M, 2 * M, Ram),
            region(2 * M, 4 * M, Unusable),
            region(4 * M, tables, Ram),
            region(tables, end, AcpiReclaimable),
            region(end, 0x7ffd_8000, Unusable),
            region(0x7ffd_8000, 0x7ffe_0000, AcpiReclaimable),
            region(0x7ffe_0000, 0x7fff_0000, AcpiNvs),
            region(0x7fff_0000, 0x8000_0000, Reserved),
            region(0xb000_0000, 0xc000_0000, Reserved),
            region(0xfed1_c000, 0xfed2_0000, Reserved),
            region(0xfffc_0000, 1 << 32, Reserved),
            region(1 << 32, 0x1_8000_0000, Unusable),
        ]
    );
    assert_eq!(memory.tables, Some(range(tables, end)));
    assert_eq!(
        memory.identity,
        [
            range(0, 0x1000),
            range(0x9_f000, M),
            range(0x7ffd_8000, 0x8000_0000),
            range(0xfed1_c000, 0xfed2_0000),
            range(0xfffc_0000, 1 << 32),
        ]
    );
    assert_eq!(
        memory.holes,
        [
            range(0x8000_0000, 0xb000_0000),
            range(0xc000_0000, IO_APIC),
            range(IO_APIC + 0x1000, 0xfed1_c000),
            range(0xfed2_0000, 0xfee0_0000),
            range(0xfef0_0000, 0xfffc_0000),
        ]
    );
    assert_eq!(memory.machine, pc());
}

#[test]
fn where_devices_may_be() {
    let memory = build(512 * M).unwrap();
    let may = |base, size| memory.may_map(&range(base, base + size));
    assert!(may(0xfebc_0000, 0x2_0000));
    // Above all memory.
    assert!(may(0x80_0000_0000, 1 << 30));
    assert!(!may(0x1_7fff_ffff, 1), "RAM that is not dom0's");
    assert!(!may(5 * M, 1), "its own RAM");
    assert!(!may(IO_APIC + 0x10, 4));
    assert!(!may(0xfee0_0000, 0x1000));
    assert!(!may(0xafff_ff00, 0x200), "intercepted configuration space");
    assert!(memory.is_firmware(&range(0x7ffd_9001, 0x7ffd_9100)));
    assert!(memory.is_firmware(&range(0xf_5a00, 0xf_5a14)));
    assert!(!memory.is_firmware(&range(0x7ffd_7fff, 0x7ffd_9100)));
    assert!(!memory.is_firmware(&range(0x9000_0000, 0x9000_0100)));
}

#[test]
fn memory_that_is_not_there() {
    let all: u64 = free().iter().map(PhysRange::size).sum();
    assert_eq!(build(all).unwrap().size(), all);
    assert_eq!(
        build(all + 0x1000),
        Err(MapError::NotEnough {
            wanted: all + 0x1000,
            free: all
        })
    );
    assert!(matches!(build(0xfff), Err(MapError::NotEnough { .. })));
    assert_eq!(build(0x2000), Err(MapError::NoTables(0x3000)));
    // Above 4 GiB there is room, but not for tables.
    let host = [region(1 << 32, 2 << 32, MemoryKind::Ram)];
    let free = [range(1 << 32, 2 << 32)];
    let request = Request {
        host: &host,
        free: &free,
        size: M,
        tables: 0x1000,
        hidden: &[],
    };
    assert_eq!(Dom0Memory::new(&request), Err(MapError::NoTables(0x1000)));
    let request = Request {
        tables: 0,
        ..request
    };
    assert_eq!(Dom0Memory::new(&request).unwrap().tables, None);
}

#[test]
fn the_smallest_pieces_go_when_there_are_too_many() {
    let host = [region(0, 64 * M, MemoryKind::Ram)];
    // 100 pieces with gaps: 200 entries.
    let free: Vec<PhysRange> = (1..=100)
        .map(|n| range(n * 0x2_0000, n * 0x2_0000 + 0x1000 * (1 + n % 20)))
        .collect();
    let size = free.iter().map(PhysRange::size).sum();
    let request = Request {
        host: &host,
        free: &free,
        size,
        tables: 0,
        hidden: &[],
    };
    let memory = Dom0Memory::new(&request).unwrap();
    assert!(memory.map.len() <= MAX_ENTRIES);
    assert!(memory.map.len() >= MAX_ENTRIES - 2);
    assert!(memory.size() > size / 2);
    let crowd: Vec<Region> = (0..200)
        .map(|n| region(n * 2 * M, n * 2 * M + M, MemoryKind::Reserved))
        .chain([region(1 << 32, 2 << 32, MemoryKind::Ram)])
        .collect();
    let free = [range(1 << 32, 2 << 32)];
    let request = Request {
        host: &crowd,
        free: &free,
        size: M,
        ..request
    };
    assert!(matches!(
        Dom0Memory::new(&request),
        Err(MapError::Fragmented(_))
    ));
}

#[test]
fn overlaps_end_in_what_is_less_usable() {
    use MemoryKind::{Other, Ram, Reserved};
    let map = normalise(&[
        region(0, 0x5000, Ram),
        region(0x1000, 0x2000, Reserved),
        region(0x1800, 0x3000, Other(12)),
        region(0x5000, 0x6000, Ram),
    ]);
    assert_eq!(
        map,
        [
            region(0, 0x1000, Ram),
            region(0x1000, 0x2000, Reserved),
            region(0x2000, 0x3000, Other(12)),
            region(0x3000, 0x6000, Ram),
        ]
    );
    let entries = to_e820(&map);
    assert_eq!(entries.len(), 4);
    let third = entries[2];
    assert_eq!(
        (third.addr.get(), third.size.get(), third.kind.get()),
        (0x2000, 0x1000, 12)
    );
}

#[test]
fn room_is_given_from_the_top() {
    let mut room = Room::new(&[range(0x1000, 16 * M), range(0xffff_0000, 0x1_1000_0000)]);
    room.remove(&range(15 * M + 1, 15 * M + 2));
    // Below 4 GiB, though the bank reaches further.
    assert_eq!(
        room.take_high(0xf001, u32::MAX.into()),
        Some(range(0xffff_0000, 1 << 32))
    );
    assert_eq!(
        room.take_high(M - 0x1000, u32::MAX.into()),
        Some(range(15 * M + 0x1000, 16 * M))
    );
    assert_eq!(
        room.take_high(0x1000, 8 * M - 1),
        Some(range(8 * M - 0x1000, 8 * M))
    );
    assert_eq!(room.take_high(0x1000, 0x1ffe), None);
    assert_eq!(room.take_high(0, u64::MAX), None);
    assert_eq!(room.take_high(u64::MAX, u64::MAX), None);
    assert_eq!(
        room.take_high(0x1000, u64::MAX),
        Some(range(0x1_0fff_f000, 0x1_1000_0000))
    );
    assert_eq!(
        Room::new(&[range(0, 0x1000)]).take_high(0x1000, u64::MAX),
        None
    );
}

#[test]
fn low_room_begins_where_it_is_said() {
    let mut room = Room::new(&[
        range(0x1000, 0x9_f000),
        range(M, 2 * M),
        range(4 * M, 8 * M),
    ]);
    assert_eq!(room.take_low(0x1001, 0x800), Some(range(0x1000, 0x3000)));
    assert_eq!(room.take_low(1, 0x800), Some(range(0x3000, 0x4000)));
    assert_eq!(room.take_low(1, M), Some(range(M, M + 0x1000)));
    assert_eq!(room.take_low(M, M), Some(range(4 * M, 5 * M)));
    assert_eq!(room.take_low(3 * M + 1, M), None);
    assert_eq!(room.take_low(1, 8 * M), None);
    for (size, first) in [(0, 0), (u64::MAX, 0), (1, u64::MAX)] {
        assert_eq!(room.take_low(size, first), None);
    }
}

/// The bytes of a start information, at an address.
struct At(u64, Vec<u8>);

impl PhysicalMemory for At {
    fn bytes(&self, address: u64, len: u64) -> Option<&[u8]> {
        let start = address.checked_sub(self.0)? as usize;
        // Texts are read to the end of the page.
        let end = (start + len as usize).min(self.1.len());
        self.1.get(start..end)
    }
}

const PLACE: u32 = 0x0200_0000;

#[test]
fn start_information_is_read_back() {
    let memory = build(512 * M).unwrap();
    let modules = [
        Module {
            range: range(0x1000_0000, 0x1010_0000),
            size: 0xf_fff1,
            command_line: "",
        },
        Module {
            range: range(0x1020_0000, 0x1020_1000),
            size: 0x1000,
            command_line: "second",
        },
    ];
    let info = StartInfo {
        command_line: "console=hvc0 root=/dev/sda1",
        modules: &modules,
        rsdp: Some(GuestPhysAddr(0x2000_0000)),
        memory: &memory.map,
    };
    let bytes = info.encode(PLACE).unwrap();
    assert_eq!(bytes.len(), info.size());
    assert_eq!(bytes[8..12], [3, 0, 0, 0], "privileged, initial domain");
    assert_eq!((bytes[4], &bytes[52..56]), (1, &[0; 4][..]));
    // The reader is the one that Oxen itself starts with.
    let back = BootInfo::read(&At(PLACE.into(), bytes), PVH_MAGIC, PLACE).unwrap();
    assert_eq!(back.command_line, info.command_line);
    assert_eq!(back.rsdp, Some(RsdpSource::Address(0x2000_0000)));
    assert_eq!(back.memory, memory.map);
    assert_eq!(back.notes, []);
    let list: Vec<_> = back.modules.iter().map(|m| (m.base, m.size)).collect();
    assert_eq!(list, [(0x1000_0000, 0xf_fff1), (0x1020_0000, 0x1000)]);
    assert_eq!(back.modules[1].command_line, "second");
}

#[test]
fn start_information_that_cannot_be() {
    let module = Module {
        range: range(0x1000_0000, 0x1010_0000),
        size: 0x10_0001,
        command_line: "",
    };
    let info = StartInfo {
        command_line: "",
        modules: &[],
        rsdp: None,
        memory: &[],
    };
    let bytes = info.encode(PLACE).unwrap();
    assert_eq!(bytes.len(), 57);
    // No lists, no tables: no addresses.
    for field in [16..24, 32..40, 40..48] {
        assert_eq!(bytes[field], [0; 8]);
    }
    assert_eq!(info.encode(0), Err(StartInfoError::Place(0)));
    let end = u32::MAX - 20;
    assert_eq!(info.encode(end), Err(StartInfoError::Place(end.into())));
    let with = |modules| StartInfo { modules, ..info }.encode(PLACE);
    let place = Err(StartInfoError::Place(0x1000_0000));
    let one = [module];
    assert_eq!(with(&one), place);
    let many = [Module { size: 1, ..module }; 65];
    assert_eq!(with(&many), Err(StartInfoError::Modules(65)));
    let long = "x".repeat(COMMAND_LINE_MAX + 1);
    for (command_line, error) in [
        ("a\0b", StartInfoError::Nul),
        (long.as_str(), StartInfoError::CommandLine(2048)),
    ] {
        let info = StartInfo {
            command_line,
            ..info
        };
        assert_eq!(info.encode(PLACE), Err(error));
    }
}

fn any_region() -> impl Strategy<Value = Region> {
    let kind = prop_oneof![
        4 => Just(MemoryKind::Ram),
        1 => (0u32..13).prop_map(MemoryKind::from_e820),
    ];
    (0u64..0x40_0000, 1u64..0x10_0000, kind)
        .prop_map(|(base, size, kind)| region(base, base + size, kind))
}

fn any_range() -> impl Strategy<Value = PhysRange> {
    (0u64..0x500, 1u64..0x100).prop_map(|(page, count)| range(page << 12, (page + count) << 12))
}

proptest! {
    // Whatever the firmware says, dom0's RAM is the host's RAM and free, and no address has two meanings.
    #[test]
    fn every_map(
        host in prop::collection::vec(any_region(), 1..24),
        free in prop::collection::vec(any_range(), 0..12),
        hidden in prop::collection::vec(any_range(), 0..4),
        pages in 1u64..0x300,
        tables in 0u64..4,
    ) {
        let request = Request { host: &host, free: &free, size: pages << 12, tables: tables << 12, hidden: &hidden };
        let Ok(memory) = Dom0Memory::new(&request) else { return Ok(()) };
        prop_assert!(memory.size() == pages << 12 || memory.map.len() >= MAX_ENTRIES - 2);
        prop_assert!(memory.map.len() <= MAX_ENTRIES);
        prop_assert!(memory.map.windows(2).all(|w| w[0].end() <= w[1].base));
        prop_assert!(memory.machine.windows(2).all(|w| w[0].end() <= w[1].base));
        for address in (0..0x50_0000u64).step_by(0x400) {
            let here = |ranges: &[PhysRange]| ranges.iter().any(|r| r.contains(HostPhysAddr(address)));
            let kinds: Vec<_> = host.iter().filter(|r| r.base <= address && address < r.end()).map(|r| r.kind).collect();
            let is_ram = !kinds.is_empty() && kinds.iter().all(|k| *k == MemoryKind::Ram);
            let listed = memory.map.iter().find(|r| r.base <= address && address < r.end()).map(|r| r.kind);
            prop_assert_eq!(listed.is_some(), !kinds.is_empty());
            let given = here(&memory.ram) || here(memory.tables.as_slice());
            if given {
                prop_assert!(is_ram && here(&free) && address >= 0x1000);
                prop_assert!(!here(&memory.identity) && !here(&memory.holes));
            }
            prop_assert_eq!(listed == Some(MemoryKind::Ram), here(&memory.ram));
            if here(&memory.identity) || here(&memory.holes) {
                prop_assert!(!here(&hidden));
            }
            if here(&memory.holes) {
                prop_assert!(kinds.is_empty());
            }
        }
    }

    #[test]
    fn normal_maps_stay(host in prop::collection::vec(any_region(), 0..24)) {
        let once = normalise(&host);
        prop_assert_eq!(normalise(&once), once);
    }
}
