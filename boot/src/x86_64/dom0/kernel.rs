//! dom0's kernel, unpacked.
#![expect(unsafe_code, reason = "lends memory for unpacking")]

use alloc::string::ToString;

use arch_x86::host::mmu;
use boot::pvh::elf::Vmlinux;
use boot::pvh::kernel::Kernel;
use boot::range;
use xen_core::mem::ranges::{BootMemory, PhysRange};
use xen_core::{HostPhysAddr, PAGE_SIZE};

use super::super::{halt, heap};
use boot::dom0::Failure;

/// An unpacked kernel.
pub(crate) struct Unpacked {
    /// Its parts.
    pub(crate) vmlinux: Vmlinux<'static>,
    /// The highest address that a byte of the ramdisk may have.
    pub(crate) ramdisk_max: u64,
    /// Where the file is, if that is memory of its own, to be given back when it is loaded.
    pub(crate) file: Option<range::PhysRange>,
}

/// Recognises the kernel `module` and unpacks it to memory that it takes from `map`.
pub(super) fn unpack(module: &'static [u8], map: &mut BootMemory) -> Result<Unpacked, Failure> {
    let kernel = Kernel::probe(module).map_err(|e| e.to_string())?;
    let ramdisk_max = kernel.ramdisk_max();
    let (bytes, file) = match kernel.plain() {
        Some(bytes) => (bytes, None),
        None => {
            let (bytes, file) = expand(&kernel, map)?;
            (bytes, Some(file))
        }
    };
    Ok(Unpacked {
        vmlinux: Vmlinux::parse(bytes).map_err(|e| e.to_string())?,
        ramdisk_max,
        file,
    })
}

fn expand(
    kernel: &Kernel<'_>,
    map: &mut BootMemory,
) -> Result<(&'static [u8], range::PhysRange), Failure> {
    let size = kernel.unpacked_size();
    let scratch = kernel.scratch().next_multiple_of(PAGE_SIZE);
    let too_little = || {
        alloc::format!(
            "there is too little memory to unpack the kernel: {} MiB are needed",
            (size + scratch).div_ceil(1 << 20)
        )
    };
    let (file, out) = take(map, size).ok_or_else(too_little)?;
    let before = map.used.len();
    let (_, work) = take(map, scratch).ok_or_else(too_little)?;
    // SAFETY: RAM that nobody used, shown by the direct map, which `take` noted as in use: nobody else refers to it.
    let out = unsafe { core::slice::from_raw_parts_mut(out, size as usize) };
    // SAFETY: likewise; if it does not come back it stays noted.
    let (unpacked, returned) = unsafe { heap::lend(work, scratch as usize, || kernel.unpack(out)) };
    if returned {
        map.used.truncate(before);
    }
    unpacked.map_err(|e| e.to_string())?;
    let file = range::PhysRange::new(file, size).and_then(|r| r.to_pages());
    Ok((out, file.ok_or_else(too_little)?))
}

/// Takes the highest `size` bytes that are free, and notes it.
fn take(map: &mut BootMemory, size: u64) -> Option<(HostPhysAddr, *mut u8)> {
    let at = map.find_free_high(size, PAGE_SIZE, u64::MAX)?;
    let va = mmu::phys_to_virt(at)?;
    let noted = map.add_used(PhysRange { base: at, size });
    if noted.is_err() {
        halt::refuse(format_args!("the memory map has too many pieces"));
    }
    Some((at, va))
}
