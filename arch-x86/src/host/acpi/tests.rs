mod damage;
mod oracle;

use std::collections::BTreeMap;
use std::vec::Vec;

use super::*;

/// Physical memory in pieces.
#[derive(Clone, Default)]
struct Ram(BTreeMap<u64, Vec<u8>>);

impl PhysicalMemory for Ram {
    fn bytes(&self, address: u64, len: u64) -> Option<&[u8]> {
        let (base, bytes) = self.0.range(..=address).next_back()?;
        let start = usize::try_from(address - base).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    }
}

fn fix_checksum(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    let sum = bytes.iter().fold(0u8, |s, b| s.wrapping_add(*b));
    bytes[at] = sum.wrapping_neg();
}

fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = std::vec![0; HEADER];
    bytes[..4].copy_from_slice(signature);
    bytes[8] = revision;
    bytes[10..16].copy_from_slice(b"OXEN  ");
    bytes[16..24].copy_from_slice(b"TESTTABL");
    bytes.extend(body);
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    fix_checksum(&mut bytes, 9);
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// A PC with two CPUs, one of them listed twice, and a third that is off.
fn madt_body() -> Vec<u8> {
    let mut b = words(&[0xfee0_0000, 1]);
    b.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    b.extend([0, 8, 1, 4, 1, 0, 0, 0]);
    b.extend([0, 8, 2, 6, 0, 0, 0, 0]);
    b.extend([0, 8, 3, 0xff, 0, 0, 0, 0]);
    b.extend([9, 16, 0, 0]);
    b.extend(words(&[4, 1, 1]));
    b.extend([9, 16, 0, 0]);
    b.extend(words(&[0x200, 1, 7]));
    b.extend([1, 12, 9, 0]);
    b.extend(words(&[0xfec0_0000, 0]));
    b.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    b.extend([2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0]);
    b.extend([2, 10, 0, 11, 11, 0, 0, 0, 0xf, 0]);
    b.extend([4, 6, 0xff, 0, 0, 1]);
    b.extend([3, 8, 3, 0, 20, 0, 0, 0]);
    b.extend([10, 12, 3, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    b.extend([0x7f, 4, 1, 2]);
    b
}

fn fadt_body() -> Vec<u8> {
    let mut b = std::vec![0u8; 244 - HEADER];
    let mut put = |at: usize, bytes: &[u8]| {
        b[at - HEADER..at - HEADER + bytes.len()].copy_from_slice(bytes);
    };
    put(36, &0x7000u32.to_le_bytes());
    put(40, &0x6000u32.to_le_bytes());
    put(46, &9u16.to_le_bytes());
    put(48, &0xb2u32.to_le_bytes());
    put(52, &[2]);
    put(56, &0x600u32.to_le_bytes());
    put(64, &0x604u32.to_le_bytes());
    put(76, &0x608u32.to_le_bytes());
    put(88, &[4, 2, 0, 4]);
    put(112, &(1u32 << 10 | 1 << 8).to_le_bytes());
    put(116, &[1, 8, 0, 1]);
    put(120, &0xcf9u64.to_le_bytes());
    put(128, &[0xf]);
    b
}

const S5: &[u8] =
    b"\x10\x05XYZ_\x08_S4_\x12\x04\x02\x0a\x06\0\x08_S5_\x12\x06\x04\x0a\x05\x0a\x03\0\0";

fn pc() -> (Ram, Rsdp) {
    let mut ram = Ram::default();
    let mut put = |at: u64, bytes: Vec<u8>| ram.0.insert(at, bytes);
    put(0x2000, table(b"APIC", 3, &madt_body()));
    put(0x3000, table(b"FACP", 3, &fadt_body()));
    let mut hpet = words(&[0x8086_a201, 0x4000, 0xfed0_0000, 0]);
    hpet.extend([0; 4]);
    put(0x4000, table(b"HPET", 1, &hpet));
    let mut mcfg = std::vec![0; 8];
    mcfg.extend(words(&[0xb000_0000, 0, 0xff00_0000, 0]));
    put(0x5000, table(b"MCFG", 1, &mcfg));
    put(0x6000, table(b"DSDT", 1, S5));
    let mut srat = words(&[1, 0, 0]);
    srat.extend([0, 16, 1, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    srat.extend([1, 40, 1, 0, 0, 0, 0, 0]);
    srat.extend(words(&[0x10_0000, 0, 0x4000_0000, 0, 0, 1, 0, 0]));
    srat.extend([2, 24, 0, 0]);
    srat.extend(words(&[2, 0x200, 1, 0, 0]));
    put(0x8000, table(b"SRAT", 3, &srat));
    let entries: Vec<u8> = [0x2000u64, 0x3000, 0x4000, 0, 0x5000, 0x8000]
        .iter()
        .flat_map(|a| a.to_le_bytes())
        .collect();
    put(0x1000, table(b"XSDT", 1, &entries));
    (
        ram,
        Rsdp {
            root: 0x1000,
            extended: true,
        },
    )
}

fn rsdp_2() -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[..8].copy_from_slice(b"RSD PTR ");
    bytes[15] = 2;
    bytes[16..20].copy_from_slice(&0x9000u32.to_le_bytes());
    bytes[20] = 36;
    bytes[24..32].copy_from_slice(&0x1000u64.to_le_bytes());
    fix_checksum(&mut bytes[..20], 8);
    fix_checksum(&mut bytes, 32);
    bytes
}

#[test]
fn root_pointers_of_both_versions() {
    let new = rsdp_2();
    let extended = Rsdp {
        root: 0x1000,
        extended: true,
    };
    let old = Rsdp {
        root: 0x9000,
        extended: false,
    };
    assert_eq!(Rsdp::parse(&new), Some(extended));
    // Only the first version's part is there, or only that is right.
    assert_eq!(Rsdp::parse(&new[..20]), Some(old));
    let mut damaged = new;
    damaged[33] ^= 1;
    assert_eq!(Rsdp::parse(&damaged), Some(old));
    damaged[0] ^= 1;
    assert_eq!(Rsdp::parse(&damaged), None);
    assert_eq!(Rsdp::parse(&new[..19]), None);
}

#[test]
fn the_bios_leaves_it_in_two_places() {
    let mut ram = Ram::default();
    ram.0.insert(0x40e, std::vec![0xc0, 0x9f]);
    let mut rom = std::vec![0; 0x2_0000];
    rom[0x1230..0x1230 + 36].copy_from_slice(&rsdp_2());
    ram.0.insert(0xe_0000, rom);
    assert_eq!(Rsdp::search(&ram).unwrap().0, 0xe_1230);
    let mut ebda = std::vec![0; 1024];
    ebda[0x30..0x30 + 36].copy_from_slice(&rsdp_2());
    ram.0.insert(0x9_fc00, ebda);
    assert_eq!(Rsdp::search(&ram).unwrap().0, 0x9_fc30);
    assert!(Rsdp::search(&Ram::default()).is_none());
}

#[test]
fn cpus_and_interrupt_controllers() {
    let (ram, rsdp) = pc();
    let tables = Tables::read(&ram, rsdp).unwrap();
    assert_eq!(tables.notes, []);
    let madt = tables.madt().unwrap();
    let cpus: Vec<_> = madt
        .cpus
        .iter()
        .map(|c| (c.uid, c.apic_id, c.enabled))
        .collect();
    assert_eq!(
        cpus,
        [(0, 0, true), (1, 4, true), (2, 6, false), (7, 0x200, true)]
    );
    assert_eq!((madt.local_apic, madt.has_8259), (0xfee0_0000, true));
    assert_eq!(madt.io_apics.len(), 1);
    assert_eq!(madt.isa(0).gsi, 2);
    assert_eq!((madt.isa(4).gsi, madt.isa(4).trigger), (4, Trigger::Edge));
    assert_eq!(
        (madt.isa(9).polarity, madt.isa(9).trigger),
        (Polarity::High, Trigger::Level)
    );
    assert_eq!(madt.isa(11).polarity, Polarity::Low);
    assert_eq!(madt.nmi_of(0).unwrap().lint, 1);
    assert_eq!(madt.nmi_sources, [(20, Polarity::Low)]);
}

#[test]
fn fixed_hardware_and_power_off() {
    let (ram, rsdp) = pc();
    let tables = Tables::read(&ram, rsdp).unwrap();
    let fadt = tables.fadt().unwrap();
    let port = |address, width| {
        Some(GenericAddress {
            space: Space::Port,
            width,
            address,
        })
    };
    assert_eq!(fadt.pm1a_control, port(0x604, 16));
    assert_eq!(
        (fadt.pm1b_control, fadt.pm1a_event),
        (None, port(0x600, 32))
    );
    assert_eq!((fadt.pm_timer, fadt.pm_timer_32), (port(0x608, 32), true));
    assert_eq!(fadt.reset, port(0xcf9, 8).map(|r| (r, 0xf)));
    assert_eq!((fadt.smi_command, fadt.acpi_enable, fadt.sci), (0xb2, 2, 9));
    assert_eq!(tables.power_off(&fadt), Some(SleepTypes { a: 5, b: 3 }));
}

#[test]
fn sleep_types_in_all_their_forms() {
    let find = |code: &[u8]| SleepTypes::find(code);
    let types = |a, b| Some(SleepTypes { a, b });
    assert_eq!(find(b"\x08\\_S5_\x12\x08\x02\x01\xff"), types(1, 7));
    assert_eq!(
        find(b"\x08_S5_\x12\x40\x00\x02\x0b\x05\0\x0c\x06\0\0\0"),
        types(5, 6)
    );
    assert_eq!(find(b"\x08_S5_\x12\x03\x01\x0a\x07"), types(7, 0));
    // A use, not a definition; a method; a name; a value that does not fit; the end of the table.
    assert_eq!(find(b"\x70_S5_\x12\x06\x04\x0a\x05\x0a\x05"), None);
    assert_eq!(find(b"\x08_S5_\x14\x06\x04"), None);
    assert_eq!(find(b"\x08_S5_\x12\x06\x02ABCDEFGH"), None);
    assert_eq!(find(b"\x08_S5_\x12\x06\x02\x0a\x08\0"), None);
    for end in 0..S5.len() {
        let found = find(&S5[..end]);
        assert!(found.is_none() || found == types(5, 3));
    }
}

#[test]
fn small_tables() {
    let (ram, rsdp) = pc();
    let tables = Tables::read(&ram, rsdp).unwrap();
    let bytes = |name| tables.find(name).unwrap().bytes;
    assert_eq!(hpet(bytes(b"HPET")).unwrap().address, 0xfed0_0000);
    let segments = mcfg(bytes(b"MCFG")).unwrap();
    assert_eq!(
        segments,
        [McfgSegment {
            base: 0xb000_0000,
            segment: 0,
            first_bus: 0,
            last_bus: 255
        }]
    );
    let near = srat(bytes(b"SRAT")).unwrap();
    assert_eq!(
        near.cpus,
        [
            CpuAffinity {
                apic_id: 4,
                node: 1
            },
            CpuAffinity {
                apic_id: 0x200,
                node: 2
            }
        ]
    );
    assert_eq!(
        near.memory,
        [MemoryAffinity {
            base: 0x10_0000,
            size: 0x4000_0000,
            node: 1
        }]
    );
    assert_eq!(
        tables.find(b"NOPE").unwrap_err(),
        AcpiError::Missing(*b"NOPE")
    );
}
