//! The identity map, and pages that are mapped otherwise.
//!
//! 16 GiB in pages of 2 MiB, and one window of 2 MiB in pages of 4 KiB, whose entries [`map`] sets.

use core::arch::asm;

/// Page directories of the identity map, each for 1 GiB.
pub const DIRECTORIES: usize = 16;

/// Bits of an entry.
pub mod bits {
    /// Something is mapped.
    pub const PRESENT: u64 = 1;
    /// It can be written.
    pub const WRITABLE: u64 = 1 << 1;
    /// Privilege level 3 reaches it.
    pub const USER: u64 = 1 << 2;
    /// Not cached, with the PAT as it is at reset: write-through and cache-disable.
    pub const UNCACHED: u64 = 3 << 3;
    /// It was used.
    pub const ACCESSED: u64 = 1 << 5;
    /// It was written.
    pub const DIRTY: u64 = 1 << 6;
    /// A large page.
    pub const LARGE: u64 = 1 << 7;
    /// It cannot be executed.
    pub const NO_EXECUTE: u64 = 1 << 63;
}

#[repr(C, align(4096))]
struct Table([u64; 512]);

/// The top level, the next one, and the directories; the entry code fills them.
#[unsafe(no_mangle)]
static mut GUEST_TABLES: [Table; DIRECTORIES + 2] = [const { Table([0; 512]) }; DIRECTORIES + 2];
/// The window's tables, from the third level down to the pages.
static mut WINDOW_TABLES: [Table; 3] = [const { Table([0; 512]) }; 3];

/// The window: pages that [`map`] can map.
pub const WINDOW: u64 = 0x0100_0000_0000;
/// Pages in it.
pub const WINDOW_PAGES: u64 = 512;

/// An entry of one of a list of tables.
fn entry(tables: *mut Table, table: usize, n: usize) -> *mut u64 {
    // SAFETY: the callers name tables of the list.
    unsafe { tables.cast::<u64>().add(table * 512 + n % 512) }
}

/// Sets an entry of one of the window's tables, from the third level down.
fn set_window(table: usize, n: usize, value: u64) {
    // SAFETY: a word of the tables; nobody else changes it.
    unsafe { entry((&raw mut WINDOW_TABLES).cast(), table, n).write_volatile(value) };
}

/// Maps devices without a cache, and prepares the window.
pub(super) fn init() {
    // The last gigabyte below 4 GiB is where the local APIC and PCI are.
    const DEVICES: usize = 3;
    let identity = (&raw mut GUEST_TABLES).cast::<Table>();
    for n in 0..512 {
        let entry = entry(identity, 2 + DEVICES, n);
        // SAFETY: a word of the tables; nobody else changes it.
        unsafe { entry.write_volatile(entry.read_volatile() | bits::UNCACHED) };
    }
    let all = bits::PRESENT | bits::WRITABLE | bits::USER;
    let window = &raw const WINDOW_TABLES as u64;
    set_window(0, 0, (window + 0x1000) | all);
    set_window(1, 0, (window + 0x2000) | all);
    // SAFETY: as above.
    unsafe { entry(identity, 0, (WINDOW >> 39) as usize).write_volatile(window | all) };
    flush();
}

/// Forgets all translations.
pub fn flush() {
    super::cpu::set_cr3(super::cpu::cr3());
}

/// Maps page `n` of the window to the physical address `to` with these bits, or to nothing without
/// [`PRESENT`](bits::PRESENT); its address.
pub fn map(n: u64, to: u64, with: u64) -> u64 {
    let n = n % WINDOW_PAGES;
    let at = WINDOW + (n << 12);
    set_window(2, n as usize, to & 0x000f_ffff_ffff_f000 | with);
    // SAFETY: forgetting a translation changes no memory.
    unsafe { asm!("invlpg [{}]", in(reg) at, options(nostack, preserves_flags)) };
    at
}

/// The entry of page `n` of the window.
pub fn window(n: u64) -> u64 {
    // SAFETY: a word of the tables.
    unsafe { entry((&raw mut WINDOW_TABLES).cast(), 2, n as usize).read_volatile() }
}
