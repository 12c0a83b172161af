//! Where everything lies in Oxen's own virtual address space (EL2, 48 bits, 4 KiB granule).
//!
//! ```text
//! 0x0000_0000_0000  slots   0..256  empty: null pointers fault; the identity map of the MMU switch-on lives
//!                                   here for a few instructions, in tables of its own
//! 0x8000_0000_0000  slots 256..384  direct map: all RAM, VA = DIRECT_MAP_BASE + PA, PA below 64 TiB, RW never X
//! 0xC000_0000_0000  slot  384       the image, at its link address: text RX, constants RO, data RW
//! 0xC000_3FC0_0000                    last 4 MiB of that GiB: the device tree (RO) and the early console's registers
//! 0xC080_0000_0000  slot  385       device registers, nGnRE, handed out by `map_device`
//! 0xC100_0000_0000  slot  386       CPU stacks, a guard page below each
//! ```
//!
//! A slot is the 512 GiB of one top-level entry. Physical addresses that Oxen supports (below 64 TiB) fall into
//! slots 0..128, so that the identity map never meets one of Oxen's own mappings, wherever the loader put the image.
//!
//! The image is left out of the direct map: its text must not have a writable alias.

use xen_core::HostPhysAddr;

/// Size in bytes of a translation page.
pub const PAGE: u64 = 4096;
/// Size in bytes of a level-2 block.
pub const BLOCK_2M: u64 = 2 << 20;
/// Size in bytes of a level-1 block.
pub const BLOCK_1G: u64 = 1 << 30;
/// Size in bytes of what one top-level entry maps.
pub const SLOT: u64 = 512 << 30;

/// First virtual address of the direct map of RAM.
pub const DIRECT_MAP_BASE: u64 = 0x8000_0000_0000;
/// Physical addresses from here on are not in the direct map, and RAM there is not used.
pub const PHYS_LIMIT: u64 = 1 << 46;
/// Link address of the image.
pub const IMAGE_BASE: u64 = 0xC000_0000_0000;
/// First virtual address of the device tree's window in the image's GiB.
pub const DTB_WINDOW: u64 = IMAGE_BASE + BLOCK_1G - 2 * BLOCK_2M;
/// The device tree may be 2 MiB (Linux arm64 boot protocol) and start anywhere in a page.
pub const DTB_WINDOW_SIZE: u64 = BLOCK_2M + PAGE;
/// Page through which the console is reached before [`DEVICE_BASE`] exists: the last one of the image's GiB.
pub const EARLY_UART: u64 = IMAGE_BASE + BLOCK_1G - PAGE;
/// First virtual address of the window for device registers.
pub const DEVICE_BASE: u64 = IMAGE_BASE + SLOT;
/// First virtual address of the CPU stacks.
pub const STACK_BASE: u64 = IMAGE_BASE + 2 * SLOT;

/// Size in bytes of a CPU's stack.
pub const STACK_SIZE: u64 = 32 << 10;
/// Size in bytes of the stack a CPU reports a fatal fault on.
pub const EMERGENCY_STACK_SIZE: u64 = 16 << 10;
/// Distance in bytes between the stack areas of two CPUs: guard, stack, guard, emergency stack, rounded up.
pub const STACK_STRIDE: u64 = 64 << 10;

const _: () = assert!(2 * PAGE + STACK_SIZE + EMERGENCY_STACK_SIZE <= STACK_STRIDE);
const _: () = assert!(DIRECT_MAP_BASE + PHYS_LIMIT <= IMAGE_BASE);

/// Where the two stacks of a CPU lie; the page below each is never mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackSlots {
    /// Lowest address of the stack.
    pub stack: u64,
    /// Lowest address of the emergency stack.
    pub emergency: u64,
}

/// Addresses of the stacks of the CPU with dense index `cpu`.
pub const fn stack_slots(cpu: u32) -> StackSlots {
    let base = STACK_BASE + cpu as u64 * STACK_STRIDE;
    let stack = base + PAGE;
    StackSlots {
        stack,
        emergency: stack + STACK_SIZE + PAGE,
    }
}

/// Where the image lies in physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePlace {
    /// Physical address of the image's first byte.
    pub base: HostPhysAddr,
    /// Size in bytes of the image in memory, zero-filled data included.
    pub size: u64,
}

impl ImagePlace {
    /// Virtual address at which Oxen reaches RAM byte `pa`, `None` for addresses no mapping can hold.
    pub const fn phys_to_virt(&self, pa: HostPhysAddr) -> Option<u64> {
        if pa.0 >= self.base.0 && pa.0 - self.base.0 < self.size {
            return Some(IMAGE_BASE + (pa.0 - self.base.0));
        }
        if pa.0 < PHYS_LIMIT {
            Some(DIRECT_MAP_BASE + pa.0)
        } else {
            None
        }
    }

    /// Physical address behind an address of the image or of the direct map, `None` for other windows.
    pub const fn virt_to_phys(&self, va: u64) -> Option<HostPhysAddr> {
        if va >= IMAGE_BASE && va - IMAGE_BASE < self.size {
            return Some(HostPhysAddr(self.base.0 + (va - IMAGE_BASE)));
        }
        if va >= DIRECT_MAP_BASE && va - DIRECT_MAP_BASE < PHYS_LIMIT {
            return Some(HostPhysAddr(va - DIRECT_MAP_BASE));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: ImagePlace = ImagePlace {
        base: HostPhysAddr(0x4020_0000),
        size: 0x30_0000,
    };

    #[test]
    fn image_and_ram_translate_both_ways() {
        for pa in [
            0,
            0x401f_ffff,
            0x4020_0000,
            0x404f_ffff,
            0x4050_0000,
            PHYS_LIMIT - 1,
        ] {
            let va = PLACE.phys_to_virt(HostPhysAddr(pa)).unwrap();
            assert_eq!(PLACE.virt_to_phys(va), Some(HostPhysAddr(pa)), "{pa:#x}");
        }
        assert_eq!(
            PLACE.phys_to_virt(HostPhysAddr(0x4020_1000)),
            Some(IMAGE_BASE + 0x1000)
        );
        assert_eq!(PLACE.phys_to_virt(HostPhysAddr(PHYS_LIMIT)), None);
        assert_eq!(PLACE.virt_to_phys(DEVICE_BASE), None);
        assert_eq!(PLACE.virt_to_phys(IMAGE_BASE + 0x30_0000), None);
    }

    #[test]
    fn stacks_of_neighbours_leave_guards() {
        let a = stack_slots(0);
        let b = stack_slots(1);
        assert_eq!(a.stack - PAGE, STACK_BASE);
        assert!(a.stack + STACK_SIZE + PAGE <= a.emergency);
        assert!(a.emergency + EMERGENCY_STACK_SIZE + PAGE <= b.stack);
    }
}
