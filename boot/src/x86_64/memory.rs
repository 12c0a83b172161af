//! Memory at boot: what the loader says there is, the final address space, the frame allocator, the heap.
#![expect(
    unsafe_code,
    reason = "hands memory to the address space, the frame allocator and the heap"
)]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;

use arch_x86::host::layout::{PAGE, PHYS_LIMIT};
use arch_x86::host::mmu;
use boot::multiboot::{BootInfo, MemoryKind, Module};
use boot::range;
use xen_core::mem::ranges::{BootMemory, PhysRange, for_each_outside};
use xen_core::mem::{FrameInfo, Frames};
use xen_core::{Error, HostPhysAddr, Mfn, PAGE_SIZE};

use super::{entry, halt, heap};

/// Part of memory that becomes the hypervisor's heap, and the least and most of it, in bytes.
const HEAP_SHARE: u64 = 64;
const HEAP_MIN: u64 = 8 << 20;
const HEAP_MAX: u64 = 128 << 20;
/// The page for starting CPUs lies below this: above begins what BIOSes use.
const LOW_MEMORY: u64 = 0xa_0000;

/// Memory as start-up leaves it.
pub(crate) struct Memory {
    /// RAM and what is in use of it.
    pub(crate) map: Box<BootMemory>,
    /// A page below 1 MiB for starting CPUs.
    pub(crate) trampoline: Option<HostPhysAddr>,
}

/// Lists the machine's memory, makes the final address space and moves to it. From here on all RAM is in the direct
/// map, and what was written that must not be is found.
pub(crate) fn init(info: &BootInfo) -> Memory {
    let mut map = Box::<BootMemory>::default();
    list(info, &mut map);
    // The lowest page holds what real-mode firmware left there.
    let low = PhysRange::new(0, PAGE);
    map.add_used(low).unwrap_or_else(full);
    let trampoline = map
        .find_free(PAGE, PAGE)
        .filter(|at| at.0 + PAGE <= LOW_MEMORY);
    if let Some(base) = trampoline {
        map.add_used(PhysRange { base, size: PAGE })
            .unwrap_or_else(full);
    }
    // SAFETY: the sections are the linker script's; the image, the modules and what else is in use were noted.
    let built = unsafe { mmu::build(&entry::sections(), &mut map) };
    match built {
        Ok(()) => Memory { map, trampoline },
        Err(e) => halt::refuse(format_args!(
            "there is no memory for the hypervisor's address space ({e:?}); {} MiB of RAM were found",
            map.total() >> 20
        )),
    }
}

/// There is no room to note what is in use.
fn full(_: Error) {
    halt::refuse(format_args!("the memory map has too many pieces"))
}

/// Fills in RAM and what is in use of it.
fn list(info: &BootInfo, map: &mut BootMemory) {
    let range = |base, size| PhysRange::new(base, size);
    let mut banks: Vec<_> = info
        .memory
        .iter()
        .filter(|r| r.kind == MemoryKind::Ram)
        .collect();
    // Large ones first: the table may be full before the crumbs between UEFI's own memory are in.
    banks.sort_unstable_by_key(|r| core::cmp::Reverse(r.size));
    for bank in banks {
        if map
            .add_ram(range(bank.base, bank.size), PHYS_LIMIT)
            .is_err()
        {
            log::warn!(
                "Too many memory banks: {:#x} to {:#x} is not used",
                bank.base,
                bank.end() - 1
            );
        }
    }
    let image = mmu::image();
    map.add_used(PhysRange {
        base: image.base,
        size: image.size,
    })
    .unwrap_or_else(full);
    // Pieces may overlap: then what is not RAM wins.
    for other in info.memory.iter().filter(|r| r.kind != MemoryKind::Ram) {
        let other = range(other.base, other.size);
        if map.ram.iter().any(|bank| bank.overlaps(&other)) {
            map.add_no_map(other).unwrap_or_else(full);
        }
    }
    for module in info.modules.iter().filter(|m| m.size != 0) {
        map.add_used(range(module.base, module.size))
            .unwrap_or_else(full);
    }
}

/// Why a module cannot be used. `Display` says it in one sentence.
pub(crate) enum BadModule {
    /// It is not in RAM as a whole.
    NotInRam(usize),
    /// It lies over the hypervisor or another module.
    Overlaps(usize),
    /// It is empty.
    Empty(usize),
}

impl fmt::Display for BadModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInRam(n) => write!(f, "boot module {n} is not in RAM"),
            Self::Overlaps(n) => write!(f, "boot module {n} overlaps something else"),
            Self::Empty(n) => write!(f, "boot module {n} is empty"),
        }
    }
}

