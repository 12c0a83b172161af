use super::super::acpi::{Absent, AcpiError, HostTable, Request, Tables};
use super::super::memory_map::{self, Dom0Memory};
use super::{M, pc, range};
use proptest::prelude::*;

const PLACE: u64 = 0x1fff_0000;

fn memory() -> Dom0Memory {
    let (host, free) = (pc(), [range(M, 0x7000_0000)]);
    Dom0Memory::new(&memory_map::Request {
        host: &host,
        free: &free,
        size: 512 * M,
        tables: 0x1000,
        hidden: &[],
    })
    .unwrap()
}

const IO_APIC: [u8; 12] = [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];
const OVERRIDE: [u8; 10] = [2, 10, 0, 0, 2, 0, 0, 0, 0, 0];
const NMI_SOURCE: [u8; 8] = [3, 8, 0, 0, 23, 0, 0, 0];

/// A MADT of two CPUs.
pub(super) fn madt() -> Vec<u8> {
    let mut table = b"APIC\0\0\0\0\x03\0BOCHS BXPC    \x01\0\0\0BXPC\x01\0\0\0".to_vec();
    table.extend_from_slice(&[0, 0, 0xe0, 0xfe, 1, 0, 0, 0]);
    for cpu in 0..2 {
        table.extend_from_slice(&[0, 8, cpu, cpu, 1, 0, 0, 0]);
    }
    table.extend_from_slice(&IO_APIC);
    table.extend_from_slice(&OVERRIDE);
    table.extend_from_slice(&NMI_SOURCE);
    table.extend_from_slice(&[4, 6, 0xff, 0, 0, 1]);
    let size = table.len() as u8;
    table[4] = size;
    table
}

pub(super) fn host(signature: &[u8; 4], address: u64) -> HostTable {
    HostTable {
        signature: *signature,
        address,
        size: 0x74,
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at `address`, checked.
fn table_at<'a>(tables: &'a Tables, address: u64, signature: &[u8; 4]) -> &'a [u8] {
    let bytes = &tables.bytes[(address - PLACE) as usize..];
    let bytes = &bytes[..word(bytes, 4) as usize];
    assert_eq!(&bytes[..4], signature);
    assert_eq!(sum(bytes), 0);
    assert_eq!(&bytes[10..24], b"BOCHS BXPC    ");
    bytes
}

#[test]
fn the_tables_of_a_pc() {
    let given = [
        host(b"FACP", 0x7ffd_9000),
        host(b"APIC", 0x7ffd_9100),
        host(b"HPET", 0x7ffd_9200),
        host(b"MCFG", 0x7ffd_9300),
        host(b"IVRS", 0x7ffd_9400),
        host(b"WAET", 0x6fff_0000),
    ];
    let madt = madt();
    let request = Request {
        tables: &given,
        madt: &madt,
        vcpus: 4,
        hide_uart: true,
    };
    let tables = Tables::new(&request, &memory(), PLACE).unwrap();
    assert!(tables.bytes.len() as u64 <= request.size());
    assert_eq!(
        tables.absent,
        [
            Absent::Hidden(*b"APIC"),
            Absent::Hidden(*b"HPET"),
            Absent::Hidden(*b"IVRS"),
            Absent::Unreachable(*b"WAET", 0x6fff_0000),
        ]
    );
    let root = &tables.bytes[..36];
    assert_eq!(&root[..8], b"RSD PTR ");
    assert_eq!(&root[9..15], b"BOCHS ");
    assert_eq!((sum(&root[..20]), sum(root), root[15]), (0, 0, 2));
    assert_eq!((word(root, 16), word(root, 20)), (0, 36));
    let list = table_at(&tables, long(root, 24), b"XSDT");
    assert_eq!(list.len(), 36 + 4 * 8);
    assert_eq!((long(list, 36), long(list, 44)), (0x7ffd_9000, 0x7ffd_9300));
    let madt = table_at(&tables, long(list, 52), b"APIC");
    assert_eq!((word(madt, 36), word(madt, 40)), (0xfee0_0000, 0));
    let mut expected = Vec::new();
    for vcpu in 0..4 {
        expected.extend_from_slice(&[0, 8, vcpu, 2 * vcpu, 1, 0, 0, 0]);
    }
    expected.extend_from_slice(&IO_APIC);
    expected.extend_from_slice(&OVERRIDE);
    expected.extend_from_slice(&NMI_SOURCE);
    expected.extend_from_slice(&[4, 6, 0xff, 0, 0, 1]);
    assert_eq!(&madt[44..], expected);
    let stao = table_at(&tables, long(list, 60), b"STAO");
    assert_eq!(&stao[36..], [1]);
}

