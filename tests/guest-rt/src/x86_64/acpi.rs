//! ACPI tables, as far as finding the vCPUs and powering off take (ACPI Specification 6.5, chapters 5.2.5 to 5.2.12 and
//! 7.4.2).

/// A table of firmware's, header included.
type Table = &'static [u8];

/// The table at a physical address: what its header says it is long.
fn table(at: u64) -> Option<Table> {
    const HEADER: usize = 36;
    let at = core::ptr::with_exposed_provenance::<u8>(at as usize);
    if at.is_null() {
        return None;
    }
    // SAFETY: firmware or the hypervisor put a table there; nobody changes it.
    let header = unsafe { core::slice::from_raw_parts(at, HEADER) };
    let size = word(header, 4)? as usize;
    // SAFETY: as above.
    (HEADER..1 << 20)
        .contains(&size)
        .then(|| unsafe { core::slice::from_raw_parts(at, size) })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The table with a signature, by the root pointer at `rsdp`.
pub(super) fn find(rsdp: u64, signature: &[u8; 4]) -> Option<Table> {
    const HEADER: usize = 36;
    const ROOT: usize = 36;
    let at = core::ptr::with_exposed_provenance::<u8>(rsdp as usize);
    if at.is_null() {
        return None;
    }
    // SAFETY: the start information says that the root pointer is there.
    let root = unsafe { core::slice::from_raw_parts(at, ROOT) };
    let xsdt = table(long(root, 24)?)?;
    xsdt.get(HEADER..)?
        .as_chunks::<8>()
        .0
        .iter()
        .filter_map(|entry| table(u64::from_le_bytes(*entry)))
        .find(|table| table.starts_with(signature))
}

/// Identifiers of the local APICs that are enabled, in the order of the MADT.
pub(super) fn local_apics(rsdp: u64) -> impl Iterator<Item = u32> {
    const FIRST: usize = 44;
    const ENABLED: u32 = 1;
    const LOCAL_APIC: u8 = 0;
    const LOCAL_X2APIC: u8 = 9;
    let madt = find(rsdp, b"APIC").unwrap_or_default();
    let mut rest = madt.get(FIRST..).unwrap_or_default();
    core::iter::from_fn(move || {
        let size = usize::from(*rest.get(1)?).max(2);
        let (entry, next) = rest.split_at_checked(size)?;
        rest = next;
        Some(entry)
    })
    .filter_map(|entry| {
        let (id, flags) = match *entry.first()? {
            LOCAL_APIC => (u32::from(*entry.get(3)?), word(entry, 4)?),
            LOCAL_X2APIC => (word(entry, 4)?, word(entry, 8)?),
            _ => return None,
        };
        (flags & ENABLED != 0).then_some(id)
    })
}

/// The code that firmware gives out: the DSDT.
fn dsdt(rsdp: u64) -> Option<Table> {
    const SHORT: usize = 40;
    const LONG: usize = 140;
    let fadt = find(rsdp, b"FACP")?;
    let by_long = long(fadt, LONG).filter(|at| *at != 0).and_then(table);
    by_long.or_else(|| table(word(fadt, SHORT)?.into()))
}

/// The type of the sleep that is off, for the first control register: the first number of the package `\_S5`, which
/// firmware writes down as a constant.
pub(super) fn soft_off(rsdp: u64) -> Option<u16> {
    const PACKAGE: u8 = 0x12;
    const BYTE: u8 = 0x0a;
    let code = dsdt(rsdp)?;
    let name = code.windows(5).position(|w| w == b"_S5_\x12")?;
    let package = code.get(name + 4..)?;
    debug_assert_eq!(package.first(), Some(&PACKAGE));
    // The package's length says by its two highest bits how many bytes of it follow; then comes the number of elements.
    let first = 3 + usize::from(package.get(1)? >> 6);
    match *package.get(first)? {
        BYTE => Some(u16::from(*package.get(first + 1)?)),
        constant @ (0 | 1) => Some(constant.into()),
        _ => None,
    }
}
