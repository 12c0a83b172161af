//! The entry code and what it and the linker script tell Rust.
#![expect(unsafe_code, reason = "entry code and linker symbols")]

use core::arch::global_asm;

use arch_x86::host::layout::{
    DIRECT_MAP_BASE, IMAGE_BASE, IMAGE_LOAD, IMAGE_WINDOW, PAGE, STACK_SIZE, STACKS_SIZE, Stacks,
};
use arch_x86::host::mmu::ImageSections;
use boot::multiboot::PVH_MAGIC;
use xen_core::crash::symbols::SECTION_SIZE;

global_asm!(
    include_str!("entry.S"),
    PVH_MAGIC = const PVH_MAGIC,
    LOW = const IMAGE_WINDOW.wrapping_neg(),
    LOAD = const IMAGE_LOAD,
    STACK_TOP = const PAGE + STACK_SIZE,
    STACKS_SIZE = const STACKS_SIZE,
    SYMBOLS_SIZE = const SECTION_SIZE,
    DIRECT_MAP_SLOT = const DIRECT_MAP_BASE >> 39 & 511,
    options(att_syntax),
);

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
    static oxen_boot_stacks: u8;
    static oxen_symbols: [u8; SECTION_SIZE];
}

macro_rules! address {
    ($symbol:ident) => {
        (&raw const $symbol).addr() as u64
    };
}

/// Size of the image in memory, in bytes.
pub(super) fn image_size() -> u64 {
    address!(__image_end) - IMAGE_BASE
}

/// The image's sections.
pub(super) fn sections() -> ImageSections {
    debug_assert_eq!(address!(__image_start), IMAGE_BASE);
    ImageSections {
        text: address!(__image_start)..address!(__text_end),
        rodata: address!(__text_end)..address!(__rodata_end),
        data: address!(__rodata_end)..address!(__image_end),
        guards: boot_stacks().guards(),
    }
}

/// Lowest addresses of the boot CPU's stacks.
pub(super) fn boot_stacks() -> Stacks {
    Stacks::at(address!(oxen_boot_stacks))
}

/// The section for symbols.
pub(super) fn symbols() -> &'static [u8] {
    // SAFETY: the section is part of the image and nothing writes to it.
    unsafe { &oxen_symbols }
}
