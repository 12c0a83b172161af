//! Multiboot 1 (Multiboot Specification 0.6.96, 3.3).

use super::{
    BootInfo, BootInfoError, Fields, MAX_MODULES, MAX_REGIONS, MemoryKind, Note, PhysicalMemory,
    Protocol, framebuffer,
};

/// Bytes of the information structure, the framebuffer included. Old loaders fill in less and say so in the flags.
const SIZE: u64 = 116;
/// Flags: which fields are there.
const HAS_SIZES: u32 = 1 << 0;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MAP: u32 = 1 << 6;
const HAS_LOADER: u32 = 1 << 9;
const HAS_FRAMEBUFFER: u32 = 1 << 12;

pub(super) fn read(memory: &dyn PhysicalMemory, address: u32) -> Result<BootInfo, BootInfoError> {
    const WHAT: &str = "multiboot information";
    let at = u64::from(address);
    let raw = memory
        .bytes(at, SIZE)
        .ok_or(BootInfoError::Unreachable(WHAT, at))?;
    let field = |offset: usize| raw.u32(offset).unwrap_or(0);
    let flags = field(0);
    let has = |flag| flags & flag != 0;
    let mut info = BootInfo::new(Protocol::Multiboot1);
    if has(HAS_LOADER) {
        info.loader = info.text(memory, field(64).into(), "name");
    }
    if has(HAS_COMMAND_LINE) {
        info.command_line = info.text(memory, field(16).into(), "command line");
    }
    if has(HAS_MODULES) {
        modules(&mut info, memory, field(20), field(24))?;
    }
    info.strip_names();
    if has(HAS_MAP) {
        map(&mut info, memory, field(44), field(48))?;
    } else if has(HAS_SIZES) {
        info.region(0, u64::from(field(4)) << 10, MemoryKind::Ram);
        info.region(1 << 20, u64::from(field(8)) << 10, MemoryKind::Ram);
    }
    if has(HAS_FRAMEBUFFER) {
        info.framebuffer = raw.get(88..).and_then(|fields| framebuffer(fields, 22));
    }
    Ok(info)
}

fn modules(
    info: &mut BootInfo,
    memory: &dyn PhysicalMemory,
    count: u32,
    table: u32,
) -> Result<(), BootInfoError> {
    const ENTRY: u64 = 16;
    if count > MAX_MODULES {
        info.notes.push(Note::TooManyModules(count));
    }
    for n in 0..count.min(MAX_MODULES) {
        let at = u64::from(table) + u64::from(n) * ENTRY;
        let raw = memory
            .bytes(at, ENTRY)
            .ok_or(BootInfoError::Unreachable("list of modules", at))?;
        let field = |offset: usize| raw.u32(offset).unwrap_or(0);
        let text = match field(8) {
            0 => Default::default(),
            at => info.text(memory, at.into(), "text for a module"),
        };
        info.module(n, field(0).into(), Some(field(4).into()), text);
    }
    Ok(())
}

fn map(
    info: &mut BootInfo,
    memory: &dyn PhysicalMemory,
    length: u32,
    address: u32,
) -> Result<(), BootInfoError> {
    const WHAT: &str = "memory map";
    let raw = memory
        .bytes(address.into(), length.into())
        .ok_or(BootInfoError::Unreachable(WHAT, address.into()))?;
    let mut rest = raw;
    let mut bad = 0;
    let mut left = MAX_REGIONS;
    while !rest.is_empty() && left > 0 {
        left -= 1;
        // The size does not count itself.
        let size = rest.u32(0).ok_or(BootInfoError::Damaged(WHAT))? as usize;
        let entry = size
            .checked_add(4)
            .and_then(|size| rest.split_at_checked(size))
            .filter(|_| size >= 20);
        let (entry, next) = entry.ok_or(BootInfoError::Damaged(WHAT))?;
        let field = |offset| entry.u64(offset).unwrap_or(0);
        let kind = MemoryKind::from_e820(entry.u32(20).unwrap_or(0));
        bad += u32::from(!info.region(field(4), field(12), kind));
        rest = next;
    }
    if bad > 0 {
        info.notes.push(Note::BadRegions(bad));
    }
    Ok(())
}
