//! `memory_op`: what memory a domain has and where it sees it.

#[cfg(feature = "mgmt_hypercalls")]
mod management;
mod map;
mod physmap;
mod reservation;
mod resource;

use xen_abi::memory::{Exchange, MemoryOp, VnumaTopologyInfo};
use xen_core::policy::Verb;
use xen_core::{Arch, Error, Result};

use crate::call::{Call, Outcome};

pub(crate) fn memory_op<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [command, arg, ..] = *args;
    let (op, start) = MemoryOp::decode(command);
    match op {
        MemoryOp::INCREASE_RESERVATION
        | MemoryOp::DECREASE_RESERVATION
        | MemoryOp::POPULATE_PHYSMAP => reservation::change(call, op, start, arg),
        // The others keep no progress in the command.
        _ if start != 0
            && op != MemoryOp::ADD_TO_PHYSMAP
            && op != MemoryOp::ADD_TO_PHYSMAP_BATCH
            && op != MemoryOp::ACQUIRE_RESOURCE =>
        {
            Err(Error::Inval)
        }
        // The end of memory, as Xen answers, and not its last frame, as the name has it.
        MemoryOp::MAXIMUM_RAM_PAGE => Ok(Outcome::Done(call.hv.frames.end().0 as i64)),
        MemoryOp::CURRENT_RESERVATION => {
            let domid: u16 = call.read(arg)?;
            Ok(Outcome::Done(
                call.target(domid, Verb::Memory)?.pages() as i64
            ))
        }
        MemoryOp::MAXIMUM_RESERVATION => {
            let domid: u16 = call.read(arg)?;
            let most = call.target(domid, Verb::Memory)?.max_pages();
            // No limit must not look like an error.
            Ok(Outcome::Done(most.min(i64::MAX as u64) as i64))
        }
        MemoryOp::MAXIMUM_GPFN => {
            let domid: u16 = call.read(arg)?;
            Ok(Outcome::Done(
                call.target(domid, Verb::Memory)?.p2m.max_gfn().0 as i64,
            ))
        }
        MemoryOp::ADD_TO_PHYSMAP => physmap::add(call, start, arg),
        MemoryOp::ADD_TO_PHYSMAP_BATCH => physmap::add_batch(call, start, arg),
        MemoryOp::REMOVE_FROM_PHYSMAP => physmap::remove(call, arg),
        MemoryOp::EXCHANGE => exchange(call, arg),
        // No page is shared between domains to save memory.
        MemoryOp::GET_SHARING_FREED_PAGES | MemoryOp::GET_SHARING_SHARED_PAGES => {
            Ok(Outcome::Done(0))
        }
        MemoryOp::MEMORY_MAP if A::HAS_MEMORY_MAPS => map::own(call, arg),
        MemoryOp::SET_MEMORY_MAP if A::HAS_MEMORY_MAPS => map::set(call, arg),
        MemoryOp::MACHINE_MEMORY_MAP if A::HAS_MEMORY_MAPS => map::machine(call, arg),
        #[cfg(feature = "mgmt_hypercalls")]
        MemoryOp::CLAIM_PAGES => management::claim(call, arg),
        #[cfg(feature = "mgmt_hypercalls")]
        MemoryOp::SET_POD_TARGET => management::set_pod_target(call, arg),
        #[cfg(feature = "mgmt_hypercalls")]
        MemoryOp::GET_POD_TARGET => management::get_pod_target(call, arg),
        #[cfg(feature = "mgmt_hypercalls")]
        MemoryOp::RESERVED_DEVICE_MEMORY_MAP => management::reserved_memory(call, arg),
        MemoryOp::GET_VNUMAINFO => vnuma(call, arg),
        MemoryOp::ACQUIRE_RESOURCE => resource::acquire(call, start, arg),
        _ => Err(Error::NoSys),
    }
}

/// `XENMEM_exchange`: frames for others at better places in the machine, which a translated domain cannot tell apart.
///
/// Errors: [`Error::Fault`]; [`Error::Inval`].
fn exchange<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let _: Exchange = call.read(arg)?;
    Err(Error::Inval)
}

/// `XENMEM_get_vnumainfo`: no domain has virtual nodes.
///
/// Errors: [`Error::Fault`]; [`Error::Inval`] for padding that is not 0; [`Error::Srch`]; [`Error::Perm`];
/// [`Error::OpNotSupp`].
fn vnuma<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let args: VnumaTopologyInfo = call.read(arg)?;
    if args.pad != 0 {
        return Err(Error::Inval);
    }
    call.target(args.domid, Verb::Memory)?;
    Err(Error::OpNotSupp)
}
