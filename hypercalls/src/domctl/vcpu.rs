//! A domain's vCPUs: what they do, where they run, and their registers.

use alloc::sync::Arc;
use alloc::vec::Vec;

use xen_abi::domctl::{AffinityFlags, GetVcpuInfo, VcpuAffinity, VcpuContext};
use xen_core::sched::Scheduler as _;
use xen_core::vcpu::Wait;
use xen_core::{Arch, CpuMask, Domain, Error, Result, Vcpu, VcpuId};

use super::{Request, bitmap};
use crate::call::{Call, DONE, Outcome};

/// A vCPU of a domain.
///
/// Errors: [`Error::Inval`] for a number that none of its vCPUs can have; `absent` for one that was not made.
fn find<A: Arch>(target: &Domain<A>, id: u32, absent: Error) -> Result<Arc<Vcpu<A>>> {
    if id >= target.max_vcpus() {
        return Err(Error::Inval);
    }
    target.vcpu(VcpuId(id)).ok_or(absent)
}

/// `XEN_DOMCTL_getvcpuinfo`.
///
/// Errors: [`Error::Inval`] for a number beyond the domain's; [`Error::Srch`] for a vCPU that was not made.
pub(super) fn info<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let mut told: GetVcpuInfo = request.decode()?;
    let vcpu = find(request.target()?, told.vcpu, Error::Srch)?;
    told.online = vcpu.is_up().into();
    told.blocked = vcpu.waits().contains(Wait::BLOCKED).into();
    told.running = vcpu.cpu().is_some().into();
    told.cpu_time = vcpu.cpu_time(call.hv.arch.now());
    told.cpu = vcpu.last_cpu().0;
    request.encode(&told);
    DONE
}

/// Decodes a call about affinity.
fn decode<A: Arch>(request: &Request<A>) -> Result<(VcpuAffinity, Arc<Vcpu<A>>)> {
    let args: VcpuAffinity = request.decode()?;
    let flags = args.flags;
    let missing =
        |flag, map: &xen_abi::versioned::Bitmap| flags.contains(flag) && map.bitmap.0 == 0;
    if flags.is_empty()
        || !AffinityFlags::all().contains(flags)
        || missing(AffinityFlags::HARD, &args.cpumap_hard)
        || missing(AffinityFlags::SOFT, &args.cpumap_soft)
    {
        return Err(Error::Inval);
    }
    let vcpu = find(request.target()?, args.vcpu, Error::Srch)?;
    Ok((args, vcpu))
}

/// `XEN_DOMCTL_setvcpuaffinity`: what is written back is what is in effect: CPUs that there are.
///
/// Errors: [`Error::Inval`] for unknown flags or none, null maps, and affinities without a CPU; [`Error::Srch`];
/// [`Error::Fault`], with the affinities changed if it was in writing back.
pub(super) fn set_affinity<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let (args, vcpu) = decode(request)?;
    let slot = vcpu.slot().ok_or(Error::Srch)?;
    let online = CpuMask::first(call.hv.cpu_count());
    let (mut hard, mut soft) = call.hv.sched.affinity(slot)?;
    // Both are read and checked before either is set.
    if args.flags.contains(AffinityFlags::HARD) {
        hard = bitmap::read(call, &args.cpumap_hard)?;
    }
    if args.flags.contains(AffinityFlags::SOFT) {
        soft = bitmap::read(call, &args.cpumap_soft)?;
        // Where it would like to run but for what it may is no place.
        if !soft.intersects(&online) {
            return Err(Error::Inval);
        }
    }
    if args
        .flags
        .intersects(AffinityFlags::HARD | AffinityFlags::SOFT)
    {
        let kick = call
            .hv
            .sched
            .set_affinity(slot, &hard, &soft, call.hv.arch.now())?;
        if let Some(cpu) = kick {
            call.hv.reschedule(cpu);
        }
    }
    let effective = hard.and(&online);
    if args.flags.contains(AffinityFlags::HARD) {
        bitmap::write(call, &args.cpumap_hard, &effective)?;
    }
    if args.flags.contains(AffinityFlags::SOFT) {
        bitmap::write(call, &args.cpumap_soft, &effective.and(&soft))?;
    }
    DONE
}

/// `XEN_DOMCTL_getvcpuaffinity`: as it was set.
///
/// Errors: [`Error::Inval`] for unknown flags or none and null maps; [`Error::Srch`]; [`Error::Fault`].
pub(super) fn affinity<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let (args, vcpu) = decode(request)?;
    let (hard, soft) = call.hv.sched.affinity(vcpu.slot().ok_or(Error::Srch)?)?;
    if args.flags.contains(AffinityFlags::HARD) {
        bitmap::write(call, &args.cpumap_hard, &hard)?;
    }
    if args.flags.contains(AffinityFlags::SOFT) {
        bitmap::write(call, &args.cpumap_soft, &soft)?;
    }
    DONE
}

/// Room for a vCPU's registers.
fn buffer<A: Arch>(request: &Request<A>) -> Result<Vec<u8>> {
    let size = A::vcpu_context_size(request.interface);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Error::NoMem)?;
    bytes.resize(size, 0);
    Ok(bytes)
}

/// `XEN_DOMCTL_setvcpucontext`: sets a vCPU's registers and turns it on or off, as they say. Without registers it is turned off
/// and has none to run from any more.
///
/// Errors: [`Error::Inval`] for a vCPU that is not there, the caller's domain, and registers that no vCPU can have;
/// [`Error::Fault`]; what [`xen_core::manage::Manage::set_vcpu_context`] says.
pub(super) fn set_context<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let args: VcpuContext = request.decode()?;
    let target = request.other(call)?;
    let vcpu = find(&target, args.vcpu, Error::Inval)?;
    if args.ctxt.0 == 0 {
        request.still(call)?;
        A::reset_vcpu(call.hv, &vcpu)?;
        vcpu.reset(call.hv);
        return DONE;
    }
    let mut bytes = buffer(request)?;
    call.read_bytes(args.ctxt.0, &mut bytes)?;
    request.still(call)?;
    A::set_vcpu_context(call.hv, &vcpu, &bytes, request.interface)?;
    DONE
}

/// `XEN_DOMCTL_getvcpucontext`.
///
/// Errors: [`Error::Inval`] for a number beyond the domain's and the caller's domain; [`Error::Srch`] for a vCPU that was not
/// made; [`Error::NoData`] for one without a state; [`Error::Fault`]; what
/// [`xen_core::manage::Manage::vcpu_context`] says.
pub(super) fn context<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let args: VcpuContext = request.decode()?;
    let target = request.other(call)?;
    let vcpu = find(&target, args.vcpu, Error::Srch)?;
    if !A::is_initialised(&vcpu) {
        return Err(Error::NoData);
    }
    let mut bytes = buffer(request)?;
    request.still(call)?;
    A::vcpu_context(call.hv, &vcpu, &mut bytes, request.interface)?;
    call.write_bytes(args.ctxt.0, &bytes)?;
    DONE
}