#[test]
fn many_vcpus_have_x2apics() {
    let madt = madt();
    let request = Request {
        tables: &[],
        madt: &madt,
        vcpus: 130,
        hide_uart: false,
    };
    let tables = Tables::new(&request, &memory(), PLACE).unwrap();
    assert!(tables.bytes.len() as u64 <= request.size());
    let list = table_at(&tables, long(&tables.bytes, 24), b"XSDT");
    assert_eq!(list.len(), 44, "no STAO");
    let madt = table_at(&tables, long(list, 36), b"APIC");
    // vCPU 126 has 252, vCPU 127 has 254; 128 and 129 do not fit into a byte.
    let last = 44 + 127 * 8;
    assert_eq!(&madt[last..last + 8], [0, 8, 127, 254, 1, 0, 0, 0]);
    let wide = &madt[last + 8..];
    assert_eq!((wide[0], wide[1]), (9, 16));
    assert_eq!(
        (word(wide, 4), word(wide, 8), word(wide, 12)),
        (256, 1, 128)
    );
    assert_eq!(word(wide, 16 + 4), 258);
    let nmi = &madt[madt.len() - 12..];
    assert_eq!(
        (nmi, word(nmi, 4)),
        (
            &[10, 12, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0][..],
            u32::MAX
        )
    );
}

#[test]
fn tables_that_cannot_be() {
    let good = madt();
    let new = |madt: &[u8], vcpus, at| {
        let request = Request {
            tables: &[],
            madt,
            vcpus,
            hide_uart: false,
        };
        Tables::new(&request, &memory(), at).map(|_| ())
    };
    assert_eq!(new(&good, 1, PLACE), Ok(()));
    assert_eq!(new(&good, 0, PLACE), Err(AcpiError::NoVcpus));
    for at in [0, PLACE + 8, 0xffff_fff0, 1 << 32, !15] {
        assert_eq!(new(&good, 1, at), Err(AcpiError::Place(at)));
    }
    assert_eq!(new(&[], 1, PLACE), Err(AcpiError::Madt(0)));
    assert_eq!(new(&good[..60], 1, PLACE), Err(AcpiError::Madt(4)));
    // The I/O APIC's structure, after two CPUs', is too short; nothing has no length.
    for length in [0, 1, 11, 200] {
        let mut bad = good.clone();
        bad[61] = length;
        assert_eq!(new(&bad, 1, PLACE), Err(AcpiError::Madt(60)), "{length}");
    }
}

proptest! {
    #[test]
    fn damaged_madts(hits in prop::collection::vec((0usize..100, any::<u8>()), 0..6), cut in 0usize..120, vcpus in 0u32..300) {
        let mut madt = madt();
        for (at, byte) in hits {
            if let Some(old) = madt.get_mut(at) {
                *old = byte;
            }
        }
        madt.truncate(cut);
        let request = Request { tables: &[], madt: &madt, vcpus, hide_uart: true };
        if let Ok(tables) = Tables::new(&request, &memory(), PLACE) {
            prop_assert!(tables.bytes.len() as u64 <= request.size());
            let list = long(&tables.bytes, 24) - PLACE;
            let list = &tables.bytes[list as usize..];
            prop_assert_eq!(sum(&list[..word(list, 4) as usize]), 0);
        }
    }
}