/// Checks that the boot modules lie in RAM and clear of each other and of the image.
pub(crate) fn check_modules(info: &BootInfo, map: &BootMemory) -> Result<(), BadModule> {
    let image = mmu::image();
    let mut taken = alloc::vec![PhysRange {
        base: image.base,
        size: image.size,
    }];
    for (n, module) in info.modules.iter().enumerate() {
        let range = PhysRange::new(module.base, module.size);
        if range.size == 0 {
            return Err(BadModule::Empty(n));
        }
        let in_ram = map.ram.iter().any(|bank| bank.contains(&range))
            && !map.no_map.iter().any(|hole| hole.overlaps(&range));
        if !in_ram {
            return Err(BadModule::NotInRam(n));
        }
        if taken.iter().any(|other| other.overlaps(&range)) {
            return Err(BadModule::Overlaps(n));
        }
        taken.push(range);
    }
    Ok(())
}

/// The bytes of a boot module that [`check_modules`] accepted, which stay where they are until it is discarded.
pub(crate) fn module_bytes(module: &Module) -> Option<&'static [u8]> {
    let va = mmu::phys_to_virt(HostPhysAddr(module.base))?;
    let size = usize::try_from(module.size).ok()?;
    // SAFETY: start-up checked that the module lies in RAM, which the direct map shows, and counted it as in use, so
    // that nobody writes to it.
    Some(unsafe { core::slice::from_raw_parts(va, size) })
}

/// Makes all RAM known to a frame allocator, which owns none of it yet.
pub(crate) fn frames(map: &mut BootMemory) -> &'static Frames {
    let mut frames = Frames::new();
    for bank in map.ram.clone() {
        let count = bank.size / PAGE_SIZE;
        let info = frame_table(map, count);
        let va = mmu::phys_to_virt(bank.base).and_then(NonNull::new);
        let Some(va) = va else {
            panic!("memory at {:#x} is not mapped", bank.base.0)
        };
        // SAFETY: the direct map shows the bank at `va` for ever, but for the image, which lies elsewhere, and what must
        // not be mapped. Like all that is in use, these are never released.
        let added = unsafe { frames.add_bank(Mfn::containing(bank.base), va, info) };
        added.unwrap_or_else(|e| panic!("memory at {:#x} cannot be used: {e:?}", bank.base.0));
    }
    Box::leak(Box::new(frames))
}

/// The table for `count` frames, in memory of its own.
fn frame_table(map: &mut BootMemory, count: u64) -> &'static [FrameInfo] {
    let size = count * size_of::<FrameInfo>() as u64;
    let Some(place) = map.find_free_high(size, PAGE_SIZE, u64::MAX) else {
        halt::refuse(format_args!("there is no memory for the frame table"))
    };
    map.add_used(PhysRange { base: place, size })
        .unwrap_or_else(|e| panic!("too many memory ranges in use: {e:?}"));
    let Some(table) = mmu::phys_to_virt(place) else {
        panic!("the frame table is not mapped")
    };
    let table = table.cast::<FrameInfo>();
    for n in 0..count as usize {
        // SAFETY: the memory is mapped, of this size, and was just taken from what nobody uses.
        unsafe { table.add(n).write(FrameInfo::new()) };
    }
    // SAFETY: initialised above; it stays for ever.
    unsafe { core::slice::from_raw_parts(table, count as usize) }
}

/// Gives the heap its share of memory.
pub(crate) fn grow_heap(map: &mut BootMemory) {
    let mut size = (map.total() / HEAP_SHARE).clamp(HEAP_MIN, HEAP_MAX) & !(PAGE_SIZE - 1);
    let place = loop {
        if let Some(place) = map.find_free_high(size, PAGE_SIZE, u64::MAX) {
            break place;
        }
        size = (size / 2) & !(PAGE_SIZE - 1);
        if size == 0 {
            halt::refuse(format_args!("there is no memory for the hypervisor's heap"));
        }
    };
    map.add_used(PhysRange { base: place, size })
        .unwrap_or_else(full);
    let memory = mmu::phys_to_virt(place)
        .unwrap_or_else(|| panic!("memory for the hypervisor's heap is not mapped"));
    // SAFETY: RAM that the direct map shows, and that nobody used; the heap's for ever.
    if !unsafe { heap::add(memory, size as usize) } {
        panic!("the heap does not take its memory");
    }
}

/// RAM that nothing but boot modules uses, in ascending order.
pub(crate) fn free(info: &BootInfo, map: &BootMemory) -> Vec<range::PhysRange> {
    let modules: Vec<_> = info
        .modules
        .iter()
        .map(|m| PhysRange::new(m.base, m.size))
        .collect();
    let used = map.used.iter().copied();
    let used: Vec<_> = used.filter(|used| !modules.contains(used)).collect();
    let mut free = Vec::new();
    for bank in &map.ram {
        let found = for_each_outside(*bank, &used, |piece| {
            free.extend(range::PhysRange::new(piece.base, piece.size));
            Ok(())
        });
        debug_assert_eq!(found, Ok(()));
    }
    free
}
