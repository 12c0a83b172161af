//! The UEFI entry point: finds the device tree, copies the image to where it can run, leaves boot services.
//!
//! This runs wherever the firmware loaded the image, on the firmware's tables. Code and static data are reached
//! relative to the program counter, so that they work anywhere; addresses *in* static data are link addresses and do
//! not. So nothing here formats, returns strings out of a `match` (which may become a table of pointers), or panics.
//!
//! The image runs only at a multiple of 2 MiB and with its zero-filled data behind it, which no UEFI loader promises:
//! it is always copied. The copy is what gets started; the original is free memory by then.

use super::{HANDOVER, Handover};
use aarch64_cpu::registers::{CurrentEL, Readable};
use arch_arm::host::cache;
use arch_arm::host::layout::{BLOCK_2M, PAGE, PHYS_LIMIT};
use core::arch::{asm, global_asm};
use core::convert::Infallible;
use core::ffi::c_void;
use core::ptr::{null_mut, with_exposed_provenance, with_exposed_provenance_mut};
use r_efi::efi::protocols::loaded_image;
use r_efi::efi::{
    ALLOCATE_MAX_ADDRESS, BootServices, DTB_TABLE_GUID, Guid, Handle, LOADER_DATA,
    MemoryDescriptor, Status, SystemTable,
};

global_asm!(include_str!("pe.S"));
global_asm!(include_str!("leave.S"));

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
    static oxen_efi_leave_end: u8;
    fn oxen_primary_entry();
    fn oxen_efi_leave(entry: u64, tree: u64) -> !;
}

/// Address at which `symbol` is now.
macro_rules! here {
    ($symbol:expr) => {
        (&raw const $symbol).expose_provenance() as u64
    };
}

/// Prints a sentence on the firmware's console.
macro_rules! say {
    ($firmware:expr, $text:literal) => {{
        const TEXT: [u16; $text.len() + 3] = console_text($text);
        $firmware.print(&TEXT)
    }};
}

/// The text of ASCII characters, a line end and NUL in the firmware's encoding.
const fn console_text<const N: usize>(text: &str) -> [u16; N] {
    let bytes = text.as_bytes();
    let mut units = [0; N];
    let mut i = 0;
    while i < bytes.len() {
        assert!(bytes[i].is_ascii());
        units[i] = bytes[i] as u16;
        i += 1;
    }
    units[i] = '\r' as u16;
    units[i + 1] = '\n' as u16;
    units
}

/// The first word of a device tree, big-endian.
const MAGIC: u32 = 0xd00d_feed;
/// A larger device tree is not one (Linux's arm64 boot protocol).
const MAX_TREE: u64 = 2 << 20;
/// How often the memory map may change between reading it and leaving.
const ATTEMPTS: u32 = 8;
/// Room for descriptors that come to be while the map is being read.
const SPARE_DESCRIPTORS: usize = 32;

/// The firmware, before boot services end.
struct Firmware {
    image: Handle,
    table: *mut SystemTable,
    boot: *mut BootServices,
}

/// Where something lies in physical memory.
#[derive(Clone, Copy)]
struct Place {
    start: u64,
    size: u64,
}

/// Where UEFI starts the image. Returns only if it cannot run, having said why.
///
/// # Safety
/// Only for UEFI firmware, by its calling convention.
#[unsafe(no_mangle)]
unsafe extern "efiapi" fn oxen_efi_start(image: Handle, table: *mut SystemTable) -> Status {
    // SAFETY: the firmware hands over its table.
    let boot = unsafe { (*table).boot_services };
    let firmware = Firmware { image, table, boot };
    match firmware.start() {
        Err(status) => status,
    }
}

impl Firmware {
    fn services(&self) -> &BootServices {
        // SAFETY: the table is valid and constant until boot services end; it is not used after that.
        unsafe { &*self.boot }
    }

