//! Oxen's own address space on the hardware: final tables, the direct map, device mappings, CPU stacks.
//!
//! The entry code (see `boot`) switches the MMU on with a handful of static tables that map the image and nothing
//! else. [`build`] then makes the final ones in two steps, because tables live in RAM that is only reachable once
//! the direct map is there: first the image with its real permissions and one block of RAM, from a small pool in the
//! image; then, on those tables, everything else from that block.
#![expect(unsafe_code, reason = "translation tables and raw memory")]

use super::descriptor::{Access, Attributes, Memory, SCTLR_EL2_MMU, SCTLR_EL2_WXN};
use super::layout::{
    self, BLOCK_2M, DEVICE_BASE, DIRECT_MAP_BASE, EMERGENCY_STACK_SIZE, IMAGE_BASE, ImagePlace,
    PAGE, SLOT, STACK_SIZE,
};
use super::mmio::Mmio;
use super::paging::{self, ENTRIES, TablePages};
use super::ranges::{BootMemory, PhysRange, for_each_outside};
use aarch64_cpu::asm::barrier;
use arrayvec::ArrayVec;
use core::ops::Range;
use spin::{Mutex, Once};
use xen_core::{CpuId, Error, HostPhysAddr, Result};

static IMAGE: Once<ImagePlace> = Once::new();
static HOST: Mutex<Option<Host>> = Mutex::new(None);

/// Tables for the first step: root, image (3 levels below it, with some pages to spare), one direct-map block,
/// device tree and early console.
const POOL_PAGES: usize = 24;
/// RAM taken for tables and stacks, and handed out page by page: what the first step maps.
const BOOT_BLOCK: u64 = BLOCK_2M;
/// Most device blocks whose mapping is remembered for sharing.
const MAX_DEVICES: usize = 64;

#[repr(C, align(4096))]
struct Pool([[u64; ENTRIES]; POOL_PAGES]);

static POOL: Mutex<Option<Bump>> = Mutex::new(None);
static mut POOL_MEMORY: Pool = Pool([[0; ENTRIES]; POOL_PAGES]);

/// Pages that are handed out once and never come back.
#[derive(Debug)]
struct Bump {
    next: u64,
    end: u64,
}

impl Bump {
    fn take(&mut self, pages: u64) -> Result<HostPhysAddr> {
        let end = pages
            .checked_mul(PAGE)
            .and_then(|s| self.next.checked_add(s))
            .ok_or(Error::NoMem)?;
        if end > self.end {
            return Err(Error::NoMem);
        }
        let at = self.next;
        self.next = end;
        Ok(HostPhysAddr(at))
    }
}

/// Sets where the image is; the first thing to be called.
pub fn set_image(place: ImagePlace) {
    IMAGE.call_once(|| place);
}

/// Where the image is in physical memory.
pub fn image() -> ImagePlace {
    // Before `set_image` nothing is known; an empty place makes every translation go through the direct map.
    IMAGE.get().copied().unwrap_or(ImagePlace {
        base: HostPhysAddr(0),
        size: 0,
    })
}

/// Pointer to RAM (or image) byte `pa`; `None` above the direct map. Whether there is RAM is not checked.
pub fn phys_to_virt(pa: HostPhysAddr) -> Option<*mut u8> {
    image()
        .phys_to_virt(pa)
        .map(|va| core::ptr::with_exposed_provenance_mut(va as usize))
}

/// Physical address of a pointer into the image or the direct map, `None` for stacks and device windows.
pub fn virt_to_phys<T: ?Sized>(pointer: *const T) -> Option<HostPhysAddr> {
    image().virt_to_phys(pointer.cast::<u8>().expose_provenance() as u64)
}

/// Table access for the running tables: entries are reached through image and direct map.
struct Pages<'a> {
    bump: &'a mut Bump,
}

