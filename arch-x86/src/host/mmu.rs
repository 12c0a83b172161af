//! Oxen's own address space on the hardware: final tables, the direct map, device mappings, CPU stacks.
//!
//! The entry code (see `boot`) turns paging on with a handful of static tables: the image, and the first 4 GiB of
//! physical memory in the place of the direct map. [`build`] makes the final ones in a block of RAM below 4 GiB, so
//! that it is reached through both.
#![expect(unsafe_code, reason = "page tables and raw memory")]

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use spin::{Mutex, Once};
use x86_64::registers::control::Cr3;
use xen_core::mem::ranges::{BootMemory, MAX_USED, PhysRange, for_each_outside};
use xen_core::{CpuId, Error, HostPhysAddr, Result};

use super::cpu;
use super::layout::{
    self, DEVICE_BASE, DIRECT_MAP_BASE, EARLY_LIMIT, IMAGE_BASE, IST_STACK_SIZE, ImagePlace, PAGE,
    PAGE_1G, PAGE_2M, SLOT, STACK_SIZE, Stacks,
};
use super::mmio::Mmio;
use super::paging::{self, ENTRIES, TablePages};
use super::pte::Attributes;

static IMAGE: Once<ImagePlace> = Once::new();
static HOST: Mutex<Option<Host>> = Mutex::new(None);
/// CR3 of all CPUs once they run; 0 before [`build`].
static ROOT: AtomicU64 = AtomicU64::new(0);

/// Tables for the image, devices and firmware tables.
const OTHER_TABLES: u64 = PAGE_2M;
/// Most device mappings that are remembered for sharing.
const MAX_DEVICES: usize = 64;

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

/// Physical address of any pointer that Oxen's tables map: stacks and device windows too.
pub fn translate<T: ?Sized>(pointer: *const T) -> Option<HostPhysAddr> {
    virt_to_phys(pointer).or_else(|| {
        let va = pointer.cast::<u8>().expose_provenance() as u64;
        lookup(va).map(|(pa, _)| pa)
    })
}

/// The tables, whose entries are reached through the direct map.
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
        assert!(index < ENTRIES);
        let Some(pointer) = phys_to_virt(table) else {
            return 0;
        };
        // SAFETY: `table` is a page that `alloc` gave out; the index is in it.
        unsafe { pointer.cast::<u64>().add(index).read_volatile() }
    }

    fn write(&mut self, table: HostPhysAddr, index: usize, value: u64) {
        assert!(index < ENTRIES);
        let Some(pointer) = phys_to_virt(table) else {
            return;
        };
        // SAFETY: as above; entries are aligned words, written in one access.
        unsafe { pointer.cast::<u64>().add(index).write_volatile(value) };
    }
}

/// The finished address space.
#[derive(Debug)]
struct Host {
    root: HostPhysAddr,
    bump: Bump,
    /// Memory for stacks, once it is known how many CPUs there are.
    stacks: Bump,
    next_window: u64,
    windows: ArrayVec<(PhysRange, Attributes, u64), MAX_DEVICES>,
}

impl Host {
    fn map(&mut self, va: u64, range: PhysRange, attributes: Attributes) -> Result<()> {
        let huge = cpu::features().huge_pages;
        let mut pages = Pages {
            bump: &mut self.bump,
        };
        paging::map(
            &mut pages, self.root, va, range.base, range.size, attributes, huge,
        )
    }
}

/// Sections of the image, by link address; page-aligned.
#[derive(Clone, Debug)]
pub struct ImageSections {
    /// Instructions.
    pub text: Range<u64>,
    /// Constants.
    pub rodata: Range<u64>,
    /// Everything that is written.
    pub data: Range<u64>,
    /// Pages inside `data` that stay unmapped below the boot CPU's stacks, ascending.
    pub guards: [u64; 1 + layout::IST_STACKS],
}

