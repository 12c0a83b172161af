//! What the domain was started with (public/arch-x86/hvm/start_info.h).

use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use spin::Once;
use xen_abi::Handle;
use xen_abi::arch_x86::{HVM_START_MAGIC, HvmMemmapEntry, HvmModlistEntry, MemmapType};
use xen_abi::memory::{E820Entry, MemoryMap, MemoryOp};
use xen_abi::xen::Hypercall;
use zerocopy::FromZeros as _;

use crate::hypercall::op;

pub use xen_abi::arch_x86::HvmStartInfo;

static INFO: AtomicU64 = AtomicU64::new(0);

/// Entries of a memory map at most.
const REGIONS: usize = 128;

/// The memory map, from wherever it is.
static MAP: Once<ArrayVec<HvmMemmapEntry, REGIONS>> = Once::new();

/// Keeps the address for [`get`]; hypercalls can be made.
pub(super) fn init(info: u64) {
    INFO.store(info, Ordering::SeqCst);
    let info = at(info);
    MAP.call_once(|| match info.0.version {
        0 => by_hypercall(),
        _ => first(info.0.memmap_paddr, info.0.memmap_entries)
            .unwrap_or_default()
            .iter()
            .copied()
            .take(REGIONS)
            .collect(),
    });
}

/// The start information's first version has no memory map.
fn by_hypercall() -> ArrayVec<HvmMemmapEntry, REGIONS> {
    let mut entries = [E820Entry::new_zeroed(); REGIONS];
    let mut map = MemoryMap {
        nr_entries: REGIONS as u32,
        pad: 0,
        buffer: Handle(entries.as_mut_ptr() as u64),
    };
    if op(Hypercall::MEMORY_OP, MemoryOp::MEMORY_MAP.0, &mut map) != 0 {
        map.nr_entries = 0;
    }
    let region = |entry: &E820Entry| HvmMemmapEntry {
        addr: entry.addr.get(),
        size: entry.size.get(),
        kind: MemmapType(entry.kind.get()),
        reserved: 0,
    };
    let found = entries.iter().take(map.nr_entries as usize);
    found.map(region).collect()
}

/// The start information.
///
/// # Panics
/// If there is none.
pub fn get() -> StartInfo {
    at(INFO.load(Ordering::SeqCst))
}

/// The start information at an address.
///
/// # Panics
/// If there is none.
pub(super) fn at(info: u64) -> StartInfo {
    let info: &'static HvmStartInfo = first(info, 1)
        .and_then(|all| all.first())
        .expect("start information");
    assert_eq!(
        info.magic, HVM_START_MAGIC,
        "magic of the start information"
    );
    StartInfo(info)
}

/// The start information.
#[derive(Clone, Copy, Debug)]
pub struct StartInfo(&'static HvmStartInfo);

/// `count` structures at a physical address; `None` at 0.
fn first<T>(at: u64, count: u32) -> Option<&'static [T]> {
    let at = core::ptr::with_exposed_provenance::<T>(at as usize);
    // SAFETY: the boot protocol put them there; this kernel leaves that memory alone.
    (!at.is_null()).then(|| unsafe { core::slice::from_raw_parts(at, count as usize) })
}

/// The bytes of a string, up to its end.
fn string(at: u64) -> &'static [u8] {
    const LONGEST: u32 = 4096;
    let bytes: &[u8] = first(at, LONGEST).unwrap_or_default();
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

impl StartInfo {
    /// The structure itself.
    pub const fn raw(self) -> &'static HvmStartInfo {
        self.0
    }

    /// The command line; empty if there is none.
    pub fn command_line(self) -> &'static [u8] {
        string(self.0.cmdline_paddr)
    }

    /// The memory map.
    pub fn memory_map(self) -> &'static [HvmMemmapEntry] {
        MAP.get().map_or(&[], |map| map.as_slice())
    }

    /// The modules.
    pub fn modules(self) -> &'static [HvmModlistEntry] {
        first(self.0.modlist_paddr, self.0.nr_modules).unwrap_or_default()
    }

    /// Whether `size` bytes at `address` are memory.
    pub fn is_memory(self, address: u64, size: u64) -> bool {
        self.memory_map().iter().any(|e| {
            let inside = address.checked_sub(e.addr);
            e.kind == MemmapType::RAM && inside.is_some_and(|o| o + size <= e.size)
        })
    }

    /// The number of a page below 640 KiB that is memory, not the first one, with nothing of the start information in it.
    pub fn low_page(self) -> Option<u8> {
        const LAST: u8 = 0x9f;
        let info = core::ptr::from_ref(self.0) as u64;
        let used = [
            info,
            self.0.cmdline_paddr,
            self.0.memmap_paddr,
            self.0.modlist_paddr,
        ];
        (8..=LAST).find(|page| {
            let address = u64::from(*page) << 12;
            let free = used.iter().all(|at| at >> 12 != u64::from(*page));
            free && self.is_memory(address, 4096)
        })
    }
}
