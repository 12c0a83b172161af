//! Walks against tables that say what the manuals say, and against a model that is written the other way round.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

/// Physical memory: words of 4 bytes; everything below 2^40 is there.
#[derive(Debug, Default)]
struct Memory {
    words: RefCell<BTreeMap<u64, u32>>,
    /// So many exchanges find that somebody was faster.
    races: Cell<usize>,
}

impl Memory {
    fn put(&self, at: u64, size: EntrySize, value: u64) {
        let mut words = self.words.borrow_mut();
        words.insert(at, value as u32);
        if size == EntrySize::Eight {
            words.insert(at + 4, (value >> 32) as u32);
        }
    }
    fn put8(&self, at: u64, value: u64) {
        self.put(at, EntrySize::Eight, value);
    }
    fn put4(&self, at: u64, value: u64) {
        self.put(at, EntrySize::Four, value);
    }
}

impl PhysicalMemory for Memory {
    fn load(&self, at: GuestPhysAddr, size: EntrySize) -> Result<u64, Error> {
        if at.0 >= 1 << 40 {
            return Err(Error::Fault);
        }
        let words = self.words.borrow();
        let word = |at: u64| u64::from(words.get(&at).copied().unwrap_or(0));
        Ok(match size {
            EntrySize::Four => word(at.0),
            EntrySize::Eight => word(at.0) | word(at.0 + 4) << 32,
        })
    }
    fn compare_exchange(
        &self,
        at: GuestPhysAddr,
        size: EntrySize,
        current: u64,
        new: u64,
    ) -> Result<bool, Error> {
        if self.races.get() > 0 {
            self.races.set(self.races.get() - 1);
            return Ok(false);
        }
        let same = self.load(at, size)? == current;
        if same {
            self.put(at.0, size, new);
        }
        Ok(same)
    }
}

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const NX: u64 = 1 << 63;
const ALL: u64 = P | W | U;

#[derive(Clone, Copy)]
enum Mode {
    Legacy,
    Pae,
    Long,
    Long5,
}

fn paging(mode: Mode) -> Paging {
    let mut cr4 = Cr4Flags::PAGE_SIZE_EXTENSION | Cr4Flags::PAGE_GLOBAL;
    let mut efer = EferFlags::empty();
    if !matches!(mode, Mode::Legacy) {
        cr4 |= Cr4Flags::PHYSICAL_ADDRESS_EXTENSION;
        efer |= EferFlags::NO_EXECUTE_ENABLE;
    }
    if matches!(mode, Mode::Long | Mode::Long5) {
        efer |= EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE;
    }
    if matches!(mode, Mode::Long5) {
        cr4 |= Cr4Flags::L5_PAGING;
    }
    Paging {
        cr0: Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::PAGING | Cr0Flags::WRITE_PROTECT,
        cr3: 0x1000,
        cr4,
        efer,
        alignment_check: false,
        physical_bits: 40,
        gib_pages: true,
        pdptes: None,
        pkru: None,
    }
}

const READ: Access = Access {
    write: false,
    fetch: false,
    user: false,
    implicit: false,
};
const WRITE: Access = Access {
    write: true,
    ..READ
};
const USER: Access = Access { user: true, ..READ };
const FETCH: Access = Access {
    fetch: true,
    ..READ
};

fn go(
    paging: &Paging,
    memory: &Memory,
    linear: u64,
    access: Access,
) -> Result<Translation, Denied> {
    walk(paging, memory, GuestVirtAddr(linear), access)
}

/// Linear address 0x12_3456_7abc: indices 0, 0x48, 0x1a2, 0x167.
const LINEAR: u64 = 0x12_3456_7abc;

/// Tables of 4 levels at 0x1000 to 0x4000 for [`LINEAR`]; the page is at 0x9_8765_4000.
fn long(rights: [u64; 4]) -> Memory {
    let memory = Memory::default();
    memory.put8(0x1000, 0x2000 | rights[0]);
    memory.put8(0x2000 + 8 * 0x48, 0x3000 | rights[1]);
    memory.put8(0x3000 + 8 * 0x1a2, 0x4000 | rights[2]);
    memory.put8(0x4000 + 8 * 0x167, 0x9_8765_4000 | rights[3]);
    memory
}

#[test]
fn without_paging_addresses_are_physical() {
    let mut off = paging(Mode::Legacy);
    off.cr0 = Cr0Flags::PROTECTED_MODE_ENABLE;
    let found = go(&off, &Memory::default(), 0x1_8765_4321, WRITE).unwrap();
    assert_eq!(found.address.0, 0x8765_4321);
}