/// Makes the final tables and moves this CPU, which must be alone and on the early tables, onto them. Takes the memory
/// that they need from `memory`. Only RAM is in the direct map, and of that nothing that
/// must not be mapped.
///
/// # Errors
/// [`Error::NoMem`] if there is no free block of RAM below 4 GiB that is large enough; [`Error::NoSpc`] if `memory` has
/// no room to note it; [`Error::Inval`] or [`Error::Exist`] if sections make no sense.
///
/// # Safety
/// The sections must be those of the image that runs, stacks included, and `memory` must know all that is in use.
pub unsafe fn build(sections: &ImageSections, memory: &mut BootMemory) -> Result<()> {
    let place = image();
    let top = memory.ram.iter().map(PhysRange::end).max().unwrap_or(0);
    // A table of 4 KiB for each GiB, two for each edge of a bank, and the levels above.
    let tables =
        (top / PAGE_1G + 8 + 4 * memory.ram.len() as u64 + 4 * memory.no_map.len() as u64) * PAGE;
    let wanted = OTHER_TABLES + tables;
    let block = memory
        .find_free_high(wanted, PAGE, EARLY_LIMIT)
        .ok_or(Error::NoMem)?;
    memory.add_used(PhysRange {
        base: block,
        size: wanted,
    })?;
    let mut bump = Bump {
        next: block.0,
        end: block.0 + wanted,
    };
    let root = Pages { bump: &mut bump }.alloc()?;
    let mut host = Host {
        root,
        bump,
        stacks: Bump { next: 0, end: 0 },
        next_window: DEVICE_BASE,
        windows: ArrayVec::new(),
    };
    let mut section = |start: u64, end: u64, attributes| {
        let offset = start.checked_sub(IMAGE_BASE).ok_or(Error::Inval)?;
        let size = end.checked_sub(start).ok_or(Error::Inval)?;
        host.map(
            start,
            PhysRange::new(place.base.0 + offset, size),
            attributes,
        )
    };
    section(sections.text.start, sections.text.end, Attributes::TEXT)?;
    section(
        sections.rodata.start,
        sections.rodata.end,
        Attributes::RODATA,
    )?;
    let mut at = sections.data.start;
    for guard in sections.guards {
        section(at, guard, Attributes::DATA)?;
        at = guard + PAGE;
    }
    section(at, sections.data.end, Attributes::DATA)?;

    let mut holes: ArrayVec<PhysRange, { MAX_USED + 1 }> = ArrayVec::new();
    holes.extend(memory.no_map.iter().copied());
    holes.push(PhysRange {
        base: place.base,
        size: place.size,
    });
    for bank in &memory.ram {
        for_each_outside(*bank, &holes, |piece| {
            host.map(DIRECT_MAP_BASE + piece.base.0, piece, Attributes::DATA)
        })?;
    }
    *HOST.lock() = Some(host);
    ROOT.store(root.0, Ordering::Release);
    activate();
    Ok(())
}

/// Moves this CPU onto the final tables.
fn activate() {
    let (_, flags) = Cr3::read();
    let root = ROOT.load(Ordering::Acquire);
    let frame = x86_64::structures::paging::PhysFrame::containing_address(
        x86_64::PhysAddr::new_truncate(root),
    );
    // SAFETY: `build` mapped the image with its sections, where this code and its stack are, and all that is in use.
    unsafe { Cr3::write(frame, flags) };
}

/// The root of the final tables; 0 before [`build`].
pub fn root() -> HostPhysAddr {
    HostPhysAddr(ROOT.load(Ordering::Acquire))
}

/// Makes a root for CPUs that turn paging on: the final tables, and the page of their entry code at its physical
/// address. It lies below 4 GiB.
///
/// # Errors
/// [`Error::NoMem`] without memory for tables, [`Error::Inval`] before [`build`].
pub(super) fn entry_root(trampoline: HostPhysAddr) -> Result<HostPhysAddr> {
    let mut host = HOST.lock();
    let host = host.as_mut().ok_or(Error::Inval)?;
    let mut pages = Pages {
        bump: &mut host.bump,
    };
    let root = pages.alloc()?;
    for i in ENTRIES / 2..ENTRIES {
        let entry = pages.read(host.root, i);
        pages.write(root, i, entry);
    }
    paging::map(
        &mut pages,
        root,
        trampoline.0,
        trampoline,
        PAGE,
        Attributes::TEXT,
        false,
    )?;
    Ok(root)
}

/// Maps `size` bytes of device registers at `pa` (any alignment), uncached, and gives access to them. What was mapped
/// before is shared. Mappings stay for ever.
///
/// # Errors
/// [`Error::Inval`] for an empty or impossible range or before [`build`], [`Error::NoMem`] without memory for tables
/// or without room in the window.
///
/// # Safety
/// There must be device registers there, not memory, and nobody else may drive the device at the same time.
pub unsafe fn map_device(pa: HostPhysAddr, size: u64) -> Result<Mmio> {
    let va = map_window(PhysRange::new(pa.0, size), Attributes::DEVICE)?;
    // SAFETY: just mapped, for ever; what is behind is the caller's word.
    Ok(unsafe { Mmio::new(va as usize, size as usize) })
}