    fn print(&self, text: &[u16]) {
        // SAFETY: the table is the firmware's; without a console the pointer is null.
        let console = unsafe { (*self.table).con_out };
        if !console.is_null() {
            // SAFETY: the protocol's instance; the text ends with NUL and is only read.
            let _ = unsafe { ((*console).output_string)(console, text.as_ptr().cast_mut()) };
        }
    }

    fn start(&self) -> Result<Infallible, Status> {
        if CurrentEL.read(CurrentEL::EL) != 2 {
            say!(self, "Oxen must be entered at EL2 (this CPU is at EL1)");
            return Err(Status::UNSUPPORTED);
        }
        let tree = self.device_tree()?;
        let copy = self.copy_image()?;
        let base = here!(__image_start);
        let at = with_exposed_provenance_mut::<Handover>(
            (copy.start + (here!(HANDOVER) - base)) as usize,
        );
        // SAFETY: the copy is this function's own memory, and has the handover where the original has it.
        let handover = unsafe { &mut *at };
        handover.begin();
        self.read_options(handover);
        self.leave_boot_services(handover)?;

        // SAFETY: interrupts belong to the firmware, which is gone; masking them touches nothing else.
        unsafe { asm!("msr daifset, #0xf", options(nostack, preserves_flags)) };
        cache::clean_invalidate_range(copy.start, copy.size);
        cache::clean_invalidate_range(tree.start, tree.size);
        let leave = oxen_efi_leave as *const () as u64;
        cache::clean_invalidate_range(leave, here!(oxen_efi_leave_end) - leave);
        cache::invalidate_instructions();
        let entry = copy.start + (oxen_primary_entry as *const () as u64 - base);
        // SAFETY: the copy is complete and in memory, and boot services have ended: nobody is waiting for us to return.
        unsafe { oxen_efi_leave(entry, tree.start) }
    }

    /// The device tree among the configuration tables.
    fn device_tree(&self) -> Result<Place, Status> {
        // SAFETY: the firmware's table.
        let (tables, count) = unsafe {
            (
                (*self.table).configuration_table,
                (*self.table).number_of_table_entries,
            )
        };
        for n in 0..count {
            // SAFETY: the table has `count` entries.
            let entry = unsafe { tables.add(n).read() };
            if same(&entry.vendor_guid, &DTB_TABLE_GUID) && !entry.vendor_table.is_null() {
                return self.check_tree(entry.vendor_table);
            }
        }
        say!(
            self,
            "Oxen needs a device tree, and this firmware has none: ACPI alone is not enough"
        );
        Err(Status::UNSUPPORTED)
    }

    /// Looks at the blob's header as far as it takes to know its size.
    fn check_tree(&self, blob: *mut c_void) -> Result<Place, Status> {
        // SAFETY: the firmware says that there is a device tree, whose header has two words and more.
        let (magic, size) = unsafe {
            let words = blob.cast::<u32>();
            (words.read_unaligned(), words.add(1).read_unaligned())
        };
        let size = u64::from(u32::from_be(size));
        if u32::from_be(magic) != MAGIC || size > MAX_TREE {
            say!(
                self,
                "Oxen: what the firmware has as its device tree is none"
            );
            return Err(Status::LOAD_ERROR);
        }
        Ok(Place {
            start: blob.expose_provenance() as u64,
            size,
        })
    }

    /// Copies the image to memory in which it can run.
    fn copy_image(&self) -> Result<Place, Status> {
        let start = here!(__image_start);
        let size = here!(__image_end) - start;
        // Whole blocks: the first tables map no less.
        let blocks = size.next_multiple_of(BLOCK_2M);
        let pages = (blocks + BLOCK_2M - PAGE) / PAGE;
        let mut memory = PHYS_LIMIT - 1;
        // SAFETY: a service of the firmware; the address is ours.
        let status = unsafe {
            (self.services().allocate_pages)(
                ALLOCATE_MAX_ADDRESS,
                LOADER_DATA,
                pages as usize,
                &mut memory,
            )
        };
        if status.is_error() {
            say!(self, "Oxen: the firmware has no memory for the hypervisor");
            return Err(status);
        }
        let to = memory.next_multiple_of(BLOCK_2M);
        let (source, target) = (
            with_exposed_provenance::<u8>(start as usize),
            with_exposed_provenance_mut::<u8>(to as usize),
        );
        // SAFETY: the loader put all of the image here, and the target was just allocated, with room for it after
        // alignment.
        unsafe { core::ptr::copy_nonoverlapping(source, target, size as usize) };
        Ok(Place { start: to, size })
    }

