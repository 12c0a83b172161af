//! Everything about a PVH dom0 that is decided before its memory is touched: which memory it gets, and what goes where.

use super::acpi::{self, Absent, AcpiError};
use super::elf::{ElfError, Placement, Vmlinux};
use super::memory_map::{self, Dom0Memory, MapError};
use super::place::Room;
use super::start_info::{Module, StartInfo, StartInfoError};
use crate::cmdline::Dom0Mem;
use crate::multiboot::Region;
use crate::range::PhysRange;
use alloc::vec::Vec;
use core::fmt;
use xen_core::{GuestPhysAddr, PAGE_SIZE};

/// The last address that 32-bit code reaches.
const LAST_32: u64 = u32::MAX as u64;
/// Kernels use memory below 1 MiB without asking.
const ABOVE_BIOS: u64 = 1 << 20;
/// Memory that stays the hypervisor's, for page tables and the like.
pub const RESERVE: u64 = 16 << 20;

/// Why there can be no dom0 as asked for. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The kernel says that it cannot be the initial domain.
    NotDom0,
    /// More memory is asked for than there is, in bytes.
    TooMuch {
        /// What is asked for.
        asked: u64,
        /// What there is.
        free: u64,
    },
    /// There is next to no memory, in bytes.
    NoMemory(u64),
    /// The memory does not work out.
    Memory(MapError),
    /// The kernel has no place in it.
    Kernel(ElfError),
    /// There is no room for something of so many bytes at addresses that it can have.
    NoRoom(&'static str, u64),
    /// The ACPI tables cannot be made.
    Acpi(AcpiError),
    /// The start information cannot be made.
    StartInfo(StartInfoError),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDom0 => f.write_str("the kernel says that it cannot be dom0"),
            Self::TooMuch { asked, free } => write!(
                f,
                "there is too little memory for dom0: {} MiB are asked for, {} MiB are free",
                asked >> 20,
                free >> 20
            ),
            Self::NoMemory(free) => write!(
                f,
                "there is too little memory for dom0: {} KiB are free",
                free >> 10
            ),
            Self::Memory(error) => error.fmt(f),
            Self::Kernel(error) => error.fmt(f),
            Self::NoRoom(what, size) => write!(
                f,
                "dom0's memory has no room for {what}: {} KiB are needed in one piece",
                size.div_ceil(1024)
            ),
            Self::Acpi(error) => error.fmt(f),
            Self::StartInfo(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PlanError {}

/// What a dom0 is planned from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The firmware's memory map.
    pub host: &'a [Region],
    /// RAM that nobody uses, in ascending order, boot modules included.
    pub free: &'a [PhysRange],
    /// Registers that dom0 is not to reach directly.
    pub hidden: &'a [PhysRange],
    /// How much memory it is to have.
    pub dom0_mem: Dom0Mem,
    /// The kernel.
    pub kernel: &'a Vmlinux<'a>,
    /// Its command line.
    pub command_line: &'a str,
    /// Bytes of the initial ramdisk; 0: there is none.
    pub ramdisk: u64,
    /// The highest address that a byte of it may have.
    pub ramdisk_max: u64,
    /// The ACPI tables.
    pub acpi: acpi::Request<'a>,
}

/// A dom0 that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its memory.
    pub memory: Dom0Memory,
    /// Where the kernel goes.
    pub kernel: Placement,
    /// Where the ramdisk goes, in whole pages.
    pub ramdisk: Option<PhysRange>,
    /// ACPI tables and where they go.
    pub tables: (GuestPhysAddr, Vec<u8>),
    /// Start information and where it goes.
    pub start_info: (u32, Vec<u8>),
    /// Tables of the firmware's that dom0 does not get.
    pub absent: Vec<Absent>,
}

/// Bytes of memory for dom0, in whole pages, where `free` bytes are.
///
/// # Errors
/// [`PlanError::TooMuch`], [`PlanError::NoMemory`].
pub fn memory_size(wanted: &Dom0Mem, free: u64) -> Result<u64, PlanError> {
    let available = free.saturating_sub(RESERVE);
    if let Some(asked) = wanted.size
        && asked.percent == 0
        && !asked.negative
        && asked.bytes > available
    {
        return Err(PlanError::TooMuch {
            asked: asked.bytes,
            free: available,
        });
    }
    match wanted.resolve(available) & !(PAGE_SIZE - 1) {
        0 => Err(PlanError::NoMemory(available)),
        size => Ok(size),
    }
}

impl Plan {
    /// Decides everything.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn new(request: &Request<'_>) -> Result<Self, PlanError> {
        if request.kernel.can_be_dom0() == Some(false) {
            return Err(PlanError::NotDom0);
        }
        let free = request.free.iter().map(PhysRange::size).sum();
        let memory = Dom0Memory::new(&memory_map::Request {
            host: request.host,
            free: request.free,
            size: memory_size(&request.dom0_mem, free)?,
            tables: request.acpi.size(),
            hidden: request.hidden,
        })
        .map_err(PlanError::Memory)?;
        let mut room = Room::new(&memory.ram);
        let kernel = request.kernel.place(room.free());
        let kernel = kernel.map_err(PlanError::Kernel)?;
        room.remove(&kernel.range);
        let ramdisk = match request.ramdisk {
            0 => None,
            size => {
                let found = room.take_high(size, request.ramdisk_max.min(LAST_32));
                Some(found.ok_or(PlanError::NoRoom("the initial ramdisk", size))?)
            }
        };
        let tables = memory
            .tables
            .ok_or(PlanError::NoRoom("ACPI tables", request.acpi.size()))?;
        let rsdp = GuestPhysAddr(tables.start().0);
        let made = acpi::Tables::new(&request.acpi, &memory, rsdp.0).map_err(PlanError::Acpi)?;
        let module = ramdisk.map(|range| Module {
            range,
            size: request.ramdisk,
            command_line: "",
        });
        let info = StartInfo {
            command_line: request.command_line,
            modules: module.as_slice(),
            rsdp: Some(rsdp),
            memory: &memory.map,
        };
        let size = info.size() as u64;
        // Linux reads it by tables that map the first 1 GiB.
        let at = room.take_low(size, ABOVE_BIOS);
        let at = at.and_then(|range| u32::try_from(range.start().0).ok());
        let at = at.ok_or(PlanError::NoRoom("the start information", size))?;
        let bytes = info.encode(at).map_err(PlanError::StartInfo)?;
        Ok(Self {
            kernel,
            ramdisk,
            tables: (rsdp, made.bytes),
            start_info: (at, bytes),
            absent: made.absent,
            memory,
        })
    }
}
