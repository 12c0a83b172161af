//! Started by UEFI: the image is also a UEFI application, which firmware, its shell, and GRUB's `xen_hypervisor` load.
//!
//! `pe.S` holds the headers, [`stub`] is the entry, `leave.S` the last instructions in the firmware's world. The stub
//! ends at the entry that every other boot loader uses, with a device tree; beside that it leaves a [`Handover`] in the
//! image's data, which this module reads: UEFI's memory map replaces the tree's memory nodes, and load options replace
//! the tree's command line.
#![expect(unsafe_code, reason = "data that is written before the image runs")]

mod stub;

use boot::efi::Handover;
use boot::range::PhysRange;

/// Not in the zero-filled part, which the entry code clears.
#[unsafe(link_section = ".data.efi_handover")]
static HANDOVER: Handover = Handover::new();

fn handover() -> &'static Handover {
    // The compiler must not take the initial value for granted.
    // SAFETY: the stub wrote it, if anybody did, before the image's code began to run; since then it is constant.
    unsafe { &*core::hint::black_box(&raw const HANDOVER) }
}

/// Pieces of RAM that nobody uses once UEFI's boot services are gone; `None` if UEFI did not start the image.
pub(super) fn ram() -> Option<impl Iterator<Item = PhysRange>> {
    handover().ram()
}

/// Oxen's command line, if UEFI's load options have one.
pub(super) fn command_line() -> Option<&'static str> {
    handover().line()
}

/// Says what did not fit into the handover.
pub(super) fn complain() {
    let handover = handover();
    if handover.line_is_cut() {
        log::warn!(
            "the UEFI load options are longer than {} bytes: the end is ignored",
            boot::efi::MAX_LINE
        );
    }
    if handover.lost() != 0 {
        log::warn!(
            "the UEFI memory map is too scattered: {} KiB are not used",
            handover.lost() >> 10
        );
    }
}
