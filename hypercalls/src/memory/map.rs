//! Memory maps: what a domain is told that its physical memory is.

use alloc::vec::Vec;

use xen_abi::arch_x86::MemmapType;
use xen_abi::memory::{E820Entry, ForeignMemoryMap, MemoryMap};
use xen_core::policy::{self, Verb};
use xen_core::{Arch, Error, MEMORY_MAP_ENTRIES, Result};
use zerocopy::IntoBytes;

use crate::call::{Call, DONE, Outcome};

/// `XENMEM_memory_map`: the caller's own, as far as there is room for it.
///
/// Errors: [`Error::Fault`]; [`Error::NoSys`] if nobody has set one.
pub(super) fn own<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let mut args: MemoryMap = call.read(arg)?;
    // A copy, since guest memory is not touched under a lock.
    let map = call.domain().memory_map.read().clone();
    if map.is_empty() {
        return Err(Error::NoSys);
    }
    let shown = map.get(..args.nr_entries as usize).unwrap_or(&map);
    call.write_bytes(args.buffer.0, shown.as_bytes())?;
    args.nr_entries = shown.len() as u32;
    call.write(arg, &args)?;
    DONE
}

/// `XENMEM_set_memory_map`: for the caller itself or a domain it manages. An empty one is as if there were none. Entries are
/// not looked at: the map is a message to the guest and nothing else.
///
/// Errors: [`Error::Fault`]; [`Error::Inval`] for more than [`MEMORY_MAP_ENTRIES`]; [`Error::Srch`]; [`Error::Perm`];
/// [`Error::NoSys`] for another domain, in a build without management.
pub(super) fn set<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let args: ForeignMemoryMap = call.read(arg)?;
    let count = args.map.nr_entries as usize;
    if count > MEMORY_MAP_ENTRIES {
        return Err(Error::Inval);
    }
    let target = call.target(args.domid, Verb::Memory)?;
    if cfg!(not(feature = "mgmt_hypercalls")) && target.id() != call.domain().id() {
        return Err(Error::NoSys);
    }
    let empty = E820Entry::new(0, 0, MemmapType(0));
    let mut map = Vec::new();
    map.try_reserve_exact(count).map_err(|_| Error::NoMem)?;
    map.resize(count, empty);
    call.read_bytes(args.map.buffer.0, map.as_mut_bytes())?;
    let before = core::mem::replace(&mut *target.memory_map.write(), map);
    drop(before);
    DONE
}

/// `XENMEM_machine_memory_map`: the machine's.
///
/// Errors: [`Error::Perm`] for all but those that manage it; [`Error::Fault`]; [`Error::Inval`] if there is not room for all
/// of it; [`Error::NoSys`] if it is not known.
pub(super) fn machine<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    policy::may(call.domain(), Verb::Platform, call.domain())?;
    let mut args: MemoryMap = call.read(arg)?;
    let hv = call.hv;
    let map = hv.arch.machine_memory_map();
    if map.is_empty() {
        return Err(Error::NoSys);
    }
    if (args.nr_entries as usize) < map.len() {
        return Err(Error::Inval);
    }
    call.write_bytes(args.buffer.0, map.as_bytes())?;
    args.nr_entries = map.len() as u32;
    call.write(arg, &args)?;
    DONE
}