/// Maps a frame buffer, write-combining. Otherwise as [`map_device`].
///
/// # Errors
/// As for [`map_device`].
///
/// # Safety
/// As for [`map_device`].
pub unsafe fn map_framebuffer(pa: HostPhysAddr, size: u64) -> Result<Mmio> {
    let va = map_window(PhysRange::new(pa.0, size), Attributes::FRAMEBUFFER)?;
    // SAFETY: as above.
    Ok(unsafe { Mmio::new(va as usize, size as usize) })
}

/// Maps memory that the firmware left something in, for reading, cached.
///
/// # Errors
/// As for [`map_device`].
///
/// # Safety
/// There must be memory there that nobody writes to.
pub unsafe fn map_firmware(pa: HostPhysAddr, size: u64) -> Result<&'static [u8]> {
    let va = map_window(PhysRange::new(pa.0, size), Attributes::RODATA)?;
    // SAFETY: just mapped, for ever; that it is memory and does not change is the caller's word.
    Ok(unsafe {
        core::slice::from_raw_parts(
            core::ptr::with_exposed_provenance(va as usize),
            size as usize,
        )
    })
}

fn map_window(range: PhysRange, attributes: Attributes) -> Result<u64> {
    if range.size == 0 || range.end() > cpu::physical_address_mask() {
        return Err(Error::Inval);
    }
    let mut host = HOST.lock();
    let host = host.as_mut().ok_or(Error::Inval)?;
    let pages = range.outer_pages();
    let offset = range.base.0 - pages.base.0;
    let known = host
        .windows
        .iter()
        .find(|(r, a, _)| *a == attributes && r.contains(&pages));
    if let Some((r, _, va)) = known {
        return Ok(va + (pages.base.0 - r.base.0) + offset);
    }
    // The same place in a large page on both sides, so that big ranges get large pages.
    let va = host.next_window.next_multiple_of(PAGE_2M) + pages.base.0 % PAGE_2M;
    let end = va.checked_add(pages.size).ok_or(Error::Inval)?;
    if end > DEVICE_BASE + SLOT {
        return Err(Error::NoMem);
    }
    host.next_window = end;
    host.map(va, pages, attributes)?;
    // A full table only costs sharing.
    let _ = host.windows.try_push((pages, attributes, va));
    Ok(va + offset)
}

/// Takes the memory for the stacks of `cpus` CPUs from `memory`, once.
///
/// # Errors
/// [`Error::NoMem`] without a free block, [`Error::NoSpc`] if `memory` has no room to note it, [`Error::Inval`] before
/// [`build`].
pub fn reserve_stacks(memory: &mut BootMemory, cpus: usize) -> Result<()> {
    let mut host = HOST.lock();
    let host = host.as_mut().ok_or(Error::Inval)?;
    let size = cpus as u64 * (STACK_SIZE + layout::IST_STACKS as u64 * IST_STACK_SIZE);
    let base = memory
        .find_free_high(size, PAGE, u64::MAX)
        .ok_or(Error::NoMem)?;
    memory.add_used(PhysRange { base, size })?;
    host.stacks = Bump {
        next: base.0,
        end: base.0 + size,
    };
    Ok(())
}

/// Makes the stacks of `cpu` and returns the first addresses after them.
///
/// # Errors
/// [`Error::NoMem`] without memory, [`Error::Exist`] if the CPU has its stacks, [`Error::Inval`] before [`build`].
pub(super) fn make_stacks(cpu: CpuId) -> Result<Stacks> {
    let mut host = HOST.lock();
    let host = host.as_mut().ok_or(Error::Inval)?;
    let stacks = Stacks::of_cpu(cpu.0);
    let ist = stacks.ist.into_iter().map(|va| (va, IST_STACK_SIZE));
    for (va, size) in core::iter::once((stacks.main, STACK_SIZE)).chain(ist) {
        let pa = host.stacks.take(size / PAGE)?;
        host.map(va, PhysRange { base: pa, size }, Attributes::DATA)?;
    }
    Ok(stacks.tops())
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
