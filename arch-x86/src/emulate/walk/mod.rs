//! Walks of a guest's own page tables (Intel SDM volume 3, chapter 4; AMD APM volume 2, chapter 5).
//!
//! All modes that a guest can be in: paging off, 32-bit with and without large pages, PAE, 4 levels, and 5 where the CPUID policy let
//! the guest set CR4.LA57. Rights, reserved bits, protection keys, accessed and dirty bits are as a CPU has them.

use bitflags::bitflags;
use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};
use x86_64::registers::rflags::RFlags;
use xen_core::{Error, GuestPhysAddr, GuestVirtAddr};

use super::cpu::{Access, Stop};
use super::exception::{Exception, PageFaultCode};
use crate::backend::GuestState;

mod domain;
#[cfg(test)]
mod tests;

bitflags! {
    /// Bits of an entry that mean the same in all modes and levels.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Entry: u64 {
        const PRESENT = 1;
        const WRITABLE = 1 << 1;
        const USER = 1 << 2;
        const ACCESSED = 1 << 5;
        const DIRTY = 1 << 6;
        const LARGE = 1 << 7;
        const GLOBAL = 1 << 8;
        const NO_EXECUTE = 1 << 63;
    }
}

/// Registers and abilities of the vCPU that decide how its page tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// CR0.
    pub cr0: Cr0Flags,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: Cr4Flags,
    /// EFER.
    pub efer: EferFlags,
    /// RFLAGS.AC: an explicit access of the supervisor may touch the user's pages in spite of SMAP.
    pub alignment_check: bool,
    /// Width of physical addresses that the guest was told, 32 to 52: higher bits of entries are reserved.
    pub physical_bits: u8,
    /// The guest has pages of 1 GiB.
    pub gib_pages: bool,
    /// The four page-directory-pointer entries, where the CPU holds them since CR3 was loaded (VMX). With `None` they are read
    /// in each walk (SVM with nested paging).
    pub pdptes: Option<[u64; 4]>,
    /// PKRU, where the guest has it.
    pub pkru: Option<u32>,
}

impl Paging {
    /// Of these registers, with no page-directory-pointer entries and no PKRU held elsewhere.
    pub const fn new(state: &GuestState, physical_bits: u8, gib_pages: bool) -> Self {
        Self {
            cr0: Cr0Flags::from_bits_retain(state.cr0),
            cr3: state.cr3,
            cr4: Cr4Flags::from_bits_retain(state.cr4),
            efer: EferFlags::from_bits_retain(state.efer),
            alignment_check: state.rflags & RFlags::ALIGNMENT_CHECK.bits() != 0,
            physical_bits,
            gib_pages,
            pdptes: None,
            pkru: None,
        }
    }

    const fn on(&self) -> bool {
        self.cr0.contains(Cr0Flags::PAGING)
    }
    const fn long(&self) -> bool {
        self.efer.contains(EferFlags::LONG_MODE_ACTIVE)
    }
    const fn wide(&self) -> bool {
        self.cr4.contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION)
    }
    const fn no_execute(&self) -> bool {
        self.wide() && self.efer.contains(EferFlags::NO_EXECUTE_ENABLE)
    }

    /// Width of linear addresses: 32, 48 or 57.
    pub const fn linear_bits(&self) -> u32 {
        if !self.long() {
            32
        } else if self.cr4.contains(Cr4Flags::L5_PAGING) {
            57
        } else {
            48
        }
    }
}

/// Whether the upper bits of a linear address all equal the highest of `bits` that count.
pub const fn is_canonical(linear: u64, bits: u32) -> bool {
    let unused = 64 - bits;
    ((linear << unused) as i64 >> unused) as u64 == linear
}

/// Guest-physical memory that page tables are in.
pub trait PhysicalMemory {
    /// Reads the entry at `at`, of 8 bytes or of 4, naturally aligned.
    ///
    /// Errors: [`Error::Fault`] where there is no memory.
    fn load(&self, at: GuestPhysAddr, size: EntrySize) -> Result<u64, Error>;

    /// Replaces the entry atomically if it is `current`; returns whether it was.
    ///
    /// Errors: [`Error::Fault`] where there is no writable memory.
    fn compare_exchange(
        &self,
        at: GuestPhysAddr,
        size: EntrySize,
        current: u64,
        new: u64,
    ) -> Result<bool, Error>;
}

