//! The crate `acpi` reads the same from sound tables.
#![expect(unsafe_code, reason = "the crate maps memory through its user")]

use core::ptr::NonNull;

use ::acpi::madt::{Madt as TheirMadt, MadtEntry};
use ::acpi::{
    AcpiHandler, AcpiTables, PhysicalMapping, fadt, hpet as their_hpet, mcfg as their_mcfg,
};

use super::*;

#[derive(Clone)]
struct Handler(std::sync::Arc<Ram>);

impl AcpiHandler for Handler {
    unsafe fn map_physical_region<T>(&self, at: usize, size: usize) -> PhysicalMapping<Self, T> {
        let bytes = self.0.bytes(at as u64, size as u64).unwrap();
        let start = NonNull::from(bytes).cast();
        // SAFETY: the memory lives as long as the handler that the mapping keeps.
        unsafe { PhysicalMapping::new(at, start, size, size, self.clone()) }
    }
    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

fn theirs() -> (AcpiTables<Handler>, Ram, Rsdp) {
    let (mut ram, rsdp) = pc();
    // The crate wants all of its newest FADT.
    let mut body = fadt_body();
    body.resize(276 - HEADER, 0);
    ram.0.insert(0x3000, table(b"FACP", 6, &body));
    // It also follows an entry that is zero.
    let entries = [0x2000u64, 0x3000, 0x4000, 0x5000, 0x8000].map(u64::to_le_bytes);
    ram.0
        .insert(0x1000, table(b"XSDT", 1, entries.as_flattened()));
    let handler = Handler(std::sync::Arc::new(ram.clone()));
    // SAFETY: the tables are sound.
    let tables = unsafe { AcpiTables::from_rsdt(handler, 2, 0x1000) }.unwrap();
    (tables, ram, rsdp)
}

#[test]
fn the_madt_is_the_same() {
    let (tables, ram, rsdp) = theirs();
    let madt = tables.find_table::<TheirMadt>().unwrap();
    let ours = Tables::read(&ram, rsdp).unwrap().madt().unwrap();
    assert_eq!(ours.has_8259, madt.get().supports_8259());
    let (mut apics, mut overrides, mut cpus) = (Vec::new(), Vec::new(), Vec::new());
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::IoApic(e) => apics.push((
                e.io_apic_id,
                e.io_apic_address,
                e.global_system_interrupt_base,
            )),
            MadtEntry::InterruptSourceOverride(e) => {
                overrides.push((e.irq, e.global_system_interrupt))
            }
            MadtEntry::LocalApic(e) if e.apic_id != 0xff => cpus.push(u32::from(e.apic_id)),
            _ => {}
        }
    }
    let our_apics = ours.io_apics.iter().map(|a| (a.id, a.address, a.first_gsi));
    assert_eq!(our_apics.collect::<Vec<_>>(), apics);
    let our_overrides = ours.overrides.iter().map(|o| (o.irq, o.gsi));
    assert_eq!(our_overrides.collect::<Vec<_>>(), overrides);
    let in_both = ours.cpus.iter().map(|c| c.apic_id).filter(|id| *id < 0xff);
    assert_eq!(in_both.collect::<Vec<_>>(), cpus);
}

#[test]
fn the_fadt_is_the_same() {
    let (tables, ram, rsdp) = theirs();
    let fadt = tables.find_table::<fadt::Fadt>().unwrap();
    let ours = Tables::read(&ram, rsdp).unwrap().fadt().unwrap();
    assert_eq!(ours.dsdt, fadt.dsdt_address().unwrap() as u64);
    let control = fadt.pm1a_control_block().unwrap().address;
    assert_eq!(ours.pm1a_control.unwrap().address, control);
    let timer = fadt.pm_timer_block().unwrap().unwrap().address;
    assert_eq!(ours.pm_timer.unwrap().address, timer);
    assert_eq!(
        ours.reset.unwrap().0.address,
        fadt.reset_register().unwrap().address
    );
    assert_eq!(ours.sci, { fadt.sci_interrupt });
}

#[test]
fn small_tables_are_the_same() {
    let (tables, ram, rsdp) = theirs();
    let all = Tables::read(&ram, rsdp).unwrap();
    let timer = their_hpet::HpetInfo::new(&tables).unwrap();
    let ours = hpet(all.find(b"HPET").unwrap().bytes).unwrap();
    assert_eq!(ours.address, timer.base_address as u64);
    let segments = tables.find_table::<their_mcfg::Mcfg>().unwrap();
    let ours = mcfg(all.find(b"MCFG").unwrap().bytes).unwrap();
    let theirs: Vec<_> = segments
        .entries()
        .iter()
        .map(|e| ({ e.base_address }, e.bus_number_start, e.bus_number_end))
        .collect();
    let ours: Vec<_> = ours
        .iter()
        .map(|s| (s.base, s.first_bus, s.last_bus))
        .collect();
    assert_eq!(ours, theirs);
}