#[test]
fn four_levels_lead_to_pages_of_three_sizes() {
    let paging = paging(Mode::Long);
    let memory = long([ALL; 4]);
    let found = go(&paging, &memory, LINEAR, READ).unwrap();
    assert_eq!((found.address.0, found.page_bits), (0x9_8765_4abc, 12));
    assert!(found.writable && found.user && found.executable && !found.global);
    // 2 MiB, global, not executable.
    memory.put8(0x3000 + 8 * 0x1a2, 0x9_8760_0000 | ALL | PS | G | NX);
    let found = go(&paging, &memory, LINEAR, READ).unwrap();
    assert_eq!((found.address.0, found.page_bits), (0x9_8776_7abc, 21));
    assert!(found.global && !found.executable);
    // 1 GiB.
    memory.put8(0x2000 + 8 * 0x48, 0x9_8000_0000 | ALL | PS);
    let found = go(&paging, &memory, LINEAR, READ).unwrap();
    assert_eq!((found.address.0, found.page_bits), (0x9_b456_7abc, 30));
}

#[test]
fn five_levels_take_nine_bits_more() {
    let memory = long([ALL; 4]);
    // The top level at 0x7000 has one entry, index 3, for the four others.
    memory.put8(0x7000 + 8 * 3, 0x1000 | ALL);
    let mut paging = paging(Mode::Long5);
    paging.cr3 = 0x7000;
    let found = go(&paging, &memory, 3 << 48 | LINEAR, READ).unwrap();
    assert_eq!(found.address.0, 0x9_8765_4abc);
    assert_eq!(
        go(&paging, &memory, 1 << 57, READ),
        Err(Denied::NotCanonical)
    );
    let four = self::paging(Mode::Long);
    assert_eq!(
        go(&four, &memory, 3 << 48 | LINEAR, READ),
        Err(Denied::NotCanonical)
    );
}

#[test]
fn two_levels_have_pages_of_4_mib_and_36_bits_and_more() {
    let mut paging = paging(Mode::Legacy);
    let memory = Memory::default();
    // Index 0xd1, 0x167.
    let linear = 0x3456_7abc;
    memory.put4(0x1000 + 4 * 0xd1, 0x5000 | ALL);
    memory.put4(0x5000 + 4 * 0x167, 0x8765_4000 | ALL | G);
    let found = go(&paging, &memory, linear, READ).unwrap();
    assert_eq!((found.address.0, found.global), (0x8765_4abc, true));
    // 4 MiB at 0x12_c040_0000: bits 39:32 of the address are bits 20:13 of the entry.
    memory.put4(0x1000 + 4 * 0xd1, 0xc040_0000 | 0x12 << 13 | ALL | PS);
    let found = go(&paging, &memory, linear, READ).unwrap();
    assert_eq!((found.address.0, found.page_bits), (0x12_c056_7abc, 22));
    // With 36 bits of addresses, bit 4 of these is reserved.
    paging.physical_bits = 36;
    assert_eq!(
        go(&paging, &memory, linear, READ),
        Err(Denied::PageFault(PageFaultCode::from_bits_retain(9)))
    );
    // Without PSE the bit means nothing: the entry leads to a table.
    paging.cr4 -= Cr4Flags::PAGE_SIZE_EXTENSION;
    memory.put4(0xc040_0000 + (0x12 << 13) + 4 * 0x167, 0x1111_1000 | ALL);
    let found = go(&paging, &memory, linear, READ).unwrap();
    assert_eq!(found.address.0, 0x1111_1abc);
}