/// Size of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntrySize {
    /// 4 bytes.
    Four,
    /// 8 bytes.
    Eight,
}

/// Where a linear address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The guest-physical address of the byte.
    pub address: GuestPhysAddr,
    /// log2 of the size of the guest's page: 12, 21, 22 or 30; 12 with paging off.
    pub page_bits: u8,
    /// All entries allow writes.
    pub writable: bool,
    /// All entries allow privilege level 3.
    pub user: bool,
    /// No entry forbids instruction fetches.
    pub executable: bool,
    /// The page is global.
    pub global: bool,
}

/// Why a linear address leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The CPU would raise a page fault with this error code.
    PageFault(PageFaultCode),
    /// The address is not canonical. An access through a segment was to find that out before; which exception it is depends on it.
    NotCanonical,
    /// A page table is not in memory, or accessed and dirty bits cannot be set in it.
    Table(Error),
    /// Entries kept changing.
    Retry,
}

impl Denied {
    /// As a reason to stop an instruction that accessed `linear`.
    pub const fn stop(self, linear: u64) -> Stop {
        match self {
            Self::PageFault(code) => Stop::Exception(Exception::PageFault {
                address: GuestVirtAddr(linear),
                code,
            }),
            Self::NotCanonical => Stop::Exception(Exception::GP0),
            Self::Table(error) => Stop::Failed(error),
            Self::Retry => Stop::Retry,
        }
    }
}

impl From<Denied> for Error {
    /// For hypercalls: a guest pointer that leads nowhere.
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Table(error) => error,
            Denied::Retry => Self::Again,
            Denied::PageFault(_) | Denied::NotCanonical => Self::Fault,
        }
    }
}

/// How often a walk starts again because an entry changed under it.
const ATTEMPTS: usize = 16;
/// Most levels of any mode.
const MAX_LEVELS: usize = 5;

/// An entry on the way, for setting its accessed and dirty bits.
#[derive(Clone, Copy)]
struct Step {
    at: GuestPhysAddr,
    entry: u64,
}

/// The kind of walk: how many levels, of which entries.
struct Shape {
    size: EntrySize,
    /// Bits of the linear address that each level translates.
    index_bits: u32,
    /// Levels below the page-directory-pointer entries of PAE, or all levels.
    levels: u32,
}

/// What entries of all levels allow together.
#[derive(Clone, Copy)]
struct Rights {
    writable: bool,
    user: bool,
    executable: bool,
}

/// Translates a linear address, checks that the access is allowed, and sets accessed and dirty bits.
///
/// Errors: [`Denied`]; no bit was set then, except by an attempt that found entries changed.
pub fn walk(
    paging: &Paging,
    memory: &impl PhysicalMemory,
    linear: GuestVirtAddr,
    access: Access,
) -> Result<Translation, Denied> {
    if !paging.on() {
        return Ok(Translation {
            address: GuestPhysAddr(linear.0 & 0xffff_ffff),
            page_bits: 12,
            writable: true,
            user: true,
            executable: true,
            global: false,
        });
    }
    if paging.long() && !is_canonical(linear.0, paging.linear_bits()) {
        return Err(Denied::NotCanonical);
    }
    for _ in 0..ATTEMPTS {
        if let Some(translation) = attempt(paging, memory, linear.0, access)? {
            return Ok(translation);
        }
    }
    Err(Denied::Retry)
}

