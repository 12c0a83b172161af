//! What only toolstacks ask about another domain's memory: claims, targets of memory populated on demand, regions that
//! devices need. Absent without `mgmt_hypercalls`.

use xen_abi::memory::{PodTarget, RDM_ALL, Reservation, ReservedDeviceMemoryMap};
use xen_core::policy::{self, Verb};
use xen_core::{Arch, Error, Result};

use crate::call::{Call, DONE, Outcome};

/// `XENMEM_claim_pages`: sets memory aside for a domain, so that it has `nr_extents` pages with what it has already; 0 ends the
/// claim.
///
/// Errors, in this order: [`Error::Fault`]; [`Error::Inval`] for a list, an order or flags, and for a domain that does not
/// exist; [`Error::Perm`]; [`Error::Inval`] for no more than the domain has, for more than it may have, and for a second
/// claim; [`Error::NoMem`].
pub(super) fn claim<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let args: Reservation = call.read(arg)?;
    if !args.extent_start.is_null() || args.extent_order != 0 || !args.mem_flags.is_empty() {
        return Err(Error::Inval);
    }
    let target = call
        .domain_by_number(args.domid)
        .map_err(|_| Error::Inval)?;
    policy::may(call.domain(), Verb::Control, &target)?;
    if args.nr_extents == 0 {
        target.claim.release();
        return DONE;
    }
    if args.nr_extents > target.max_pages() {
        return Err(Error::Inval);
    }
    match args.nr_extents.checked_sub(target.pages()) {
        None | Some(0) => Err(Error::Inval),
        Some(more) => {
            target.claim.set(more)?;
            DONE
        }
    }
}

/// `XENMEM_set_pod_target`: how much memory a domain with memory populated on demand is to have. No domain has any, so that
/// there is nothing to be moved; toolstacks ask for it whenever they change how much memory a domain is to have.
///
/// Errors: as [`get_pod_target`], and [`Error::Inval`] for more than the domain may have.
pub(super) fn set_pod_target<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    pod_target(call, arg, true)
}

/// `XENMEM_get_pod_target`: how much memory a domain has, and how much of it is populated on demand.
///
/// Errors, in this order: [`Error::Fault`]; [`Error::Srch`]; [`Error::Perm`].
pub(super) fn get_pod_target<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    pod_target(call, arg, false)
}

fn pod_target<A: Arch>(call: &mut Call<'_, A>, arg: u64, set: bool) -> Result<Outcome> {
    let mut args: PodTarget = call.read(arg)?;
    let target = call.target(args.domid, Verb::Control)?;
    if set && args.target_pages > target.max_pages() {
        return Err(Error::Inval);
    }
    args.tot_pages = target.pages();
    (args.pod_cache_pages, args.pod_entries) = (0, 0);
    call.write(arg, &args)?;
    DONE
}

/// `XENMEM_reserved_device_memory_map`: regions that devices need mapped one-to-one. The firmware's tables name none that is
/// heeded, as no IOMMU is driven.
///
/// Errors: [`Error::Fault`]; [`Error::Inval`] for unknown flags.
pub(super) fn reserved_memory<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let mut args: ReservedDeviceMemoryMap = call.read(arg)?;
    if args.flags & !RDM_ALL != 0 {
        return Err(Error::Inval);
    }
    args.nr_entries = 0;
    call.write(arg, &args)?;
    DONE
}
