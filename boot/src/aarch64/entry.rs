//! The entry code and what it and the linker script tell Rust.
#![expect(unsafe_code, reason = "entry code and linker symbols")]

use arch_arm::host::descriptor::{MAIR, SCTLR_EL2_MMU, tcr_el2};
use arch_arm::host::layout::{
    DTB_WINDOW, EARLY_UART, EMERGENCY_STACK_SIZE, IMAGE_BASE, PAGE, STACK_SIZE,
};
use arch_arm::host::mmu::{self, ImageSections, Roots};
use arch_arm::host::symbols::SECTION_SIZE;
use core::arch::global_asm;
use xen_core::HostPhysAddr;

global_asm!(
    include_str!("entry.S"),
    MAIR = const MAIR,
    TCR_EL2 = const tcr_el2(0),
    SCTLR_EL2_EARLY = const SCTLR_EL2_MMU,
    // T0SZ 16, cacheable walks, no walks by TTBR1.
    TCR_EL1 = const 16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23,
    // Bits that are RES1 in early versions of the architecture; I, C, M.
    SCTLR_EL1_EARLY = const 0x30d0_0800u32 | 1 << 12 | 1 << 2 | 1,
    STACK_SIZE = const STACK_SIZE,
    EMERGENCY_STACK_SIZE = const EMERGENCY_STACK_SIZE,
    SYMBOLS_SIZE = const SECTION_SIZE,
);

unsafe extern "C" {
    static __image_start: u8;
    static __entry_end: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
    static oxen_boot_guard: u8;
    static oxen_boot_stack_top: u8;
    static oxen_boot_emergency_guard: u8;
    static oxen_boot_emergency_top: u8;
    static oxen_symbols: [u8; SECTION_SIZE];
    static mut early_fixed_l3: [u64; 1024];
    fn oxen_secondary_entry();
    fn oxen_switch_tables(entry_root: u64, root: u64, image: u64, sctlr: u64);
}

macro_rules! address {
    ($symbol:ident) => {
        (&raw const $symbol).addr() as u64
    };
}

/// Size of the image in memory, in bytes.
pub(super) fn image_size() -> u64 {
    address!(__image_end) - address!(__image_start)
}

/// The image's sections.
pub(super) fn sections() -> ImageSections {
    let (guard, emergency_guard) = (
        address!(oxen_boot_guard),
        address!(oxen_boot_emergency_guard),
    );
    ImageSections {
        entry: address!(__image_start)..address!(__entry_end),
        text: address!(__image_start)..address!(__text_end),
        rodata: address!(__text_end)..address!(__rodata_end),
        data: address!(__rodata_end)..address!(__image_end),
        guards: [guard..guard + PAGE, emergency_guard..emergency_guard + PAGE],
    }
}

/// First addresses after the boot CPU's stack and emergency stack.
pub(super) fn boot_stack_tops() -> (u64, u64) {
    (
        address!(oxen_boot_stack_top),
        address!(oxen_boot_emergency_top),
    )
}

/// The section for symbols.
pub(super) fn symbols() -> &'static [u8] {
    // SAFETY: the section is part of the image and nothing writes to it.
    unsafe { &oxen_symbols }
}

/// Physical address of the other CPUs' entry.
pub(super) fn secondary_entry() -> Option<HostPhysAddr> {
    mmu::virt_to_phys(oxen_secondary_entry as *const u8)
}

/// Moves the boot CPU from the early tables to the final ones.
///
/// # Safety
/// The roots must be those of tables that map the image, its stacks included, as [`mmu::build`] makes them.
pub(super) unsafe fn switch_tables(roots: Roots) {
    let image = mmu::image().base.0;
    // SAFETY: by the caller's word what is in use stays mapped.
    unsafe { oxen_switch_tables(roots.entry_root.0, roots.root.0, image, mmu::SCTLR) };
}

/// Attributes of the early mappings: page, AF, not executable; Normal memory read-only, or device registers.
const EARLY_RAM: u64 = 0x0040_0000_0000_0787;
const EARLY_DEVICE: u64 = 0x0040_0000_0000_0603;
/// AP\[1\], which is RES1 at EL2 and must be clear at EL1.
const AP1: u64 = 0x40;

/// Maps `size` bytes at `pa` into the early tables, where the final ones will have the device tree. Returns the address
/// that belongs to `pa`; `None` if the window is too small.
///
/// # Safety
/// Only for memory that nobody writes to, and only while the boot CPU runs alone on the early tables.
pub(super) unsafe fn map_early_dtb(pa: u64, size: u64, el: u64) -> Option<u64> {
    let first = pa & !(PAGE - 1);
    let pages = (pa.checked_add(size)? - first).div_ceil(PAGE) as usize;
    // The last page is the console's.
    if pages > 513 {
        return None;
    }
    let ap1 = if el == 2 { AP1 } else { 0 };
    let table = (&raw mut early_fixed_l3).cast::<u64>();
    for i in 0..pages {
        // SAFETY: below 513, and the table has 1024 entries. Invalid entries become valid, which needs no
        // invalidation; repeated calls write the same values.
        unsafe {
            table
                .add(i)
                .write_volatile((first + i as u64 * PAGE) | EARLY_RAM | ap1)
        };
    }
    publish();
    Some(DTB_WINDOW + (pa - first))
}

/// Maps the page of registers at `pa` as the early console's.
///
/// # Safety
/// As [`map_early_dtb`], and there must be device registers.
pub(super) unsafe fn map_early_uart(pa: u64, el: u64) {
    let ap1 = if el == 2 { AP1 } else { 0 };
    const { assert!((EARLY_UART - DTB_WINDOW) / PAGE == 1023 && DTB_WINDOW > IMAGE_BASE) };
    let table = (&raw mut early_fixed_l3).cast::<u64>();
    // SAFETY: the last entry; as above.
    unsafe {
        table
            .add(1023)
            .write_volatile((pa & !(PAGE - 1)) | EARLY_DEVICE | ap1)
    };
    publish();
}

/// Makes new table entries visible to the walker.
fn publish() {
    use aarch64_cpu::asm::barrier;
    barrier::dsb(barrier::SY);
    barrier::isb(barrier::SY);
}