fn attempt(
    paging: &Paging,
    memory: &impl PhysicalMemory,
    linear: u64,
    access: Access,
) -> Result<Option<Translation>, Denied> {
    let fault = |more| Denied::PageFault(access_code(paging, access) | more);
    let shape = shape(paging);
    let mut rights = Rights {
        writable: true,
        user: true,
        executable: true,
    };
    let mut table = root(paging, memory, linear, access)?;
    let mut path: [Option<Step>; MAX_LEVELS] = [None; MAX_LEVELS];
    let entry_bytes = match shape.size {
        EntrySize::Four => 4,
        EntrySize::Eight => 8,
    };
    for (level, slot) in (0..shape.levels).rev().zip(path.iter_mut()) {
        let shift = 12 + level * shape.index_bits;
        let index = linear >> shift & ((1 << shape.index_bits) - 1);
        let at = GuestPhysAddr(table | (index * entry_bytes));
        let entry = memory.load(at, shape.size).map_err(Denied::Table)?;
        let bits = Entry::from_bits_retain(entry);
        if !bits.contains(Entry::PRESENT) {
            return Err(fault(PageFaultCode::empty()));
        }
        let leaf = level == 0 || is_large(paging, level, bits);
        if entry & reserved(paging, level, leaf) != 0 {
            return Err(fault(PageFaultCode::PRESENT | PageFaultCode::RESERVED));
        }
        rights.writable &= bits.contains(Entry::WRITABLE);
        rights.user &= bits.contains(Entry::USER);
        rights.executable &= !(paging.no_execute() && bits.contains(Entry::NO_EXECUTE));
        *slot = Some(Step { at, entry });
        if leaf {
            check(paging, rights, entry, access).map_err(fault)?;
            if !mark(memory, &shape, &path, access)? {
                return Ok(None);
            }
            let offset = linear & ((1 << shift) - 1);
            return Ok(Some(Translation {
                address: GuestPhysAddr(frame(paging, level, entry) | offset),
                page_bits: shift as u8,
                writable: rights.writable,
                user: rights.user,
                executable: rights.executable,
                global: paging.cr4.contains(Cr4Flags::PAGE_GLOBAL) && bits.contains(Entry::GLOBAL),
            }));
        }
        table = frame(paging, 0, entry);
    }
    // The lowest level is always a leaf.
    Err(Denied::Retry)
}

fn shape(paging: &Paging) -> Shape {
    let (size, index_bits, levels) = if !paging.wide() {
        (EntrySize::Four, 10, 2)
    } else if !paging.long() {
        (EntrySize::Eight, 9, 2)
    } else if paging.cr4.contains(Cr4Flags::L5_PAGING) {
        (EntrySize::Eight, 9, 5)
    } else {
        (EntrySize::Eight, 9, 4)
    };
    Shape {
        size,
        index_bits,
        levels,
    }
}

/// Bits `high` to `low` of a word, both included; none if there are none.
const fn bits(high: u32, low: u32) -> u64 {
    if high < low {
        0
    } else {
        (u64::MAX >> (63 - high)) & (u64::MAX << low)
    }
}

/// The address of the first table, behind the page-directory-pointer entry in PAE mode.
fn root(
    paging: &Paging,
    memory: &impl PhysicalMemory,
    linear: u64,
    access: Access,
) -> Result<u64, Denied> {
    if !paging.wide() {
        return Ok(paging.cr3 & bits(31, 12));
    }
    if paging.long() {
        return Ok(paging.cr3 & bits(51, 12));
    }
    let index = linear >> 30 & 3;
    let entry = match paging.pdptes {
        Some(entries) => entries[index as usize],
        None => {
            let at = GuestPhysAddr((paging.cr3 & bits(31, 5)) | (index * 8));
            memory.load(at, EntrySize::Eight).map_err(Denied::Table)?
        }
    };
    let code = access_code(paging, access);
    if !Entry::from_bits_retain(entry).contains(Entry::PRESENT) {
        Err(Denied::PageFault(code))
    } else if !pdpte_is_legal(entry, paging.physical_bits) {
        Err(Denied::PageFault(
            code | PageFaultCode::PRESENT | PageFaultCode::RESERVED,
        ))
    } else {
        Ok(entry & bits(51, 12))
    }
}

/// Whether a page-directory-pointer entry of PAE mode has no reserved bits set. Loading CR3 or entering PAE mode with one that has
/// is a #GP. Entries that are not present are legal.
pub const fn pdpte_is_legal(entry: u64, physical_bits: u8) -> bool {
    entry & Entry::PRESENT.bits() == 0
        || entry & (bits(2, 1) | bits(8, 5) | bits(63, physical_bits as u32)) == 0
}

fn is_large(paging: &Paging, level: u32, entry: Entry) -> bool {
    let possible = match level {
        // PAE and longer modes have large pages whatever CR4.PSE says.
        1 => paging.wide() || paging.cr4.contains(Cr4Flags::PAGE_SIZE_EXTENSION),
        2 => paging.long() && paging.gib_pages,
        _ => false,
    };
    possible && entry.contains(Entry::LARGE)
}