#[test]
fn pae_has_four_pointers_without_rights() {
    let mut paging = paging(Mode::Pae);
    paging.cr3 = 0x1060;
    let memory = Memory::default();
    // 0xb456_7abc: pointer 2, then 0x1a2, 0x167.
    let linear = 0xb456_7abc;
    memory.put8(0x1060 + 16, 0x3000 | P);
    memory.put8(0x3000 + 8 * 0x1a2, 0x4000 | ALL);
    memory.put8(0x4000 + 8 * 0x167, 0x9_8765_4000 | ALL | NX);
    let user = Access {
        user: true,
        ..WRITE
    };
    let found = go(&paging, &memory, linear, user).unwrap();
    assert_eq!((found.address.0, found.executable), (0x9_8765_4abc, false));
    // Held by the CPU, memory is not looked at.
    paging.pdptes = Some([0, 0, 0x3000 | P, 0]);
    memory.put8(0x1060 + 16, 0);
    assert!(go(&paging, &memory, linear, READ).is_ok());
    // Absent; and with a reserved bit.
    paging.pdptes = Some([0; 4]);
    assert_eq!(
        go(&paging, &memory, linear, READ),
        Err(Denied::PageFault(PageFaultCode::empty()))
    );
    for bit in [1, 2, 5, 8, 40, 63] {
        assert!(!pdpte_is_legal(P | 1 << bit, 40));
        assert!(pdpte_is_legal(1 << bit, 40));
    }
    for bit in [3, 4, 9, 11, 12, 39] {
        assert!(pdpte_is_legal(P | 1 << bit, 40));
    }
    // Bits 62 to 52 are reserved here, other than in long mode.
    paging.pdptes = Some([0, 0, 0x3000 | P, 0]);
    memory.put8(0x4000 + 8 * 0x167, ALL | 1 << 52);
    assert_eq!(
        go(&paging, &memory, linear, READ),
        Err(Denied::PageFault(PageFaultCode::from_bits_retain(9)))
    );
}

#[test]
fn reserved_bits_fault_on_each_level() {
    let paging = paging(Mode::Long);
    let code = PageFaultCode::PRESENT | PageFaultCode::RESERVED;
    for level in 0..4 {
        for bit in [40, 51] {
            let mut rights = [ALL; 4];
            rights[level] |= 1 << bit;
            assert_eq!(
                go(&paging, &long(rights), LINEAR, READ),
                Err(Denied::PageFault(code))
            );
        }
        // Bits that software may use.
        for bit in [9, 11, 52, 58, 59, 62] {
            let mut rights = [ALL; 4];
            rights[level] |= 1 << bit;
            assert!(go(&paging, &long(rights), LINEAR, READ).is_ok());
        }
        // NX without NXE.
        let mut rights = [ALL; 4];
        rights[level] |= NX;
        let mut without = paging;
        without.efer -= EferFlags::NO_EXECUTE_ENABLE;
        assert_eq!(
            go(&without, &long(rights), LINEAR, READ),
            Err(Denied::PageFault(code))
        );
    }
    // There are no pages of 512 GiB; nor of 1 GiB where the CPU has none.
    let at = |level: usize| {
        let mut rights = [ALL; 4];
        rights[level] |= PS;
        long(rights)
    };
    let denied = Err(Denied::PageFault(code));
    assert_eq!(go(&paging, &at(0), LINEAR, READ), denied);
    let mut small = paging;
    small.gib_pages = false;
    assert_eq!(go(&small, &at(1), LINEAR, READ), denied);
    // The address of a table has bits that a page of 2 MiB may not have.
    assert_eq!(go(&paging, &at(2), LINEAR, READ), denied);
    // On the lowest level it is the PAT bit.
    assert!(go(&paging, &at(3), LINEAR, READ).is_ok());
}

