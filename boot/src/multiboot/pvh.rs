//! PVH's start info (Xen's public header `arch-x86/hvm/start_info.h`).

use super::{
    BootInfo, BootInfoError, Fields, MAX_MODULES, MAX_REGIONS, MemoryKind, Note, PVH_MAGIC,
    PhysicalMemory, Protocol, RsdpSource,
};

const WHAT: &str = "PVH start info";
/// Bytes of version 0, and of version 1, which has the memory map.
const SIZE_0: u64 = 40;
const SIZE_1: u64 = 56;
const MODULE: u64 = 32;
const MAP_ENTRY: u64 = 24;

pub(super) fn read(memory: &dyn PhysicalMemory, address: u32) -> Result<BootInfo, BootInfoError> {
    let at = u64::from(address);
    let unreachable = BootInfoError::Unreachable(WHAT, at);
    let raw = memory.bytes(at, SIZE_0).ok_or(unreachable)?;
    if raw.u32(0) != Some(PVH_MAGIC) {
        return Err(BootInfoError::Damaged(WHAT));
    }
    if raw.u32(4) == Some(0) {
        return Err(BootInfoError::NoMemoryMap);
    }
    let raw = memory.bytes(at, SIZE_1).ok_or(unreachable)?;
    let word = |offset| raw.u64(offset).unwrap_or(0);
    let mut info = BootInfo::new(Protocol::Pvh);
    if word(24) != 0 {
        info.command_line = info.text(memory, word(24), "command line");
    }
    modules(&mut info, memory, raw.u32(12).unwrap_or(0), word(16))?;
    if word(32) != 0 {
        info.rsdp = Some(RsdpSource::Address(word(32)));
    }
    let count = u64::from(raw.u32(48).unwrap_or(0)).min(MAX_REGIONS);
    let map = memory
        .bytes(word(40), count * MAP_ENTRY)
        .ok_or(BootInfoError::Unreachable("memory map", word(40)))?;
    let mut bad = 0;
    for entry in map.chunks_exact(MAP_ENTRY as usize) {
        let word = |offset| entry.u64(offset).unwrap_or(0);
        let kind = MemoryKind::from_e820(entry.u32(16).unwrap_or(0));
        bad += u32::from(!info.region(word(0), word(8), kind));
    }
    if bad > 0 {
        info.notes.push(Note::BadRegions(bad));
    }
    Ok(info)
}

fn modules(
    info: &mut BootInfo,
    memory: &dyn PhysicalMemory,
    count: u32,
    table: u64,
) -> Result<(), BootInfoError> {
    if count > MAX_MODULES {
        info.notes.push(Note::TooManyModules(count));
    }
    let count = count.min(MAX_MODULES);
    let raw = memory
        .bytes(table, u64::from(count) * MODULE)
        .ok_or(BootInfoError::Unreachable("list of modules", table))?;
    for (n, entry) in (0..).zip(raw.chunks_exact(MODULE as usize)) {
        let word = |offset| entry.u64(offset).unwrap_or(0);
        let text = match word(16) {
            0 => Default::default(),
            at => info.text(memory, at, "text for a module"),
        };
        info.module(n, word(0), word(0).checked_add(word(8)), text);
    }
    Ok(())
}