    /// Takes the load options as the command line; none if there are none.
    fn read_options(&self, handover: &mut Handover) {
        let mut guid = loaded_image::PROTOCOL_GUID;
        let mut interface: *mut c_void = null_mut();
        // SAFETY: a service of the firmware, on the handle it gave us; both pointers are to our variables.
        let status =
            unsafe { (self.services().handle_protocol)(self.image, &mut guid, &mut interface) };
        if status.is_error() || interface.is_null() {
            return;
        }
        // SAFETY: the firmware's answer for this protocol.
        let (options, bytes) = unsafe {
            let loaded = interface.cast::<loaded_image::Protocol>();
            ((*loaded).load_options, (*loaded).load_options_size)
        };
        if options.is_null() {
            return;
        }
        let options = options.cast::<u16>();
        let units = (0..bytes as usize / 2).map(|n| {
            // SAFETY: within the size that the firmware states.
            unsafe { options.add(n).read_unaligned() }
        });
        handover.set_line(units);
    }

    /// Ends boot services and notes what memory there is. On failure the firmware may be half gone: nothing is
    /// printed.
    fn leave_boot_services(&self, handover: &mut Handover) -> Result<(), Status> {
        let services = self.services();
        let (mut size, mut key, mut step, mut version) = (0, 0, 0, 0);
        // SAFETY: a service of the firmware; without room it only writes the numbers.
        let status = unsafe {
            (services.get_memory_map)(&mut size, null_mut(), &mut key, &mut step, &mut version)
        };
        if status != Status::BUFFER_TOO_SMALL || step < size_of::<MemoryDescriptor>() {
            say!(self, "Oxen: the firmware does not tell its memory map");
            return Err(Status::LOAD_ERROR);
        }
        let room = size + SPARE_DESCRIPTORS * step;
        let mut buffer: *mut c_void = null_mut();
        // SAFETY: a service of the firmware; the pointer is ours.
        let status = unsafe { (services.allocate_pool)(LOADER_DATA, room, &mut buffer) };
        if status.is_error() {
            say!(self, "Oxen: the firmware has no memory for its memory map");
            return Err(status);
        }
        let mut left = ATTEMPTS;
        loop {
            size = room;
            let map = buffer.cast::<MemoryDescriptor>();
            // SAFETY: as above; `map` has room for `size` bytes.
            let status = unsafe {
                (services.get_memory_map)(&mut size, map, &mut key, &mut step, &mut version)
            };
            if status.is_error() {
                return Err(status);
            }
            // SAFETY: nothing of boot services is used after this, but for another attempt, which is allowed.
            let status = unsafe { (services.exit_boot_services)(self.image, key) };
            if !status.is_error() {
                break;
            }
            left -= 1;
            if left == 0 {
                return Err(status);
            }
        }
        for n in 0..size / step {
            // SAFETY: the map has `size` bytes of descriptors, `step` apart, each at least as large as is known here.
            let entry = unsafe {
                buffer
                    .byte_add(n * step)
                    .cast::<MemoryDescriptor>()
                    .read_unaligned()
            };
            handover.add_memory(
                entry.r#type,
                entry.attribute,
                entry.physical_start,
                entry.number_of_pages,
            );
        }
        Ok(())
    }
}

/// Compares without a call into anything that might hold addresses.
fn same(a: &Guid, b: &Guid) -> bool {
    a.as_bytes() == b.as_bytes()
}
