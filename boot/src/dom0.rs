//! What dom0 and the hypervisor are on every machine: the administrator's choices turned into the core's terms, and dom0's
//! vCPUs.

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use xen_core::sched::{Scheduler as _, SchedulerKind};
use xen_core::{
    Arch, CpuId, CpuMask, Domain, DomainConfig, DomainId, Hypervisor, Settings, Vcpu, VcpuId,
};

use crate::cmdline::{Params, SchedulerName};

/// Release of Xen whose interface guests are told of: the oldest whose toolstack is served unmodified by every
/// dom0 that runs here.
const VERSION: (u16, u16) = (4, 17);
/// Ports a domain that manages others needs many of: all there are.
const MAX_PORT: u32 = xen_abi::event_channel::FIFO_NR_CHANNELS - 1;

/// Why dom0 cannot be built; the message is for the administrator.
pub type Failure = String;

/// Says what was attempted.
///
/// # Errors
/// `what` and the error, in one sentence.
pub fn cannot<T, E: core::fmt::Debug>(result: Result<T, E>, what: &str) -> Result<T, Failure> {
    result.map_err(|e| alloc::format!("{what}: {e:?}"))
}

/// What the command line, whose text is `line`, chose. `boot_wallclock`: nanoseconds since 1970 at system time 0, or 0 where
/// nothing says.
pub fn settings(params: &Params, line: &str, boot_wallclock: u64) -> Settings {
    Settings {
        scheduler: match params.sched {
            Some(SchedulerName::Null) => SchedulerKind::Null,
            Some(SchedulerName::Fair) | None => SchedulerKind::default(),
        },
        no_reboot: params.noreboot,
        command_line: line.to_string(),
        version: VERSION,
        max_grant_version: u32::from(params.gnttab.max_version.unwrap_or(1)),
        max_grant_frames: params.gnttab_max_frames,
        max_maptrack_frames: params.gnttab_max_maptrack_frames,
        transitive_grants: params.gnttab.transitive,
        runstate_translated: params.runstate_translate,
        boot_wallclock,
    }
}

/// What dom0 is made as. `interrupts`: lines of its interrupt controller, where the architecture asks for them.
pub fn config(settings: &Settings, params: &Params, vcpus: u32, interrupts: u32) -> DomainConfig {
    DomainConfig {
        id: DomainId::DOM0,
        privileged: true,
        hardware: true,
        xenstore: false,
        direct_mapped: true,
        max_vcpus: vcpus,
        max_pages: u64::MAX,
        max_port: MAX_PORT,
        max_grant_frames: params.gnttab_max_frames,
        max_maptrack_frames: params.gnttab_max_maptrack_frames,
        max_grant_version: settings.max_grant_version,
        paging_pool: None,
        handle: [0; 16],
        interrupts,
        gic_version: 0,
        relaxed_msrs: false,
        runstate_translated: None,
    }
}

/// Makes dom0's vCPUs, pinned if the administrator wants that; returns the first.
///
/// # Errors
/// One sentence that says what is wrong.
pub fn add_vcpus<A: Arch>(
    hv: &Hypervisor<A>,
    domain: &Arc<Domain<A>>,
    vcpus: u32,
    params: &Params,
) -> Result<Arc<Vcpu<A>>, Failure> {
    for n in 0..vcpus {
        let vcpu = cannot(
            domain.add_vcpu(hv, VcpuId(n)),
            "a vCPU of dom0 cannot be made",
        )?;
        if params.dom0_vcpus_pin
            && let Some(slot) = vcpu.slot()
        {
            let home = CpuMask::one(CpuId(n % hv.cpu_count()));
            let pinned = hv.sched.set_affinity(slot, &home, &home, hv.arch.now());
            cannot(pinned, "a vCPU of dom0 cannot be pinned")?;
        }
    }
    Ok(domain.vcpu(VcpuId(0)).ok_or("dom0 has no vCPU")?)
}
