//! Address space that dom0 may use for what the hypervisor maps for it.

use alloc::vec::Vec;

use arch_arm::host::mmu;
use arch_arm::machine::Arm;
use boot::cmdline::Params;
use boot::dom0_tree::{Bank, Passthrough};
use xen_core::{GuestPhysAddr, Hypervisor, PAGE_SHIFT};

/// The extended region is at most this large: Linux keeps a structure for each page that it uses of it.
const EXTENDED_MAX: u64 = 64 << 30;
/// A smaller extended region is not worth it.
const EXTENDED_MIN: u64 = 64 << 20;
const GIB: u64 = 1 << 30;

/// First where the grant table goes, then unused address space for mappings of other domains' memory.
pub(super) fn find(hv: &Hypervisor<Arm>, devices: &Passthrough, params: &Params) -> Vec<Bank> {
    // The hypervisor's own image is memory that dom0 never gets: its addresses are free in dom0's address space.
    let image = mmu::image();
    let size = u64::from(params.gnttab_max_frames) << PAGE_SHIFT;
    let mut regions = Vec::new();
    if image.size >= size {
        regions.push(Bank {
            start: GuestPhysAddr(image.base.0),
            size,
        });
    }
    let extended = extended(hv, devices);
    match regions.is_empty() {
        // No room below the image: the grant table gets the start of the large region.
        true => {
            if let Some(region) = extended {
                let rest = Bank {
                    start: GuestPhysAddr(region.start.0 + size),
                    size: region.size - size,
                };
                regions.push(Bank {
                    start: region.start,
                    size,
                });
                if params.ext_regions {
                    regions.push(rest);
                }
            }
        }
        false => regions.extend(extended.filter(|_| params.ext_regions)),
    }
    regions
}

/// The largest gap above 4 GiB between memory and devices.
fn extended(hv: &Hypervisor<Arm>, devices: &Passthrough) -> Option<Bank> {
    let end = 1u64 << hv.arch.ipa_bits();
    let ram_end = hv.frames.end().base().0;
    let mut at = ram_end.max(4 * GIB).next_multiple_of(GIB);
    let mut best: Option<Bank> = None;
    let mut consider = |from: u64, to: u64| {
        let size = to.saturating_sub(from).min(EXTENDED_MAX) & !(GIB - 1);
        if size >= EXTENDED_MIN && best.is_none_or(|b| b.size < size) {
            best = Some(Bank {
                start: GuestPhysAddr(from),
                size,
            });
        }
    };
    for range in devices.mmio.iter().chain(&devices.reserved) {
        if range.end().0 <= at {
            continue;
        }
        consider(at, range.start().0.min(end));
        at = at.max(range.end().0).next_multiple_of(GIB);
    }
    consider(at, end);
    best
}