impl TablePages for Pages<'_> {
    fn alloc(&mut self) -> Result<HostPhysAddr> {
        let pa = self.bump.take(1)?;
        let pointer = phys_to_virt(pa).ok_or(Error::Range)?;
        // SAFETY: the page was just taken from the bump allocator, so nothing else uses it, and it is mapped.
        unsafe { pointer.write_bytes(0, PAGE as usize) };
        Ok(pa)
    }

    fn read(&self, table: HostPhysAddr, index: usize) -> u64 {
        let Some(pointer) = phys_to_virt(table) else {
            return 0;
        };
        assert!(index < ENTRIES);
        // SAFETY: `table` is a page that `alloc` gave out; the index is in it.
        unsafe { pointer.cast::<u64>().add(index).read_volatile() }
    }

    fn write(&mut self, table: HostPhysAddr, index: usize, value: u64) {
        let Some(pointer) = phys_to_virt(table) else {
            return;
        };
        assert!(index < ENTRIES);
        // SAFETY: as above; entries are aligned words, written in one access.
        unsafe { pointer.cast::<u64>().add(index).write_volatile(value) };
        barrier::dsb(barrier::ISHST);
        barrier::isb(barrier::SY);
    }
}

/// The finished address space.
#[derive(Debug)]
struct Host {
    root: HostPhysAddr,
    /// `root` plus the identity map of the entry code, for CPUs that switch their MMU on.
    entry_root: HostPhysAddr,
    /// The RAM that `bump` hands out.
    block: PhysRange,
    bump: Bump,
    next_device: u64,
    devices: ArrayVec<(PhysRange, u64), MAX_DEVICES>,
}

/// Sections of the image, by link address; page-aligned.
#[derive(Clone, Debug)]
pub struct ImageSections {
    /// Entry code that runs before the MMU is on; part of `text`.
    pub entry: Range<u64>,
    /// Instructions.
    pub text: Range<u64>,
    /// Constants.
    pub rodata: Range<u64>,
    /// Everything that is written.
    pub data: Range<u64>,
    /// Pages inside `data` that stay unmapped below the boot CPU's stacks.
    pub guards: [Range<u64>; 2],
}

/// Roots of the finished tables.
#[derive(Clone, Copy, Debug)]
pub struct Roots {
    /// For use once the MMU is on.
    pub root: HostPhysAddr,
    /// For switching the MMU on: also maps the entry code where it lies physically.
    pub entry_root: HostPhysAddr,
}

/// The SCTLR_EL2 value Oxen runs with.
pub const SCTLR: u64 = SCTLR_EL2_MMU | SCTLR_EL2_WXN;

