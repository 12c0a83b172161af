//! Multiboot 2 (Multiboot2 Specification 2.0, 3.6).

use alloc::string::String;
use alloc::vec::Vec;

use super::{
    BootInfo, BootInfoError, Fields, MAX_MODULES, MAX_REGIONS, MemoryKind, Note, PhysicalMemory,
    Protocol, Region, RsdpSource, framebuffer,
};

const WHAT: &str = "multiboot 2 information";
/// Larger than any loader makes it.
const MAX_SIZE: u32 = 16 << 20;
/// Bytes before the content of a tag: type and size.
const TAG: usize = 8;

mod tag {
    pub(super) const END: u32 = 0;
    pub(super) const COMMAND_LINE: u32 = 1;
    pub(super) const LOADER: u32 = 2;
    pub(super) const MODULE: u32 = 3;
    pub(super) const MAP: u32 = 6;
    pub(super) const FRAMEBUFFER: u32 = 8;
    pub(super) const RSDP_1: u32 = 14;
    pub(super) const RSDP_2: u32 = 15;
    pub(super) const EFI_MAP: u32 = 17;
    pub(super) const BOOT_SERVICES: u32 = 18;
}

pub(super) fn read(memory: &dyn PhysicalMemory, address: u32) -> Result<BootInfo, BootInfoError> {
    let at = u64::from(address);
    let unreachable = BootInfoError::Unreachable(WHAT, at);
    let size = memory
        .bytes(at, 8)
        .and_then(|b| b.u32(0))
        .ok_or(unreachable)?;
    if !(16..=MAX_SIZE).contains(&size) {
        return Err(BootInfoError::Damaged(WHAT));
    }
    let raw = memory.bytes(at, size.into()).ok_or(unreachable)?;
    let mut info = BootInfo::new(Protocol::Multiboot2);
    // UEFI's map says more than the one that a loader makes of it.
    let mut efi = Vec::new();
    let mut modules = 0;
    let mut at = TAG;
    loop {
        let tag = raw.get(at..).unwrap_or_default();
        let damaged = BootInfoError::Damaged(WHAT);
        let (kind, size) = tag.u32(0).zip(tag.u32(4)).ok_or(damaged)?;
        if kind == tag::END {
            break;
        }
        let size = size as usize;
        let content = tag.get(TAG..size).ok_or(damaged)?;
        match kind {
            tag::MAP => map(&mut info, content)?,
            tag::EFI_MAP => efi = efi_map(&mut info, content)?,
            tag::MODULE => {
                if modules < MAX_MODULES {
                    module(&mut info, modules, content)?;
                }
                modules += 1;
            }
            _ => other(&mut info, kind, content),
        }
        // Tags begin at multiples of 8.
        at = size
            .checked_next_multiple_of(8)
            .and_then(|size| at.checked_add(size))
            .ok_or(damaged)?;
    }
    if modules > MAX_MODULES {
        info.notes.push(Note::TooManyModules(modules));
    }
    if !efi.is_empty() {
        info.memory = efi;
    }
    info.strip_names();
    Ok(info)
}

/// What cannot be wrong in a way that matters.
fn other(info: &mut BootInfo, kind: u32, content: &[u8]) {
    match kind {
        tag::COMMAND_LINE => info.command_line = text(info, content, "command line"),
        tag::LOADER => info.loader = text(info, content, "name"),
        tag::FRAMEBUFFER => info.framebuffer = framebuffer(content, 24),
        // The later version says more.
        tag::RSDP_1 if info.rsdp.is_none() => info.rsdp = rsdp(content, 20),
        tag::RSDP_2 => info.rsdp = rsdp(content, 36).or(info.rsdp),
        tag::BOOT_SERVICES => info.notes.push(Note::BootServicesRun),
        _ => {}
    }
}

fn rsdp(content: &[u8], size: usize) -> Option<RsdpSource> {
    let mut copy = [0; 36];
    copy.get_mut(..size)?.copy_from_slice(content.get(..size)?);
    Some(RsdpSource::Copy(copy, size))
}

fn text(info: &mut BootInfo, bytes: &[u8], what: &'static str) -> String {
    let end = bytes.iter().position(|b| *b == 0);
    let text = end
        .and_then(|end| bytes.get(..end))
        .and_then(|bytes| core::str::from_utf8(bytes).ok());
    if text.is_none() {
        info.notes.push(Note::BadText(what));
    }
    String::from(text.unwrap_or(""))
}

fn module(info: &mut BootInfo, number: u32, content: &[u8]) -> Result<(), BootInfoError> {
    let damaged = BootInfoError::Damaged("list of modules");
    let (base, end) = content.u32(0).zip(content.u32(4)).ok_or(damaged)?;
    let said = text(
        info,
        content.get(8..).unwrap_or_default(),
        "text for a module",
    );
    info.module(number, base.into(), Some(end.into()), said);
    Ok(())
}

/// Splits a map into its entries: their size stands at 0, they begin at 8.
fn entries(content: &[u8], least: usize) -> Result<impl Iterator<Item = &[u8]>, BootInfoError> {
    let damaged = BootInfoError::Damaged("memory map");
    let size = content.u32(0).ok_or(damaged)? as usize;
    let table = content.get(8..).ok_or(damaged)?;
    if size < least {
        return Err(damaged);
    }
    Ok(table.chunks_exact(size).take(MAX_REGIONS as usize))
}

fn map(info: &mut BootInfo, content: &[u8]) -> Result<(), BootInfoError> {
    let mut bad = 0;
    for entry in entries(content, 24)? {
        let field = |offset| entry.u64(offset).unwrap_or(0);
        let kind = MemoryKind::from_e820(entry.u32(16).unwrap_or(0));
        bad += u32::from(!info.region(field(0), field(8), kind));
    }
    if bad > 0 {
        info.notes.push(Note::BadRegions(bad));
    }
    Ok(())
}

/// UEFI's memory descriptors (UEFI 2.10, 7.2).
fn efi_map(info: &mut BootInfo, content: &[u8]) -> Result<Vec<Region>, BootInfoError> {
    let mut all: Vec<Region> = Vec::new();
    let mut bad = 0;
    for entry in entries(content, 40)? {
        let kind = MemoryKind::from_efi(entry.u32(0).unwrap_or(0));
        let base = entry.u64(8).unwrap_or(0);
        let size = entry.u64(24).and_then(|pages| pages.checked_mul(4096));
        let size = size.filter(|s| *s != 0 && base.checked_add(*s).is_some());
        match (size, all.last_mut()) {
            (Some(size), Some(last)) if last.kind == kind && last.end() == base => {
                last.size += size;
            }
            (Some(size), _) => all.push(Region { base, size, kind }),
            (None, _) => bad += 1,
        }
    }
    if bad > 0 {
        info.notes.push(Note::BadRegions(bad));
    }
    Ok(all)
}
