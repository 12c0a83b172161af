//! Damaged tables end in an error or a note.

use std::string::ToString;

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_wrong_is_said() {
    let (mut ram, rsdp) = pc();
    let hit = |ram: &mut Ram, at: u64, byte: usize, value: u8| {
        ram.0.get_mut(&at).unwrap()[byte] = value;
    };
    // A table that is damaged is left out, one that is not there too.
    hit(&mut ram, 0x4000, 40, 0x5a);
    ram.0.remove(&0x5000);
    hit(&mut ram, 0x8000, 4, 3);
    let tables = Tables::read(&ram, rsdp).unwrap();
    let notes: Vec<_> = tables.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "ACPI table HPET has a wrong checksum",
            "ACPI table ???? at 0x5000 cannot be read",
            "ACPI table SRAT cannot have 3 bytes"
        ]
    );
    // The root must be sound.
    hit(&mut ram, 0x1000, 0, b'Y');
    assert_eq!(
        Tables::read(&ram, rsdp).unwrap_err(),
        AcpiError::Signature(*b"XSDT", 0x1000)
    );
    ram.0.remove(&0x1000);
    assert_eq!(
        Tables::read(&ram, rsdp).unwrap_err(),
        AcpiError::Unreachable(*b"XSDT", 0x1000)
    );
}

#[test]
fn structures_that_do_not_fit_are_refused() {
    let parse = |body: &[u8]| Madt::parse(&table(b"APIC", 1, body));
    let mut body = words(&[0, 0]);
    assert_eq!(parse(&body).unwrap().cpus, []);
    let damaged = |at| Err(AcpiError::Entry(*b"APIC", at));
    for bad in [
        &[0, 0][..],
        &[0, 1],
        &[0],
        &[0, 8, 0, 0],
        &[0, 4, 0, 0],
        &[9, 8, 0, 0, 0, 0, 0, 0],
    ] {
        body.truncate(8);
        body.extend(bad);
        assert_eq!(parse(&body), damaged(HEADER + 8), "{bad:?}");
    }
    assert_eq!(parse(&[0; 4]), damaged(HEADER));
    assert_eq!(
        Fadt::parse(&[0; 100]),
        Err(AcpiError::Length(*b"FACP", 100))
    );
    assert!(hpet(&[0; 40]).is_err() && hpet(&[0; 60]).is_err());
    let mut m = std::vec![0; 8];
    m.extend(words(&[0xb000_0000, 0, 0x0010_0000, 0]));
    assert!(mcfg(&table(b"MCFG", 1, &m)).is_err(), "buses backwards");
    m.extend([1; 5]);
    assert!(mcfg(&table(b"MCFG", 1, &m)).is_err());
}

proptest! {
    /// Whatever bytes are hit, checksums right or not, there is an answer.
    #[test]
    fn damage_does_not_crash(
        hits in prop::collection::vec((0usize..7, 0usize..300, any::<u8>()), 1..12),
        fix: bool,
    ) {
        let (mut ram, rsdp) = pc();
        for (which, at, value) in hits {
            let bytes = ram.0.values_mut().nth(which).unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            if fix {
                fix_checksum(bytes, 9);
            }
        }
        if let Ok(tables) = Tables::read(&ram, rsdp) {
            let _ = tables.madt();
            if let Ok(fadt) = tables.fadt() {
                let _ = tables.power_off(&fadt);
            }
            for table in tables.all() {
                let _ = (hpet(table.bytes), mcfg(table.bytes), srat(table.bytes));
            }
        }
    }

    #[test]
    fn random_structures_do_not_crash(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(madt) = Madt::parse(&table(b"APIC", 1, &body)) {
            prop_assert!(madt.cpus.len() <= body.len());
        }
        let _ = srat(&table(b"SRAT", 1, &body));
        let _ = SleepTypes::find(&body);
    }
}
