//! Making domains and their vCPUs.

use xen_abi::domctl::{CdFlags, CreateDomain, Interface, MaxVcpus};
use xen_core::{Arch, Domain, DomainConfig, DomainId, Error, Hypervisor, Result, VcpuId};

use super::{Request, info};
use crate::call::{Call, DONE, Outcome};

/// Frames that stay free for what a new domain or vCPU takes of the hypervisor's own memory: 1 MiB.
const HEADROOM: u64 = 256;
/// Page-table pages that a domain has until its toolstack says how many.
const FIRST_POOL: u64 = 256;
/// What every domain is: there are no others here.
const REQUIRED: CdFlags = CdFlags::HVM.union(CdFlags::HAP);
/// What no domain can have: trusted boot, nested guests, counters, an IOMMU.
const ABSENT: CdFlags = CdFlags::S3_INTEGRITY
    .union(CdFlags::NESTED_VIRT)
    .union(CdFlags::VPMU)
    .union(CdFlags::IOMMU);

/// `XEN_DOMCTL_createdomain`: a domain without memory and vCPUs, paused once. Identifier 0 and the reserved ones ask for any
/// that is free.
///
/// Errors: [`Error::Exist`] for an identifier that is in use; [`Error::Inval`] for what a domain cannot be; [`Error::NoEnt`]
/// for a pool that is not there; [`Error::NoMem`]; what [`xen_core::manage::Manage::configure`] says.
pub(super) fn create<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let hv = call.hv;
    let mut wanted: CreateDomain = request.decode()?;
    let id = match request.domain {
        0 | DomainId::FIRST_RESERVED.. => hv.domains.free_id()?,
        id if hv.domains.get(DomainId(id)).is_some() => return Err(Error::Exist),
        id => DomainId(id),
    };
    let mut config = check(hv, id, &wanted, request.interface)?;
    A::configure(hv, request.interface, &mut wanted, &mut config)?;
    if wanted.cpupool_id != info::POOL {
        return Err(Error::NoEnt);
    }
    room(hv)?;
    let domain = Domain::new(hv, config)?;
    domain.await_toolstack(hv);
    A::created(hv, &domain)?;
    hv.domains.insert(domain.clone())?;
    hv.publish_wallclock(&domain);
    hv.domains.note_change(hv, id);
    request.domain = id.0;
    request.encode(&wanted);
    DONE
}

/// What is wanted, as far as it is the same on every architecture.
fn check<A: Arch>(
    hv: &Hypervisor<A>,
    id: DomainId,
    wanted: &CreateDomain,
    interface: Interface,
) -> Result<DomainConfig> {
    let settings = &hv.settings;
    let flags = wanted.flags;
    let foreign = !CdFlags::known(interface).contains(flags)
        || !flags.contains(REQUIRED)
        || flags.intersects(ABSENT)
        // Options of what is not there.
        || !wanted.iommu_opts.is_empty()
        || wanted.vmtrace_size != 0
        || wanted.altp2m.opts.0 != 0
        || wanted.altp2m.nr != 0;
    let grant_version = match wanted.grant_opts {
        None => settings.max_grant_version,
        Some(opts) if opts.unknown() != 0 => return Err(Error::Inval),
        Some(opts) => opts.max_version(),
    };
    let limit = |wanted: i32, most: u32| u32::try_from(wanted).unwrap_or(most);
    let grant_frames = limit(wanted.max_grant_frames, settings.max_grant_frames);
    let maptrack_frames = limit(wanted.max_maptrack_frames, settings.max_maptrack_frames);
    if foreign
        || wanted.max_vcpus == 0
        || !(1..=settings.max_grant_version).contains(&grant_version)
        || !(1..=settings.max_grant_frames).contains(&grant_frames)
        || maptrack_frames > settings.max_maptrack_frames
    {
        return Err(Error::Inval);
    }
    Ok(DomainConfig {
        xenstore: flags.contains(CdFlags::XS_DOMAIN),
        max_vcpus: wanted.max_vcpus,
        max_port: wanted.max_evtchn_port,
        max_grant_frames: grant_frames,
        max_maptrack_frames: maptrack_frames,
        max_grant_version: grant_version,
        paging_pool: Some(FIRST_POOL),
        handle: wanted.handle,
        ..DomainConfig::guest(id)
    })
}

/// Whether there is memory for another of the hypervisor's own structures.
///
/// Errors: [`Error::NoMem`].
fn room<A: Arch>(hv: &Hypervisor<A>) -> Result<()> {
    match hv.frames.free_frames() < HEADROOM {
        true => Err(Error::NoMem),
        false => Ok(()),
    }
}

/// `XEN_DOMCTL_max_vcpus`: makes the vCPUs, which are down. The number is the one that the domain was made with.
///
/// Errors: [`Error::Inval`] for another, for the caller itself, and for a domain that is being destroyed; [`Error::NoMem`],
/// with those made that could be; [`Error::Restart`].
pub(super) fn max_vcpus<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let MaxVcpus { max } = request.decode()?;
    let target = request.other(call)?;
    if max != target.max_vcpus() || !target.is_alive() {
        return Err(Error::Inval);
    }
    let mut made = false;
    for id in (0..max).map(VcpuId) {
        if target.vcpu(id).is_some() {
            continue;
        }
        if made && call.hv.should_yield() {
            return Err(Error::Restart);
        }
        room(call.hv)?;
        target.add_vcpu(call.hv, id)?;
        made = true;
    }
    DONE
}