#[test]
fn rights_follow_registers() {
    type Change = fn(&mut Paging);
    let nothing: Change = |_| {};
    let no_wp: Change = |p| p.cr0 -= Cr0Flags::WRITE_PROTECT;
    let smep: Change = |p| p.cr4 |= Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION;
    let smap: Change = |p| p.cr4 |= Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION;
    let smap_ac: Change = |p| {
        p.cr4 |= Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION;
        p.alignment_check = true;
    };
    let no_nx: Change = |p| p.efer -= EferFlags::NO_EXECUTE_ENABLE;
    let user_write = Access {
        user: true,
        ..WRITE
    };
    let user_fetch = Access {
        user: true,
        ..FETCH
    };
    let implicit = Access {
        implicit: true,
        ..READ
    };
    // Rights of the page, access, registers, error code if it faults.
    let cases: [(u64, Access, Change, Option<u32>); 23] = [
        (P, READ, nothing, None),
        (P, WRITE, nothing, Some(3)),
        (P, WRITE, no_wp, None),
        (P, USER, nothing, Some(5)),
        (P | U, USER, nothing, None),
        (P | U, user_write, nothing, Some(7)),
        (P | U, user_write, no_wp, Some(7)),
        (ALL, user_write, nothing, None),
        (P | W, user_write, nothing, Some(7)),
        (P, FETCH, nothing, None),
        (P | NX, FETCH, nothing, Some(0x11)),
        (P | U | NX, user_fetch, nothing, Some(0x15)),
        (ALL, FETCH, nothing, None),
        (ALL, FETCH, smep, Some(0x11)),
        (P, FETCH, smep, None),
        (ALL, user_fetch, smep, None),
        (ALL, READ, smap, Some(1)),
        (ALL, WRITE, smap, Some(3)),
        (ALL, READ, smap_ac, None),
        (ALL, implicit, smap_ac, Some(1)),
        (ALL, USER, smap, None),
        (ALL, FETCH, smap, None),
        // Without NX and SMEP, the error code does not tell fetches.
        (P, user_fetch, no_nx, Some(5)),
    ];
    for (n, (rights, access, change, expected)) in cases.into_iter().enumerate() {
        let mut paging = paging(Mode::Long);
        change(&mut paging);
        // One entry decides, whichever it is.
        for level in 0..4 {
            let mut all = [ALL; 4];
            all[level] = rights;
            let result = go(&paging, &long(all), LINEAR, access);
            let code = match result {
                Ok(_) => None,
                Err(Denied::PageFault(code)) => Some(code.bits()),
                Err(other) => panic!("{other:?}"),
            };
            // A supervisor page is one with any entry that says so.
            assert_eq!(code, expected, "{n} {level}");
        }
    }
    // Nothing there: only the access is told.
    let mut absent = [ALL; 4];
    absent[2] = 0;
    assert_eq!(
        go(&paging(Mode::Long), &long(absent), LINEAR, user_write),
        Err(Denied::PageFault(PageFaultCode::from_bits_retain(6)))
    );
}

