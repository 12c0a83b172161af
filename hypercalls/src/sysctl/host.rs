//! The host as a whole: what it has, and the domains on it.

use xen_abi::domctl::{DomainInfo, Scheduler};
use xen_abi::sysctl::{
    AvailHeap, CpuInfo, GetCpuInfo, GetDomainInfoList, PhysCaps, PhysInfo, SchedId,
};
use xen_core::{Arch, CpuId, DomainId, Error, PAGE_SHIFT, Result};

use super::Request;
use crate::call::{Call, DONE, Outcome};
use crate::domctl::info;

/// Highest identifier of a NUMA node: there is one, number 0.
const MAX_NODE: u32 = 0;

/// `XEN_SYSCTL_physinfo`. Free pages include those that are claimed: toolstacks subtract them.
pub(super) fn physinfo<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let (hv, frames) = (call.hv, call.hv.frames);
    let host = A::host(hv);
    let mut capabilities = host.capabilities | PhysCaps::GNTTAB_V1;
    if hv.settings.max_grant_version >= 2 {
        capabilities |= PhysCaps::GNTTAB_V2;
    }
    let told = PhysInfo {
        threads_per_core: host.threads_per_core,
        cores_per_socket: host.cores_per_socket,
        nr_cpus: hv.cpu_count(),
        max_cpu_id: hv.cpu_count().saturating_sub(1),
        nr_nodes: 1,
        max_node_id: MAX_NODE,
        cpu_khz: host.cpu_khz,
        capabilities: capabilities & PhysCaps::known(request.interface),
        arch_capabilities: host.arch_capabilities,
        total_pages: frames.total_frames(),
        free_pages: frames.free_frames(),
        // What domains had is scrubbed when it is freed, the rest when it is allocated.
        scrub_pages: 0,
        outstanding_pages: frames.claimed_frames(),
        max_mfn: frames.end().0.saturating_sub(1),
        hw_cap: host.hw_cap,
    };
    told.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}

/// `XEN_SYSCTL_sched_id`.
pub(super) fn sched_id<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let told = SchedId {
        sched_id: scheduler(call),
    };
    told.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}

/// The scheduler, by the number it has in the interface.
pub(super) fn scheduler<A: Arch>(call: &Call<'_, A>) -> Scheduler {
    Scheduler(call.hv.sched.kind().id())
}

/// `XEN_SYSCTL_getdomaininfolist`: domains from an identifier on, as many as there is room for.
///
/// Errors: [`Error::Fault`].
pub(super) fn domains<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let mut args = GetDomainInfoList::decode(&request.payload, request.interface, A::MACHINE)?;
    let interface = request.interface.domctl();
    let (mut next, mut count) = (args.first_domain, 0u32);
    while count < args.max_domains {
        let Some(domain) = call.hv.domains.at_or_above(DomainId(next)) else {
            break;
        };
        let mut element = [0; xen_abi::versioned::Payload::SIZE];
        let size = info::snapshot(call.hv, &domain)
            .write(&mut element, interface, A::MACHINE)
            .ok_or(Error::Inval)?;
        let to = args
            .buffer
            .element(count.into(), size as u64)
            .ok_or(Error::Fault)?;
        call.write_bytes(to.0, element.get(..size).unwrap_or_default())?;
        count += 1;
        match domain.id().0.checked_add(1) {
            Some(above) => next = above,
            None => break,
        }
    }
    args.num_domains = count;
    args.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}

const _: () = assert!(
    DomainInfo::size(
        xen_abi::domctl::Interface::V18,
        xen_abi::versioned::Machine::Arm64
    ) <= 128
);

/// `XEN_SYSCTL_getcpuinfo`: how long each CPU was idle.
///
/// Errors: [`Error::Fault`].
pub(super) fn cpus<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let mut args = GetCpuInfo::decode(&request.payload, request.interface, A::MACHINE)?;
    let count = args.max_cpus.min(call.hv.cpu_count());
    for n in 0..count {
        let idletime = call.hv.idle_time(CpuId(n)).unwrap_or(0);
        call.write_at(args.info.0, n.into(), &CpuInfo { idletime })?;
    }
    args.nr_cpus = count;
    args.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}

/// `XEN_SYSCTL_availheap`: free bytes on a node, whose addresses have a number of bits.
pub(super) fn free_memory<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request,
) -> Result<Outcome> {
    let mut args = AvailHeap::decode(&request.payload, request.interface, A::MACHINE)?;
    let most = match args.max_bitwidth {
        0 => u64::BITS,
        bits => bits,
    };
    let frames = match args.node {
        -1 | 0 => call.hv.frames.free_frames_of_width(args.min_bitwidth, most),
        _ => 0,
    };
    args.avail_bytes = frames << PAGE_SHIFT;
    args.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}