/// First step: tables that map the image, the device tree, the early console and the block of RAM that everything
/// else will be made of. Takes that block from `memory` and marks it used. The caller switches to the returned roots
/// and then calls [`finish`].
///
/// # Errors
/// [`Error::NoMem`] if there is no free 2 MiB block of RAM or the pool is too small; [`Error::Inval`] or
/// [`Error::Exist`] if the sections make no sense.
pub fn build(
    sections: &ImageSections,
    memory: &mut BootMemory,
    dtb: PhysRange,
    uart: Option<HostPhysAddr>,
    cpus: usize,
) -> Result<Roots> {
    let place = image();
    let wanted = BOOT_BLOCK + (cpus as u64 * layout::STACK_STRIDE).next_multiple_of(BLOCK_2M);
    let block = memory.find_free(wanted, BLOCK_2M).ok_or(Error::NoMem)?;
    let block = PhysRange {
        base: block,
        size: wanted,
    };
    memory.add_used(block)?;

    let pool = &raw mut POOL_MEMORY;
    let start = virt_to_phys(pool).ok_or(Error::Range)?.0;
    let mut guard = POOL.lock();
    let bump = guard.insert(Bump {
        next: start,
        end: start + size_of::<Pool>() as u64,
    });
    let mut pages = Pages { bump };
    let root = pages.alloc()?;
    let entry_root = pages.alloc()?;

    let mut section = |range: &Range<u64>, attributes| {
        let offset = range.start.checked_sub(IMAGE_BASE).ok_or(Error::Inval)?;
        let size = range.end.checked_sub(range.start).ok_or(Error::Inval)?;
        paging::map(
            &mut pages,
            root,
            range.start,
            HostPhysAddr(place.base.0 + offset),
            size,
            attributes,
        )
    };
    section(&sections.text, Attributes::TEXT)?;
    section(&sections.rodata, Attributes::RODATA)?;
    let [a, b] = &sections.guards;
    section(&(sections.data.start..a.start), Attributes::DATA)?;
    section(&(a.end..b.start), Attributes::DATA)?;
    section(&(b.end..sections.data.end), Attributes::DATA)?;

    let dtb_pages = dtb.outer_pages();
    paging::map(
        &mut pages,
        root,
        layout::DTB_WINDOW,
        dtb_pages.base,
        dtb_pages.size,
        Attributes::RODATA,
    )?;
    if let Some(uart) = uart {
        let page = HostPhysAddr(uart.0 & !(PAGE - 1));
        paging::map(
            &mut pages,
            root,
            layout::EARLY_UART,
            page,
            PAGE,
            Attributes::DEVICE,
        )?;
    }
    paging::map(
        &mut pages,
        root,
        DIRECT_MAP_BASE + block.base.0,
        block.base,
        wanted,
        Attributes::DATA,
    )?;

    // Later additions below the existing top-level entries show in both roots; the entry root only needs the image.
    for i in 0..ENTRIES {
        let entry = pages.read(root, i);
        pages.write(entry_root, i, entry);
    }
    let entry = place.base.0 + (sections.entry.start - IMAGE_BASE);
    let size = sections.entry.end - sections.entry.start;
    paging::map(
        &mut pages,
        entry_root,
        entry,
        HostPhysAddr(entry),
        size,
        Attributes::TEXT,
    )?;

    *HOST.lock() = Some(Host {
        root,
        entry_root,
        block,
        bump: Bump {
            next: block.base.0,
            end: block.end(),
        },
        next_device: DEVICE_BASE,
        devices: ArrayVec::new(),
    });
    Ok(Roots { root, entry_root })
}

/// Second step, on the tables of [`build`]: the direct map of the rest of RAM.
///
/// # Errors
/// [`Error::NoMem`] if memory for tables runs out.
pub fn finish(memory: &BootMemory) -> Result<()> {
    let mut host = HOST.lock();
    let host = host.as_mut().ok_or(Error::Inval)?;
    let place = image();
    // `build` mapped its block already; the image is reached at its own address only.
    let mut holes: ArrayVec<PhysRange, { super::ranges::MAX_USED + 2 }> = ArrayVec::new();
    holes.extend(memory.no_map.iter().copied());
    holes.push(PhysRange {
        base: place.base,
        size: place.size,
    });
    holes.push(host.block);
    let root = host.root;
    let mut pages = Pages {
        bump: &mut host.bump,
    };
    for bank in &memory.ram {
        for_each_outside(*bank, &holes, |piece| {
            let va = DIRECT_MAP_BASE + piece.base.0;
            paging::map(
                &mut pages,
                root,
                va,
                piece.base,
                piece.size,
                Attributes::DATA,
            )
        })?;
    }
    Ok(())
}

/// The roots of the running tables.
///
/// # Errors
/// [`Error::Inval`] before [`build`].
pub fn roots() -> Result<Roots> {
    let host = HOST.lock();
    let host = host.as_ref().ok_or(Error::Inval)?;
    Ok(Roots {
        root: host.root,
        entry_root: host.entry_root,
    })
}