/// Physical address bits beyond 32 that a 4 MiB page can have (PSE-36: 40-bit addresses).
const fn pse36_bits(paging: &Paging) -> u32 {
    let physical = paging.physical_bits as u32;
    let width = if physical < 40 { physical } else { 40 };
    width.saturating_sub(32)
}

/// The bits that have to be clear in an entry.
fn reserved(paging: &Paging, level: u32, leaf: bool) -> u64 {
    if !paging.wide() {
        return if level == 1 && leaf {
            bits(21, 13 + pse36_bits(paging))
        } else {
            0
        };
    }
    let mut reserved = bits(51, u32::from(paging.physical_bits));
    if !paging.long() {
        reserved |= bits(62, 52);
    }
    if !paging.no_execute() {
        reserved |= Entry::NO_EXECUTE.bits();
    }
    if leaf && level > 0 {
        // Between the PAT bit and the frame.
        reserved |= bits(11 + 9 * level, 13);
    } else if level >= 2 {
        // Not a leaf although the bit may be set: there are no pages of that size.
        reserved |= Entry::LARGE.bits();
    }
    reserved
}

/// The address in an entry: of the next table (as of a 4 KiB page) or of a page.
fn frame(paging: &Paging, level: u32, entry: u64) -> u64 {
    if paging.wide() {
        entry & bits(51, 12 + 9 * level)
    } else if level == 0 {
        entry & bits(31, 12)
    } else {
        (entry & bits(31, 22)) | (entry >> 13 & bits(7, 0)) << 32
    }
}

/// What the error code says of the access itself.
fn access_code(paging: &Paging, access: Access) -> PageFaultCode {
    let fetches_differ = paging.no_execute()
        || paging
            .cr4
            .contains(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION);
    let mut code = PageFaultCode::empty();
    code.set(PageFaultCode::WRITE, access.write);
    code.set(PageFaultCode::USER, access.user);
    code.set(PageFaultCode::FETCH, access.fetch && fetches_differ);
    code
}

/// Whether the entries allow the access; `Err` holds what the error code says of the reason.
fn check(paging: &Paging, rights: Rights, leaf: u64, access: Access) -> Result<(), PageFaultCode> {
    let write_protect = paging.cr0.contains(Cr0Flags::WRITE_PROTECT);
    let supervisor_on_user = !access.user && rights.user;
    let smep = Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION;
    let smap = Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION;
    let refused = (access.user && !rights.user)
        || (access.write && !rights.writable && (access.user || write_protect))
        || (access.fetch && !rights.executable)
        || (access.fetch && supervisor_on_user && paging.cr4.contains(smep))
        || (!access.fetch
            && supervisor_on_user
            && paging.cr4.contains(smap)
            && (access.implicit || !paging.alignment_check));
    if refused {
        return Err(PageFaultCode::PRESENT);
    }
    let Some(pkru) = paging.pkru else {
        return Ok(());
    };
    let keys = paging.long() && paging.cr4.contains(Cr4Flags::PROTECTION_KEY_USER);
    if keys && rights.user && !access.fetch {
        let key = (leaf >> 59 & 0xf) as u32;
        let no_access = pkru >> (2 * key) & 1 != 0;
        let no_write = pkru >> (2 * key + 1) & 1 != 0;
        if no_access || (no_write && access.write && (access.user || write_protect)) {
            return Err(PageFaultCode::PRESENT | PageFaultCode::PROTECTION_KEY);
        }
    }
    Ok(())
}

/// Sets accessed bits on the way, and the leaf's dirty bit for a write. False if an entry changed since it was read.
fn mark(
    memory: &impl PhysicalMemory,
    shape: &Shape,
    path: &[Option<Step>; MAX_LEVELS],
    access: Access,
) -> Result<bool, Denied> {
    let mut steps = path.iter().flatten().peekable();
    while let Some(step) = steps.next() {
        let mut wanted = Entry::ACCESSED;
        if access.write && steps.peek().is_none() {
            wanted |= Entry::DIRTY;
        }
        let new = step.entry | wanted.bits();
        if new != step.entry {
            let done = memory
                .compare_exchange(step.at, shape.size, step.entry, new)
                .map_err(Denied::Table)?;
            if !done {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
