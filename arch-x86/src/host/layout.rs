//! Where everything lies in Oxen's own virtual address space (4 levels, 48 bits).
//!
//! ```text
//! 0x0000_0000_0000_0000  slots   0..256  empty: null pointers fault; CPUs that start have the page of their entry code
//!                                        mapped at its physical address, in tables of their own
//! 0xFFFF_8000_0000_0000  slots 256..384  direct map: RAM, VA = DIRECT_MAP_BASE + PA, PA below 64 TiB, RW never X
//! 0xFFFF_C000_0000_0000  slot  384       device registers and firmware tables, handed out by `map_device` and friends
//! 0xFFFF_C080_0000_0000  slot  385       CPU stacks, a guard page below each
//! 0xFFFF_FFFF_8000_0000  slot  511       the image, at its link address: text RX, constants RO, data RW
//! ```
//!
//! A slot is the 512 GiB of one top-level entry. The image is left out of the direct map: its text must not have a
//! writable alias. It is linked at the top because code is compiled for addresses that are sign-extended 32-bit
//! numbers (code model "kernel").

use xen_core::HostPhysAddr;

/// Size in bytes of a page.
pub const PAGE: u64 = 4096;
/// Size in bytes of a large page.
pub const PAGE_2M: u64 = 2 << 20;
/// Size in bytes of a huge page.
pub const PAGE_1G: u64 = 1 << 30;
/// Size in bytes of what one top-level entry maps.
pub const SLOT: u64 = 512 << 30;

/// First virtual address of the direct map of RAM.
pub const DIRECT_MAP_BASE: u64 = 0xffff_8000_0000_0000;
/// Physical addresses from here on are not in the direct map, and RAM there is not used.
pub const PHYS_LIMIT: u64 = 1 << 46;
/// What the tables of the entry code map of physical memory, in the direct map's place: the first 4 GiB.
pub const EARLY_LIMIT: u64 = 4 << 30;
/// First virtual address of the window for device registers.
pub const DEVICE_BASE: u64 = 0xffff_c000_0000_0000;
/// First virtual address of the CPU stacks.
pub const STACK_BASE: u64 = 0xffff_c080_0000_0000;
/// First virtual address of the image's window. The image starts 2 MiB above, at [`IMAGE_BASE`].
pub const IMAGE_WINDOW: u64 = 0xffff_ffff_8000_0000;
/// Where loaders that do not choose a place load the image; 2 MiB is RAM on every PC.
pub const IMAGE_LOAD: u64 = PAGE_2M;
/// Link address of the image.
pub const IMAGE_BASE: u64 = IMAGE_WINDOW + IMAGE_LOAD;

/// Size in bytes of a CPU's stack. Unpacking an xz-compressed kernel takes the most of it, 40 KiB.
pub const STACK_SIZE: u64 = 64 << 10;
/// Size in bytes of each of the stacks that the CPU switches to by itself.
pub const IST_STACK_SIZE: u64 = 16 << 10;
/// Number of such stacks: double fault, non-maskable interrupt, machine check.
pub const IST_STACKS: usize = 3;
/// Distance in bytes between the stack areas of two CPUs: each stack with a guard page below, rounded up.
pub const STACK_STRIDE: u64 = 128 << 10;

/// Size in bytes of a CPU's stacks with the page below each.
pub const STACKS_SIZE: u64 = PAGE + STACK_SIZE + IST_STACKS as u64 * (PAGE + IST_STACK_SIZE);

const _: () = assert!(STACKS_SIZE <= STACK_STRIDE);
const _: () = assert!(DIRECT_MAP_BASE + PHYS_LIMIT <= DEVICE_BASE);

/// Lowest addresses of a CPU's stacks, or first addresses after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stacks {
    /// The stack that the CPU runs on.
    pub main: u64,
    /// The stacks of double fault, non-maskable interrupt and machine check, in this order.
    pub ist: [u64; IST_STACKS],
}

impl Stacks {
    /// Lowest addresses of the stacks of the CPU with dense index `cpu`; the page below each is never mapped.
    pub const fn of_cpu(cpu: u32) -> Self {
        Self::at(STACK_BASE + cpu as u64 * STACK_STRIDE)
    }

    /// Lowest addresses of stacks in [`STACKS_SIZE`] bytes from `base` on, with a page below each.
    pub const fn at(base: u64) -> Self {
        let main = base + PAGE;
        let first = main + STACK_SIZE + PAGE;
        let next = PAGE + IST_STACK_SIZE;
        Self {
            main,
            ist: [first, first + next, first + 2 * next],
        }
    }

    /// The pages below stacks whose lowest addresses these are, ascending.
    pub const fn guards(self) -> [u64; 1 + IST_STACKS] {
        let [a, b, c] = self.ist;
        [self.main - PAGE, a - PAGE, b - PAGE, c - PAGE]
    }

    /// First addresses after stacks whose lowest addresses these are.
    pub const fn tops(self) -> Self {
        let [a, b, c] = self.ist;
        Self {
            main: self.main + STACK_SIZE,
            ist: [a + IST_STACK_SIZE, b + IST_STACK_SIZE, c + IST_STACK_SIZE],
        }
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
        base: HostPhysAddr(0x40_0000),
        size: 0x30_0000,
    };

    #[test]
    fn image_and_ram_translate_both_ways() {
        for pa in [
            0,
            0x3f_ffff,
            0x40_0000,
            0x6f_ffff,
            0x70_0000,
            PHYS_LIMIT - 1,
        ] {
            let va = PLACE.phys_to_virt(HostPhysAddr(pa)).unwrap();
            assert_eq!(PLACE.virt_to_phys(va), Some(HostPhysAddr(pa)), "{pa:#x}");
        }
        assert_eq!(
            PLACE.phys_to_virt(HostPhysAddr(0x40_1000)),
            Some(IMAGE_BASE + 0x1000)
        );
        assert_eq!(PLACE.phys_to_virt(HostPhysAddr(PHYS_LIMIT)), None);
        assert_eq!(PLACE.virt_to_phys(DEVICE_BASE), None);
        assert_eq!(PLACE.virt_to_phys(IMAGE_BASE + 0x30_0000), None);
        assert_eq!(PLACE.virt_to_phys(0x1000), None);
    }

    #[test]
    fn stacks_leave_guards() {
        let (a, b) = (Stacks::of_cpu(0), Stacks::of_cpu(1));
        assert_eq!(a.main - PAGE, STACK_BASE);
        let mut end = a.tops().main;
        for (low, top) in a.ist.into_iter().zip(a.tops().ist) {
            assert_eq!(low, end + PAGE);
            end = top;
        }
        assert!(end + PAGE <= b.main);
    }
}