/// Maps `size` bytes of device registers at `pa` (any alignment) and gives access to them. Blocks that were mapped
/// before are shared. Mappings stay for ever.
///
/// # Errors
/// [`Error::Inval`] for an empty or impossible range or before [`build`], [`Error::NoMem`] without memory for tables
/// or without room in the window.
///
/// # Safety
/// There must be device registers there, not memory, and nobody else may drive the device at the same time.
pub unsafe fn map_device(pa: HostPhysAddr, size: u64) -> Result<Mmio> {
    let va = map_window(PhysRange::new(pa.0, size), Attributes::DEVICE)?;
    // SAFETY: just mapped as device memory, for ever; what is behind is the caller's word.
    Ok(unsafe { Mmio::new(va as usize, size as usize) })
}

/// Gives access to the console's page that [`build`] mapped, `offset` bytes into it.
///
/// # Safety
/// As for [`map_device`]; the early mapping must be in place.
pub unsafe fn early_uart(pa: HostPhysAddr, size: u64) -> Mmio {
    let offset = pa.0 % PAGE;
    let size = size.min(PAGE - offset);
    // SAFETY: by the caller's word.
    unsafe { Mmio::new((layout::EARLY_UART + offset) as usize, size as usize) }
}

/// Maps RAM that is outside the direct map, for reading.
///
/// # Errors
/// As for [`map_device`].
pub fn map_read_only(range: PhysRange) -> Result<u64> {
    map_window(
        range,
        Attributes {
            access: Access::ReadOnly,
            memory: Memory::Normal,
        },
    )
}

fn map_window(range: PhysRange, attributes: Attributes) -> Result<u64> {
    if range.size == 0 {
        return Err(Error::Inval);
    }
    let mut host = HOST.lock();
    let host = host.as_mut().ok_or(Error::Inval)?;
    let pages = range.outer_pages();
    let offset = range.base.0 - pages.base.0;
    if attributes == Attributes::DEVICE {
        let known = host.devices.iter().find(|(r, _)| r.contains(&pages));
        if let Some((r, va)) = known {
            return Ok(va + (pages.base.0 - r.base.0) + offset);
        }
    }
    // Same offset in a 2 MiB block on both sides, so that big frames (redistributors) get blocks.
    let skew = pages.base.0 % BLOCK_2M;
    let va = host.next_device.next_multiple_of(BLOCK_2M) + skew;
    let end = va.checked_add(pages.size).ok_or(Error::Inval)?;
    if end > DEVICE_BASE + SLOT {
        return Err(Error::NoMem);
    }
    host.next_device = end;
    let root = host.root;
    paging::map(
        &mut Pages {
            bump: &mut host.bump,
        },
        root,
        va,
        pages.base,
        pages.size,
        attributes,
    )?;
    if attributes == Attributes::DEVICE {
        // A full table only costs sharing.
        let _ = host.devices.try_push((pages, va));
    }
    Ok(va + offset)
}

/// Makes the stacks of `cpu` and returns the first addresses after the stack and after the emergency stack.
///
/// # Errors
/// [`Error::NoMem`] without memory, [`Error::Exist`] if the CPU has its stacks, [`Error::Inval`] before [`build`].
pub fn make_stacks(cpu: CpuId) -> Result<(u64, u64)> {
    let mut host = HOST.lock();
    let host = host.as_mut().ok_or(Error::Inval)?;
    let slots = layout::stack_slots(cpu.0);
    let root = host.root;
    for (va, size) in [
        (slots.stack, STACK_SIZE),
        (slots.emergency, EMERGENCY_STACK_SIZE),
    ] {
        let pa = host.bump.take(size / PAGE)?;
        paging::map(
            &mut Pages {
                bump: &mut host.bump,
            },
            root,
            va,
            pa,
            size,
            Attributes::DATA,
        )?;
    }
    Ok((
        slots.stack + STACK_SIZE,
        slots.emergency + EMERGENCY_STACK_SIZE,
    ))
}

/// What address `va` is mapped to in Oxen's own tables.
pub fn lookup(va: u64) -> Option<(HostPhysAddr, Attributes)> {
    let mut host = HOST.lock();
    let host = host.as_mut()?;
    let root = host.root;
    paging::lookup(
        &Pages {
            bump: &mut host.bump,
        },
        root,
        va,
    )
}