#[test]
fn protection_keys_guard_data_of_the_user() {
    let mut paging = paging(Mode::Long);
    paging.cr4 |= Cr4Flags::PROTECTION_KEY_USER;
    let key = 5u64;
    let memory = |rights| long([ALL, ALL, ALL, rights | key << 59]);
    let user_write = Access {
        user: true,
        ..WRITE
    };
    // Access disabled; writes disabled.
    let (none, read_only) = (1 << 10, 2 << 10);
    let cases = [
        (0, ALL, user_write, None),
        (none, ALL, USER, Some(0x25)),
        (none, ALL, READ, Some(0x21)),
        (none, P | W, READ, None),
        (none, ALL, FETCH, None),
        (read_only, ALL, USER, None),
        (read_only, ALL, user_write, Some(0x27)),
        (read_only, ALL, WRITE, Some(0x23)),
    ];
    for (n, (pkru, rights, access, expected)) in cases.into_iter().enumerate() {
        paging.pkru = Some(pkru);
        let code = match go(&paging, &memory(rights), LINEAR, access) {
            Ok(_) => None,
            Err(Denied::PageFault(code)) => Some(code.bits()),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(code, expected, "{n}");
    }
    // The supervisor's writes heed it only with WP.
    paging.pkru = Some(read_only);
    paging.cr0 -= Cr0Flags::WRITE_PROTECT;
    assert!(go(&paging, &memory(ALL), LINEAR, WRITE).is_ok());
}

#[test]
fn accessed_and_dirty_bits_are_set_once_it_is_allowed() {
    let paging = paging(Mode::Long);
    let entry =
        |memory: &Memory, at: u64| memory.load(GuestPhysAddr(at), EntrySize::Eight).unwrap();
    let places = [
        0x1000,
        0x2000 + 8 * 0x48,
        0x3000 + 8 * 0x1a2,
        0x4000 + 8 * 0x167,
    ];
    let bits = |memory: &Memory| places.map(|at| entry(memory, at) & (A | D));
    let memory = long([ALL; 4]);
    go(&paging, &memory, LINEAR, READ).unwrap();
    assert_eq!(bits(&memory), [A; 4]);
    go(&paging, &memory, LINEAR, WRITE).unwrap();
    assert_eq!(bits(&memory), [A, A, A, A | D]);
    // Not allowed: nothing is set.
    let memory = long([ALL, ALL, ALL, P]);
    go(&paging, &memory, LINEAR, WRITE).unwrap_err();
    assert_eq!(bits(&memory), [0; 4]);
    // Somebody else changes entries now and then, or all the time.
    memory.races.set(3);
    go(&paging, &memory, LINEAR, READ).unwrap();
    assert_eq!(bits(&memory), [A; 4]);
    let memory = long([ALL; 4]);
    memory.races.set(usize::MAX);
    assert_eq!(go(&paging, &memory, LINEAR, READ), Err(Denied::Retry));
}

#[test]
fn tables_outside_memory_are_told_apart() {
    let mut paging = paging(Mode::Long);
    paging.cr3 = 1 << 41;
    assert_eq!(
        go(&paging, &Memory::default(), LINEAR, READ),
        Err(Denied::Table(Error::Fault))
    );
    assert_eq!(Error::from(Denied::NotCanonical), Error::Fault);
    assert_eq!(
        Denied::PageFault(PageFaultCode::WRITE).stop(5),
        Stop::Exception(Exception::PageFault {
            address: GuestVirtAddr(5),
            code: PageFaultCode::WRITE
        })
    );
}

/// The model: what a mapping of one page with these rights on all levels allows.
fn model(rights: u64, access: Access, p: &Paging) -> bool {
    let (user_page, writable) = (rights & U != 0, rights & W != 0);
    let executable = rights & NX == 0;
    let smep = p
        .cr4
        .contains(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION);
    let smap = p.cr4.contains(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION);
    let wp = p.cr0.contains(Cr0Flags::WRITE_PROTECT);
    match (access.user, user_page) {
        (true, false) => false,
        (true, true) => (!access.write || writable) && (!access.fetch || executable),
        (false, false) => (!access.write || writable || !wp) && (!access.fetch || executable),
        (false, true) if access.fetch => !smep && executable && (!access.write || writable || !wp),
        (false, true) => {
            (!smap || (p.alignment_check && !access.implicit)) && (!access.write || writable || !wp)
        }
    }
}

proptest! {
    #[test]
    fn walks_follow_the_model(
        linear: u64,
        levels: [u64; 4],
        choice in 0u32..256,
        frame in 1u64..1 << 27,
    ) {
        let bit = |n: u32| choice >> n & 1 != 0;
        let access = Access { write: bit(0), fetch: bit(1) && !bit(0), user: bit(2), implicit: bit(3) && !bit(2) };
        let mut paging = paging(Mode::Long);
        paging.cr0.set(Cr0Flags::WRITE_PROTECT, bit(4));
        paging.cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, bit(5));
        paging.cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, bit(6));
        paging.alignment_check = bit(7);
        let linear = ((linear << 16) as i64 >> 16) as u64;
        // Rights of four levels, of which most are generous.
        let rights = levels.map(|r| P | if r & 7 == 0 { r & (W | U | NX) } else { W | U });
        let rights = [rights[0], rights[1], rights[2], P | levels[3] & (W | U | NX)];
        let memory = Memory::default();
        let mut table = 0x1000;
        for (level, right) in rights.into_iter().enumerate() {
            let index = linear >> (39 - 9 * level) & 0x1ff;
            let next = if level == 3 { frame << 12 } else { table + 0x1000 };
            memory.put8(table + 8 * index, next | right);
            table += 0x1000;
        }
        let both = rights.iter().fold(u64::MAX, |all, r| all & r) & (W | U)
            | rights.iter().fold(0, |any, r| any | r) & NX;
        let result = go(&paging, &memory, linear, access);
        prop_assert_eq!(result.is_ok(), model(both, access, &paging), "{:?}", result);
        if let Ok(found) = result {
            prop_assert_eq!(found.address.0, frame << 12 | linear & 0xfff);
        }
    }

    // Any content of tables and registers gives some answer.
    #[test]
    fn any_tables_can_be_walked(
        words in proptest::collection::vec(any::<u64>(), 64),
        cr3: u64, cr0: u64, cr4: u64, efer: u64, linear: u64, pkru: u32, choice: u8,
    ) {
        let memory = Memory::default();
        for (n, word) in words.iter().enumerate() {
            // Tables that lead to each other.
            memory.put8(n as u64 * 8, word & 0xfff0_0000_0000_01ff | 1);
        }
        let paging = Paging {
            cr0: Cr0Flags::from_bits_retain(cr0),
            cr3: cr3 & 0xff,
            cr4: Cr4Flags::from_bits_retain(cr4),
            efer: EferFlags::from_bits_retain(efer),
            alignment_check: choice & 1 != 0,
            physical_bits: 32 + choice % 21,
            gib_pages: choice & 2 != 0,
            pdptes: None,
            pkru: (choice & 4 != 0).then_some(pkru),
        };
        let access = Access { write: choice & 8 != 0, fetch: choice & 16 != 0, user: choice & 32 != 0, implicit: choice & 64 != 0 };
        let _ = go(&paging, &memory, linear & 0x3f_ffff, access);
    }
}
